//! Blocks in memory: those that the disk does not accept, and how they move to the
//! disk later.

use std::sync::Weak;

use bytes::Bytes;

use super::CacheFile;
use super::files::EpochFiles;
use super::state::{FileStage, FileState};
use super::write::BlockBytes;
use crate::cache::CacheError;
use crate::cache::memory_tier::MemoryBlocks;

impl CacheFile {
    /// Stores missing blocks, which the caller has claimed, in memory. Other blocks in
    /// memory may be evicted for them.
    pub(super) fn write_to_memory(&self, epoch: &EpochFiles, run: BlockBytes<'_>) {
        for (block, &word) in run.blocks().zip(run.words) {
            let place = self.grid.bytes(block);
            let index = |at: u64| usize::try_from(at - run.offset).expect("within bytes");
            let bytes = &run.bytes[index(place.start)..index(place.end)];
            let len = bytes.len() as u64;
            {
                let mut state = self.state();
                if state.epoch.number != epoch.number {
                    return;
                }
                state.add(block, word);
                state.in_memory.insert(block, Bytes::copy_from_slice(bytes));
                state.memory_used += len;
                let first = state.memory_used == len;
                let file: Weak<Self> = Weak::clone(&self.self_ref);
                self.store.memory_tier.add(file, block, len, first);
            }
            self.store.memory_tier.make_room();
        }
    }

    /// Stores the complete blocks of `bytes`, which are at `offset` in the file, in
    /// memory, even if the disk has room.
    ///
    /// # Errors
    ///
    /// [`CacheError::ChecksumMismatch`] as for [`CacheFile::write`].
    pub(in crate::cache) fn write_in_memory(
        &self,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), CacheError> {
        self.write_missing(offset, bytes, |epoch, run| self.write_to_memory(epoch, run))
    }

    /// Moves the blocks in memory to the disk, which may have room by now. Blocks on
    /// the disk. Returns whether none are left in memory.
    pub fn move_to_disk(&self) -> bool {
        let mut blocks: Vec<u64> = self.state().in_memory.keys().copied().collect();
        blocks.sort_unstable();
        blocks.into_iter().all(|block| self.move_block(block)) && !self.has_memory_blocks()
    }

    /// Moves `block`; false if it stays in memory.
    fn move_block(&self, block: u64) -> bool {
        let claim = self.claim(&(block..block + 1));
        let epoch = &claim.epoch;
        let (bytes, pages) = {
            let state = self.state();
            let Some(bytes) = state.in_memory.get(&block) else {
                return true;
            };
            // A sealed file is never written to.
            if state.stage != FileStage::Partial {
                return false;
            }
            (bytes.clone(), state.pages(&(block..block + 1)))
        };
        let Some(disk) = &epoch.disk else {
            return false;
        };
        let wanted = pages.end - pages.start;
        if !self.store.claim_disk(wanted) {
            return false;
        }
        let written = disk.data.write_all_at(&bytes, self.grid.bytes(block).start);
        let word = {
            let mut state = self.state();
            // The block may have been evicted from memory meanwhile.
            let is_same =
                state.epoch.number == epoch.number && state.in_memory.contains_key(&block);
            if written.is_ok() && is_same {
                state.remove_from_memory(block);
                state.written.push_back(block);
                let is_last = state.memory_used == 0;
                self.store.memory_tier.remove(bytes.len() as u64, is_last);
                Some(state.map.get(block))
            } else {
                None
            }
        };
        if let Err(error) = written {
            self.report(&error);
        }
        let Some(word) = word else {
            self.store.disk_budget.release(wanted);
            return false;
        };
        // Without its word the next process downloads the block again.
        if let Err(error) = disk.map.write(block, &[word]) {
            self.report(&error);
        }
        true
    }

    /// How many bytes of blocks are in memory.
    #[cfg(test)]
    pub(in crate::cache) fn memory_used(&self) -> u64 {
        self.state().memory_used
    }
}

impl FileState {
    /// Removes the bytes of `block` from memory; returns their length.
    fn remove_from_memory(&mut self, block: u64) -> Option<u64> {
        let len = self.in_memory.remove(&block)?.len() as u64;
        self.memory_used -= len;
        Some(len)
    }
}

impl MemoryBlocks for CacheFile {
    fn evict_from_memory(&self, block: u64) {
        let mut state = self.state();
        if let Some(len) = state.remove_from_memory(block) {
            state.lose(block);
            let is_last = state.memory_used == 0;
            self.store.memory_tier.remove(len, is_last);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::{CacheLimits, CachePath, CacheRead, Store};

    #[test]
    fn memory_blocks_move_to_the_disk_after_other_files_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let limits = CacheLimits {
            disk: 6 << 20,
            memory: 64 << 20,
        };
        let store = Store::open(dir.path().to_owned(), limits);
        let path = |name| CachePath::new("netcdf", name).unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(5 << 20).collect();
        let found = || CacheRead::Bytes(bytes[..3 << 20].to_vec());
        let other = store.file(&path("other"), 5 << 20);
        other.write(0, &bytes).unwrap();
        let file = store.file(&path("x"), 3 << 20);
        file.write(0, &bytes[..3 << 20]).unwrap();
        assert!(file.is_complete() && file.has_memory_blocks());
        assert!(!file.move_to_disk(), "the other file is open");
        drop(other);
        // The failed claim of disk space is remembered for a while.
        let moved = (0..80).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            file.move_to_disk()
        });
        assert!(moved && file.is_complete() && !file.has_memory_blocks());
        assert_eq!(file.read(0..3 << 20).unwrap(), found());
        drop(file);
        let file = store.file(&path("x"), 3 << 20);
        assert_eq!(file.read(0..3 << 20).unwrap(), found());
    }
}
