//! An in-memory cache of rendered text, shared by all tables.
//!
//! The kernel reads in smaller pieces than are worth rendering, and a program that
//! asks for the length of a table usually reads its text next.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use icos_portal::ObjectId;

/// The table and its rows.
type RowsKey = (ObjectId, Range<u64>);

/// A cache of pieces of text, bounded in bytes. Pieces that were read to their end
/// are evicted first, since a sequential reader needs the others; then the least
/// recently used.
#[derive(Debug)]
pub(in crate::content) struct RenderedText {
    bound: usize,
    pieces: Mutex<TextPieces>,
}

#[derive(Debug)]
struct TextPieces {
    pieces: LruCache<RowsKey, Bytes>,
    bytes: usize,
}

impl RenderedText {
    /// Creates a cache of up to `bound` bytes.
    pub(in crate::content) fn new(bound: u64) -> Self {
        Self {
            bound: usize::try_from(bound).unwrap_or(usize::MAX),
            pieces: Mutex::new(TextPieces {
                pieces: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    pub(in crate::content) fn has(&self, table: ObjectId, rows: &Range<u64>) -> bool {
        self.lock().pieces.contains(&(table, rows.clone()))
    }

    pub(in crate::content) fn get(&self, table: ObjectId, rows: Range<u64>) -> Option<Bytes> {
        self.lock().pieces.get(&(table, rows)).cloned()
    }

    /// Notes that a piece was read to its end.
    pub(in crate::content) fn mark_read(&self, table: ObjectId, rows: Range<u64>) {
        self.lock().pieces.demote(&(table, rows));
    }

    pub(in crate::content) fn put(&self, table: ObjectId, rows: Range<u64>, text: Bytes) {
        let mut state = self.lock();
        state.bytes += text.len();
        if let Some(old) = state.pieces.put((table, rows), text) {
            state.bytes -= old.len();
        }
        while state.bytes > self.bound
            && let Some((_, old)) = state.pieces.pop_lru()
        {
            state.bytes -= old.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, TextPieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_cache_evicts_read_pieces_first_then_the_oldest() {
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
