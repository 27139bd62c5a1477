//! The last pieces that a stream has brought, for whoever waits for them: they
//! need not be read from the cache, nor checked, as long as its bytes are of the
//! same epoch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::cache::Epoch;

/// How many are held.
const MOST: usize = 4;

/// The last large pieces.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Taken for moments only.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Held>,
    /// The stream is far ahead of its readers: none of this is for them.
    rests: bool,
}

#[derive(Debug)]
struct Held {
    at: u64,
    bytes: Bytes,
    epoch: Epoch,
}

impl Recent {
    /// Holds `bytes`, which lie at `at` and are in the cache, too, in this epoch
    /// of its.
    pub(super) fn hold(&self, at: u64, bytes: Bytes, epoch: Epoch) {
        let mut state = self.state();
        if state.rests {
            return;
        }
        if state.pieces.len() == MOST {
            state.pieces.pop_front();
        }
        state.pieces.push_back(Held { at, bytes, epoch });
    }

    /// Lets all go.
    pub(super) fn clear(&self) {
        self.state().pieces.clear();
    }

    /// Lets all go, and holds nothing as long as the stream `rests`.
    pub(super) fn rest(&self, rests: bool) {
        let mut state = self.state();
        state.rests = rests;
        state.pieces.clear();
    }

    /// The bytes of `range`, in parts, if all of them are there and of this epoch.
    pub(super) fn find(&self, range: &Range<u64>, epoch: Epoch) -> Option<Vec<Bytes>> {
        let (mut parts, mut at) = (Vec::new(), range.start);
        for piece in &self.state().pieces {
            let end = piece.at + piece.bytes.len() as u64;
            if piece.epoch == epoch && (piece.at..end).contains(&at) && at < range.end {
                let within = |place: u64| usize::try_from(place - piece.at).expect("in memory");
                let upto = end.min(range.end);
                parts.push(piece.bytes.slice(within(at)..within(upto)));
                at = upto;
            }
        }
        (at == range.end && !parts.is_empty()).then_some(parts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};

    #[test]
    fn what_is_held_is_found_across_pieces_and_in_its_life_only() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let entry = store.file(&CachePath::new("x", "y").unwrap(), 100);
        let epoch = entry.epoch();
        let recent = Recent::default();
        let all = Bytes::from((0..60).collect::<Vec<u8>>());
        for at in (0..60).step_by(10) {
            recent.hold(at as u64, all.slice(at..at + 10), epoch);
        }
        let found = |range: Range<u64>| recent.find(&range, epoch).map(|parts| parts.concat());
        assert_eq!(found(25..52), Some((25..52).collect()));
        assert_eq!(found(20..30), Some((20..30).collect()));
        assert_eq!(found(19..30), None, "the oldest go");
        assert_eq!(found(55..61), None);
        assert_eq!(found(30..30), None);

        entry.discard(epoch, || ());
        assert_eq!(recent.find(&(25..52), entry.epoch()), None);
        recent.rest(true);
        recent.hold(20, all.slice(20..60), epoch);
        assert_eq!(found(25..52), None);
        recent.rest(false);
        recent.hold(20, all.slice(20..60), epoch);
        assert_eq!(found(25..52), Some((25..52).collect()));
        recent.clear();
        assert_eq!(found(25..52), None);
    }
}
