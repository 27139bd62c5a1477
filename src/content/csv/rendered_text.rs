//! An in-memory cache of rendered text, shared by all tables.
//!
//! It exists because the kernel's reads are shorter than the chunks that are
//! rendered, and because a program that queries the size of a table usually reads it
//! next.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use icos_portal::ObjectId;

/// The table and its rows.
type RowsKey = (ObjectId, Range<u64>);

/// A cache of chunks of text, limited in bytes. Chunks that were read to their end
/// are evicted first, since a sequential reader needs the others; then the least
/// recently used.
#[derive(Debug)]
pub(in crate::content) struct RenderedText {
    limit: usize,
    chunks: Mutex<TextChunks>,
}

#[derive(Debug)]
struct TextChunks {
    chunks: LruCache<RowsKey, Bytes>,
    bytes: usize,
}

impl RenderedText {
    /// Creates a cache of up to `limit` bytes.
    pub(in crate::content) fn new(limit: u64) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            chunks: Mutex::new(TextChunks {
                chunks: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    pub(in crate::content) fn has(&self, table: ObjectId, rows: &Range<u64>) -> bool {
        self.lock().chunks.contains(&(table, rows.clone()))
    }

    pub(in crate::content) fn get(&self, table: ObjectId, rows: Range<u64>) -> Option<Bytes> {
        self.lock().chunks.get(&(table, rows)).cloned()
    }

    /// Notes that a chunk was read to its end.
    pub(in crate::content) fn mark_read(&self, table: ObjectId, rows: Range<u64>) {
        self.lock().chunks.demote(&(table, rows));
    }

    pub(in crate::content) fn put(&self, table: ObjectId, rows: Range<u64>, text: Bytes) {
        let mut state = self.lock();
        state.bytes += text.len();
        if let Some(old) = state.chunks.put((table, rows), text) {
            state.bytes -= old.len();
        }
        while state.bytes > self.limit
            && let Some((_, old)) = state.chunks.pop_lru()
        {
            state.bytes -= old.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, TextChunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_cache_evicts_read_chunks_first_then_the_oldest() {
        let text_cache = RenderedText::new(1000);
        let id = ObjectId::of_content(b"");
        let text = Bytes::from(vec![0; 500]);
        for start in 0..3 {
            text_cache.put(id, start..start + 1, text.clone());
            text_cache.put(id, start..start + 1, text.clone());
        }
        assert!(text_cache.get(id, 0..1).is_none());
        assert!(text_cache.get(id, 1..2).is_some() && text_cache.get(id, 2..3).is_some());
        text_cache.mark_read(id, 2..3);
        text_cache.put(id, 3..4, text);
        assert!(text_cache.has(id, &(1..2)) && !text_cache.has(id, &(2..3)));
    }
}
