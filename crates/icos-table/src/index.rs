//! Row index of a rendered CSV: the byte offset of every Nth row.
//!
//! The index grows while the text is rendered from its start. It maps a byte
//! range of the text rendered so far to the rows that contain it. A row whose
//! offset is stored is a *mark*.

use std::num::NonZeroU32;
use std::ops::Range;

use super::TableError;

/// The byte offset of every Nth row of a CSV.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowIndex {
    every: NonZeroU32,
    /// Offsets of the marks: rows 0, N, 2N and so on. Each is below `text_len`,
    /// except a mark after the last row.
    starts: Vec<u64>,
    rows: u64,
    text_len: u64,
}

/// Consecutive rows and their byte range in the text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TextSpan {
    /// The rows.
    pub rows: Range<u64>,
    /// Where their text lies in the CSV.
    pub bytes: Range<u64>,
}

impl RowIndex {
    /// Creates the index of a text that so far has only a header of `header_len`
    /// bytes. Every row whose number is a multiple of `every` becomes a mark.
    #[must_use]
    pub fn new(header_len: u64, every: NonZeroU32) -> Self {
        RowIndex {
            every,
            starts: vec![header_len],
            rows: 0,
            text_len: header_len,
        }
    }

    /// Number of rows between marks.
    #[must_use]
    pub fn every(&self) -> NonZeroU32 {
        self.every
    }

    /// Length of the header in bytes.
    #[must_use]
    pub fn header_len(&self) -> u64 {
        self.starts[0]
    }

    /// Number of rows indexed so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Length of the text so far in bytes, including the header.
    #[must_use]
    pub fn text_len(&self) -> u64 {
        self.text_len
    }

    /// Number of rows up to the next mark.
    #[must_use]
    pub fn rows_to_next_mark(&self) -> u64 {
        let every = u64::from(self.every.get());
        every - self.rows % every
    }

    /// Appends `rows` rows with a total length of `len` bytes.
    ///
    /// # Errors
    ///
    /// [`TableError::BrokenIndex`] if the rows extend past the next mark, or if the
    /// numbers overflow; the index is unchanged then.
    pub fn push(&mut self, rows: u64, len: u64) -> Result<(), TableError> {
        if rows > self.rows_to_next_mark() {
            let reason = format!("{rows} rows at once after row {}", self.rows);
            return Err(TableError::BrokenIndex(reason));
        }
        let overflow = || TableError::BrokenIndex(format!("a text of over {} bytes", u64::MAX));
        let text_len = self.text_len.checked_add(len).ok_or_else(overflow)?;
        self.rows = self.rows.checked_add(rows).ok_or_else(overflow)?;
        self.text_len = text_len;
        if rows > 0 && self.rows.is_multiple_of(self.every.get().into()) {
            self.starts.push(text_len);
        }
        Ok(())
    }

    /// Returns the smallest range of indexed rows between marks that contains the
    /// `bytes` of the text; `None` if only the header does. The range may also
    /// end at the last indexed row.
    #[must_use]
    pub fn locate(&self, bytes: Range<u64>) -> Option<TextSpan> {
        let end = bytes.end.min(self.text_len);
        let start = bytes.start.max(self.starts[0]);
        if start >= end {
            return None;
        }
        // Both bounds are at or after `starts[0]`, the first row's offset.
        let first = self.starts.partition_point(|&at| at <= start) - 1;
        let past = self.starts.partition_point(|&at| at < end);
        Some(self.span(first, past))
    }

    /// Returns the block of rows that contains the byte `at` of the text. A block
    /// is the rows of `marks` consecutive marks; the last block ends at the last
    /// indexed row. `None` if `at` lies in the header or after the indexed rows.
    #[must_use]
    pub fn block(&self, at: u64, marks: usize) -> Option<TextSpan> {
        if at < self.starts[0] || at >= self.text_len {
            return None;
        }
        let mark = self.starts.partition_point(|&start| start <= at) - 1;
        let first = mark - mark % marks.max(1);
        Some(self.span(first, first.saturating_add(marks.max(1))))
    }

