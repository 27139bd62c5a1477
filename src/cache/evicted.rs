//! Checksums of evicted blocks, used to verify blocks that are downloaded again.

use super::blocks::{Block, BlockSet};

/// The most checksums that are stored: those of 128 GiB.
const MAX_COUNT: usize = 1 << 20;

/// The evicted blocks of one epoch of a file. They never overlap blocks that are
/// present.
#[derive(Debug, Default)]
pub(super) struct EvictedBlocks {
    blocks: BlockSet,
    count: usize,
}

/// How a downloaded block compares with the evicted blocks in its range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    /// No block was evicted there.
    New,
    /// The same block was evicted.
    Same,
    /// A block of the same range but another checksum was evicted.
    Differs,
    /// Blocks of other ranges were evicted there, so the checksums cannot be
    /// compared.
    Unknown,
}

impl EvictedBlocks {
    /// Adds a block; false if there are too many to store.
    pub(super) fn add(&mut self, block: Block) -> bool {
        self.count += usize::from(self.blocks.insert(block));
        self.count <= MAX_COUNT
    }

    /// How many bytes were evicted.
    pub(super) fn len(&self) -> u64 {
        self.blocks.present()
    }

    /// Compares `block`, which is about to become present, and removes the
    /// evicted blocks in its range, unless the checksums differ.
    pub(super) fn restore(&mut self, block: Block) -> Comparison {
        let evicted: Vec<Block> = self.blocks.touching(block.range()).collect();
        let comparison = match evicted[..] {
            [] => Comparison::New,
            [same] if same == block => Comparison::Same,
            [other] if other.range() == block.range() => return Comparison::Differs,
            _ => Comparison::Unknown,
        };
        for block in evicted {
            self.blocks.remove(block.offset);
            self.count -= 1;
        }
        comparison
    }
}
