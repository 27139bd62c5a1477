//! The grid of a file: where its blocks begin and end. The grid follows from what
//! the file is, never from how it was read, so that a block that is downloaded
//! again has the same bytes as before.
//!
//! A file is a sequence of *runs* of rows: an original is one run of bytes (rows of
//! width 1); a table has one run for each column and one for its trailer. In each
//! run, a block has [`Grid::step`] rows; the first ones may be split further, so
//! that a look at the first rows of a table with many columns stays cheap.

use std::ops::Range;

/// The length of a block of an original in bytes. A read verifies complete blocks, so
/// long blocks make small reads expensive; short blocks cost memory.
pub(crate) const MAX_BLOCK: usize = 128 << 10;
/// The number of rows in a block of a column.
const BLOCK_ROWS: u64 = 4096;
/// The first blocks of all columns together have at most so many bytes.
const FIRST_BLOCKS: u64 = 256 << 10;
/// The least number of rows in the first block of a column.
const MIN_FIRST_ROWS: u64 = 64;
/// The most blocks in a file: those of 2 TiB.
const MAX_BLOCKS: u64 = 1 << 24;

/// The places of the blocks of one file, numbered from its start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grid {
    runs: Vec<Run>,
    /// The number of rows in a block.
    step: u64,
    /// Rows before `step` at which further blocks begin, in order.
    head: Vec<u64>,
    len: u64,
    blocks: u64,
}

/// Rows of one width.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Run {
    /// Its first byte in the file.
    start: u64,
    /// The number of its first block.
    first: u64,
    /// Bytes in a row.
    width: u64,
    rows: u64,
}

impl From<u64> for Grid {
    /// The grid of an original, or another file of `len` bytes.
    fn from(len: u64) -> Self {
        // Every length has a grid: blocks of long files are longer.
        let least = len.div_ceil(MAX_BLOCKS);
        let step = (MAX_BLOCK as u64).max(least.next_power_of_two());
        Self::new(step, Vec::new(), [(1, len)]).expect("at most MAX_BLOCKS blocks")
    }
}

impl Grid {
    /// The grid of a table of `rows` rows: columns of these widths in bytes, one
    /// after the other, then a trailer of `trailer` bytes.
    #[must_use]
    pub fn of_table(widths: &[u64], rows: u64, trailer: u64) -> Self {
        let row: u64 = widths.iter().sum();
        let fitting = (FIRST_BLOCKS / row.max(1)).max(MIN_FIRST_ROWS);
        // The largest power of two that is not above it.
        let first = 1 << fitting.ilog2();
        let head = std::iter::successors(Some(first), |at| Some(at * 2));
        let head: Vec<u64> = head.take_while(|&at| at < BLOCK_ROWS).collect();
        // Blocks of long tables are longer.
        let mut steps = std::iter::successors(Some(BLOCK_ROWS), |step| step.checked_mul(2));
        let columns = || widths.iter().map(|&width| (width, rows));
        let grid = |step: u64| Self::new(step, head.clone(), columns().chain([(1, trailer)]));
        // There is always one: the length of a table fits into a file.
        steps.find_map(grid).unwrap_or_else(|| Self::from(trailer))
    }

    /// A grid of runs, given as width and number of rows.
    fn new(step: u64, head: Vec<u64>, runs: impl IntoIterator<Item = (u64, u64)>) -> Option<Self> {
        let mut grid = Self {
            runs: Vec::new(),
            step,
            head,
            len: 0,
            blocks: 0,
        };
        for (width, rows) in runs {
            let run = Run {
                start: grid.len,
                first: grid.blocks,
                width,
                rows,
            };
            grid.len = grid.len.checked_add(width.checked_mul(rows)?)?;
            if width > 0 && rows > 0 {
                grid.blocks += grid.blocks_before(rows);
                grid.runs.push(run);
            }
            if grid.blocks > MAX_BLOCKS || grid.len > i64::MAX.unsigned_abs() {
                return None;
            }
        }
        Some(grid)
    }

    /// The length of the file in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // A length, not a count of items.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The number of blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The bytes of block number `block`; empty if there is none.
    pub(super) fn bytes(&self, block: u64) -> Range<u64> {
        let Some(run) = self
            .run(|run| run.first <= block)
            .filter(|_| block < self.blocks)
        else {
            return self.len..self.len;
        };
        let within = block - run.first;
        let at = |block| run.start + run.width * self.first_row(block).min(run.rows);
        at(within)..at(within + 1)
    }

    /// The bytes of adjacent blocks.
    pub(super) fn bytes_of(&self, blocks: &Range<u64>) -> Range<u64> {
        if blocks.is_empty() {
            return 0..0;
        }
        self.bytes(blocks.start).start..self.bytes(blocks.end - 1).end
    }

