//! The tests run as root, and so can act as another user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use nix::unistd::{chown, mkfifo};

use super::*;
use crate::{open_for_append, read_file};

const OTHER: u32 = 12_345;

/// A folder of another user, with a file of root beside it.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("theirs")).unwrap();
        let other = Some(Uid::from_raw(OTHER));
        chown(&dir.path().join("theirs"), other, None).expect("these tests run as root");
        fs::write(dir.path().join("secret"), "secret").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn secret_is_untouched(&self) {
        let found = fs::metadata(self.path("secret")).unwrap();
        assert_eq!((found.uid(), found.len()), (0, 6));
    }
}

fn is_refused<T>(result: io::Result<T>) {
    let error = result.map(drop).unwrap_err();
    assert!(UnsafeFile::is_cause_of(&error), "{error}");
}

#[test]
fn link_in_a_folder_of_another_user_is_not_followed() {
    let scene = Scene::new();
    symlink(scene.path("secret"), scene.path("theirs/file")).unwrap();
    symlink(scene.dir.path(), scene.path("theirs/folder")).unwrap();
    for path in ["theirs/file", "theirs/folder/secret"] {
        is_refused(SafePath::resolve(&scene.path(path)));
        is_refused(open_for_append(&scene.path(path)));
    }
    let folder = SafeFolder::open(&scene.path("theirs")).unwrap();
    is_refused(folder.append(OsStr::new("file"), 0o600));
    is_refused(folder.read(OsStr::new("file")));
    scene.secret_is_untouched();
}

#[test]
fn own_link_in_an_own_folder_is_followed() {
    let scene = Scene::new();
    symlink("secret", scene.path("link")).unwrap();
    symlink(scene.dir.path(), scene.path("folder")).unwrap();
    for path in ["link", "folder/link", "theirs/../link"] {
        let place = SafePath::resolve(&scene.path(path)).unwrap();
        assert_eq!(place.name, "secret");
    }
    // As in `/tmp`.
    fs::set_permissions(scene.dir.path(), Permissions::from_mode(0o1777)).unwrap();
    SafePath::resolve(&scene.path("link")).unwrap();
    let other = Some(Uid::from_raw(OTHER));
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    nix::unistd::fchownat(
        nix::fcntl::AT_FDCWD,
        &scene.path("link"),
        other,
        None,
        flags,
    )
    .unwrap();
    is_refused(SafePath::resolve(&scene.path("link")));
}

#[test]
fn file_with_another_name_or_of_a_third_user_is_not_changed() {
    let scene = Scene::new();
    fs::hard_link(scene.path("secret"), scene.path("theirs/linked")).unwrap();
    fs::write(scene.path("theirs/third"), "").unwrap();
    chown(&scene.path("theirs/third"), Some(Uid::from_raw(777)), None).unwrap();
    fs::write(scene.path("theirs/own"), "").unwrap();
    chown(&scene.path("theirs/own"), Some(Uid::from_raw(OTHER)), None).unwrap();
    let folder = SafeFolder::open(&scene.path("theirs")).unwrap();
    is_refused(folder.append(OsStr::new("linked"), 0o600));
    is_refused(folder.append(OsStr::new("third"), 0o600));
    folder.append(OsStr::new("own"), 0o600).unwrap();
    scene.secret_is_untouched();
}

#[test]
fn pipe_is_refused_at_once() {
    let scene = Scene::new();
    mkfifo(&scene.path("theirs/pipe"), Mode::S_IRWXU).unwrap();
    let folder = SafeFolder::open(&scene.path("theirs")).unwrap();
    is_refused(folder.read(OsStr::new("pipe")));
    is_refused(folder.append(OsStr::new("pipe"), 0o600));
}

#[test]
fn new_file_and_folder_belong_to_the_owner_of_the_folder() {
    let scene = Scene::new();
    let folder = SafeFolder::create(&scene.path("theirs/a/b"), 0o700).unwrap();
    let name = OsStr::new("file");
    folder
        .replace(name, OsStr::new(".file.new"), 0o600, b"text")
        .unwrap();
    for path in ["theirs/a", "theirs/a/b", "theirs/a/b/file"] {
        let found = fs::metadata(scene.path(path)).unwrap();
        assert_eq!(found.uid(), OTHER, "{path}");
        assert_eq!(found.mode() & 0o077, 0, "{path}");
    }
}

#[test]
fn replace_removes_a_link_in_place_of_the_temporary_file() {
    let scene = Scene::new();
    symlink(scene.path("secret"), scene.path("theirs/.new")).unwrap();
    symlink(scene.path("secret"), scene.path("theirs/file")).unwrap();
    let folder = SafeFolder::open(&scene.path("theirs")).unwrap();
    folder
        .replace(OsStr::new("file"), OsStr::new(".new"), 0o600, b"text")
        .unwrap();
    scene.secret_is_untouched();
    assert_eq!(fs::read(scene.path("theirs/file")).unwrap(), b"text");
}

#[test]
fn private_folder_is_not_below_one_that_others_can_write_to() {
    let scene = Scene::new();
    let private = |path: &str| SafeFolder::private(&scene.path(path), true);
    is_refused(private("theirs/cache"));
    private("own/cache").unwrap();
    let set = |path: &str, mode| {
        fs::set_permissions(scene.path(path), Permissions::from_mode(mode)).unwrap();
    };
    set("own", 0o1777);
    private("own/cache").unwrap();
    set("own", 0o777);
    is_refused(private("own/cache"));
    // No other user can get there.
    fs::create_dir(scene.path("closed")).unwrap();
    set("closed", 0o700);
    private("closed/open/cache").unwrap();
    set("closed/open", 0o777);
    private("closed/open/cache").unwrap();
    set("closed/open/cache", 0o770);
    chown(
        &scene.path("closed/open/cache"),
        None,
        Some(Gid::from_raw(OTHER)),
    )
    .unwrap();
    is_refused(private("closed/open/cache"));
}

#[test]
fn device_is_appended_to_and_has_no_place() {
    let (_, place) = open_for_append(Path::new("/dev/null")).unwrap();
    assert!(place.is_none());
}

#[test]
fn folder_is_reached_by_its_descriptor_after_it_was_renamed() {
    let scene = Scene::new();
    let folder = SafeFolder::private(&scene.path("cache"), true).unwrap();
    fs::rename(scene.path("cache"), scene.path("moved")).unwrap();
    fs::create_dir(scene.path("cache")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(scene.path("moved/file").exists());
}

#[test]
fn read_file_refuses_pipes_devices_and_files_that_are_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "0123456789").unwrap();
    assert_eq!(read_file(&path, 10).unwrap(), b"0123456789");
    let long = read_file(&path, 9).unwrap_err();
    assert_eq!(long.kind(), ErrorKind::FileTooLarge);
    fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    for special in [&*path, Path::new("/dev/null")] {
        let refused = read_file(special, 10).unwrap_err();
        assert!(UnsafeFile::is_cause_of(&refused), "{refused}");
    }
}
