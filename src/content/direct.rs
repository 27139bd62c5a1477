//! The portal's own files, on a machine that has them (its Jupyter service):
//! read before the cache, and without a login.
//!
//! They lie as the portal stores them, `<format>/<id>` and `<format>/<id>.cpb`,
//! and are trusted as the portal is. What is not there, has another length
//! than it should, or cannot be read is had from the data service instead.

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::ByteSource;
use crate::cache::CachePath;
use icos_portal::{ObjectId, UsageReporter};

/// Who reads an object for longer has read it again.
const AGAIN: Duration = Duration::from_hours(1);
/// Of how many files it is remembered that they were read.
const REPORTED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// A folder of the portal's own files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DataFolder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held open: whatever is mounted over its path later, even a mount of
    /// ours, does not come between.
    folder: OwnedFd,
    usage: Option<UsageReporter>,
    /// When reads were reported last.
    reported: Mutex<LruCache<(ObjectId, CachePath), Instant>>,
}

/// One of its files.
#[derive(Debug)]
pub(super) struct DirectFile {
    id: ObjectId,
    place: CachePath,
    file: File,
    len: u64,
    /// Cleared by the first read that fails.
    readable: AtomicBool,
    folder: DataFolder,
}

impl DataFolder {
    /// The files in `folder`; what is read of them is reported to `usage`.
    #[must_use]
    pub fn new(folder: OwnedFd, usage: Option<UsageReporter>) -> Self {
        Self(Arc::new(Shared {
            folder,
            usage,
            reported: Mutex::new(LruCache::new(REPORTED)),
        }))
    }

    /// The file of `id` at `place`, if there is one and it is `len` bytes
    /// long.
    pub(super) async fn find(
        &self,
        id: ObjectId,
        place: &CachePath,
        len: u64,
    ) -> Option<Arc<DirectFile>> {
        let (shared, at) = (Arc::clone(&self.0), place.clone());
        let found = tokio::task::spawn_blocking(move || shared.open(&at, len)).await;
        let file = found.ok().flatten()?;
        Some(Arc::new(DirectFile {
            id,
            place: place.clone(),
            file,
            len,
            readable: AtomicBool::new(true),
            folder: self.clone(),
        }))
    }
}

impl Shared {
    fn open(&self, place: &CachePath, len: u64) -> Option<File> {
        // Should it be a pipe, opening does not wait.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let path = place.path();
        let file = match openat(self.folder.as_fd(), &path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(errno) => {
                tracing::debug!(path = %path.display(), %errno, "not on the portal's disk");
                return None;
            }
        };
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() != len {
            tracing::warn!(path = %path.display(), expected = len, found = metadata.len(),
                "the file on the portal's disk has another length; asking the data service");
            return None;
        }
        Some(file)
    }
}

impl DirectFile {
    /// Whether all reads succeeded so far.
    pub(super) fn is_readable(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    /// The bytes of `range`, as far as the file goes; `None` if they cannot be
    /// read, now and from then on.
    pub(super) async fn read(self: Arc<Self>, range: Range<u64>) -> Option<Bytes> {
        ByteSource::PortalDisk.note();
        let reading = tokio::task::spawn_blocking(move || self.read_blocking(range)).await;
        reading.ok().flatten().map(Bytes::from)
    }

    /// The same, in a thread that may block.
    pub(super) fn read_blocking(&self, range: Range<u64>) -> Option<Vec<u8>> {
        if !self.is_readable() {
            return None;
        }
        let range = range.start.min(self.len)..range.end.min(self.len);
        let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start)).ok()?];
        if let Err(error) = self.file.read_exact_at(&mut bytes, range.start) {
            tracing::warn!(id = %self.id, %error,
                "the file on the portal's disk cannot be read; asking the data service");
            self.readable.store(false, Ordering::Relaxed);
            return None;
        }
        self.report();
        Some(bytes)
    }

    fn report(&self) {
        let Shared {
            usage, reported, ..
        } = &*self.folder.0;
        let Some(usage) = usage else { return };
        let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.id, self.place.clone());
        let last = reported.get(&key);
        if last.is_none_or(|at| at.elapsed() >= AGAIN) {
            reported.put(key, Instant::now());
            usage.report(self.id);
        }
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
    async fn a_file_is_read_in_any_part_and_only_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (id, place) = (
            ObjectId::of_content(b""),
            CachePath::new("csv", "x").unwrap(),
        );
        let file = folder(&dir).find(id, &place, 10).await.unwrap();
        for (range, bytes) in [(0..10, "0123456789"), (8..100, "89"), (50..60, "")] {
            let read = Arc::clone(&file).read(range).await.unwrap();
            assert_eq!(read, bytes);
        }
    }

    #[tokio::test]
    async fn a_file_of_another_length_missing_or_cut_short_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let id = ObjectId::of_content(b"");
        let folder = folder(&dir);
        let place = |name| CachePath::new("csv", name).unwrap();
        assert!(folder.find(id, &place("x"), 11).await.is_none());
        assert!(folder.find(id, &place("y"), 10).await.is_none());

        let file = folder.find(id, &place("x"), 10).await.unwrap();
        std::fs::write(dir.path().join("csv/x"), "0123").unwrap();
        assert!(Arc::clone(&file).read(0..10).await.is_none());
        assert!(!file.is_readable() && file.read(0..2).await.is_none());
    }
}
