//! Which bytes of a file are present: blocks of any offset and length that do
//! not overlap, each with its checksum.

use std::collections::BTreeMap;
use std::ops::Range;

use twox_hash::XxHash3_64;

/// The length of the longest block, in bytes. No block extends across a multiple of it. A
/// read verifies complete blocks, so long blocks make small reads expensive; short
/// blocks cost memory.
pub(crate) const MAX_BLOCK: usize = 128 << 10;

/// A run of bytes and its checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Block {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) sum: u64,
}

impl Block {
    /// The block of `bytes` at `offset`.
    pub(super) fn of(offset: u64, bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= MAX_BLOCK);
        Self {
            offset,
            len: u32::try_from(bytes.len()).expect("blocks are at most MAX_BLOCK bytes"),
            sum: XxHash3_64::oneshot(bytes),
        }
    }

    /// The offset of its end; `None` if that overflows, as in a damaged journal.
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.len))
    }

    /// Its bytes in the file.
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.len)
    }

    /// Whether `bytes` have its checksum.
    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        XxHash3_64::oneshot(bytes) == self.sum
    }
}

/// The blocks of a file by offset.
#[derive(Debug, Default)]
pub(super) struct BlockSet {
    by_offset: BTreeMap<u64, Block>,
    present: u64,
}

impl BlockSet {
    /// Adds `block`; false if it is empty or overlaps a block of the set.
    pub(super) fn insert(&mut self, block: Block) -> bool {
        if block.len == 0 || !self.gaps(block.range()).eq([block.range()]) {
            return false;
        }
        self.present += u64::from(block.len);
        self.by_offset.insert(block.offset, block);
        true
    }

    /// Removes the block that starts at `offset`.
    pub(super) fn remove(&mut self, offset: u64) -> Option<Block> {
        let block = self.by_offset.remove(&offset)?;
        self.present -= u64::from(block.len);
        Some(block)
    }

    /// How many bytes the blocks of the set have together.
    pub(super) fn present(&self) -> u64 {
        self.present
    }

    /// The blocks that overlap `range`, in order.
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

    /// The parts of `range` that no block covers, in order.
    pub(super) fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = range.start;
        let end = range.end;
        self.touching(range)
            .map(|block| block.range())
            .chain(std::iter::once(end..end))
            .filter_map(move |block| {
                let gap = from..block.start.min(end);
                from = from.max(block.end);
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
        fn block_set_agrees_with_a_bitmap(
            inserts in prop::collection::vec((0u64..200, 1u32..30, any::<bool>()), 0..60),
            start in 0u64..200,
            len in 0u64..60,
        ) {
            let mut blocks = BlockSet::default();
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
            let gaps: Vec<u64> = blocks.gaps(start..start + len).flatten().collect();
            let expected: Vec<u64> = (start..start + len)
                .filter(|&byte| !model[usize::try_from(byte).unwrap()])
                .collect();
            prop_assert_eq!(gaps, expected);
            prop_assert_eq!(blocks.present(), model.iter().filter(|&&present| present).count() as u64);
        }
    }
}
