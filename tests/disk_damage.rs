//! Damage of cached files that the kernel reads directly (passthrough): a disk that
//! returns other bytes than were written, and programs that change the files.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use icos_demo::DemoPortal;
use icos_portal::ObjectId;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::support::{Home, TestMount, co2, eventually, files_below, get, portal, said};

/// A disk of a file, on which bytes can be changed below the file system.
struct LoopDisk {
    folder: tempfile::TempDir,
    image: tempfile::NamedTempFile,
}

impl LoopDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(96 << 20).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .args([image.path()])
                .args((program == "mount").then_some(folder.path()))
                .output()
                .unwrap_or_else(|error| panic!("{program}: {error}; see scripts/setup"));
            assert!(
                output.status.success(),
                "run this as root: {}",
                said(&output)
            );
        };
        run("mkfs.ext4", &["-q", "-F", "-b", "4096"]);
        run("mount", &["-o", "loop"]);
        Self { folder, image }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Changes the byte at `offset` of `file` on the disk. Size and times of the file
    /// stay as they are.
    fn damage(&self, file: &Path, offset: usize) {
        const UNIT: usize = 4096;
        let opened = File::open(file).unwrap();
        opened.sync_all().unwrap();
        let bytes = fs::read(file).unwrap();
        let start = offset / UNIT * UNIT;
        let wanted = &bytes[start..bytes.len().min(start + UNIT)];
        let image = fs::read(self.image.path()).unwrap();
        let mut units = image.chunks(UNIT);
        let found = units.position(|unit| unit.starts_with(wanted));
        let at = found.expect("it is on the disk") * UNIT + offset - start;
        let damaged = [image[at] ^ 1];
        self.image
            .as_file()
            .write_all_at(&damaged, at as u64)
            .unwrap();
        // The file system reads the disk again.
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        posix_fadvise(&opened, 0, 0, advice).unwrap();
        assert!(fs::read(file).unwrap() != bytes, "the damage is visible");
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A daemon that is ending may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mount_in(portal: &DemoPortal, cache: &Path) -> TestMount {
    let cache_dir = format!("--cache-dir={}", cache.display());
    TestMount::with(portal, &[&cache_dir], &[("ICOSFS_TOKEN", &portal.token())])
}

fn passed_through(mount: &TestMount) -> u64 {
    mount.status()["served"]["passed_through"].as_u64().unwrap()
}

/// Reads `path` until the kernel reads it directly; each time, the bytes are right.
fn read_until_passed_through(mount: &TestMount, path: &str, right: &[u8]) {
    let before = passed_through(mount);
    let passed = eventually(Duration::from_secs(20), || {
        assert!(mount.read(path) == right, "{path} is wrong");
        passed_through(mount) > before
    });
    assert!(passed, "{path} is never read directly");
}

/// An original and a `.cpb` file: names in the mount, and their bytes.
fn files(portal: &DemoPortal) -> [(String, ObjectId, Vec<u8>); 2] {
    let original = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let bytes = get(portal, &format!("/objects/{original}"));
    let table = co2(portal);
    let cpb = format!("dataAppStorage/asciiAtcProductTimeSer/{table}.cpb");
    let columns = portal.repository().cpb(&table).unwrap();
    [
        (format!("objects/{original}.nc"), original, bytes),
        (cpb, table, columns),
    ]
}

/// The complete file in the cache.
fn cached(cache: &Path, id: ObjectId) -> PathBuf {
    let mut found = None;
    let is_file = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains("/dataAppStorage/") && path.contains(&id.to_string())
    };
    let sealed = eventually(Duration::from_secs(20), || {
        found = files_below(cache).into_iter().find(is_file);
        found.is_some()
    });
    assert!(sealed, "{id} is not complete");
    found.unwrap()
}

