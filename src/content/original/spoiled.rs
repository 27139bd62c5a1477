//! Which originals turned out wrong: who had one open then reads no further.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use icos_portal::ObjectId;

/// How often originals turned out wrong.
#[derive(Debug)]
pub(in crate::content) struct Spoiled(Mutex<LruCache<ObjectId, u64>>);

impl Default for Spoiled {
    fn default() -> Self {
        let bound = NonZeroUsize::new(10_000).expect("not zero");
        Self(Mutex::new(LruCache::new(bound)))
    }
}

impl Spoiled {
    pub(in crate::content) fn generation(&self, id: ObjectId) -> u64 {
        let mut spoiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spoiled.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn note(&self, id: ObjectId) {
        let mut spoiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *spoiled.get_or_insert_mut(id, || 0) += 1;
    }
}
