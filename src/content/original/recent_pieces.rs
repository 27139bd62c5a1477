//! The pieces that a download received last. A reader that waits for them gets
//! them from memory: they need neither be read from the cache nor checked, as
//! long as the cache is in the same epoch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::cache::Epoch;

/// The number of pieces retained.
const MAX_PIECES: usize = 4;

/// The last large pieces of a download.
#[derive(Debug, Default)]
pub(super) struct RecentPieces {
    /// A leaf: nothing is locked under it.
    state: Mutex<RecentState>,
}

#[derive(Debug, Default)]
struct RecentState {
    pieces: VecDeque<RecentPiece>,
    /// Whether the download is paused. It is then so far ahead of its readers
    /// that they will not read these pieces from here.
    is_paused: bool,
}

#[derive(Debug)]
struct RecentPiece {
    offset: u64,
    bytes: Bytes,
    epoch: Epoch,
}

impl RecentPieces {
    /// Retains `bytes`, which the cache stores at `offset`, too, in this epoch.
    pub(super) fn add(&self, offset: u64, bytes: Bytes, epoch: Epoch) {
        let mut state = self.state();
        if state.is_paused {
            return;
        }
        if state.pieces.len() == MAX_PIECES {
            state.pieces.pop_front();
        }
        state.pieces.push_back(RecentPiece {
            offset,
            bytes,
            epoch,
        });
    }

    /// Releases all pieces.
    pub(super) fn clear(&self) {
        self.state().pieces.clear();
    }

    /// Releases all pieces. Retains no new ones while the download is paused.
    pub(super) fn set_paused(&self, is_paused: bool) {
        let mut state = self.state();
        state.is_paused = is_paused;
        state.pieces.clear();
    }

    /// Returns the bytes of `range`, in parts, if all of them are retained and
    /// belong to `epoch`.
    pub(super) fn find(&self, range: &Range<u64>, epoch: Epoch) -> Option<Vec<Bytes>> {
        let (mut parts, mut next) = (Vec::new(), range.start);
        for piece in &self.state().pieces {
            let end = piece.offset + piece.bytes.len() as u64;
            if piece.epoch == epoch && (piece.offset..end).contains(&next) && next < range.end {
                let index =
                    |offset: u64| usize::try_from(offset - piece.offset).expect("in memory");
                let until = end.min(range.end);
                parts.push(piece.bytes.slice(index(next)..index(until)));
                next = until;
            }
        }
        (next == range.end && !parts.is_empty()).then_some(parts)
    }

    fn state(&self) -> MutexGuard<'_, RecentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};

    #[test]
    fn find_joins_pieces_of_the_same_epoch_only() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let cached = store.file(&CachePath::new("x", "y").unwrap(), 100);
        let epoch = cached.epoch();
        let recent = RecentPieces::default();
        let all = Bytes::from((0..60).collect::<Vec<u8>>());
        for at in (0..60).step_by(10) {
            recent.add(at as u64, all.slice(at..at + 10), epoch);
        }
        let found = |range: Range<u64>| recent.find(&range, epoch).map(|parts| parts.concat());
        assert_eq!(found(25..52), Some((25..52).collect()));
        assert_eq!(found(20..30), Some((20..30).collect()));
        assert_eq!(found(19..30), None, "the oldest pieces are released");
        assert_eq!(found(55..61), None);
        assert_eq!(found(30..30), None);

        cached.discard(epoch, || ());
        assert_eq!(recent.find(&(25..52), cached.epoch()), None);
        recent.set_paused(true);
        recent.add(20, all.slice(20..60), epoch);
        assert_eq!(found(25..52), None);
        recent.set_paused(false);
        recent.add(20, all.slice(20..60), epoch);
        assert_eq!(found(25..52), Some((25..52).collect()));
        recent.clear();
        assert_eq!(found(25..52), None);
    }
}
