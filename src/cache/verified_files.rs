//! Sealed files whose blocks were all compared with their checksums in this process.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::CachePath;
use super::file::Stamp;
use icos_sync::Mutex;

/// The number of files that are remembered.
const MAX_FILES: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// How long a verification counts. A disk may fail at any time after it.
const VALID_FOR: Duration = Duration::from_hours(24);

/// The files, with their stamps and the times of the verifications.
#[derive(Debug)]
pub(super) struct VerifiedFiles(Mutex<LruCache<CachePath, (Stamp, Instant)>>);

impl Default for VerifiedFiles {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_FILES)))
    }
}

impl VerifiedFiles {
    /// Records that the file at `path` was verified and had `stamp` all the time.
    pub(super) fn add(&self, path: CachePath, stamp: Stamp) {
        self.0.lock().put(path, (stamp, Instant::now()));
    }

    /// Whether the file at `path` was verified not long ago, with the same stamp.
    pub(super) fn contains(&self, path: &CachePath, stamp: Stamp) -> bool {
        let mut files = self.0.lock();
        let found = files.get(path);
        found.is_some_and(|&(then, at)| then == stamp && at.elapsed() < VALID_FOR)
    }
}
