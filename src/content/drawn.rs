//! Text drawn of late, for the reads that ask for the rest of it: the kernel
//! asks in smaller pieces than it pays to draw, and whoever asks for a table's
//! length reads its text next.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use icos_portal::ObjectId;

/// Which rows of which table.
type Key = (ObjectId, Range<u64>);

/// Pieces of text. Those that were read go first (whoever reads on wants the
/// others), then the least recently used.
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

    pub(super) fn has(&self, table: ObjectId, rows: &Range<u64>) -> bool {
        self.state().pieces.contains(&(table, rows.clone()))
    }

    pub(super) fn get(&self, table: ObjectId, rows: Range<u64>) -> Option<Bytes> {
        self.state().pieces.get(&(table, rows)).cloned()
    }

    /// Notes that a piece was read to its end.
    pub(super) fn is_read(&self, table: ObjectId, rows: Range<u64>) {
        self.state().pieces.demote(&(table, rows));
    }

    pub(super) fn put(&self, table: ObjectId, rows: Range<u64>, text: Bytes) {
        let mut state = self.state();
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        drawn.is_read(id, 2..3);
        drawn.put(id, 3..4, text);
        assert!(drawn.has(id, &(1..2)) && !drawn.has(id, &(2..3)));
    }
}
