//! Which originals turned out wrong: who had one open then reads no further.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use icos_portal::ObjectId;

/// How often originals turned out wrong.
#[derive(Debug)]
pub(in crate::content) struct CorruptFiles(Mutex<LruCache<ObjectId, u64>>);

impl Default for CorruptFiles {
    fn default() -> Self {
        let bound = NonZeroUsize::new(10_000).expect("not zero");
        Self(Mutex::new(LruCache::new(bound)))
    }
}

impl CorruptFiles {
    pub(in crate::content) fn count(&self, id: ObjectId) -> u64 {
        let mut corrupt_files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        corrupt_files.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn note(&self, id: ObjectId) {
        let mut corrupt_files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *corrupt_files.get_or_insert_mut(id, || 0) += 1;
    }
}
