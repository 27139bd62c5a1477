//! How much was asked of the portal for each object: every request counts as a
//! download, so the count goes on when a file's state is let go.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use icos_portal::ObjectId;

/// Of how many objects it is remembered.
const OBJECTS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// What was asked for an object.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct RequestCounts {
    pub(super) requests: u32,
    /// Bytes asked for by ranges.
    pub(super) bytes: u64,
}

/// What was asked for objects whose state was let go half-way.
#[derive(Debug)]
pub(super) struct RequestStats(Mutex<LruCache<ObjectId, RequestCounts>>);

impl Default for RequestStats {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(OBJECTS)))
    }
}

impl RequestStats {
    /// What was asked for `id` before.
    pub(super) fn recall(&self, id: ObjectId) -> RequestCounts {
        self.objects().pop(&id).unwrap_or_default()
    }

    /// Remembers what was asked for `id`.
    pub(super) fn note(&self, id: ObjectId, asked: RequestCounts) {
        if asked != RequestCounts::default() {
            self.objects().put(id, asked);
        }
    }

    fn objects(&self) -> MutexGuard<'_, LruCache<ObjectId, RequestCounts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
