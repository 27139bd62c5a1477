//! The memory tier: blocks that the disk does not accept, in memory. Beyond the
//! limit, the oldest blocks of all files are evicted first.
//!
//! The blocks themselves belong to their files; the tier counts them and decides
//! which ones to evict.

use std::collections::VecDeque;
use std::sync::Weak;

use icos_sync::{Locked, Mutex};

/// The least bytes that stay, however little memory or disk there is: a reader
/// is about to read the latest ones.
pub(super) const MIN_RETAINED: u64 = 4 << 20;
/// The length of the eviction queue at which blocks of closed files are removed
/// from it.
const MAX_QUEUE: usize = 64 << 10;

/// A file with blocks in memory.
pub(super) trait MemoryBlocks: std::fmt::Debug + Send + Sync {
    /// Evicts the block at `offset`, if it is in memory.
    fn evict_from_memory(&self, offset: u64);
}

/// How many bytes are in memory, and the order in which to evict them.
#[derive(Debug)]
pub(super) struct MemoryTier {
    limit: u64,
    state: Mutex<TierState>,
}

#[derive(Debug, Default)]
struct TierState {
    /// Bytes of blocks that may be evicted.
    used: u64,
    /// Bytes of appended files, which stay until those are complete.
    appended: u64,
    /// How many files have blocks in memory.
    files: u64,
    /// Files and offsets of blocks, oldest first.
    queue: VecDeque<(Weak<dyn MemoryBlocks>, u64)>,
}

impl MemoryTier {
    /// A tier of `limit` bytes, [`MIN_RETAINED`] at least.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: limit.max(MIN_RETAINED),
            state: Mutex::default(),
        }
    }

    /// How many bytes one file can rely on; `has_blocks` says whether it has
    /// some in memory already.
    pub(super) fn share(&self, has_blocks: bool) -> u64 {
        let state = self.state();
        let others = state.files - u64::from(has_blocks);
        ((self.limit - state.appended) / (others + 1)).max(1 << 20)
    }

    /// Counts bytes of an appended file and evicts older blocks of other files
    /// for them; false if all appended files together would take more than half
    /// of the limit. The caller holds no lock.
    pub(super) fn add_appended(&self, len: u64) -> bool {
        {
            let mut state = self.state();
            if state.appended + len > self.limit / 2 {
                return false;
            }
            state.appended += len;
        }
        self.make_room();
        true
    }

    /// Stops to count bytes of an appended file.
    pub(super) fn remove_appended(&self, len: u64) {
        let mut state = self.state();
        state.appended = state.appended.saturating_sub(len);
    }

    /// Counts a block; `first` if the file has no other in memory. The caller
    /// holds the file's lock: otherwise the block could be evicted before it is
    /// counted.
    pub(super) fn add(&self, file: Weak<dyn MemoryBlocks>, offset: u64, len: u64, first: bool) {
        let mut state = self.state();
        state.used += len;
        state.files += u64::from(first);
        if state.queue.len() > MAX_QUEUE {
            state.queue.retain(|(file, _)| file.strong_count() > 0);
        }
        state.queue.push_back((file, offset));
    }

    /// Evicts the oldest blocks until the rest is within the limit. The caller
    /// holds no lock.
    pub(super) fn make_room(&self) {
        while let Some((file, offset)) = self.next_victim() {
            if let Some(file) = file.upgrade() {
                file.evict_from_memory(offset);
            }
        }
    }

    fn next_victim(&self) -> Option<(Weak<dyn MemoryBlocks>, u64)> {
        let mut state = self.state();
        if state.used + state.appended > self.limit {
            state.queue.pop_front()
        } else {
            None
        }
    }

    /// Stops to count `len` bytes of a file; `last` if it has no others in
    /// memory.
    pub(super) fn remove(&self, len: u64, last: bool) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(len);
        state.files = state.files.saturating_sub(u64::from(last));
    }

    /// Bytes of blocks that may be evicted, bytes of appended files, and how
    /// many files have blocks in memory.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.used, state.appended, state.files)
    }

    fn state(&self) -> Locked<'_, TierState> {
        self.state.lock()
    }
}
