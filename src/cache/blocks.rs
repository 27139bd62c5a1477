//! Which bytes of a file are there: blocks of any place and length that do not
//! overlap, each with its checksum.

use std::collections::BTreeMap;
use std::ops::Range;

use twox_hash::XxHash3_64;

/// The longest block. A read checks whole blocks, so a small read of a long
/// one costs more than it should; short ones cost memory.
pub(super) const LONGEST: usize = 128 << 10;

/// A run of bytes and its checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Block {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) sum: u64,
}

impl Block {
    pub(super) fn of(offset: u64, bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= LONGEST);
        Self {
            offset,
            len: u32::try_from(bytes.len()).expect("blocks are at most LONGEST bytes"),
            sum: XxHash3_64::oneshot(bytes),
        }
    }

    /// Where it ends, if that can be at all.
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.len))
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.len)
    }

    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        XxHash3_64::oneshot(bytes) == self.sum
    }
}

/// The blocks of a file by offset.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    by_offset: BTreeMap<u64, Block>,
    present: u64,
}

impl Blocks {
    /// Adds `block`, unless it overlaps one that is there.
    pub(super) fn insert(&mut self, block: Block) -> bool {
        if block.len == 0 || !self.gaps(block.range()).eq([block.range()]) {
            return false;
        }
        self.present += u64::from(block.len);
        self.by_offset.insert(block.offset, block);
        true
    }

    pub(super) fn remove(&mut self, offset: u64) -> Option<Block> {
        let block = self.by_offset.remove(&offset)?;
        self.present -= u64::from(block.len);
        Some(block)
    }

    /// How many bytes are there.
    pub(super) fn present(&self) -> u64 {
        self.present
    }

    /// The blocks that touch `range`, in order.
    pub(super) fn touching(&self, range: Range<u64>) -> impl Iterator<Item = Block> + '_ {
        let first = self
            .by_offset
            .range(..=range.start)
            .next_back()
            .filter(|(_, block)| block.range().end > range.start)
            .map_or(range.start, |(&offset, _)| offset);
        self.by_offset
            .range(first..range.end.max(first))
            .map(|(_, &block)| block)
    }

    /// The parts of `range` that no block holds, in order.
    pub(super) fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = range.start;
        let end = range.end;
        self.touching(range)
            .map(|block| block.range())
            .chain(std::iter::once(end..end))
            .filter_map(move |held| {
                let gap = from..held.start.min(end);
                from = from.max(held.end);
                (gap.start < gap.end).then_some(gap)
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_agree_with_a_plain_bitmap(
            inserts in prop::collection::vec((0u64..200, 1u32..30, any::<bool>()), 0..60),
            ask in 0u64..200,
            len in 0u64..60,
        ) {
            let mut blocks = Blocks::default();
            let mut model = [false; 300];
            for (offset, len, drop) in inserts {
                let range = usize::try_from(offset).unwrap()..usize::try_from(offset).unwrap() + len as usize;
                let free = !model[range.clone()].contains(&true);
                prop_assert_eq!(blocks.insert(Block { offset, len, sum: 0 }), free);
                if free {
                    model[range.clone()].fill(true);
                    if drop {
                        blocks.remove(offset);
                        model[range].fill(false);
                    }
                }
            }
            let gaps: Vec<u64> = blocks.gaps(ask..ask + len).flatten().collect();
            let expected: Vec<u64> = (ask..ask + len)
                .filter(|&byte| !model[usize::try_from(byte).unwrap()])
                .collect();
            prop_assert_eq!(gaps, expected);
            prop_assert_eq!(blocks.present(), model.iter().filter(|&&there| there).count() as u64);
        }
    }
}
