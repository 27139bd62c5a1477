//! Text drawn of late, for the reads that ask for the rest of it: the kernel
//! asks in smaller pieces than it pays to draw.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use crate::portal::ObjectId;

/// Which rows of which table.
type Key = (ObjectId, Range<u64>);

/// Pieces of text, the least recently used of which go first.
#[derive(Debug)]
pub(super) struct Drawn {
    bound: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pieces: LruCache<Key, Bytes>,
    bytes: usize,
}

impl Drawn {
    /// Keeps up to `bound` bytes.
    pub(super) fn new(bound: u64) -> Self {
        Self {
            bound: usize::try_from(bound).unwrap_or(usize::MAX),
            state: Mutex::new(State {
                pieces: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    pub(super) fn get(&self, table: ObjectId, rows: Range<u64>) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pieces.get(&(table, rows)).cloned()
    }

    pub(super) fn put(&self, table: ObjectId, rows: Range<u64>, text: Bytes) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_text_goes_when_there_is_too_much() {
        let drawn = Drawn::new(1000);
        let id = ObjectId::of_content(b"");
        let text = Bytes::from(vec![0; 500]);
        for start in 0..3 {
            drawn.put(id, start..start + 1, text.clone());
            drawn.put(id, start..start + 1, text.clone());
        }
        assert!(drawn.get(id, 0..1).is_none());
        assert!(drawn.get(id, 1..2).is_some() && drawn.get(id, 2..3).is_some());
    }
}
