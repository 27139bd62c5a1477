//! Locks of files that have no length yet, so that one process of those that share the
//! cache makes them: a byte of one common file stands for each path.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;

use twox_hash::XxHash3_64;

use super::file_lock::{LockKind, try_lock_range};
use super::layout::LOCKS;
use super::{CachePath, Store, open_own};

/// The lock of a path. Dropping it releases it, as does the end of the process.
#[derive(Debug)]
pub struct PathLock {
    /// `None` if the file system has no locks.
    _file: Option<File>,
}

impl Store {
    /// Locks `path`, whose file this process is about to make. `None` if another process
    /// makes it.
    #[must_use]
    pub fn try_lock_path(&self, path: &CachePath) -> Option<PathLock> {
        let lock = || -> io::Result<Option<File>> {
            let mut options = OpenOptions::new();
            (options.read(true).write(true))
                .create(true)
                .truncate(false)
                .mode(0o600);
            let file = open_own(&options, &self.root().join(LOCKS))?;
            let locked = try_lock_range(&file, LockKind::Exclusive, &byte_of(path))?;
            Ok(locked.then_some(file))
        };
        match lock() {
            Ok(None) => None,
            Ok(file) => Some(PathLock { _file: file }),
            Err(error) => {
                tracing::debug!(%error, "cannot lock a path of the cache");
                Some(PathLock { _file: None })
            }
        }
    }
}

/// The byte that stands for `path`. Two paths with the same one wait for each other.
fn byte_of(path: &CachePath) -> Range<u64> {
    let hash = XxHash3_64::oneshot(path.path().as_os_str().as_encoded_bytes());
    // Offsets of files have 63 bits.
    let at = hash >> 2;
    at..at + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheLimits;

    #[test]
    fn path_is_locked_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 40, 1 << 20);
        let [one, other] =
            [(); 2].map(|()| Store::open(dir.path().to_owned(), CacheLimits { disk, memory }));
        let path = |name| CachePath::new(CachePath::CSV, name).unwrap();
        let lock = one.try_lock_path(&path("x.csv"));
        assert!(lock.is_some() && other.try_lock_path(&path("x.csv")).is_none());
        assert!(other.try_lock_path(&path("y.csv")).is_some());
        drop(lock);
        assert!(other.try_lock_path(&path("x.csv")).is_some());
    }
}
