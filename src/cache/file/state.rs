//! The state of a file in memory: present and evicted blocks, and the epoch they
//! belong to. No I/O.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::Epoch;
use super::open::FileStage;
use crate::cache::blocks::{Block, BlockSet};
use crate::cache::evicted::{Comparison, EvictedBlocks};

/// The state of an open file.
#[derive(Debug)]
pub(super) struct FileState {
    /// The blocks that are present, on the disk or in memory.
    pub(super) blocks: BlockSet,
    /// The bytes of the blocks that are in memory only, by offset.
    pub(super) in_memory: HashMap<u64, Bytes>,
    /// Bytes of those blocks.
    pub(super) memory_used: u64,
    /// Offsets of blocks on the disk in the order in which this process wrote
    /// them: the first is evicted first.
    pub(super) written: VecDeque<u64>,
    /// Blocks that were present in this epoch.
    pub(super) evicted: EvictedBlocks,
    /// See [`super::CacheFile::last_new_block`].
    pub(super) last_new_block: Option<Range<u64>>,
    pub(super) is_verified: bool,
    pub(super) epoch: Epoch,
    /// Whether no epoch has ended since the file was opened. After the first epoch,
    /// `last_new_block` is not tracked: readers of an earlier epoch may already have
    /// it.
    in_first_epoch: bool,
    pub(super) stage: FileStage,
}

/// The result of adding a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    Added,
    /// The same block is present, or one that cannot be compared with it.
    AlreadyPresent,
    /// A block with another checksum is or was present.
    Differs,
}

impl FileState {
    /// The state of a file with these blocks, in a new epoch.
    pub(super) fn new(blocks: BlockSet, stage: FileStage) -> Self {
        Self {
            blocks,
            in_memory: HashMap::new(),
            memory_used: 0,
            written: VecDeque::new(),
            evicted: EvictedBlocks::default(),
            last_new_block: None,
            is_verified: false,
            epoch: Epoch::next(),
            in_first_epoch: true,
            stage,
        }
    }

    /// Ends the epoch and begins the next one.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch = Epoch::next();
        self.in_first_epoch = false;
        self.is_verified = false;
        self.last_new_block = None;
        self.evicted = EvictedBlocks::default();
    }

    /// Adds `block`, unless it contradicts a block of this epoch. A block that cannot
    /// be compared with earlier ones begins a new epoch.
    pub(super) fn admit(&mut self, block: Block) -> Admission {
        let present = self.blocks.touching(block.range()).next();
        if let Some(present) = present {
            let comparable = present.range() == block.range();
            if !comparable {
                self.begin_epoch();
            }
            return if comparable && present != block {
                Admission::Differs
            } else {
                Admission::AlreadyPresent
            };
        }
        match self.evicted.restore(block) {
            Comparison::New if self.in_first_epoch => self.last_new_block = Some(block.range()),
            Comparison::New | Comparison::Same => {}
            Comparison::Differs => return Admission::Differs,
            Comparison::Unknown => self.begin_epoch(),
        }
        self.blocks.insert(block);
        Admission::Added
    }
}
