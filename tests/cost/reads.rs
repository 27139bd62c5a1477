//! Patterns of reads.

use std::ops::Range;

use super::MIB;
use crate::support::Dice;

/// How a reader goes through a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pattern {
    /// As `cat` does.
    Forward,
    /// From the last block to the first one.
    Backward,
    /// Every n-th block.
    Strided,
    /// A few blocks in order, then elsewhere.
    Jumping,
    /// Reads of 4 to 64 KiB anywhere.
    Random,
    /// As `head` does.
    Head,
    /// As `tail` does.
    Tail,
}

/// The reads of one pass.
pub(super) struct ReadPlan {
    pub(super) reads: Vec<Range<usize>>,
    /// The bytes that count as read. Gaps of less than 1 MiB between strided reads
    /// count: a request for each would be too many.
    pub(super) counted: u64,
    /// The reads that need a request of their own if nothing stays.
    pub(super) scattered: u64,
}

impl Pattern {
    /// Whether the file is read in order, or at one end only.
    pub(super) fn is_at_ends(self) -> bool {
        matches!(self, Self::Forward | Self::Head | Self::Tail)
    }

    /// Whether the pattern reads nothing before it has read everything before that.
    pub(super) fn is_from_start(self) -> bool {
        matches!(self, Self::Forward | Self::Head)
    }

    /// The reads of a file of `len` bytes, `size` bytes each.
    pub(super) fn plan(self, len: usize, size: usize, dice: &mut Dice) -> ReadPlan {
        let part = |start: usize| start..len.min(start + size);
        let all = (0..len).step_by(size).map(part);
        let mut scattered = 0;
        let mut gaps = 0;
        let reads: Vec<Range<usize>> = match self {
            Self::Forward => all.collect(),
            Self::Backward => all.rev().collect(),
            Self::Strided => {
                let every = 2 + dice.roll(30);
                let reads: Vec<_> = all.step_by(every).collect();
                let gap = ((every - 1) * size) as u64;
                if gap < MIB {
                    gaps = reads.len() as u64 * gap;
                } else {
                    scattered = reads.len() as u64;
                }
                reads
            }
            Self::Jumping => {
                let jumps = 4 + dice.roll(8);
                scattered = jumps as u64;
                let mut run = || {
                    let start = dice.roll(len);
                    let end = len.min(start + size * (2 + dice.roll(15)));
                    (start..end)
                        .step_by(size)
                        .map(move |at| at..end.min(at + size))
                };
                (0..jumps).flat_map(|_| run()).collect()
            }
            Self::Random => {
                let count = 20 + dice.roll(41);
                scattered = count as u64;
                let mut read = || {
                    let size = (4 << 10) + dice.roll(60 << 10);
                    let start = dice.roll(len - size.min(len - 1));
                    start..len.min(start + size)
                };
                (0..count).map(|_| read()).collect()
            }
            Self::Head => std::iter::once(part(0)).collect(),
            Self::Tail => std::iter::once(len - size.min(len)..len).collect(),
        };
        let read: usize = reads.iter().map(ExactSizeIterator::len).sum();
        ReadPlan {
            reads,
            counted: read as u64 + gaps,
            scattered,
        }
    }
}