    /// The rows from mark `first` to mark `past`, or to the last indexed row.
    fn span(&self, first: usize, past: usize) -> TextSpan {
        let row_at = |mark: usize| mark as u64 * u64::from(self.every.get());
        let (rows_end, bytes_end) = match self.starts.get(past) {
            Some(&at) => (row_at(past), at),
            None => (self.rows, self.text_len),
        };
        TextSpan {
            rows: row_at(first)..rows_end,
            bytes: self.starts[first]..bytes_end,
        }
    }

    /// Replaces the rows from `row` on, which must be a mark, by the rows of
    /// `tail`.
    ///
    /// # Errors
    ///
    /// [`TableError::BrokenIndex`] if `row` is not an indexed mark, if the
    /// distances of marks differ, or if the numbers overflow.
    pub fn replace_from(&mut self, row: u64, tail: &RowIndex) -> Result<(), TableError> {
        let every = u64::from(self.every.get());
        let mark = usize::try_from(row / every).unwrap_or(usize::MAX);
        let fits = row.is_multiple_of(every) && row <= self.rows && tail.every == self.every;
        let Some(&start) = self.starts.get(mark).filter(|_| fits) else {
            let reason = format!("rows from {row} on after row {}", self.rows);
            return Err(TableError::BrokenIndex(reason));
        };
        let overflow = || TableError::BrokenIndex(format!("a text of over {} bytes", u64::MAX));
        let moved = |at: u64| start.checked_add(at - tail.starts[0]).ok_or_else(overflow);
        let text_len = moved(tail.text_len)?;
        let rows = row.checked_add(tail.rows).ok_or_else(overflow)?;
        self.starts.truncate(mark + 1);
        for &at in &tail.starts[1..] {
            // Cannot fail: at most the text's length, which fits.
            self.starts.push(moved(at)?);
        }
        (self.rows, self.text_len) = (rows, text_len);
        Ok(())
    }

