//! Folders of other users whose owners cannot be told, and folders that change places
//! while icosfs mounts and unmounts there.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use icos_demo::DemoPortal;
use icosfs::mount::mountinfo;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, mknod};

use super::shared_folders::{ATTACKER, Attack, Scene, USER, attack_some};
use crate::support::home::ICOSFS;
use crate::support::{Home, portal, said, services_of};

/// Attempts to mount or unmount while folders change places. One in three hits the moment.
const ATTEMPTS: usize = 12;

/// In a user namespace, the kernel displays all other owners as one.
#[test]
fn files_in_a_folder_of_another_user_are_safe_in_a_user_namespace() {
    let wrapper = "exec unshare --user --map-root-user \"$@\"".to_owned();
    attack_some(&Scene::new(USER, 0o755).by(wrapper), &Attack::ALL);
}

/// The process behind a FUSE file system may say that its files belong to root.
#[test]
fn files_on_a_file_system_of_another_user_are_safe_from_root() {
    let scene = Scene::new(0, 0o755);
    let (folder, settings) = (scene.path("theirs"), scene.path("home/fuse.conf"));
    fs::write(&settings, "user_allow_other\n").unwrap();
    // One that every user may open, as on most systems.
    let device = scene.path("home/fuse");
    let numbers = fs::metadata("/dev/fuse").unwrap().rdev();
    mknod(
        &device,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        numbers,
    )
    .unwrap();
    fs::set_permissions(&device, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(scene.path("home"), Permissions::from_mode(0o755)).unwrap();
    let script = format!(
        r#"mount --bind '{settings}' /etc/fuse.conf
        mount --bind '{device}' /dev/fuse
        setpriv --reuid={ATTACKER} --regid={ATTACKER} --clear-groups bindfs -f \
            --force-user=root --force-group=root -o allow_other,nonempty '{folder}' '{folder}' &
        until mountpoint -q '{folder}'; do sleep 0.01; done
        code=0
        "$@" || code=$?
        umount -l '{folder}'
        exit $code"#,
        settings = settings.display(),
        device = device.display(),
        folder = folder.display()
    );
    let wrapper = format!(
        "exec unshare --mount sh -euc '{}' sh \"$@\"",
        script.replace('\'', "'\\''")
    );
    // Without pipes: `bindfs` itself waits for their writers, as any such file system can.
    attack_some(
        &scene.by(wrapper),
        &[
            Attack::SymbolicLink,
            Attack::HardLink,
            Attack::LinkToAFolder,
        ],
    );
}

/// While it lives, a folder and a link of the attacker change places.
struct Exchange<'a> {
    stops: &'a AtomicBool,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` while `theirs/a`, a folder, and `theirs/b`, a link to `victims`, change
/// places all the time.
fn during_exchanges(scene: &Scene, work: impl FnOnce()) {
    let (a, b) = (scene.path("theirs/a"), scene.path("theirs/b"));
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stops.load(Ordering::Relaxed) {
                let exchange = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &a, AT_FDCWD, &b, exchange).unwrap();
            }
        });
        let _exchange = Exchange { stops: &stops };
        work();
    });
}

fn scene_with_mountpoints() -> Scene {
    let scene = Scene::new(0, 0o755);
    for folder in ["theirs/a", "theirs/a/icos", "victims/icos"] {
        fs::create_dir(scene.path(folder)).unwrap();
    }
    scene.give("theirs/a", ATTACKER, 0o755);
    let link = scene.path("theirs/b");
    symlink(scene.path("victims"), &link).unwrap();
    lchown(&link, Some(ATTACKER), Some(ATTACKER)).unwrap();
    scene
}

fn mount(home: &Home, portal: &DemoPortal, at: &Path) -> Output {
    let mut command = home.icosfs();
    command.args(services_of(portal, &[])).arg("mount").arg(at);
    command.output().unwrap()
}

fn unmount(home: &Home, at: &Path) -> Output {
    home.icosfs().arg("unmount").arg(at).output().unwrap()
}

fn mountpoints() -> Vec<PathBuf> {
    let mounts = mountinfo::mounts().unwrap();
    mounts.into_iter().map(|mount| mount.mountpoint).collect()
}

