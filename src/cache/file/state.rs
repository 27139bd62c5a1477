//! The state of a file in memory: the words of its blocks, and the epoch they belong
//! to. No I/O.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::claims::ClaimedBlocks;
use super::data::Stamp;
use super::files::EpochFiles;
use crate::cache::Grid;
use crate::cache::block_map::{BlockMap, BlockState, Word};

/// The size of a page of the disk.
const PAGE: u64 = 4096;

/// The state of an open file.
#[derive(Debug)]
pub(super) struct FileState {
    grid: Arc<Grid>,
    pub(super) epoch: Arc<EpochFiles>,
    /// The blocks that are present, on the disk or in memory.
    pub(super) map: BlockMap,
    pub(super) claims: ClaimedBlocks,
    /// The bytes of the blocks that are in memory only.
    pub(super) in_memory: HashMap<u64, Bytes>,
    /// Bytes of those blocks.
    pub(super) memory_used: u64,
    /// Blocks on the disk in the order in which this process wrote them: the first is
    /// evicted first.
    pub(super) written: VecDeque<u64>,
    pub(super) is_verified: bool,
    pub(super) stage: FileStage,
}

/// The stages of a file on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileStage {
    /// Under its partial name.
    Partial,
    /// Complete, and under its complete name.
    Sealed(Stamp),
    /// The disk cannot be used: all blocks are in memory.
    MemoryOnly,
}

/// How the bytes of a block compare with those of its epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    /// The block is missing: it was never present, or the same bytes were evicted.
    Missing,
    /// The same bytes are present.
    Present,
    /// Other bytes are or were present.
    Differs,
}

impl FileState {
    /// The state of a file with these blocks.
    pub(super) fn new(
        grid: Arc<Grid>,
        epoch: Arc<EpochFiles>,
        map: BlockMap,
        stage: FileStage,
    ) -> Self {
        Self {
            grid,
            epoch,
            map,
            claims: ClaimedBlocks::default(),
            in_memory: HashMap::new(),
            memory_used: 0,
            written: VecDeque::new(),
            is_verified: false,
            stage,
        }
    }

    /// Forgets all blocks. The new epoch has no files yet.
    pub(super) fn begin_epoch(&mut self) {
        *self = Self {
            claims: self.claims.cleared(),
            ..Self::new(
                Arc::clone(&self.grid),
                Arc::new(EpochFiles::in_memory()),
                BlockMap::new(Arc::clone(&self.grid)),
                FileStage::MemoryOnly,
            )
        };
    }

    /// Whether `block` is present, and not in memory only.
    pub(super) fn is_on_disk(&self, block: u64) -> bool {
        self.map.has(block) && !self.in_memory.contains_key(&block)
    }

    /// Whether all blocks are present on the disk.
    pub(super) fn is_complete_on_disk(&self) -> bool {
        self.map.present() == self.grid.len() && self.in_memory.is_empty()
    }

    pub(super) fn compare(&self, block: u64, word: Word) -> Comparison {
        let known = self.map.get(block);
        match known.state() {
            BlockState::Absent => Comparison::Missing,
            // This process has read no other bytes: whichever are wrong, the new ones
            // take their place.
            BlockState::Listed if !known.same_bytes(word) => Comparison::Missing,
            _ if !known.same_bytes(word) => Comparison::Differs,
            BlockState::Present | BlockState::Listed => Comparison::Present,
            BlockState::Evicted => Comparison::Missing,
        }
    }

    /// Makes `block` present.
    pub(super) fn add(&mut self, block: u64, word: Word) {
        self.map.set(block, word);
    }

    /// Makes a present block missing; returns its word for the map file.
    pub(super) fn lose(&mut self, block: u64) -> Word {
        let word = self.map.get(block);
        let lost = match word.state() {
            BlockState::Present => word.evicted(),
            // This process has read no bytes of it. Its word may be damaged, so other
            // bytes may be right; then the file must be verified again.
            BlockState::Listed => {
                self.is_verified = false;
                Word::default()
            }
            BlockState::Absent | BlockState::Evicted => word,
        };
        self.map.set(block, lost);
        lost
    }

    /// The part of the file, in whole pages of the disk, that `blocks` use and that
    /// no other present block uses: it is claimed when they are written, and
    /// released with them.
    pub(super) fn pages(&self, blocks: &Range<u64>) -> Range<u64> {
        let bytes = self.grid.bytes_of(blocks);
        let first = bytes.start - bytes.start % PAGE;
        let last = bytes.end.next_multiple_of(PAGE);
        let before = self.grid.touching(&(first..bytes.start));
        let after = self.grid.touching(&(bytes.end..last));
        let start = if before.rev().any(|block| self.is_on_disk(block)) {
            bytes.start.next_multiple_of(PAGE)
        } else {
            first
        };
        // The last page of the file ends with the file.
        let end = if after.into_iter().any(|block| self.is_on_disk(block)) {
            bytes.end - bytes.end % PAGE
        } else {
            last
        };
        start..end.max(start)
    }
}
