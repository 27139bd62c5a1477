//! Which blocks of a file are present: one word for each block.

use std::ops::Range;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::Grid;

/// The number of words in a page. A page is allocated when its first word is set.
const PAGE: usize = 512;

/// What is known of one block: its state in the lowest two bits, and a checksum of its
/// bytes in the others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Word(pub(super) u64);

/// The states of a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BlockState {
    /// Its bytes were never stored in this epoch.
    Absent,
    /// Its bytes are stored.
    Present,
    /// Its bytes were stored once; bytes that are downloaded again must match them.
    Evicted,
    /// The map file lists it as present, and this process has not read it yet. Never
    /// on the disk.
    Listed,
}

impl Word {
    /// The word of a present block of these bytes, in the epoch of `seed`.
    pub(super) fn of(bytes: &[u8], seed: u64) -> Self {
        Self(XxHash3_64::oneshot_with_seed(seed, bytes) & !3 | 1)
    }

    pub(super) fn state(self) -> BlockState {
        match self.0 & 3 {
            0 => BlockState::Absent,
            1 => BlockState::Present,
            2 => BlockState::Evicted,
            _ => BlockState::Listed,
        }
    }

    /// The word of a block as this process knows it when it opens the map file. What
    /// was evicted before was not read by this process.
    pub(super) fn from_disk(word: u64) -> Self {
        match Self(word).state() {
            BlockState::Present => Self(word | 3),
            BlockState::Absent | BlockState::Evicted | BlockState::Listed => Self::default(),
        }
    }

    /// The word of the same block once this process has read it, or as it is on the
    /// disk.
    pub(super) fn present(self) -> Self {
        Self(self.0 & !3 | 1)
    }

    /// Whether the block is present, read by this process or not.
    pub(super) fn is_present(self) -> bool {
        matches!(self.state(), BlockState::Present | BlockState::Listed)
    }

    /// The word of the same block after its bytes were evicted.
    pub(super) fn evicted(self) -> Self {
        Self(self.0 & !3 | 2)
    }

    /// Whether both are checksums of the same bytes.
    pub(super) fn same_bytes(self, other: Self) -> bool {
        self.0 & !3 == other.0 & !3
    }
}

/// The words of all blocks of a file.
#[derive(Debug)]
pub(super) struct BlockMap {
    grid: Arc<Grid>,
    pages: Vec<Option<Box<Page>>>,
    /// Bytes of present blocks.
    present: u64,
    /// Bytes of present and evicted blocks.
    known: u64,
}

#[derive(Debug)]
struct Page {
    words: [Word; PAGE],
    present: usize,
}

impl BlockMap {
    /// A map of absent blocks.
    pub(super) fn new(grid: Arc<Grid>) -> Self {
        let pages = grid.blocks().div_ceil(PAGE as u64);
        Self {
            pages: (0..pages).map(|_| None).collect(),
            grid,
            present: 0,
            known: 0,
        }
    }

    /// Bytes of present blocks.
    pub(super) fn present(&self) -> u64 {
        self.present
    }

    /// Bytes of blocks whose checksums are known: present and evicted ones.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// The word of `block`.
    pub(super) fn get(&self, block: u64) -> Word {
        let page = self.page(block).and_then(|page| page.as_ref());
        page.map_or(Word::default(), |page| page.words[within(block)])
    }

    /// Whether `block` is present.
    pub(super) fn has(&self, block: u64) -> bool {
        self.get(block).is_present()
    }

    /// Sets the word of `block`. Blocks beyond the file are ignored.
    pub(super) fn set(&mut self, block: u64, word: Word) {
        let bytes = self.grid.bytes(block);
        let len = bytes.end - bytes.start;
        let old = self.get(block);
        let Ok(page) = usize::try_from(block / PAGE as u64) else {
            return;
        };
        let Some(page) = self.pages.get_mut(page).filter(|_| len > 0) else {
            return;
        };
        let page = page.get_or_insert_with(|| {
            Box::new(Page {
                words: [Word::default(); PAGE],
                present: 0,
            })
        });
        page.words[within(block)] = word;
        if old.is_present() {
            self.present -= len;
            page.present -= 1;
        }
        if old.state() != BlockState::Absent {
            self.known -= len;
        }
        if word.is_present() {
            self.present += len;
            page.present += 1;
        }
        if word.state() != BlockState::Absent {
            self.known += len;
        }
    }