/// Detaches what is mounted below `folder`.
fn detach_all(folder: &Path) {
    for path in mountpoints() {
        if path.starts_with(folder) {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// Regression: the path was checked first, and mounted at later.
#[test]
fn mount_is_not_made_over_a_folder_that_takes_the_place_of_the_one_checked() {
    let (portal, home) = (portal(), Home::new());
    let scene = scene_with_mountpoints();
    let victims = scene.path("victims");
    for attempt in 0..ATTEMPTS {
        let mut output = None;
        during_exchanges(&scene, || {
            output = Some(mount(&home, &portal, &scene.path("theirs/a/icos")));
        });
        let mounted = mountpoints();
        detach_all(&scene.path(""));
        let wrong = mounted.iter().any(|path| path.starts_with(&victims));
        let said = output.map(|output| said(&output));
        assert!(!wrong, "attempt {attempt}: {said:?}");
    }
}

/// Regression: a process that had asked the other one could not even be killed.
#[test]
fn mount_of_another_user_is_named_and_not_queried() {
    let home = Home::new();
    let at = home.path().join("mnt");
    fs::create_dir(&at).unwrap();
    let device = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id={ATTACKER},group_id={ATTACKER},allow_other",
        device.as_raw_fd()
    );
    let kind = Some("fuse.icosfs");
    nix::mount::mount(
        Some("theirs"),
        &at,
        kind,
        MsFlags::MS_NOSUID,
        Some(&*options),
    )
    .unwrap();
    // The first request, without an answer to it.
    let first = (&device).read(&mut vec![0; 1 << 17]).unwrap();
    assert!(first > 0);
    let shown = at.display().to_string();
    let icosfs = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        let command = home.alone(&mut command).args(["30", ICOSFS]);
        command.args(arguments).output().unwrap()
    };
    let all = icosfs(&["status"]);
    let named = icosfs(&["status", &shown]);
    let level = icosfs(&["log-level", &shown, "debug"]);
    let unmounted = icosfs(&["unmount", &shown]);
    detach_all(home.path());
    let expected = format!("{shown}\n  a mount by user ");
    assert!(said(&all).contains(&expected), "{}", said(&all));
    for refused in [named, level] {
        let text = said(&refused);
        assert!(!refused.status.success(), "{text}");
        let is_named = text.contains("is by user ");
        assert!(
            is_named && text.contains("commands trust your own mounts"),
            "{text}"
        );
    }
    assert!(unmounted.status.success(), "{}", said(&unmounted));
}

/// Regression: root unmounted what another user's link led to.
#[test]
fn unmount_does_not_reach_a_mount_to_which_a_link_leads() {
    let (portal, home) = (portal(), Home::new());
    let scene = scene_with_mountpoints();
    let (theirs, victim) = (scene.path("theirs/a/icos"), scene.path("victims/icos"));
    assert!(mount(&home, &portal, &victim).status.success());
    for attempt in 0..ATTEMPTS / 2 {
        if !scene.path("theirs/b").is_symlink() {
            let (a, b) = (scene.path("theirs/a"), scene.path("theirs/b"));
            renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).unwrap();
        }
        if !mountpoints().contains(&theirs) {
            let mounted = mount(&home, &portal, &theirs);
            assert!(mounted.status.success(), "{}", said(&mounted));
        }
        let mut output = None;
        during_exchanges(&scene, || output = Some(unmount(&home, &theirs)));
        let said = output.map(|output| said(&output));
        assert!(
            mountpoints().contains(&victim),
            "attempt {attempt}: {said:?}"
        );
    }
    detach_all(&scene.path(""));
}

/// Regression: everything below the folder was cleaned, whatever was mounted there.
#[test]
fn garbage_collection_enters_no_other_file_system() {
    let scene = Scene::new(0, 0o755);
    let id = scene.path("theirs/v1/h/original/id");
    for folder in ["other", "same"] {
        fs::create_dir_all(id.join(folder)).unwrap();
    }
    let script = r#"mount -t tmpfs none "$2/other"; mount --bind "$3" "$2/same"
        touch "$2/0" "$2/other/7"
        "$1" cluster gc --unused-days 0 "$4"
        find "$2" -type f -printf '%P\n' | sort"#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-euc", script, "sh"])
        .arg(scene.path("icosfs"))
        .args([&id, &scene.path("victims/folder"), &scene.path("theirs")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let found = String::from_utf8(output.stdout).unwrap();
    let found: Vec<&str> = found.lines().skip(1).collect();
    assert_eq!(found, ["other/7", "same/7", "same/file"]);
}
