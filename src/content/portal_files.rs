//! The portal's own files, on a machine that mounts them (its Jupyter service).
//! They are read in preference to the cache, and without a login.
//!
//! The files lie as the portal stores them, `<format>/<id>` and `<format>/<id>.cpb`,
//! and are trusted as the portal is. A file that is missing, has an unexpected
//! length, lies outside of the folder or cannot be read is downloaded from the data service
//! instead.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use super::ByteSource;
use super::usage_log::UsageLog;
use crate::cache::CachePath;
use icos_portal::{ObjectId, UsageReporter};

/// The folder of the portal's own files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DataFolder(Arc<PortalFolder>);

#[derive(Debug)]
struct PortalFolder {
    /// An open descriptor: a file system that is mounted over the path later, including
    /// one of ours, does not hide the files.
    folder: OwnedFd,
    usage: UsageLog,
}

/// One of the files.
#[derive(Debug)]
pub(super) struct PortalFile {
    id: ObjectId,
    path: CachePath,
    file: File,
    len: u64,
    /// Cleared by the first read that fails.
    readable: AtomicBool,
    folder: DataFolder,
}

impl DataFolder {
    /// Uses the files in `folder`, and reports to `usage` which of them are read.
    #[must_use]
    pub fn new(folder: OwnedFd, usage: Option<UsageReporter>) -> Self {
        Self(Arc::new(PortalFolder {
            folder,
            usage: UsageLog::new(usage),
        }))
    }

    /// Opens the file of `id` at `path`, if it exists and is `len` bytes long.
    pub(super) async fn find(
        &self,
        id: ObjectId,
        path: &CachePath,
        len: u64,
    ) -> Option<Arc<PortalFile>> {
        let (folder, at) = (Arc::clone(&self.0), path.clone());
        let found = icos_sync::spawn_blocking(move || folder.open(&at, len)).await;
        let file = found.ok().flatten()?;
        Some(Arc::new(PortalFile {
            id,
            path: path.clone(),
            file,
            len,
            readable: AtomicBool::new(true),
            folder: self.clone(),
        }))
    }
}

impl PortalFolder {
    fn open(&self, path: &CachePath, len: u64) -> Option<File> {
        // Opening must not wait, should the file be a pipe.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let path = path.path();
        let file = match open_within(self.folder.as_fd(), &path, flags) {
            Ok(file) => file,
            Err(errno) => {
                tracing::debug!(path = %path.display(), %errno, "no such file on the portal's disk");
                return None;
            }
        };
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() != len {
            tracing::warn!(path = %path.display(), expected = len, found = metadata.len(),
                "the file on the portal's disk has an unexpected length; using the data service");
            return None;
        }
        Some(file)
    }
}

/// Opens the file at `path` in `folder`. Links may lead to other places in the folder, not
/// out of it: other users of a mount would read what only its owner can.
fn open_within(folder: BorrowedFd<'_>, path: &Path, flags: OFlag) -> Result<File, Errno> {
    let within = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(within);
    match openat2(folder, path, how) {
        // An old kernel, or a container that refuses the call: no links at all.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::EINVAL);
            };
            let handle = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let parent = openat(folder, parent, handle, Mode::empty())?;
            openat(&parent, name, flags | OFlag::O_NOFOLLOW, Mode::empty()).map(File::from)
        }
        opened => opened.map(File::from),
    }
}

impl PortalFile {
    /// Whether every read has succeeded so far.
    pub(super) fn is_readable(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    /// Reads `range`, or the part of it before the end of the file. `None` once a read
    /// has failed.
    pub(super) async fn read(self: Arc<Self>, range: Range<u64>) -> Option<Bytes> {
        ByteSource::PortalDisk.note();
        let reading = icos_sync::spawn_blocking(move || self.read_blocking(range)).await;
        reading.ok().flatten().map(Bytes::from)
    }

    /// As [`PortalFile::read`]. Blocks on disk I/O.
    pub(super) fn read_blocking(&self, range: Range<u64>) -> Option<Vec<u8>> {
        if !self.is_readable() {
            return None;
        }
        let range = range.start.min(self.len)..range.end.min(self.len);
        let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start)).ok()?];
        if let Err(error) = self.file.read_exact_at(&mut bytes, range.start) {
            tracing::warn!(id = %self.id, %error,
                "the file on the portal's disk cannot be read; using the data service");
            self.readable.store(false, Ordering::Relaxed);
            return None;
        }
        self.folder.0.usage.note(self.id, &self.path);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &tempfile::TempDir) -> DataFolder {
        std::fs::create_dir(dir.path().join("csv")).unwrap();
        std::fs::write(dir.path().join("csv/x"), "0123456789").unwrap();
        DataFolder::new(File::open(dir.path()).unwrap().into(), None)
    }

    #[tokio::test]
    async fn read_returns_any_range_up_to_the_end_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (id, path) = (
            ObjectId::of_content(b""),
            CachePath::new("csv", "x").unwrap(),
        );
        let file = folder(&dir).find(id, &path, 10).await.unwrap();
        for (range, bytes) in [(0..10, "0123456789"), (8..100, "89"), (50..60, "")] {
            let read = Arc::clone(&file).read(range).await.unwrap();
            assert_eq!(read, bytes);
        }
    }

    #[tokio::test]
    async fn file_of_unexpected_length_missing_or_truncated_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let id = ObjectId::of_content(b"");
        let folder = folder(&dir);
        let path = |name| CachePath::new("csv", name).unwrap();
        assert!(folder.find(id, &path("x"), 11).await.is_none());
        assert!(folder.find(id, &path("y"), 10).await.is_none());

        let file = folder.find(id, &path("x"), 10).await.unwrap();
        std::fs::write(dir.path().join("csv/x"), "0123").unwrap();
        assert!(Arc::clone(&file).read(0..10).await.is_none());
        assert!(!file.is_readable() && file.read(0..2).await.is_none());
    }
}
