//! Remembers how much was requested of each object. Each request counts as a
//! download in the repository's statistics, so the counts must outlive a file's
//! state, which is released while the file is idle.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use icos_portal::ObjectId;

/// The number of objects for which the counts are retained.
const MAX_OBJECTS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// What was requested of one object.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct RequestCounts {
    pub(super) requests: u32,
    /// Bytes of the ranges requested for random reads.
    pub(super) bytes: u64,
    /// Bytes received.
    pub(super) received: u64,
    /// Bytes that reads returned.
    pub(super) served: u64,
}

/// The counts of incomplete objects whose state was released.
#[derive(Debug)]
pub(super) struct RequestStats(Mutex<LruCache<ObjectId, RequestCounts>>);

impl Default for RequestStats {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_OBJECTS)))
    }
}

impl RequestStats {
    /// Takes the counts of `id` out: from now on its state has them.
    pub(super) fn take(&self, id: ObjectId) -> RequestCounts {
        self.objects().pop(&id).unwrap_or_default()
    }

    /// Retains the counts of `id`.
    pub(super) fn note(&self, id: ObjectId, counts: RequestCounts) {
        if counts != RequestCounts::default() {
            self.objects().put(id, counts);
        }
    }

    fn objects(&self) -> MutexGuard<'_, LruCache<ObjectId, RequestCounts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
