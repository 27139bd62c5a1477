//! The files of a folder store. All calls block on the disk.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use icos_files::SafeFolder;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::cluster::seal::hex;
use crate::cluster::store::{StoreVersion, StoredObject};

/// How many bytes are read or written at once: progress is noted after each.
const PART: usize = 1 << 20;
/// Files and folders are for the user and the group: the folder decides which group.
const FILE_MODE: Mode = Mode::from_raw_mode(0o660);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o770);
/// A claim that is older than this belongs to a writer that died.
const MAX_CLAIM_AGE: Duration = Duration::from_mins(1);

/// What to do if the object exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Create {
    /// Leave it.
    New,
    /// Replace it.
    OrReplace,
}

/// The files below an open folder.
#[derive(Debug)]
pub(super) struct FolderFiles<'a> {
    root: OwnedFd,
    progress: &'a AtomicU64,
}

/// A new file without its final name.
struct NewFile<'a> {
    folder: &'a OwnedFd,
    name: OsString,
    version: StoreVersion,
}

/// Opens the folder of the store. Its own path may contain links that no other user can
/// have put there.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    SafeFolder::open(path)?.as_fd().try_clone_to_owned()
}

impl<'a> FolderFiles<'a> {
    pub(super) fn new(root: OwnedFd, progress: &'a AtomicU64) -> Self {
        Self { root, progress }
    }

    /// Reads the object at `key`, or `max` bytes and one more of it.
    pub(super) fn read(&self, key: &str, max: usize) -> io::Result<Option<StoredObject>> {
        let (folder, name) = match self.folder_of(key, false) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.read_in(&folder, name, max)
    }

    fn read_in(
        &self,
        folder: &OwnedFd,
        name: &str,
        max: usize,
    ) -> io::Result<Option<StoredObject>> {
        // Opening must not wait, should the file be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            // ELOOP: a link. ENXIO: a socket.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let version = version_of(&found);
        let limit = max.saturating_add(1);
        let len = usize::try_from(found.st_size).unwrap_or(0).min(limit);
        let mut bytes = Vec::with_capacity(len);
        let mut file = File::from(file).take(limit as u64);
        loop {
            let part = (&mut file).take(PART as u64).read_to_end(&mut bytes)?;
            self.note_progress();
            if part < PART {
                break;
            }
        }
        Ok(Some(StoredObject {
            bytes: bytes.into(),
            version,
        }))
    }

    /// Writes the object at `key`. Returns its version, or `None` if it exists and is to
    /// be left.
    pub(super) fn write(
        &self,
        key: &str,
        bytes: &Bytes,
        create: Create,
    ) -> io::Result<Option<StoreVersion>> {
        let (folder, name) = self.created_folder_of(key)?;
        let new = self.new_file(&folder, bytes)?;
        match create {
            Create::OrReplace => new.rename_to(name).map(Some),
            Create::New => new.link_to(name),
        }
    }

    /// Writes the object at `key` if the present one has version `expected`.
    pub(super) fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: &Bytes,
    ) -> io::Result<Option<StoreVersion>> {
        let (folder, name) = self.created_folder_of(key)?;
        let claim = format!(".claim-{}", expected.0);
        let claimed = self.new_file(&folder, &Bytes::new())?.link_to(&claim)?;
        let Some(own) = claimed else {
            remove_old_claim(&folder, &claim)?;
            return Ok(None);
        };
        let replaced = (|| {
            let found = self.read_in(&folder, name, 0)?;
            if found.is_none_or(|found| found.version != *expected) {
                return Ok(None);
            }
            self.new_file(&folder, bytes)?.rename_to(name).map(Some)
        })();
        // If it took so long that another writer removed the claim, it may be that one's.
        if version_at(&folder, &claim)?.is_some_and(|found| found == own) {
            remove(&folder, &claim)?;
        }
        replaced
    }

    fn new_file<'f>(&self, folder: &'f OwnedFd, bytes: &[u8]) -> io::Result<NewFile<'f>> {
        let mut random = [0; 12];
        let flags = rustix::rand::GetRandomFlags::empty();
        if rustix::rand::getrandom(&mut random, flags)? != random.len() {
            return Err(io::Error::other("the kernel gave too few random bytes"));
        }
        let name = OsString::from(format!(".new-{}", hex(&random)));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, &name, flags, FILE_MODE)?;
        let mut new = NewFile {
            folder,
            name,
            version: StoreVersion(String::new()),
        };
        let mut file = File::from(file);
        for part in bytes.chunks(PART) {
            file.write_all(part)?;
            self.note_progress();
        }
        new.version = version_of(&rustix::fs::fstat(&file)?);
        Ok(new)
    }

    /// The folder of the object at `key`, and its name there; `None` if there is no such
    /// folder.
    fn folder_of<'k>(&self, key: &'k str, create: bool) -> io::Result<Option<(OwnedFd, &'k str)>> {
        let (path, name) = key.rsplit_once('/').unwrap_or(("", key));
        let mut folder = self.root.try_clone()?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = || rustix::fs::openat(&folder, part, flags, Mode::empty());
            let opened = match open() {
                Err(Errno::NOENT) if create => {
                    match rustix::fs::mkdirat(&folder, part, FOLDER_MODE) {
                        Ok(()) | Err(Errno::EXIST) => open(),
                        Err(error) => Err(error),
                    }
                }
                opened => opened,
            };
            folder = match opened {
                Ok(opened) => opened,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !create => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Some((folder, name)))
    }

    fn created_folder_of<'k>(&self, key: &'k str) -> io::Result<(OwnedFd, &'k str)> {
        let found = self.folder_of(key, true)?;
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn note_progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }
}

impl NewFile<'_> {
    /// Gives it the name, also if another file has it.
    fn rename_to(self, name: &str) -> io::Result<StoreVersion> {
        rustix::fs::renameat(self.folder, &self.name, self.folder, name)?;
        Ok(self.version.clone())
    }

    /// Gives it the name, unless another file has it.
    fn link_to(self, name: &str) -> io::Result<Option<StoreVersion>> {
        let (folder, flags) = (self.folder, AtFlags::empty());
        let linked = match rustix::fs::linkat(folder, &self.name, folder, name, flags) {
            // Filesystems without hard links.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK | Errno::NOSYS) => {
                let flags = RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(folder, &self.name, folder, name, flags)
            }
            linked => linked,
        };
        match linked {
            Ok(()) => Ok(Some(self.version.clone())),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // It is gone already if it was renamed.
        let _ = rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty());
    }
}

/// Tells versions of a file apart: each write makes a new file.
fn version_of(found: &rustix::fs::Stat) -> StoreVersion {
    let (seconds, nanoseconds) = (found.st_mtime, found.st_mtime_nsec);
    let (inode, size) = (found.st_ino, found.st_size);
    StoreVersion(format!("{inode:x}-{seconds:x}-{nanoseconds:x}-{size:x}"))
}

fn version_at(folder: &OwnedFd, name: &str) -> io::Result<Option<StoreVersion>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(version_of(&found))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a claim whose writer died, or that is of the future. A clock that is wrong
/// removes a claim early, which costs a download at most.
fn remove_old_claim(folder: &OwnedFd, claim: &str) -> io::Result<()> {
    let Ok(found) = rustix::fs::statat(folder, claim, AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(());
    };
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let made = Duration::from_secs(u64::try_from(found.st_mtime).unwrap_or(0));
    if now.abs_diff(made) > MAX_CLAIM_AGE {
        remove(folder, claim)?;
    }
    Ok(())
}

fn remove(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
