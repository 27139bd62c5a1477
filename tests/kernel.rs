//! Kernel behaviour: forgotten inodes, killed readers, many readers, signals.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, Fault, FaultRule};
use icos_portal::ObjectId;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::support::home::ICOSFS;
use crate::support::{
    Dice, Home, TestMount, contents, eventually, interpreter, portal, said, services_of,
};

/// Each remount makes the kernel drop all unused names and inodes, and the daemon
/// forget them; readers must not notice.
#[test]
fn readers_are_unaffected_when_the_kernel_forgets_all_inodes() {
    let portal = portal();
    let contents = contents(&portal);
    let mounted = TestMount::of(&portal);
    let over = AtomicBool::new(false);
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    let none: Option<&str> = None;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|reader| {
                let (mounted, contents) = (&mounted, &contents);
                let mut dice = Dice::new(reader);
                scope.spawn(move || {
                    for _ in 0..60 {
                        let (path, expected) = &contents[dice.roll(contents.len())];
                        assert!(mounted.read(path) == *expected, "{path} is wrong");
                        mounted.list("stations");
                    }
                })
            })
            .collect();
        let storm = scope.spawn(|| {
            let mut storms = 0;
            while !over.load(Ordering::Relaxed) {
                mount(none, &mounted.path(""), none, flags, none).expect("root can remount");
                storms += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            storms
        });
        let fine = readers.into_iter().all(|reader| reader.join().is_ok());
        over.store(true, Ordering::Relaxed);
        assert!(storm.join().unwrap() > 10 && fine);
    });
}

/// Regression: partially read files stayed open, with two descriptors for each
/// of the last 256 files.
#[test]
fn killed_readers_leave_no_open_files() {
    let portal = portal();
    let contents = contents(&portal);
    let mount = TestMount::of(&portal);
    mount.list("objects");
    let before = mount.descriptors();
    portal.add_fault(FaultRule::always(Fault::Bandwidth {
        bytes_per_second: 4_000_000,
    }));
    let mut dice = Dice::new(10);
    for _ in 0..4 {
        let mut cats: Vec<_> = (0..16)
            .map(|_| {
                let (path, _) = &contents[dice.roll(contents.len())];
                let mut cat = Command::new("cat");
                cat.arg(mount.path(path)).stdout(Stdio::null());
                cat.spawn().unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(dice.roll(100) as u64));
        for cat in &mut cats {
            cat.kill().unwrap();
        }
        for mut cat in cats {
            let killed = eventually(Duration::from_secs(5), || cat.try_wait().unwrap().is_some());
            assert!(killed, "a reader cannot be killed");
        }
    }
    portal.clear_faults();
    for (path, expected) in &contents {
        assert!(mount.read(path) == *expected, "{path} is wrong");
    }
    let (path, expected) = contents
        .iter()
        .find(|(path, _)| path.ends_with(".csv"))
        .unwrap();
    let mut reader = fs::File::open(mount.path(path)).unwrap();
    let mut found = vec![0; expected.len() / 2];
    reader.read_exact(&mut found).unwrap();
    let id = path.trim_start_matches("objects/").trim_end_matches(".csv");
    let of_reader = |path: &PathBuf| path.to_string_lossy().contains(id);
    // A stream stays open for 20 s after its last read.
    let at_rest = || mount.open_cache_files().iter().all(of_reader);
    assert!(!at_rest(), "they stay for a while");
    assert!(
        eventually(Duration::from_mins(1), at_rest),
        "{:#?} are open",
        mount.open_cache_files()
    );
    // Idle connections to the portal stay open for at least 50 s.
    let more = mount.descriptors().saturating_sub(before);
    assert!(more <= 24, "{more} descriptors more");
    assert!(!mount.open_cache_files().is_empty(), "it is being read");
    reader.read_to_end(&mut found).unwrap();
    assert!(found == *expected, "{path} is wrong");
}

/// An open file description survives the process that opened it: in a child,
/// across `exec`, under a duplicated descriptor. Only the last close releases it.
#[test]
fn file_stays_readable_after_its_opener_dies_and_is_closed_with_its_last_descriptor() {
    let portal = portal();
    let contents = contents(&portal);
    let mount = TestMount::of(&portal);
    let (path, expected) = contents
        .iter()
        .find(|(path, _)| path.ends_with(".csv"))
        .unwrap();
    // Opens all, reads some, and exits while another program, which has the
    // first file as its standard input, continues to read.
    let opener = "import os, signal, subprocess, sys, time\n\
        files = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]\n\
        for file in files[1:]: os.read(file, 1000)\n\
        subprocess.Popen(['sh', '-c', 'sleep 0.5; exec cat'], stdin=files[0], pass_fds=files)\n\
        os.kill(os.getpid(), signal.SIGKILL)\n";
    let mut command = interpreter();
    command.args(["-S", "-c", opener]).arg(mount.path(path));
    for (path, _) in &contents {
        command.arg(mount.path(path));
    }
    let mut opener = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = opener.stdout.take().unwrap();
    assert!(!opener.wait().unwrap().success(), "it was killed");
    assert!(!mount.open_cache_files().is_empty());
    let mut found = Vec::new();
    out.read_to_end(&mut found).unwrap();
    assert!(found == *expected, "{path} is wrong");
    // The last reader has ended.
    let at_rest = || mount.open_cache_files().is_empty();
    assert!(
        eventually(Duration::from_mins(1), at_rest),
        "{:#?} are open",
        mount.open_cache_files()
    );
}

#[test]
fn four_hundred_concurrent_readers_get_correct_bytes() {
    let portal = portal();
    let contents = contents(&portal);
    let mount = TestMount::of(&portal);
    std::thread::scope(|scope| {
        for reader in 0..400 {
            let (path, expected) = &contents[reader % contents.len()];
            let mount = &mount;
            scope.spawn(move || assert!(mount.read(path) == *expected, "{path} is wrong"));
        }
    });
}

#[test]
fn termination_signals_unmount_and_end_the_daemon() {
    let portal = portal();
    let contents = contents(&portal);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mount = TestMount::of(&portal);
        let (path, expected) = &contents[0];
        assert!(mount.read(path) == *expected);
        mount.signal(signal);
        let gone = || !mount.is_running() && !mount.is_mounted();
        assert!(eventually(Duration::from_secs(10), gone), "{signal}");
    }
}

