//! Counts how often the bytes of an original turned out to be corrupt, so that
//! a reader that has bytes of a corrupt epoch reads no further. Unlike an epoch, the
//! count survives the closing of the file.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use icos_portal::ObjectId;

/// The number of originals for which the count is retained.
const MAX_OBJECTS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// How often each original turned out to be corrupt.
#[derive(Debug)]
pub(in crate::content) struct CorruptFiles(Mutex<LruCache<ObjectId, u64>>);

impl Default for CorruptFiles {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_OBJECTS)))
    }
}

impl CorruptFiles {
    /// Returns how often the bytes of `id` turned out to be corrupt.
    pub(in crate::content) fn count(&self, id: ObjectId) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&id).copied().unwrap_or(0)
    }

    /// Counts one more corrupt epoch of `id`.
    pub(super) fn note(&self, id: ObjectId) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.get_or_insert_mut(id, || 0) += 1;
    }
}
