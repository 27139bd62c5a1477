//! Blocks that were there and are gone: a block's checksum outlives its bytes,
//! so that what comes in its place can be held against it.

use super::blocks::{Block, Blocks};

/// The most blocks that are remembered: 128 GiB of them.
const MOST: usize = 1 << 20;

/// What was there. Never overlaps what is.
#[derive(Debug, Default)]
pub(super) struct Gone {
    blocks: Blocks,
    count: usize,
}

/// How a block that comes is to what was in its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Returned {
    /// There was nothing.
    New,
    /// Just that.
    Same,
    /// It has another checksum.
    Differs,
    /// Something was there that it cannot be compared with.
    Unknown,
}

impl Gone {
    /// Remembers a block; false if that is too much.
    pub(super) fn add(&mut self, block: Block) -> bool {
        self.count += usize::from(self.blocks.insert(block));
        self.count <= MOST
    }

    /// How many bytes were there and are gone.
    pub(super) fn len(&self) -> u64 {
        self.blocks.present()
    }

    /// Holds `block`, which comes, against what was there; that is forgotten
    /// unless it contradicts.
    pub(super) fn take_back(&mut self, block: Block) -> Returned {
        let was: Vec<Block> = self.blocks.touching(block.range()).collect();
        let returned = match was[..] {
            [] => Returned::New,
            [same] if same == block => Returned::Same,
            [other] if other.range() == block.range() => return Returned::Differs,
            _ => Returned::Unknown,
        };
        for block in was {
            self.blocks.remove(block.offset);
            self.count -= 1;
        }
        returned
    }
}
