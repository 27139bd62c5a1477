//! What is there of a file, what was, and how the two go together.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::blocks::{Block, Blocks};
use super::gone::{Gone, Returned};
use super::paths::State;

/// What is there.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) blocks: Blocks,
    /// The bytes of those blocks that the disk did not take.
    pub(super) in_memory: HashMap<u64, Bytes>,
    pub(super) memory_used: u64,
    /// The order in which this process wrote blocks: the oldest go first.
    pub(super) written: VecDeque<u64>,
    /// What was there before.
    pub(super) gone: Gone,
    /// Of what was never there before, what came last; none after the first
    /// epoch, in which readers of another may still go on.
    pub(super) last_new_block: Option<Range<u64>>,
    /// Whether all that was ever there is known to be right.
    pub(super) proved: bool,
    /// How many contents it had before; see [`Epoch`](super::Epoch).
    pub(super) turns: u64,
    pub(super) state: State,
}

/// What became of a block that was to be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admitted {
    Added,
    /// Just it, or what cannot be compared with it, is there.
    ThereAlready,
    /// It is not what was there before.
    Differs,
}

impl Held {
    /// Ends the epoch of what was there.
    pub(super) fn turn(&mut self) {
        self.turns += 1;
        self.proved = false;
        self.last_new_block = None;
        self.gone = Gone::default();
    }

    /// Adds `block` unless it contradicts what is there, or was.
    pub(super) fn admit(&mut self, block: Block) -> Admitted {
        let there = self.blocks.touching(block.range()).next();
        if let Some(there) = there {
            let comparable = there.range() == block.range();
            if !comparable {
                self.turn();
            }
            return if comparable && there != block {
                Admitted::Differs
            } else {
                Admitted::ThereAlready
            };
        }
        match self.gone.take_back(block) {
            Returned::New if self.turns == 0 => self.last_new_block = Some(block.range()),
            Returned::New | Returned::Same => {}
            Returned::Differs => return Admitted::Differs,
            Returned::Unknown => self.turn(),
        }
        self.blocks.insert(block);
        Admitted::Added
    }
}
