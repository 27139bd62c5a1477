//! Blocks in memory: those that the disk does not accept, and how they move to
//! the disk later.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Weak;

use bytes::Bytes;

use super::CacheFile;
use super::open::FileStage;
use super::state::{Admission, FileState};
use crate::cache::CacheError;
use crate::cache::blocks::Block;
use crate::cache::memory_tier::MemoryBlocks;

impl CacheFile {
    /// Stores a block in memory, for which other blocks in memory may be evicted.
    ///
    /// # Errors
    ///
    /// [`CacheError::ChecksumMismatch`] as for [`CacheFile::write`].
    pub(in crate::cache) fn write_to_memory(
        &self,
        block: Block,
        bytes: &[u8],
    ) -> Result<(), CacheError> {
        let len = u64::from(block.len);
        let admission = {
            let mut state = self.state();
            let admission = state.admit(block);
            if admission == Admission::Added {
                let bytes = Bytes::copy_from_slice(bytes);
                state.in_memory.insert(block.offset, bytes);
                state.memory_used += len;
                let first = state.memory_used == len;
                let file: Weak<Self> = Weak::clone(&self.self_ref);
                self.store.memory_tier.add(file, block.offset, len, first);
            }
            admission
        };
        self.store.memory_tier.make_room();
        self.check_admission(admission)
    }

    /// Moves the blocks in memory to the disk, which may have room by now. Blocks
    /// on the disk. Returns whether none are left in memory.
    pub fn move_to_disk(&self) -> bool {
        let Some(data) = &self.data else {
            return !self.has_memory_blocks();
        };
        let offsets: Vec<u64> = self.state().in_memory.keys().copied().collect();
        offsets.into_iter().all(|at| self.move_block(data, at)) && !self.has_memory_blocks()
    }

    /// Moves the block at `offset`; false if it stays in memory.
    fn move_block(&self, data: &File, offset: u64) -> bool {
        let _disk = self.disk_lock.lock();
        let bytes = {
            let state = self.state();
            let Some(bytes) = state.in_memory.get(&offset) else {
                return true;
            };
            // A sealed file is never written to.
            if !matches!(state.stage, FileStage::Partial(_)) {
                return false;
            }
            bytes.clone()
        };
        let len = bytes.len() as u64;
        if !self.store.claim_disk(len) {
            return false;
        }
        let written = data.write_all_at(&bytes, offset);
        let mut state = self.state();
        let FileState {
            stage,
            in_memory,
            memory_used,
            written: order,
            blocks,
            ..
        } = &mut *state;
        let block = blocks.touching(offset..offset + 1).next();
        // The block may have been evicted from memory meanwhile, and another one
        // stored in its place.
        let same = in_memory.get(&offset).map(|now| now.as_ptr()) == Some(bytes.as_ptr());
        let (Ok(()), FileStage::Partial(journal), Some(block), true) =
            (&written, stage, block, same)
        else {
            drop(state);
            self.store.disk_budget.release(len);
            if let Err(error) = written {
                self.report(&error);
            }
            return false;
        };
        in_memory.remove(&offset);
        *memory_used -= len;
        order.push_back(offset);
        let recorded = journal.add(&[block]);
        self.store.memory_tier.remove(len, *memory_used == 0);
        drop(state);
        // Without its record the block is downloaded again by the next process.
        if let Err(error) = recorded {
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

impl MemoryBlocks for CacheFile {
    fn evict_from_memory(&self, offset: u64) {
        let mut state = self.state();
        if state.in_memory.contains_key(&offset) {
            self.evict_block(&mut state, offset);
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
