//! Writes to a file: the complete blocks of downloaded bytes are compared with the
//! blocks of the epoch, and stored on the disk or else in memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::CacheFile;
use super::files::EpochFiles;
use super::state::{Comparison, FileStage};
use crate::cache::block_map::Word;
use crate::cache::{CacheError, Grid, display_path};

/// Adjacent blocks with their bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockBytes<'a> {
    /// The number of the first block.
    pub(super) first: u64,
    pub(super) words: &'a [Word],
    pub(super) bytes: &'a [u8],
    /// Where the bytes are in the file.
    pub(super) offset: u64,
}

impl BlockBytes<'_> {
    pub(super) fn blocks(&self) -> Range<u64> {
        self.first..self.first + self.words.len() as u64
    }

    /// The first `count` blocks, and the others.
    fn split_at(self, count: usize, grid: &Grid) -> (Self, Self) {
        let first = self.first + count as u64;
        let offset = grid.bytes(first).start;
        let len = usize::try_from(offset - self.offset).expect("within bytes");
        let (words, bytes) = (self.words.split_at(count), self.bytes.split_at(len));
        let front = Self {
            words: words.0,
            bytes: bytes.0,
            ..self
        };
        let back = Self {
            first,
            words: words.1,
            bytes: bytes.1,
            offset,
        };
        (front, back)
    }
}

impl CacheFile {
    /// Stores the complete blocks of `bytes`, which are at `offset` in the file; blocks
    /// that are present already stay as they are. Without disk space, only the latest
    /// bytes of the file stay and older ones are evicted; that is no error.
    ///
    /// # Errors
    ///
    /// [`CacheError::ChecksumMismatch`] if `bytes` contradict a block that is or was
    /// present in this epoch. Unless the epoch is verified, all blocks are evicted,
    /// because either may be wrong.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), CacheError> {
        self.write_missing(offset, bytes, |epoch, run| self.store_missing(epoch, run))
    }

    /// As [`CacheFile::write`], in the disk pool.
    ///
    /// # Errors
    ///
    /// As for [`CacheFile::write`], and [`CacheError::DiskHangs`].
    pub async fn write_in_pool(
        self: &Arc<Self>,
        offset: u64,
        bytes: Bytes,
    ) -> Result<(), CacheError> {
        let file = Arc::clone(self);
        let write = move || file.write(offset, &bytes);
        self.store.disk_pool.run(write).await?
    }

    /// Stores missing blocks, which the caller has claimed: as many as possible on the
    /// disk, and the others in memory.
    fn store_missing(&self, epoch: &EpochFiles, run: BlockBytes<'_>) {
        if self.write_to_disk(epoch, run) {
            return;
        }
        match run.words.len() / 2 {
            0 => self.write_to_memory(epoch, run),
            half => {
                let (first, second) = run.split_at(half, &self.grid);
                self.store_missing(epoch, first);
                self.store_missing(epoch, second);
            }
        }
    }

    /// Passes the runs of complete blocks of `bytes` that are missing to `store`, while
    /// they are claimed.
    pub(super) fn write_missing(
        &self,
        offset: u64,
        bytes: &[u8],
        store: impl Fn(&EpochFiles, BlockBytes<'_>),
    ) -> Result<(), CacheError> {
        let end = offset.saturating_add(bytes.len() as u64);
        let blocks = self.grid.within(&(offset..end));
        if blocks.is_empty() {
            return Ok(());
        }
        let claim = self.claim(&blocks);
        let epoch = Arc::clone(&claim.epoch);
        let part = |blocks: &Range<u64>| {
            let bytes_of = self.grid.bytes_of(blocks);
            let index = |at: u64| usize::try_from(at - offset).expect("within bytes");
            (
                bytes_of.start,
                &bytes[index(bytes_of.start)..index(bytes_of.end)],
            )
        };
        let words: Vec<Word> = (blocks.clone())
            .map(|block| Word::of(part(&(block..block + 1)).1, epoch.seed))
            .collect();
        let Some(missing) = self.missing_of(&epoch, blocks.start, &words) else {
            drop(claim);
            return Err(self.reject(&epoch));
        };
        for run in missing {
            let index = |block: u64| usize::try_from(block - blocks.start).expect("within words");
            let (offset, bytes) = part(&run);
            let run = BlockBytes {
                first: run.start,
                words: &words[index(run.start)..index(run.end)],
                bytes,
                offset,
            };
            store(&epoch, run);
        }
        Ok(())
    }

    /// The runs of blocks that are missing; none if the epoch has ended. `None` if
    /// one of the words contradicts a block of the epoch.
    fn missing_of(
        &self,
        epoch: &EpochFiles,
        first: u64,
        words: &[Word],
    ) -> Option<Vec<Range<u64>>> {
        let state = self.state();
        let mut runs: Vec<Range<u64>> = Vec::new();
        if state.epoch.number != epoch.number {
            return Some(runs);
        }
        for (block, &word) in (first..).zip(words) {
            match state.compare(block, word) {
                Comparison::Differs => return None,
                Comparison::Present => {}
                Comparison::Missing => match runs.last_mut() {
                    Some(run) if run.end == block => run.end += 1,
                    _ => runs.push(block..block + 1),
                },
            }
        }
        Some(runs)
    }

    /// The error for bytes that contradict a block of `epoch`. Ends the epoch, unless
    /// its bytes are verified.
    fn reject(&self, epoch: &EpochFiles) -> CacheError {
        if !self.is_verified() {
            self.discard(epoch.number, || ());
        }
        CacheError::ChecksumMismatch {
            path: display_path(&self.paths.complete),
        }
    }

    /// Writes missing blocks, which the caller has claimed, to the disk. False if
    /// there is no space, or if the disk cannot be used.
    fn write_to_disk(&self, epoch: &EpochFiles, run: BlockBytes<'_>) -> bool {
        let Some(disk) = &epoch.disk else {
            return false;
        };
        let pages = {
            let state = self.state();
            // A sealed file is never written to, and none of its blocks is evicted
            // for space.
            if state.stage != FileStage::Partial {
                return false;
            }
            state.pages(&run.blocks())
        };
        let wanted = pages.end - pages.start;
        if !self.claim_disk(wanted) {
            return false;
        }
        if let Err(error) = disk.data.write_all_at(run.bytes, run.offset) {
            self.store.disk_budget.release(wanted);
            self.report(&error);
            return false;
        }
        {
            let mut state = self.state();
            if state.epoch.number != epoch.number {
                self.store.disk_budget.release(wanted);
                return true;
            }
            for (block, &word) in run.blocks().zip(run.words) {
                state.add(block, word);
            }
            state.written.extend(run.blocks());
        }
        // Without its word the next process downloads the block again.
        if let Err(error) = disk.map.write(run.first, run.words) {
            self.report(&error);
        }
        true
    }

    /// Claims `wanted` bytes of the disk, for which the oldest blocks of this file may
    /// be evicted.
    pub(super) fn claim_disk(&self, wanted: u64) -> bool {
        let claim = || self.store.claim_disk(wanted);
        claim() || self.evict_oldest(wanted) && claim()
    }
}
