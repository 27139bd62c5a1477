//! Bytes that the disk did not take, kept in memory for a while: the oldest of
//! all files' go first.

use std::collections::VecDeque;
use std::sync::Weak;

use super::CacheFile;
use icos_sync::{Locked, Mutex};

/// However little memory there is, the last bytes written stay: someone is
/// about to read them.
pub(super) const LEAST: u64 = 4 << 20;
/// Blocks of files that are gone are struck off the list when it is this long.
const LONG: usize = 64 << 10;

/// How much is in memory, and in which order it came.
#[derive(Debug)]
pub(super) struct Spill {
    bound: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// Bytes of files that grow, which stay until they are whole.
    growing: u64,
    /// How many files hold some of it.
    holders: u64,
    order: VecDeque<(Weak<CacheFile>, u64)>,
}

impl Spill {
    pub(super) fn new(bound: u64) -> Self {
        Self {
            bound: bound.max(LEAST),
            state: Mutex::default(),
        }
    }

    /// How much a file that holds some, or is about to, can count on.
    pub(super) fn share(&self, holds_some: bool) -> u64 {
        let state = self.state();
        let others = state.holders - u64::from(holds_some);
        ((self.bound - state.growing) / (others + 1)).max(1 << 20)
    }

    /// Counts bytes of a file that grows, for which older ones of other files
    /// go; false if all such files together would hold more than half. The
    /// caller holds no lock.
    pub(super) fn hold(&self, len: u64) -> bool {
        {
            let mut state = self.state();
            if state.growing + len > self.bound / 2 {
                return false;
            }
            state.growing += len;
        }
        self.make_room();
        true
    }

    /// Counts bytes of a file that grows no more.
    pub(super) fn let_go(&self, len: u64) {
        let mut state = self.state();
        state.growing = state.growing.saturating_sub(len);
    }

    /// Counts a block, the file's first or not. The caller has the file locked:
    /// else the block could be dropped, and taken off the count, before.
    pub(super) fn add(&self, entry: &Weak<CacheFile>, offset: u64, len: u64, first: bool) {
        let mut state = self.state();
        state.used += len;
        state.holders += u64::from(first);
        if state.order.len() > LONG {
            state.order.retain(|(entry, _)| entry.strong_count() > 0);
        }
        state.order.push_back((Weak::clone(entry), offset));
    }

    /// Drops the oldest blocks that have no place any more. The caller holds no
    /// lock.
    pub(super) fn make_room(&self) {
        while let Some((entry, offset)) = self.too_much() {
            if let Some(entry) = entry.upgrade() {
                entry.drop_from_memory(offset);
            }
        }
    }

    fn too_much(&self) -> Option<(Weak<CacheFile>, u64)> {
        let mut state = self.state();
        if state.used + state.growing > self.bound {
            state.order.pop_front()
        } else {
            None
        }
    }

    /// Counts `len` bytes less, the file's last or not.
    pub(super) fn remove(&self, len: u64, last: bool) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(len);
        state.holders = state.holders.saturating_sub(u64::from(last));
    }

    /// Bytes of files that do not grow and of those that do, and how many files
    /// hold some.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.used, state.growing, state.holders)
    }

    fn state(&self) -> Locked<'_, State> {
        self.state.lock()
    }
}