    /// The blocks that contain bytes of `range`.
    pub(super) fn touching(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.len);
        if range.start >= end {
            return 0..0;
        }
        self.block_of(range.start)..self.block_of(end - 1) + 1
    }

    /// The blocks all of whose bytes are in `range`.
    pub(super) fn within(&self, range: &Range<u64>) -> Range<u64> {
        let mut blocks = self.touching(range);
        if !blocks.is_empty() && self.bytes(blocks.start).start < range.start {
            blocks.start += 1;
        }
        if !blocks.is_empty() && self.bytes(blocks.end - 1).end > range.end {
            blocks.end -= 1;
        }
        blocks
    }

    /// `range`, extended to the blocks that contain its bytes.
    #[must_use]
    pub fn aligned(&self, range: &Range<u64>) -> Range<u64> {
        self.bytes_of(&self.touching(range))
    }

    /// The start of the block that contains the byte at `offset`, or the file's length.
    #[must_use]
    pub fn block_start(&self, offset: u64) -> u64 {
        if offset < self.len {
            self.bytes(self.block_of(offset)).start
        } else {
            self.len
        }
    }

    /// `rows` of a column, extended to complete blocks. A table has `all` rows.
    #[must_use]
    pub fn aligned_rows(&self, rows: &Range<u64>, all: u64) -> Range<u64> {
        let end = rows.end.min(all);
        if rows.start >= end {
            return end..end;
        }
        let (first, last) = (self.block_of_row(rows.start), self.block_of_row(end - 1));
        self.first_row(first)..self.first_row(last + 1).min(all)
    }

    /// `rows` of a column, from the start of their first block to the end of the last
    /// complete one; the first one in any case. A table has `all` rows.
    #[must_use]
    pub fn complete_rows(&self, rows: &Range<u64>, all: u64) -> Range<u64> {
        let aligned = self.aligned_rows(rows, all);
        if aligned.end <= rows.end {
            return aligned;
        }
        let last = self.first_row(self.block_of_row(rows.end));
        let first_end = self
            .first_row(self.block_of_row(aligned.start) + 1)
            .min(all);
        aligned.start..last.max(first_end)
    }

    /// The block that contains the byte at `offset`, which is in the file.
    fn block_of(&self, offset: u64) -> u64 {
        self.run(|run| run.start <= offset).map_or(0, |run| {
            run.first + self.block_of_row((offset - run.start) / run.width)
        })
    }

    /// The last run for which `begins` holds; it holds for those at the front.
    fn run(&self, begins: impl Fn(&Run) -> bool) -> Option<&Run> {
        let after = self.runs.partition_point(begins);
        self.runs.get(after.checked_sub(1)?)
    }

    /// The number of the block, within its run, that contains `row`.
    fn block_of_row(&self, row: u64) -> u64 {
        let in_head = self.head.partition_point(|&at| at <= row);
        in_head as u64 + row / self.step
    }

    /// The number of blocks that a run of `rows` rows has.
    fn blocks_before(&self, rows: u64) -> u64 {
        rows.checked_sub(1)
            .map_or(0, |last| self.block_of_row(last) + 1)
    }

    /// The first row of a block, counted within its run.
    fn first_row(&self, block: u64) -> u64 {
        let head = self.head.len() as u64;
        match usize::try_from(block).unwrap_or(usize::MAX).checked_sub(1) {
            None => 0,
            Some(before) if before < self.head.len() => self.head[before],
            Some(_) => (block - head) * self.step,
        }
    }

    /// The grid in bytes, for the header of a block map: step, number and rows of the
    /// head, number of runs, then width and rows of each; 8 bytes each, little-endian.
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.step, self.head.len() as u64]
            .into_iter()
            .chain(self.head.iter().copied())
            .chain([self.runs.len() as u64])
            .chain(self.runs.iter().flat_map(|run| [run.width, run.rows]));
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// The grid that [`Grid::encode`] describes; `None` for other bytes. The input is
    /// untrusted.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let mut numbers = words.iter().map(|word| u64::from_le_bytes(*word));
        let step = numbers.next().filter(|&step| step > 0)?;
        let head_len = usize::try_from(numbers.next()?).ok()?;
        let head: Vec<u64> = numbers.by_ref().take(head_len).collect();
        let ascending = head
            .iter()
            .chain([&step])
            .is_sorted_by(|one, next| one < next);
        if head.len() != head_len || head.first() == Some(&0) || !ascending {
            return None;
        }
        let runs = numbers.next()?;
        let mut pairs = Vec::new();
        while let Some(width) = numbers.next() {
            pairs.push((width, numbers.next()?));
        }
        let grid = Self::new(step, head, pairs.iter().copied())?;
        (pairs.len() as u64 == runs && grid.runs.len() == pairs.len()).then_some(grid)
    }

    /// A file of `len` bytes in blocks of `step` bytes.
    #[cfg(test)]
    pub(super) fn in_steps(step: u64, len: u64) -> Self {
        Self::new(step, Vec::new(), [(1, len)]).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn original_has_blocks_of_128_kib_and_a_shorter_last_one() {
        let grid = Grid::from(300_000);
        assert_eq!((grid.blocks(), grid.len()), (3, 300_000));
        assert_eq!(grid.bytes(2), 262_144..300_000);
        assert_eq!(grid.touching(&(131_071..131_073)), 0..2);
        assert_eq!(grid.within(&(1..300_000)), 1..3);
        assert_eq!(grid.within(&(1..131_072)), 1..1);
        assert_eq!(grid.aligned(&(1..2)), 0..131_072);
        assert_eq!(Grid::from(0).touching(&(0..9)), 0..0);
        let starts = [0, 131_071, 131_072, 299_999, 300_000].map(|at| grid.block_start(at));
        assert_eq!(starts, [0, 0, 131_072, 262_144, 300_000]);
    }

    #[test]
    fn first_rows_of_a_wide_table_are_split() {
        let grid = Grid::of_table(&[8; 260], 10_000, 100);
        // 64 rows of 260 columns are 133 kB, 128 rows are more than 256 KiB.
        assert_eq!(grid.aligned_rows(&(0..1), 10_000), 0..64);
        assert_eq!(grid.aligned_rows(&(63..65), 10_000), 0..128);
        assert_eq!(grid.aligned_rows(&(4095..4097), 10_000), 2048..8192);
        assert_eq!(grid.aligned_rows(&(9000..9001), 10_000), 8192..10_000);
        assert_eq!(grid.aligned_rows(&(10_000..10_001), 10_000), 10_000..10_000);
        let narrow = Grid::of_table(&[8, 4], 10_000, 100);
        assert_eq!(narrow.aligned_rows(&(0..1), 10_000), 0..4096);
        assert_eq!(narrow.complete_rows(&(5..100), 10_000), 0..4096);
        assert_eq!(narrow.complete_rows(&(5..8191), 10_000), 0..4096);
        assert_eq!(narrow.complete_rows(&(4100..9999), 10_000), 4096..8192);
        assert_eq!(narrow.complete_rows(&(4100..10_000), 10_000), 4096..10_000);
        assert_eq!(narrow.complete_rows(&(9000..9001), 10_000), 8192..10_000);
        assert_eq!(narrow.bytes(1), 4096 * 8..8192 * 8);
        assert_eq!(narrow.bytes(3), 80_000..80_000 + 4096 * 4);
        assert_eq!(narrow.bytes(6), 120_000..120_100, "the trailer");
        assert_eq!(narrow.blocks(), 7);
    }

    #[test]
    fn grid_of_a_file_that_is_too_long_has_longer_blocks() {
        let grid = Grid::from(i64::MAX.unsigned_abs());
        assert!(grid.blocks() <= MAX_BLOCKS);
        let grid = Grid::of_table(&[8, 1], 1 << 59, 0);
        assert!(grid.blocks() <= MAX_BLOCKS && grid.len() == 9 << 59);
        assert_eq!(Grid::of_table(&[u64::MAX / 2], 4, 5).len(), 5);
    }

    prop_compose! {
        fn grids()(
            step in 1u64..50,
            mut head in prop::collection::btree_set(1u64..50, 0..4),
            runs in prop::collection::vec((0u64..9, 0u64..300), 0..5),
        ) -> Grid {
            head.retain(|&at| at < step);
            Grid::new(step, head.into_iter().collect(), runs).unwrap()
        }
    }

    proptest! {
        #[test]
        fn blocks_cover_the_file_in_order(grid in grids(), at in 0u64..20_000, len in 0u64..500) {
            let mut end = 0;
            for block in 0..grid.blocks() {
                let bytes = grid.bytes(block);
                prop_assert!(bytes.start == end && bytes.end > end, "{bytes:?}");
                end = bytes.end;
                prop_assert_eq!(grid.touching(&bytes), block..block + 1);
                prop_assert_eq!(grid.within(&bytes), block..block + 1);
            }
            prop_assert_eq!(end, grid.len());
            prop_assert!(grid.bytes(grid.blocks()).is_empty());
            let range = at.min(end)..(at + len).min(end);
            let touching = grid.touching(&range);
            if !range.is_empty() {
                let bytes = grid.bytes_of(&touching);
                prop_assert!(bytes.start <= range.start && range.end <= bytes.end);
            }
            let within = grid.bytes_of(&grid.within(&range));
            prop_assert!(within.is_empty() || range.start <= within.start && within.end <= range.end);
            prop_assert_eq!(Grid::decode(&grid.encode()), Some(grid));
        }

        #[test]
        fn any_bytes_decode_to_a_valid_grid_or_none(numbers in prop::collection::vec(0u64..70, 0..20)) {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            if let Some(grid) = Grid::decode(&bytes) {
                prop_assert_eq!(grid.encode(), bytes);
            }
        }
    }
}