    /// Serializes the index.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 * (self.starts.len() + 3));
        for number in [u64::from(self.every.get()), self.rows, self.text_len] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for start in &self.starts {
            bytes.extend_from_slice(&start.to_le_bytes());
        }
        bytes
    }

    /// Deserializes the result of [`RowIndex::to_bytes`].
    ///
    /// # Errors
    ///
    /// [`TableError::BrokenIndex`] if `bytes` is not a consistent index.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TableError> {
        let broken = |what: &str| TableError::BrokenIndex(what.to_owned());
        let (numbers, []) = bytes.as_chunks::<8>() else {
            return Err(broken("an incomplete number"));
        };
        let mut numbers = numbers.iter().map(|&number| u64::from_le_bytes(number));
        let mut next = || numbers.next().ok_or_else(|| broken("too few numbers"));
        let (every, rows, text_len) = (next()?, next()?, next()?);
        let every = u32::try_from(every)
            .ok()
            .and_then(NonZeroU32::new)
            .ok_or_else(|| broken("an invalid distance of rows"))?;
        let starts: Vec<u64> = numbers.collect();
        let marks = rows / u64::from(every.get()) + 1;
        let increasing = starts.is_sorted_by(|a, b| a < b);
        let within = starts.last().is_some_and(|&last| last <= text_len);
        if starts.len() as u64 != marks || !increasing || !within {
            return Err(broken("offsets that do not match the rows"));
        }
        Ok(RowIndex {
            every,
            starts,
            rows,
            text_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An index of rows of these lengths, pushed up to `step` at a time, and
    /// the offset of every row.
    fn indexed(header: u64, every: u32, step: u64, lens: &[u64]) -> (RowIndex, Vec<u64>) {
        let mut index = RowIndex::new(header, NonZeroU32::new(every).unwrap());
        let mut rest = lens;
        while !rest.is_empty() {
            let rows = index.rows_to_next_mark().min(step).min(rest.len() as u64);
            let (now, later) = rest.split_at(usize::try_from(rows).unwrap());
            index.push(rows, now.iter().sum()).unwrap();
            rest = later;
        }
        let mut offsets = vec![header];
        for len in lens {
            offsets.push(offsets.last().unwrap() + len);
        }
        (index, offsets)
    }

    proptest! {
        #[test]
        fn locate_returns_the_smallest_rows_that_contain_the_bytes(
            header in 1..50_u64, every in 1..7_u32, step in 1..9_u64,
            lens in prop::collection::vec(1..30_u64, 0..40),
            start in 0..700_u64, len in 0..700_u64,
        ) {
            let (index, offsets) = indexed(header, every, step, &lens);
            prop_assert_eq!(index.rows(), lens.len() as u64);
            prop_assert_eq!(index.text_len(), *offsets.last().unwrap());
            prop_assert_eq!(&RowIndex::from_bytes(&index.to_bytes()), &Ok(index.clone()));

            let shown = start.max(header)..(start + len).min(index.text_len());
            match index.locate(start..start + len) {
                None => prop_assert!(shown.is_empty()),
                Some(TextSpan { rows, bytes }) => {
                    prop_assert!(!shown.is_empty());
                    let offset = |row: u64| offsets[usize::try_from(row).unwrap()];
                    prop_assert_eq!(bytes.clone(), offset(rows.start)..offset(rows.end));
                    prop_assert!(bytes.start <= shown.start && shown.end <= bytes.end);
                    let every = u64::from(every);
                    prop_assert!(rows.start % every == 0);
                    prop_assert!(rows.end % every == 0 || rows.end == index.rows());
                    // Both the first and the last block contain some of the bytes.
                    prop_assert!(offset((rows.start + every).min(rows.end)) > shown.start);
                    let last = (rows.end - 1) / every * every;
                    prop_assert!(offset(last) < shown.end);
                }
            }
        }

        #[test]
        fn block_returns_the_rows_of_consecutive_marks(
            every in 1..7_u32, lens in prop::collection::vec(1..30_u64, 0..60),
            at in 0..900_u64, marks in 1..5_usize,
        ) {
            let (index, offsets) = indexed(9, every, 9, &lens);
            let block = index.block(at, marks);
            prop_assert_eq!(block.is_some(), (9..index.text_len()).contains(&at));
            if let Some(TextSpan { rows, bytes }) = block {
                prop_assert!(bytes.contains(&at));
                let offset = |row: u64| offsets[usize::try_from(row).unwrap()];
                prop_assert_eq!(bytes, offset(rows.start)..offset(rows.end));
                let size = u64::from(every) * marks as u64;
                prop_assert_eq!(rows.start % size, 0);
                prop_assert_eq!(rows.end, (rows.start + size).min(index.rows()));
            }
        }

        #[test]
        fn replace_from_equals_an_index_built_at_once(
            every in 1..7_u32, lens in prop::collection::vec(1..30_u64, 0..60),
            known in 0..60_usize, mark in 0..20_u64,
        ) {
            let known = known.min(lens.len());
            let (whole, _) = indexed(9, every, 9, &lens);
            let (mut index, _) = indexed(9, every, 9, &lens[..known]);
            let row = mark * u64::from(every);
            let from = usize::try_from(row).unwrap().min(lens.len());
            let (tail, _) = indexed(5, every, 9, &lens[from..]);
            if row <= known as u64 {
                index.replace_from(row, &tail).unwrap();
                prop_assert_eq!(index, whole);
            } else {
                prop_assert!(index.replace_from(row, &tail).is_err());
            }
        }

        #[test]
        fn from_bytes_of_any_input_does_not_panic(bytes: Vec<u8>, start: u64, end: u64) {
            if let Ok(index) = RowIndex::from_bytes(&bytes) {
                let _ = index.locate(start..end);
            }
        }
    }

    /// A mark at every fourth of 8 rows, in a text of 90 bytes.
    #[test]
    fn from_bytes_refuses_offsets_that_do_not_match_the_rows() {
        let read = |starts: &[u64]| {
            let numbers = [&[4, 8, 90], starts].concat();
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            RowIndex::from_bytes(&bytes).is_ok()
        };
        assert!(read(&[2, 40, 90]));
        for starts in [&[2, 40][..], &[2, 40, 80, 90], &[2, 80, 40], &[2, 40, 91]] {
            assert!(!read(starts), "{starts:?}");
        }
    }

    #[test]
    fn push_past_a_mark_returns_error() {
        let mut index = RowIndex::new(2, NonZeroU32::new(4).unwrap());
        index.push(3, 30).unwrap();
        assert!(index.push(2, 20).is_err());
        assert!(index.push(1, u64::MAX).is_err());
        index.push(1, 10).unwrap();
        assert_eq!((index.rows(), index.text_len()), (4, 42));
    }
}
