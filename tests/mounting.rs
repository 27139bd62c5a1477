//! Mounting, the mount table, and unmounting.

use std::io::Read as _;
use std::time::{Duration, Instant};

use icos_demo::DemoService;
use nix::sys::signal::Signal;

use crate::support::{SilentPortal, TestMount, co2, eventually, portal, said};

#[test]
fn findmnt_shows_a_read_only_icosfs_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let output = mount.run(
        "findmnt",
        &["-t", "fuse.icosfs", "-n", "-o", "TARGET,SOURCE,OPTIONS"],
    );
    let table = String::from_utf8(output.stdout).unwrap();
    let path = mount.path("").display().to_string();
    let line = table
        .lines()
        .find(|line| line.starts_with(&path))
        .expect(&table);
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(
            line.split([',', ' ']).any(|o| o == option),
            "{option} in {line}"
        );
    }
    assert!(line.contains("127.0.0.1_"), "{line}");
}

#[test]
fn mount_connects_to_the_data_service_before_the_first_read() {
    let portal = portal();
    let _mount = TestMount::of(&portal);
    let of_data = || {
        let requests = portal.requests().into_iter();
        requests
            .filter(|r| r.service == DemoService::Data)
            .collect::<Vec<_>>()
    };
    assert!(eventually(Duration::from_secs(20), || !of_data().is_empty()));
    for request in of_data() {
        assert!(request.path == "/whoami" && !request.cookie, "{request:?}");
    }
}

#[test]
fn unmount_ends_the_daemon_and_removes_the_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let output = mount
        .icosfs()
        .arg("unmount")
        .arg(mount.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!mount.is_mounted());
    assert!(!mount.is_running());
}

#[test]
fn busy_mount_is_unmounted_only_with_lazy() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let open = std::fs::File::open(mount.path("README.md")).unwrap();
    let unmount = |options: &[&str]| {
        mount
            .icosfs()
            .arg("unmount")
            .args(options)
            .arg(mount.path(""))
            .output()
            .unwrap()
    };
    let refused = unmount(&[]);
    assert!(!refused.status.success());
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("in use") && message.contains("--lazy"),
        "{message}"
    );
    assert!(mount.is_mounted());
    assert!(unmount(&["--lazy"]).status.success());
    assert!(!mount.is_mounted());
    drop(open);
    assert!(eventually(Duration::from_secs(5), || !mount.is_running()));
}

#[test]
fn second_mount_on_the_same_folder_is_refused() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let again = mount
        .icosfs()
        .arg("mount")
        .arg(mount.path(""))
        .output()
        .unwrap();
    assert!(!again.status.success());
    let message = String::from_utf8(again.stderr).unwrap();
    assert!(message.contains("mounted already"), "{message}");
}

#[test]
fn missing_mount_point_is_reported_with_the_fix() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let nowhere = mount.cache().join("nowhere");
    let output = mount.icosfs().arg("mount").arg(&nowhere).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("nowhere") && message.contains("mkdir -p"),
        "{message}"
    );
}

#[test]
fn sigterm_interrupts_a_blocked_read_and_unmounts() {
    let portal = portal();
    let silent = SilentPortal::new();
    let data_url = format!("--data-url={}", silent.url());
    let mount = TestMount::with(&portal, &[&data_url], &[("ICOSFS_TOKEN", &portal.token())]);
    let table = format!("objects/{}.csv", co2(&portal));
    let mut file = std::fs::File::open(mount.path(&table)).unwrap();
    let reader = std::thread::spawn(move || file.read(&mut [0; 1000]));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!reader.is_finished(), "the portal says nothing");

    let start = Instant::now();
    mount.signal(Signal::SIGTERM);
    assert!(eventually(Duration::from_secs(5), || {
        reader.is_finished() && !mount.is_running() && !mount.is_mounted()
    }));
    assert!(start.elapsed() < Duration::from_secs(5));
    reader.join().unwrap().expect_err("the read cannot succeed");
}

#[test]
fn tree_is_read_only() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let names = mount.list("objects");
    let table = names.iter().find(|name| name.ends_with(".csv")).unwrap();
    for path in ["new", "objects/new", &format!("objects/{table}")] {
        let error = std::fs::write(mount.path(path), "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{path}");
    }
}

#[test]
fn mount_demo_needs_no_other_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mnt");
    std::fs::create_dir(&path).unwrap();
    let icosfs = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_icosfs"))
            .args(arguments)
            .arg(&path)
            .env("HOME", folder.path())
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    icosfs(&["mount", "--demo"]);
    let tables = std::fs::read_dir(path.join("objects")).unwrap().count();
    assert!(tables > 10);
    icosfs(&["status"]);
    icosfs(&["unmount"]);
    let left = std::fs::read_dir(folder.path().join("cache/icosfs"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "a demo's cache is never met again");
}

/// Regression: the message was that the mount is in use, although it was used by
/// nothing but the command itself.
#[test]
fn unmount_of_a_stopped_daemon_says_that_it_does_not_respond() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.stop();
    let unmount = |options: &[&str]| {
        let mut unmount = mount.icosfs();
        unmount.arg("unmount").args(options).arg(mount.path(""));
        unmount.output().unwrap()
    };
    let refused = unmount(&[]);
    let message = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{message}");
    for part in ["does not respond", "kill -CONT", "--lazy"] {
        assert!(message.contains(part), "{message}");
    }
    let detached = unmount(&["--lazy"]);
    assert!(detached.status.success(), "{}", said(&detached));
    assert!(!mount.is_mounted());
    mount.signal(Signal::SIGCONT);
    assert!(eventually(Duration::from_secs(10), || !mount.is_running()));
}

/// Regression: any signal that a program does not expect ended the daemon and left a
/// dead mount.
#[test]
fn stray_signals_do_not_end_the_daemon() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    for signal in [
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGPROF,
        Signal::SIGIO,
        Signal::SIGPWR,
        Signal::SIGXFSZ,
        Signal::SIGPIPE,
        Signal::SIGHUP,
    ] {
        mount.signal(signal);
        assert!(mount.try_read(".icosfs/errors").is_ok(), "{signal}");
    }
    assert!(mount.is_running());
}

/// Regression: nothing but a remount showed an object before its list expired.
#[test]
fn lists_are_refreshed_by_the_command_by_the_control_file_and_by_sighup() {
    let portal = portal();
    let requests = |portal: &icos_demo::DemoPortal| {
        let all = portal.requests().into_iter();
        all.filter(|r| r.service == DemoService::Meta && r.path == "/sparql")
            .count()
    };
    let refreshes: [&dyn Fn(&TestMount); 3] = [
        &|mount| {
            let mut refresh = mount.icosfs();
            let output = refresh.arg("refresh").arg(mount.path("")).output().unwrap();
            assert!(
                said(&output).contains("were refreshed\n"),
                "{}",
                said(&output)
            );
        },
        &|mount| assert_eq!(mount.read(".icosfs/refresh"), b"the lists were refreshed\n"),
        &|mount| mount.signal(Signal::SIGHUP),
    ];
    for refresh in refreshes {
        let mount = TestMount::of(&portal);
        mount.list("objects");
        mount.list("stations");
        let before = requests(&portal);
        refresh(&mount);
        assert!(eventually(Duration::from_secs(20), || requests(&portal) > before));
    }
}