    /// The first of `blocks` that is not present.
    pub(super) fn first_missing(&self, blocks: Range<u64>) -> Option<u64> {
        let mut block = blocks.start;
        while block < blocks.end {
            let page_end = (block / PAGE as u64 + 1) * PAGE as u64;
            match self.page(block) {
                Some(Some(page)) if page.present == PAGE => block = page_end,
                Some(Some(_)) => {
                    let end = page_end.min(blocks.end);
                    if let Some(missing) = (block..end).find(|&block| !self.has(block)) {
                        return Some(missing);
                    }
                    block = end;
                }
                _ => return Some(block),
            }
        }
        None
    }

    /// The first of `blocks` that is present.
    pub(super) fn first_present(&self, blocks: Range<u64>) -> Option<u64> {
        let mut block = blocks.start;
        while block < blocks.end {
            let page_end = (block / PAGE as u64 + 1) * PAGE as u64;
            let end = page_end.min(blocks.end);
            if let Some(Some(page)) = self.page(block)
                && page.present > 0
                && let Some(present) = (block..end).find(|&block| self.has(block))
            {
                return Some(present);
            }
            block = end;
        }
        None
    }

    /// The first run of missing blocks among `blocks`.
    pub(super) fn first_gap(&self, blocks: &Range<u64>) -> Option<Range<u64>> {
        let start = self.first_missing(blocks.clone())?;
        let end = self.first_present(start..blocks.end);
        Some(start..end.unwrap_or(blocks.end))
    }

    fn page(&self, block: u64) -> Option<&Option<Box<Page>>> {
        self.pages.get(usize::try_from(block / PAGE as u64).ok()?)
    }
}

fn within(block: u64) -> usize {
    usize::try_from(block % PAGE as u64).expect("less than PAGE")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn word_has_the_checksum_of_its_epoch_and_a_state() {
        let word = Word::of(b"bytes", 1);
        assert_eq!(word.state(), BlockState::Present);
        assert_eq!(word.evicted().state(), BlockState::Evicted);
        assert!(word.same_bytes(word.evicted()) && !word.same_bytes(Word::of(b"other", 1)));
        assert!(!word.same_bytes(Word::of(b"bytes", 2)), "another epoch");
        assert_eq!(Word::default().state(), BlockState::Absent);
        let listed = Word::from_disk(word.0);
        assert_eq!(
            (listed.state(), listed.present()),
            (BlockState::Listed, word)
        );
        for unknown in [word.evicted().0, 0, 7] {
            assert_eq!(Word::from_disk(unknown), Word::default());
        }
    }

    proptest! {
        #[test]
        fn map_agrees_with_a_list_of_states(
            sets in prop::collection::vec((0usize..1300, 1usize..600, 0u64..4), 0..12),
            start in 0usize..1300,
            len in 0usize..1300,
        ) {
            const BLOCKS: usize = 1200;
            let mut map = BlockMap::new(Arc::new(Grid::in_steps(3, 3 * BLOCKS as u64 - 1)));
            let mut model = vec![0; BLOCKS];
            for (first, count, state) in sets {
                for block in first..first + count {
                    map.set(block as u64, Word(4 | state));
                    if let Some(known) = model.get_mut(block) {
                        *known = state;
                    }
                }
            }
            let bytes = |block: usize| if block == BLOCKS - 1 { 2 } else { 3 };
            let sum = |wanted: fn(u64) -> bool| -> u64 {
                (0..model.len()).filter(|&block| wanted(model[block])).map(bytes).sum()
            };
            prop_assert_eq!(map.present(), sum(|state| state % 2 == 1));
            prop_assert_eq!(map.known(), sum(|state| state != 0));
            let end = (start + len).min(BLOCKS);
            let find = |wanted: bool, from: usize| {
                (from..end).find(|&block| (model[block] % 2 == 1) == wanted)
            };
            let (blocks, number) = (start as u64..end as u64, |block: usize| block as u64);
            prop_assert_eq!(map.first_missing(blocks.clone()), find(false, start).map(number));
            prop_assert_eq!(map.first_present(blocks.clone()), find(true, start).map(number));
            let gap = find(false, start).map(|gap| gap as u64..find(true, gap).unwrap_or(end) as u64);
            prop_assert_eq!(map.first_gap(&blocks), gap);
        }
    }
}
