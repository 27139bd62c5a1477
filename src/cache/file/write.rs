//! Writes to a file: downloaded bytes are split into blocks, compared with the
//! blocks of the epoch, and stored on the disk or else in memory.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::slice;

use super::CacheFile;
use super::open::FileStage;
use super::state::{Admission, FileState};
use crate::cache::CacheError;
use crate::cache::blocks::{Block, MAX_BLOCK};

impl CacheFile {
    /// Stores `bytes` at `offset`; blocks that are present already stay as they
    /// are. Without disk space, only the latest bytes of the file stay and older
    /// ones are evicted; that is no error.
    ///
    /// # Errors
    ///
    /// [`CacheError::ChecksumMismatch`] if `bytes` contradict a block that is or
    /// was present in this epoch. Unless the epoch is verified, all blocks are
    /// evicted, because either may be wrong.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), CacheError> {
        let range = offset..offset + bytes.len() as u64;
        assert!(range.end <= self.len, "writes end within the file");
        let part = |part: &Range<u64>| {
            let index = |at: u64| usize::try_from(at - offset).expect("within bytes");
            &bytes[index(part.start)..index(part.end)]
        };
        let (gaps, present): (Vec<_>, Vec<_>) = {
            let state = self.state();
            let gaps = state.blocks.gaps(range.clone()).collect();
            (gaps, state.blocks.touching(range.clone()).collect())
        };
        for block in present {
            let within = range.start <= block.range().start && block.range().end <= range.end;
            if !within {
                // The block would have to be read to compare it.
                self.state().begin_epoch();
            } else if !block.matches(part(&block.range())) {
                return Err(self.reject());
            }
        }
        for gap in gaps {
            let max = MAX_BLOCK as u64;
            let (mut at, mut blocks) = (gap.start, Vec::new());
            while at < gap.end {
                // Blocks end at multiples of their greatest length, wherever a
                // write starts, so that they can be compared.
                let end = gap.end.min((at / max + 1) * max);
                blocks.push(Block::of(at, part(&(at..end))));
                at = end;
            }
            self.store_blocks(&blocks, part(&gap))?;
        }
        Ok(())
    }

    /// Stores adjacent `blocks`: in one write if possible, else one by one.
    fn store_blocks(&self, blocks: &[Block], bytes: &[u8]) -> Result<(), CacheError> {
        match self.write_to_disk(blocks, bytes) {
            Ok(Some(admission)) => return self.check_admission(admission),
            Ok(None) => {}
            Err(error) => {
                self.store.disk_budget.release(bytes.len() as u64);
                self.report(&error);
            }
        }
        if let &[block] = blocks {
            return self.write_to_memory(block, bytes);
        }
        let mut rest = bytes;
        blocks.iter().try_for_each(|block| {
            let (bytes, others) = rest.split_at(block.len as usize);
            rest = others;
            self.store_blocks(slice::from_ref(block), bytes)
        })
    }

    pub(super) fn check_admission(&self, admission: Admission) -> Result<(), CacheError> {
        match admission {
            Admission::Added | Admission::AlreadyPresent => Ok(()),
            Admission::Differs => Err(self.reject()),
        }
    }

    /// The error for bytes that contradict a block of the epoch. Evicts all
    /// blocks, unless they are verified.
    fn reject(&self) -> CacheError {
        let _disk = self.disk_lock.lock();
        let mut state = self.state();
        if !state.is_verified {
            self.evict_all(&mut state);
        }
        CacheError::ChecksumMismatch {
            path: self.paths.complete.clone(),
        }
    }

    /// Writes `blocks` to the disk and adds them, up to the first that differs.
    /// `None` if there is no space, if the file is not partial, or if several
    /// blocks overlap blocks that are present.
    fn write_to_disk(&self, blocks: &[Block], bytes: &[u8]) -> io::Result<Option<Admission>> {
        let (Some(data), Some(first)) = (&self.data, blocks.first()) else {
            return Ok(None);
        };
        let _disk = self.disk_lock.lock();
        {
            let mut state = self.state();
            // A sealed file is never written to, and none of its blocks is
            // evicted for space.
            if !matches!(state.stage, FileStage::Partial(_)) {
                return Ok(None);
            }
            // Another thread wrote there first: its bytes stay.
            let range = first.offset..first.offset + bytes.len() as u64;
            if state.blocks.touching(range).next().is_some() {
                return Ok(match blocks {
                    &[block] => Some(state.admit(block)),
                    _ => None,
                });
            }
        }
        let wanted = bytes.len() as u64;
        let claim = || self.store.claim_disk(wanted);
        let has_room = claim() || (self.evict_oldest(wanted) && claim());
        if !has_room {
            return Ok(None);
        }
        data.write_all_at(bytes, first.offset)?;
        let mut state = self.state();
        let (mut added, mut used, mut result) = (Vec::new(), 0, Admission::Added);
        for &block in blocks {
            match state.admit(block) {
                Admission::Added => {
                    added.push(block);
                    used += u64::from(block.len);
                }
                Admission::AlreadyPresent => result = Admission::AlreadyPresent,
                Admission::Differs => {
                    result = Admission::Differs;
                    break;
                }
            }
        }
        self.store.disk_budget.release(wanted - used);
        let FileState { stage, written, .. } = &mut *state;
        written.extend(added.iter().map(|block| block.offset));
        if let FileStage::Partial(journal) = stage
            // Without their records the next process downloads the blocks again.
            && let Err(error) = journal.add(&added)
        {
            self.report(&error);
        }
        Ok(Some(result))
    }
}