/// Regression: the wrong byte was read without an error, in the same mount and in
/// later ones.
#[test]
fn byte_changed_on_the_disk_is_shown_neither_in_the_same_mount_nor_in_the_next() {
    let portal = portal();
    for (path, id, right) in files(&portal) {
        let disk = LoopDisk::new();
        let mount = mount_in(&portal, disk.path());
        assert!(mount.read(&path) == right);
        disk.damage(&cached(disk.path(), id), right.len() / 2);
        assert!(mount.read(&path) == right, "{path} in the same mount");
        drop(mount);

        let mount = mount_in(&portal, disk.path());
        assert!(mount.read(&path) == right, "{path} in the next mount");
        cached(disk.path(), id);
        drop(mount);

        // Damage that no reader came across.
        let mount = mount_in(&portal, disk.path());
        mount.list("objects");
        disk.damage(&cached(disk.path(), id), right.len() / 3);
        read_until_passed_through(&mount, &path, &right);
    }
}

/// The time of a file's last change is checked at each open, so that an edited file
/// is not shown to programs that open it afterwards.
#[test]
fn file_edited_while_it_is_read_directly_cannot_be_opened_until_it_is_closed() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let [(path, id, right), _] = files(&portal);
    mount_in(&portal, cache.path()).read(&path);
    let mount = mount_in(&portal, cache.path());
    read_until_passed_through(&mount, &path, &right);
    let reader = File::open(mount.path(&path)).unwrap();
    let file = cached(cache.path(), id);
    let mut bytes = fs::read(&file).unwrap();
    bytes[77] ^= 1;
    fs::write(&file, bytes).unwrap();

    let refused = mount
        .try_read(&path)
        .map(|bytes| bytes == right)
        .unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO), "{refused}");
    let reason = mount.last_reason();
    assert!(reason.contains("changed in the cache"), "{reason}");
    drop(reader);
    // The kernel closes it soon after.
    let mut found = Vec::new();
    let opened = eventually(Duration::from_secs(5), || {
        found = mount.try_read(&path).unwrap_or_default();
        !found.is_empty()
    });
    assert!(opened && found == right);
    read_until_passed_through(&mount, &path, &right);
}

/// Regression: the removal of a file was taken for a change of its bytes.
#[test]
fn file_that_is_read_directly_can_be_opened_again_after_the_cache_was_emptied() {
    let portal = portal();
    for (path, _, right) in files(&portal) {
        let cache = tempfile::tempdir().unwrap();
        mount_in(&portal, cache.path()).read(&path);
        let mount = mount_in(&portal, cache.path());
        read_until_passed_through(&mount, &path, &right);
        let reader = File::open(mount.path(&path)).unwrap();
        for entry in fs::read_dir(cache.path()).unwrap().flatten() {
            let _ = fs::remove_dir_all(entry.path());
        }

        assert!(mount.read(&path) == right, "{path} while it is open");
        drop(reader);
        assert!(mount.read(&path) == right, "{path} after it was closed");
    }
}

/// Regression: `cache verify` left a file that a mount had open as it was, and the
/// mount went on to show it.
#[test]
fn cache_verify_makes_mounts_drop_the_files_that_it_finds() {
    let portal = portal();
    for (path, id, right) in files(&portal) {
        let disk = LoopDisk::new();
        mount_in(&portal, disk.path()).read(&path);
        let mount = mount_in(&portal, disk.path());
        read_until_passed_through(&mount, &path, &right);
        let reader = File::open(mount.path(&path)).unwrap();
        disk.damage(&cached(disk.path(), id), 5000);
        let cache_dir = disk.path().display().to_string();
        let verify =
            || Home::new().run(&portal, &["--cache-dir", &cache_dir, "cache", "verify"], "");
        let found = verify();
        assert!(!found.status.success(), "{}", said(&found));
        assert!(
            said(&found).contains("a mount has it open"),
            "{}",
            said(&found)
        );
        drop(reader);

        let read = eventually(Duration::from_secs(5), || mount.try_read(&path).is_ok());
        assert!(read && mount.read(&path) == right, "{path}");
        assert!(verify().status.success());
    }
}

#[test]
fn complete_files_in_the_cache_cannot_be_written_by_accident() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let mount = mount_in(&portal, cache.path());
    for (path, id, _) in files(&portal) {
        mount.read(&path);
        let file = cached(cache.path(), id);
        let is_protected = || fs::metadata(&file).unwrap().permissions().mode() & 0o777 == 0o400;
        assert!(eventually(Duration::from_secs(5), is_protected), "{path}");
    }
}