/// A control group with a limit.
struct LimitedGroup {
    path: PathBuf,
    limit: &'static str,
}

impl LimitedGroup {
    fn of_memory(bytes: u64) -> Self {
        let group = Self::of("memory", "memory.limit_in_bytes", "memory.max");
        group.set(&bytes.to_string());
        group
    }

    /// A group whose number of threads can be limited.
    fn of_threads() -> Self {
        Self::of("pids", "pids.max", "pids.max")
    }

    fn of(controller: &str, limit_in_v1: &'static str, limit_in_v2: &'static str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new("/sys/fs/cgroup");
        // Control groups version 1, or version 2.
        let (parent, limit) = match root.join(controller) {
            first if first.exists() => (first, limit_in_v1),
            _ => (root.to_owned(), limit_in_v2),
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("icosfs-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("root can make control groups");
        Self { path, limit }
    }

    fn set(&self, limit: &str) {
        fs::write(self.path.join(self.limit), limit).expect("a limit of this group");
    }

    /// A command of a shell that moves it into the group.
    fn enter(&self) -> String {
        format!("echo $$ >{}/cgroup.procs", self.path.display())
    }
}

impl Drop for LimitedGroup {
    fn drop(&mut self) {
        eventually(Duration::from_secs(5), || {
            fs::remove_dir(&self.path).is_ok()
        });
    }
}

/// Reads far more than the limit; the page cache of the cache files counts too.
#[test]
fn daemon_survives_a_memory_limit_by_control_group() {
    let mut repository = DemoRepository::builtin(1);
    let files: Vec<ObjectId> = (0..12)
        .map(|n| repository.add_original(&format!("file{n}.bin"), 20 << 20))
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let group = LimitedGroup::of_memory(128 << 20);
    let mount = TestMount::after(&group.enter(), &portal, &["--memory=32M"]);
    mount.list("objects");
    std::thread::scope(|scope| {
        for id in &files {
            let mount = &mount;
            scope.spawn(move || {
                let bytes = mount.read(&format!("objects/{id}.bin"));
                assert_eq!(ObjectId::of_content(&bytes), *id);
            });
        }
    });
    assert!(mount.is_running());
    drop(mount);
}

/// Regression: the read of a corrupt file started a thread, which panicked if the
/// system refused it; the reason of the failure was lost.
#[test]
fn failed_read_reports_its_reason_while_no_thread_can_be_started() {
    let portal = portal();
    let group = LimitedGroup::of_threads();
    let mount = TestMount::after(&group.enter(), &portal, &[]);
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let path = format!("objects/{id}.nc");
    let fault = serde_json::json!({"object": id.to_string(), "fault": {"corrupt": {"at": 1000}}});
    portal.add_fault(serde_json::from_value(fault).unwrap());
    let failures = || mount.status()["errors"][0]["times"].as_u64().unwrap();
    // Starts the threads that work on the disk.
    mount.try_read(&path).unwrap_err();
    let before = failures();
    let threads = fs::read_to_string(group.path.join("pids.current")).unwrap();
    group.set(threads.trim());
    mount.try_read(&path).unwrap_err();
    group.set("max");

    assert!(failures() > before);
    portal.clear_faults();
    assert_eq!(ObjectId::of_content(&mount.read(&path)), id);
}

#[test]
fn mount_without_permission_to_start_threads_fails_with_a_message() {
    let portal = portal();
    let (group, home) = (LimitedGroup::of_threads(), Home::new());
    group.set("2");
    fs::create_dir(home.path().join("mnt")).unwrap();
    let mut command = Command::new("sh");
    let script = format!("{}; exec \"$0\" \"$@\"", group.enter());
    home.alone(&mut command).args(["-ec", &script, ICOSFS]);
    command.args(["mount", "--foreground"]);
    command.args(services_of(&portal, &[]));
    let output = command.arg(home.path().join("mnt")).output().unwrap();

    let message = said(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot start threads"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

/// Regression: the first blocking work of a short command panicked.
#[test]
fn command_without_permission_to_start_threads_fails_with_a_message() {
    let portal = portal();
    for (limit, works) in [("1", false), ("2", true)] {
        let (group, home) = (LimitedGroup::of_threads(), Home::new());
        group.set(limit);
        let mut command = Command::new("sh");
        let script = format!("{}; exec \"$0\" \"$@\"", group.enter());
        home.alone(&mut command).args(["-ec", &script, ICOSFS]);
        command.args(services_of(&portal, &[])).arg("stations");
        let output = command.output().unwrap();
        let message = said(&output);
        assert_eq!(output.status.success(), works, "{message}");
        assert_eq!(
            message.contains("cannot start threads"),
            !works,
            "{message}"
        );
        assert!(!message.contains("panicked"), "{message}");
    }
}
