//! Eviction: blocks of an open file become missing, to make room or because they are
//! corrupt, and their space is released.

use nix::fcntl::{FallocateFlags, fallocate};

use super::state::FileState;
use super::{CacheFile, Epoch};
use crate::cache::memory_tier::MIN_RETAINED;

impl CacheFile {
    /// Evicts all bytes of `epoch`, which turned out to be corrupt, and begins the
    /// next epoch. Does nothing if the epoch has ended. Otherwise calls `before`
    /// first, while no other thread can see the state of the file.
    pub fn discard(&self, epoch: Epoch, before: impl FnOnce()) {
        let _disk = self.disk_lock.lock();
        let mut state = self.state();
        if state.epoch == epoch {
            before();
            self.evict_all(&mut state);
        }
    }

    /// Evicts all blocks and begins an epoch. The caller holds the disk lock.
    pub(super) fn evict_all(&self, state: &mut FileState) {
        let touching = state.blocks.touching(0..self.len);
        let offsets: Vec<u64> = touching.map(|block| block.offset).collect();
        for offset in offsets {
            self.evict_block(state, offset);
        }
        state.written.clear();
        state.begin_epoch();
    }

    /// Evicts the oldest blocks on the disk for `wanted` new bytes, except for the
    /// last few; false if that does not free enough, or if the memory tier retains
    /// new bytes for longer. The caller holds the disk lock.
    pub(super) fn evict_oldest(&self, wanted: u64) -> bool {
        let mut state = self.state();
        let on_disk = state.blocks.present() - state.memory_used;
        if on_disk < self.store.memory_tier.share(state.memory_used > 0) {
            return false;
        }
        let mut freed = 0;
        while freed < wanted.max(1 << 20) && state.blocks.present() > MIN_RETAINED {
            let Some(oldest) = state.written.pop_front() else {
                break;
            };
            freed += self.evict_block(&mut state, oldest);
        }
        freed >= wanted
    }

    /// Makes the block at `offset` missing and releases its space; returns its
    /// length. The caller holds the disk lock, unless the block is in memory.
    pub(super) fn evict_block(&self, state: &mut FileState, offset: u64) -> u64 {
        let Some(block) = state.blocks.remove(offset) else {
            return 0;
        };
        if !state.evicted.add(block) {
            state.begin_epoch();
        }
        let len = u64::from(block.len);
        if state.in_memory.remove(&offset).is_some() {
            state.memory_used -= len;
            self.store.memory_tier.remove(len, state.memory_used == 0);
            return len;
        }
        if let Err(error) = self
            .unseal(&mut state.stage)
            .and_then(|journal| journal.map_or(Ok(()), |journal| journal.remove(offset)))
        {
            self.report(&error);
        }
        if let Some(data) = &self.data
            && let (Ok(at), Ok(size)) = (i64::try_from(offset), i64::try_from(len))
        {
            // A file system without holes frees the bytes with the file.
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let _ = fallocate(data, hole, at, size);
        }
        self.store.disk_budget.release(len);
        len
    }

    /// Evicts the block at `offset`, as eviction for space does.
    #[cfg(test)]
    pub(in crate::cache) fn evict(&self, offset: u64) {
        let _disk = self.disk_lock.lock();
        self.evict_block(&mut self.state(), offset);
    }
}
