//! The mount and the rest of the machine: mount(8), fstab, systemd, other users,
//! missing programs and devices.
//!
//! Most tests need root: for mounts of other types, namespaces without /dev/fuse,
//! and other users.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use icos_demo::{Fault, FaultRule};
use icosfs::mount::mountinfo;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp};

use crate::support::home::ICOSFS;
use crate::support::{Home, TestMount, eventually, portal, said, services_of};

const NOBODY: u32 = 65534;

/// A mount point in a home folder of its own.
struct Place {
    home: Home,
}

impl Place {
    fn new() -> Self {
        let home = Home::new();
        fs::create_dir(home.path().join("mnt")).unwrap();
        Self { home }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    /// Returns scripts that install the program, and its helpers for mount(8), in a
    /// mount namespace.
    fn install(&self) -> [String; 2] {
        let folder = |name: &str| {
            let folder = self.home.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (bin, sbin) = (folder("bin"), folder("sbin"));
        symlink(ICOSFS, bin.join("icosfs")).unwrap();
        for helper in ["mount.icosfs", "mount.fuse.icosfs"] {
            symlink(ICOSFS, sbin.join(helper)).unwrap();
        }
        [("bin", "/usr/local/bin"), ("sbin", "/usr/sbin")].map(|(name, folder)| {
            format!("mount -t overlay none {folder} -o lowerdir=$H/{name}:{folder}\n")
        })
    }

    /// Runs a shell script in a mount namespace of its own; $I is the program and
    /// $M the mount point.
    fn apart(&self, script: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["60", "unshare", "--mount", "sh", "-euc", script]);
        self.run(command)
    }

    fn icosfs(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(ICOSFS);
        command.args(arguments).arg(self.path());
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Output {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env("I", ICOSFS)
            .env("M", self.path())
            .env("H", self.home.path())
            .stdin(Stdio::null())
            .output()
            .expect("util-linux and coreutils are installed")
    }

    /// Gives the home folder, and a copy of the program in it, to another user.
    fn give_away(&self) -> PathBuf {
        let program = self.home.path().join("icosfs");
        fs::copy(ICOSFS, &program).unwrap();
        fs::set_permissions(self.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for path in [self.home.path(), &self.path()] {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("these tests run as root");
        }
        program
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while let Ok(Some(_)) = mountinfo::mount_at(&self.path()) {
            let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
        }
    }
}

/// In containers, only root may have access to it.
const OPEN_DEVICE: &str =
    "mknod $H/fuse c 10 229; chmod 666 $H/fuse; mount --bind $H/fuse /dev/fuse";
const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

#[track_caller]
fn assert_fails(output: &Output, code: i32, parts: &[&str]) {
    let message = said(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[track_caller]
fn assert_works(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        said(output)
    );
    said(output)
}

#[test]
fn mount_refuses_a_non_empty_folder() {
    let place = Place::new();
    fs::write(place.path().join("thesis.tex"), "").unwrap();
    let output = place.icosfs(&["mount", "--demo"]);
    assert_fails(&output, 1, &["is not empty", "choose an empty folder"]);
    assert_eq!(mountinfo::mount_at(&place.path()).unwrap(), None);
}

#[test]
fn mount_refuses_to_cover_another_file_system() {
    let place = Place::new();
    let output = place.apart("mount -t tmpfs none $M; exec $I mount --demo $M");
    assert_fails(
        &output,
        1,
        &["type tmpfs is mounted at", "choose another folder"],
    );
}

#[test]
fn mounting_again_replaces_a_dead_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.signal(Signal::SIGKILL);
    assert!(eventually(Duration::from_secs(5), || !mount.is_running()));
    let errno = fs::read_dir(mount.path("objects"))
        .unwrap_err()
        .raw_os_error();
    assert!(
        matches!(errno, Some(libc::ENOTCONN | libc::ECONNABORTED)),
        "{errno:?}"
    );

    let again = mount
        .icosfs()
        .args(["mount", "--demo"])
        .arg(mount.path(""))
        .output()
        .unwrap();
    let message = assert_works(&again);
    assert!(message.contains("was dead"), "{message}");
    assert!(mount.try_read("README.md").is_ok());
    let unmount = mount
        .icosfs()
        .arg("unmount")
        .arg(mount.path(""))
        .output()
        .unwrap();
    assert_works(&unmount);
    assert!(!mount.is_mounted(), "the dead one is not beneath");
}

#[test]
fn dead_mount_can_be_unmounted() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.signal(Signal::SIGKILL);
    assert!(eventually(Duration::from_secs(5), || !mount.is_running()));
    let unmount = mount
        .icosfs()
        .arg("unmount")
        .arg(mount.path(""))
        .output()
        .unwrap();
    assert_works(&unmount);
    assert!(!mount.is_mounted());
}

#[test]
fn unmount_never_removes_a_mount_stacked_over_ours() {
    let place = Place::new();
    let output = place.apart(
        "$I mount --demo $M; pid=$(jq .pid $M/.icosfs/status.json)
         mount -t tmpfs none $M; echo kept >$M/file
         code=0; $I unmount $M || code=$?
         kill $pid; timeout 10 tail --pid=$pid -s .05 -f /dev/null
         cat $M/file; exit $code",
    );
    assert_fails(
        &output,
        1,
        &["type tmpfs is mounted over the icosfs", "kept"],
    );
}

#[test]
fn missing_dev_fuse_is_reported_with_the_fix() {
    let place = Place::new();
    let output = place
        .apart("mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; exec $I mount --demo $M");
    assert_fails(
        &output,
        1,
        &["no /dev/fuse", "modprobe fuse", "--device /dev/fuse"],
    );
}

#[test]
fn missing_fusermount3_is_reported_with_its_package() {
    let place = Place::new();
    place.give_away();
    let output = place.apart(&format!(
        "for helper in $(command -v fusermount3 fusermount); do
             : >$H/none; mount --bind $H/none $helper
         done
         exec {AS_NOBODY} $H/icosfs mount --demo $M"
    ));
    assert_fails(&output, 1, &["fusermount3", "apt-get install fuse3"]);
}

#[test]
fn inaccessible_dev_fuse_is_reported_with_the_fix() {
    let place = Place::new();
    place.give_away();
    let output = place.apart(&format!(
        "{OPEN_DEVICE}; chmod 600 /dev/fuse; exec {AS_NOBODY} $H/icosfs mount --demo $M"
    ));
    assert_fails(
        &output,
        1,
        &["may not open /dev/fuse", "chmod 666 /dev/fuse"],
    );
}

#[test]
fn unprivileged_user_mounts_reads_and_unmounts() {
    let place = Place::new();
    place.give_away();
    let output = place.apart(&format!(
        "{OPEN_DEVICE}
         {AS_NOBODY} $H/icosfs mount --demo $M
         {AS_NOBODY} findmnt -t fuse.icosfs $M
         {AS_NOBODY} head -1 $M/README.md
         {AS_NOBODY} $H/icosfs unmount $M
         ! findmnt $M"
    ));
    let said = assert_works(&output);
    assert!(said.contains("fuse.icosfs"), "{said}");
}

#[test]
fn allow_other_needs_user_allow_other_and_prints_a_warning() {
    let place = Place::new();
    place.give_away();
    let forbidden = place.apart(&format!(
        "{OPEN_DEVICE}
         : >$H/fuse.conf; mount --bind $H/fuse.conf /etc/fuse.conf
         exec {AS_NOBODY} $H/icosfs mount --demo --allow-root $M"
    ));
    assert_fails(
        &forbidden,
        1,
        &["user_allow_other", "/etc/fuse.conf", "root can add it"],
    );
    let allowed = place.apart(&format!(
        "R=$(mktemp -d); trap 'rm -rf $R' EXIT
         $I mount --demo --cache-dir=$R --allow-other $M
         {AS_NOBODY} head -1 $M/README.md
         $I unmount $M"
    ));
    let message = assert_works(&allowed);
    assert!(
        message.contains("licence that you accepted is personal"),
        "{message}"
    );
    let alone = place.apart(&format!(
        "R=$(mktemp -d); trap 'rm -rf $R' EXIT
         $I mount --demo --cache-dir=$R $M
         {AS_NOBODY} head -1 $M/README.md || code=$?
         $I unmount $M; exit $code"
    ));
    assert_fails(&alone, 1, &["Permission denied"]);
}

/// Regression: a caller that `/proc` does not show was taken for one that has ended,
/// and its requests failed with EINTR after 100 ms.
#[test]
fn slow_read_by_a_process_that_proc_hides_succeeds() {
    let portal = portal();
    let id = crate::support::co2(&portal);
    portal.add_fault(FaultRule::always(Fault::Latency {
        ms: 500,
        jitter_ms: 0,
    }));
    let place = Place::new();
    place.give_away();
    let (services, token) = (services_of(&portal, &[]).join(" "), portal.token());
    let output = place.apart(&format!(
        "{OPEN_DEVICE}
         echo user_allow_other >$H/fuse.conf; mount --bind $H/fuse.conf /etc/fuse.conf
         mount -t proc -o hidepid=2 none /proc
         ICOSFS_TOKEN='{token}' {AS_NOBODY} $H/icosfs mount --allow-other {services} $M
         ! {AS_NOBODY} test -e /proc/1
         cat $M/objects/{id}.csv | wc -c
         {AS_NOBODY} $H/icosfs unmount $M"
    ));
    let message = assert_works(&output);
    let len = portal.repository().csv(&id).unwrap().len().to_string();
    assert!(message.lines().any(|line| line == len), "{len}: {message}");
}

#[test]
fn mount_and_fstab_accept_the_type() {
    let place = Place::new();
    let line = format!(
        "demo {} fuse.icosfs noauto,_netdev,x-systemd.automount,cache_size=50M 0 0\n",
        place.path().display()
    );
    fs::write(place.home.path().join("fstab"), line).unwrap();
    let [installed, helpers] = place.install();
    for (way, script) in [
        ("the package's helpers", format!("{installed}{helpers}")),
        ("mount.fuse and the PATH", installed.clone()),
    ] {
        let output = place.apart(&format!(
            "{script}
             mount -t fuse.icosfs demo $M -o allow_root; head -1 $M/README.md; umount $M
             mount -T $H/fstab $M; findmnt -n -o FSTYPE $M; umount $M"
        ));
        assert!(
            said(&output).contains("fuse.icosfs"),
            "{way}: {}",
            said(&output)
        );
        assert_works(&output);
        let script = format!("{script} mount -t fuse.icosfs demo $M -o cache_sise=50M");
        let output = place.apart(&script);
        assert_fails(&output, 1, &["did you mean `cache-size`?"]);
    }
    let output = place.apart(&format!(
        "{installed}{helpers} mount -t icosfs demo $M; umount $M"
    ));
    assert_works(&output);
}

#[test]
fn mount_helpers_return_exit_codes_of_mount() {
    let place = Place::new();
    for name in ["mount.icosfs", "mount.fuse.icosfs"] {
        let helper = place.home.path().join(name);
        symlink(ICOSFS, &helper).unwrap();
        let run = |arguments: &[&str]| {
            let mut command = Command::new(&helper);
            command.args(arguments);
            place.run(command)
        };
        let folder = place.path();
        let folder = folder.to_str().unwrap();
        assert_works(&run(&[
            "demo",
            folder,
            "-n",
            "-o",
            "rw,nosuid,metadata_ttl=60",
        ]));
        assert_fails(
            &run(&["demo", folder, "-o", "rw"]),
            32,
            &["mounted already"],
        );
        assert_works(&place.icosfs(&["unmount"]));
        assert_fails(
            &run(&["nas:/x", folder]),
            1,
            &["expected icos, sites, cities or demo"],
        );
    }
}

/// Regression: fuser opened the mount point before mounting, which triggered the
/// automount, which waited for that mount.
#[test]
fn automount_does_not_wait_for_itself() {
    let place = Place::new();
    let (_asked, asks) = std::io::pipe().unwrap();
    let options = format!(
        "fd={},pgrp={},minproto=5,maxproto=5,direct",
        asks.as_raw_fd(),
        getpgrp()
    );
    mount(
        Some("systemd-1"),
        &place.path(),
        Some("autofs"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .expect("root can mount an automount");
    let mut command = Command::new("timeout");
    command
        .args(["20", ICOSFS, "mount", "--demo"])
        .arg(place.path());
    // Only the automounter's own process group passes without waiting, so the
    // daemon gets another one.
    command.process_group(0);
    assert_works(&place.run(command));
    assert!(place.path().join("README.md").exists());
    assert_works(&place.icosfs(&["unmount"]));
    let left = mountinfo::mount_at(&place.path()).unwrap().unwrap();
    assert_eq!(left.kind, "autofs");
}

/// Regression: with an indirect map, the daemon waited for the mount that it was
/// making, since it had left the automounter's process group.
#[test]
fn automounter_mounts_by_indirect_and_direct_maps() {
    let place = Place::new();
    let home = place.home.path();
    for folder in ["auto", "direct"] {
        fs::create_dir(home.join(folder)).unwrap();
    }
    let shown = home.display();
    let entry = |key: &str| format!("{key} -fstype=fuse.icosfs,cache_dir={shown}/cache :demo\n");
    fs::write(home.join("indirect.map"), entry("demo")).unwrap();
    fs::write(home.join("direct.map"), entry(&format!("{shown}/direct"))).unwrap();
    let master = format!("{shown}/auto {shown}/indirect.map\n/- {shown}/direct.map\n");
    fs::write(home.join("auto.master"), master).unwrap();
    let [installed, helpers] = place.install();
    let output = place.apart(&format!(
        "{installed}{helpers}
         mkdir -p /run; mount -t tmpfs none /run
         automount --foreground --dont-check-daemon $H/auto.master & pid=$!
         for _ in $(seq 100); do mountpoint -q $H/direct && break; sleep .1; done
         timeout 20 head -1 $H/auto/demo/README.md
         timeout 20 head -1 $H/direct/README.md
         findmnt -n -t fuse.icosfs -o TARGET
         umount $H/auto/demo $H/direct
         kill $pid; wait $pid"
    ));
    let message = assert_works(&output);
    for path in ["auto/demo", "direct"] {
        let path = home.join(path).display().to_string();
        assert!(message.lines().any(|line| line == path), "{message}");
    }
}

/// Regression: the mount asked for as many layers of file systems as the kernel allows,
/// and none was left for an overlayfs.
#[test]
fn overlayfs_uses_a_mount_as_its_lower_layer() {
    let portal = portal();
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let place = Place::new();
    let (services, token) = (services_of(&portal, &[]).join(" "), portal.token());
    let output = place.apart(&format!(
        "mkdir $H/upper $H/work $H/over
         ICOSFS_TOKEN='{token}' $I mount {services} $M
         mount -t overlay none $H/over -o lowerdir=$M,upperdir=$H/upper,workdir=$H/work
         cat $H/over/objects/{id}.nc | cksum; cat $M/objects/{id}.nc | cksum
         echo mine >$H/over/objects/mine; cat $H/over/objects/mine; ! test -e $M/objects/mine
         umount $H/over; $I unmount $M"
    ));
    let message = assert_works(&output);
    let lines: Vec<&str> = message.lines().collect();
    assert!(
        lines.len() == 3 && lines[0] == lines[1] && lines[2] == "mine",
        "{message}"
    );
}

/// Regression: the second `mount -a` did not recognise the mount by its source, tried
/// to mount again, and failed.
#[test]
fn mount_of_all_file_systems_in_fstab_mounts_once() {
    let place = Place::new();
    let line = format!(
        "demo {} fuse.icosfs cache_size=50M 0 0\n",
        place.path().display()
    );
    fs::write(place.home.path().join("fstab"), line).unwrap();
    let [installed, helpers] = place.install();
    let output = place.apart(&format!(
        "{installed}{helpers}
         mount -a -T $H/fstab; mount -a -T $H/fstab
         findmnt -n -t fuse.icosfs -o SOURCE $M
         mount -o remount,cache_size=60M $M && exit 9
         umount $M"
    ));
    let message = assert_works(&output);
    assert!(
        message.lines().filter(|line| *line == "demo").count() == 1,
        "{message}"
    );
    assert!(
        message.contains("unmount it and mount it again"),
        "{message}"
    );
}

#[test]
fn systemd_accepts_the_unit_and_is_notified_when_ready() {
    let place = Place::new();
    let unit = fs::read_to_string("packaging/icosfs@.service").unwrap();
    assert!(unit.contains("/usr/bin/icosfs"));
    let file = place.home.path().join("icosfs@icos.service");
    fs::write(&file, unit.replace("/usr/bin/icosfs", ICOSFS)).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["--user", "--man=no", "verify"]).arg(&file);
    let message = assert_works(&place.run(verify));
    assert!(!message.contains("icosfs@icos"), "{message}");

    let socket = UnixDatagram::bind(place.home.path().join("notify")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut daemon = Command::new(ICOSFS)
        .args(["mount", "--demo", "--foreground"])
        .arg(place.path())
        .env("HOME", place.home.path())
        .env("NOTIFY_SOCKET", place.home.path().join("notify"))
        .spawn()
        .unwrap();
    let told = || {
        let mut text = [0; 100];
        let len = socket.recv(&mut text).expect("systemd is told");
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    assert!(place.path().join("README.md").exists());
    // The terminal is closed.
    kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGHUP).unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert!(daemon.wait().unwrap().success());
    assert_eq!(mountinfo::mount_at(&place.path()).unwrap(), None);
}

#[test]
fn daemon_survives_its_terminal_and_raises_its_descriptor_limit() {
    let place = Place::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 256; exec $I mount --demo $M"]);
    assert_works(&place.run(command));
    let status = fs::read(place.path().join(".icosfs/status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let pid = i32::try_from(status["pid"].as_i64().unwrap()).unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{files}");

    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    // Otherwise it would end within one response time.
    for _ in 0..20 {
        assert!(File::open(place.path().join(".icosfs/errors")).is_ok());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_works(&place.icosfs(&["unmount"]));
}

#[test]
fn mount_succeeds_with_a_warning_while_the_portal_fails() {
    let place = Place::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{closed}");
    let services = ["--auth-url", "--meta-url", "--data-url"].map(|flag| format!("{flag}={url}"));
    let mut arguments = vec!["mount"];
    arguments.extend(services.iter().map(String::as_str));
    let message = assert_works(&place.icosfs(&arguments));
    for part in [
        "metadata service cannot be reached",
        "refused",
        "warning: ",
        "cached files can be read now",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(place.path().join("README.md").exists());
    let error = fs::read_dir(place.path().join("objects")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
    let bad = place.icosfs(&["mount", "--data-url=icos"]);
    assert_fails(&bad, 1, &["mounted already"]);
    assert_works(&place.icosfs(&["unmount"]));
    let bad = place.icosfs(&["mount", "--data-url=icos"]);
    assert_fails(&bad, 1, &["expected an http or https URL"]);
}

#[test]
fn several_mounts_of_one_portal_share_one_cache() {
    let portal = portal();
    let first = TestMount::of(&portal);
    let second = Path::new(first.home().path()).join("second");
    fs::create_dir(&second).unwrap();
    let mut command = first.icosfs();
    command
        .arg("mount")
        .args(services_of(&portal, &[]))
        .arg(&second)
        .env("ICOSFS_CACHE_DIR", first.cache())
        .env("ICOSFS_TOKEN", portal.token());
    assert_works(&command.output().unwrap());
    let table = format!("objects/{}.csv", crate::support::co2(&portal));
    let (one, other) = (first.read(&table), fs::read(second.join(&table)).unwrap());
    assert_eq!(one, other);
    let unmount = first.icosfs().arg("unmount").arg(&second).output().unwrap();
    assert_works(&unmount);
    assert!(first.is_mounted());
}

/// Regression: a mount whose address space is limited ended in an abort without a
/// message.
#[test]
fn limited_address_space_is_raised_or_reported_also_in_the_log() {
    let place = Place::new();
    let mut command = Command::new("sh");
    let script = "ulimit -v 700000; exec $I --log-file=$H/log mount --demo $M || true";
    command.args(["-c", script]);
    let message = said(&place.run(command));
    assert!(
        message.contains("limited to 683 MiB (`ulimit -v`)"),
        "{message}"
    );
    let log = fs::read_to_string(place.home.path().join("log")).unwrap();
    assert!(log.contains("ulimit -v"), "{log}");
    place.icosfs(&["unmount"]);
}

/// Regression: `unmount` waited for a process that went on, and then ended as if the
/// mount were gone; `status` no longer listed it.
#[test]
fn mount_that_another_namespace_has_is_reported_and_still_listed() {
    let place = Place::new();
    let output = place.apart(
        "$I mount --demo $M
         unshare --mount --propagation private sleep 50 & other=$!
         while [ $(readlink /proc/$other/ns/mnt) = $(readlink /proc/self/ns/mnt) ]; do sleep .05; done
         $I unmount $M
         $I status || true
         kill $other; wait $other || true",
    );
    let message = assert_works(&output);
    assert!(
        message.contains("unmounted here, but the mount namespace of process"),
        "{message}"
    );
    assert!(
        message.contains(&place.path().display().to_string()),
        "{message}"
    );
}

/// Both query the size before they open a file, so it must be known.
#[test]
fn fuse_overlayfs_and_bindfs_over_a_mount_read_tables_whose_sizes_are_known() {
    let portal = portal();
    let id = crate::support::co2(&portal);
    let place = Place::new();
    let (services, token) = (services_of(&portal, &[]).join(" "), portal.token());
    let output = place.apart(&format!(
        "mkdir $H/upper $H/work $H/over $H/bound
         ICOSFS_TOKEN='{token}' $I mount {services} $M
         $I prefetch --mount $M {id}
         fuse-overlayfs -o lowerdir=$M,upperdir=$H/upper,workdir=$H/work $H/over
         bindfs $M $H/bound
         for root in $M $H/over $H/bound; do timeout 20 cat $root/objects/{id}.csv | wc -c; done
         timeout 20 grep -c , $H/bound/objects/{id}.csv >/dev/null
         echo more >>$H/over/objects/{id}.csv; tail -n 1 $H/over/objects/{id}.csv
         umount $H/over $H/bound; $I unmount $M"
    ));
    let message = assert_works(&output);
    let len = portal.repository().csv(&id).unwrap().len().to_string();
    let lengths = message.lines().filter(|line| line.trim() == len).count();
    assert_eq!(lengths, 3, "{len}: {message}");
    assert!(message.lines().any(|line| line == "more"), "{message}");
}

/// Unlike fuse-overlayfs, both ask for the size anew.
#[test]
fn overlayfs_and_bindfs_over_a_mount_with_exact_sizes_read_tables_never_read_before() {
    let portal = portal();
    let id = crate::support::co2(&portal);
    for over in ["overlay", "bindfs"] {
        let place = Place::new();
        let (services, token) = (services_of(&portal, &[]).join(" "), portal.token());
        let mount = match over {
            "bindfs" => "bindfs $M $H/over",
            _ => {
                "mount -t overlay none $H/over \
                 -o lowerdir=$M,upperdir=$H/upper,workdir=$H/work
                 echo more >>$H/over/objects/$ID.csv; tail -n 1 $H/over/objects/$ID.csv
                 head -n -1 $H/over/objects/$ID.csv >$H/copy; mv $H/copy $H/over/objects/$ID.csv"
            }
        };
        let output = place.apart(&format!(
            "ID={id}; mkdir $H/upper $H/work $H/over
             ICOSFS_TOKEN='{token}' $I mount --exact-size always {services} $M
             {mount}
             timeout 20 grep -c , $H/over/objects/{id}.csv >/dev/null
             timeout 20 cksum <$H/over/objects/{id}.csv; cksum <$M/objects/{id}.csv
             umount $H/over; $I unmount --lazy $M"
        ));
        let message = assert_works(&output);
        let lines: Vec<_> = message
            .lines()
            .filter(|line| line.split(' ').count() == 2)
            .collect();
        let is_equal = lines.len() == 2 && lines[0] == lines[1];
        assert!(is_equal, "{over}: {}", &message[..message.len().min(500)]);
    }
}

/// Containers get a mount by a bind mount. Regression: `status` failed with "No such
/// file" for the bind mount of a part, and `unmount` waited 10 s for a process that had
/// no reason to end.
#[test]
fn bind_mounts_are_told_from_their_origin_and_unmounted_after_a_crash() {
    let place = Place::new();
    let output = place.apart(
        "findmnt -rn -t fuse.icosfs -o TARGET | while read other; do umount -l $other || true; done
         pid_of() { $I status --json $M | grep -o '\"pid\": *[0-9]*' | tr -dc 0-9; }
         fails() { if \"$@\"; then echo $* works; exit 1; fi; }
         mkdir $H/part $H/whole
         $I mount --demo $M
         mount --bind $M/objects $H/part; mount --bind $M $H/whole
         $I status | grep -c \"^$H\"; ls $H/part | head -1 >/dev/null
         pid=$(pid_of); $I unmount $M; $I unmount $H/whole
         ls $H/part | head -1 >/dev/null; fails $I status; kill -0 $pid
         $I unmount $H/part
         while kill -0 $pid 2>/dev/null; do sleep .1; done
         $I mount --demo $M; mount --bind $M/objects $H/part
         kill -9 $(pid_of); sleep .3
         fails ls $H/part; $I mount --demo $M; ls $M/objects >/dev/null
         fails ls $H/part; fails $I status
         $I unmount $H/part; mount --bind $M/objects $H/part; ls $H/part | head -1 >/dev/null
         umount $H/part; $I unmount $M",
    );
    let message = assert_works(&output);
    assert!(message.starts_with("1\n"), "{message}");
    for part in [
        "unmounted here, but it is also mounted at",
        "a bind mount of a part of a repository; its origin has been unmounted",
        "Transport endpoint is not connected",
        "dead: its process has ended",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

/// A container that was started before the mount sees it if the folder above the mount
/// point is shared, and its copy in the container receives changes (`rslave`).
#[test]
fn mount_appears_in_a_container_by_mount_propagation_only() {
    let place = Place::new();
    let output = place.apart(
        "mkdir $H/shared $H/shared/mnt; mount --bind $H/shared $H/shared
         mount --make-shared $H/shared
         start() { unshare --mount --propagation $1 sleep 50 & }
         start slave; slave=$!; start private; private=$!
         for pid in $slave $private; do
             while [ $(readlink /proc/$pid/ns/mnt) = $(readlink /proc/self/ns/mnt) ]
             do sleep .05; done
         done
         sleep .3; $I mount --demo $H/shared/mnt
         see() { nsenter --target $1 --mount ls $H/shared/mnt | grep -c README || true; }
         echo slave $(see $slave) private $(see $private)
         nsenter --target $slave --mount cat $H/shared/mnt/README.md >/dev/null
         $I unmount $H/shared/mnt; echo slave $(see $slave)
         kill $slave $private; wait || true",
    );
    let message = assert_works(&output);
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines, ["slave 1 private 0", "slave 0"], "{message}");
}

#[test]
fn mount_of_another_user_is_named_and_does_not_spoil_the_status() {
    let place = Place::new();
    place.give_away();
    let output = place.apart(&format!(
        "{OPEN_DEVICE}
         {AS_NOBODY} $H/icosfs mount --demo $M
         setpriv --reuid 12345 --regid 12345 --clear-groups $H/icosfs status
         setpriv --reuid 12345 --regid 12345 --clear-groups $H/icosfs unmount $M || code=$?
         {AS_NOBODY} $H/icosfs unmount $M; exit $code"
    ));
    assert_fails(
        &output,
        1,
        &[
            "a mount by user nobody, whose status only that user sees",
            "is by user nobody",
            "hint: only that user and root can unmount it",
        ],
    );
}
