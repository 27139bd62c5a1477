//! The byte layout of a table's `.cpb` file.
//!
//! The file has no header. It contains all ingested columns in the order of
//! storage, each contiguous, then a Java object stream with the dictionary of
//! strings. The portal serves no tables with strings, so the dictionary is empty
//! and the stream is always the same ten bytes, the trailer
//! (`BinTableWriter.scala`).

use std::ops::Range;

use super::{Schema, TableError};

/// The last bytes of every `.cpb` file without strings: a Java object stream
/// (magic, version) with one block of four bytes, the number 0.
pub const TRAILER: [u8; 10] = [0xac, 0xed, 0x00, 0x05, 0x77, 0x04, 0, 0, 0, 0];

/// The byte ranges of a table's columns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    rows: u64,
    widths: Vec<u64>,
    /// Offset of each stored column, and the end of the last.
    starts: Vec<u64>,
}

/// A part of a `.cpb` file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FilePart {
    /// Complete values of one column.
    Cells(CellRange),
    /// Bytes of the trailer.
    Trailer {
        /// The byte range in the file.
        bytes: Range<u64>,
    },
}

/// Rows of one stored column and their byte range in the `.cpb` file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CellRange {
    /// Position of the column in the order of storage.
    pub column: usize,
    /// The rows.
    pub rows: Range<u64>,
    /// The byte range of these rows in the file. It may extend beyond the
    /// requested bytes by less than one value on each side.
    pub bytes: Range<u64>,
}

impl FilePart {
    /// The byte range of the part in the file.
    #[must_use]
    pub fn bytes(&self) -> Range<u64> {
        match self {
            FilePart::Cells(cells) => cells.bytes.clone(),
            FilePart::Trailer { bytes } => bytes.clone(),
        }
    }
}

impl Layout {
    /// Creates the layout of a table.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        let widths: Vec<u64> = schema.stored_types().map(|s| s.width() as u64).collect();
        let mut starts = vec![0];
        let mut end = 0;
        for &width in &widths {
            // Cannot overflow: a schema's stored bytes fit an i64.
            end += width * schema.rows();
            starts.push(end);
        }
        Layout {
            rows: schema.rows(),
            widths,
            starts,
        }
    }

    /// Size in bytes of the file of a table with the columns of `schema` and
    /// `rows` rows, which must pass [`Schema::check_rows`].
    #[must_use]
    pub fn len_of(schema: &Schema, rows: u64) -> u64 {
        schema.row_width() * rows + TRAILER.len() as u64
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.trailer_start() + TRAILER.len() as u64
    }

    /// Number of stored columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.widths.len()
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Size in bytes of one value of a stored column.
    ///
    /// # Errors
    ///
    /// [`TableError::NoSuchIndex`].
    pub fn width(&self, column: usize) -> Result<u64, TableError> {
        self.widths
            .get(column)
            .copied()
            .ok_or(TableError::NoSuchIndex {
                columns: self.columns(),
                index: column,
            })
    }

    /// Byte range in the file of `rows` of the stored column `column`.
    ///
    /// # Errors
    ///
    /// [`TableError::NoSuchIndex`]; [`TableError::RowsPastEnd`] if `rows` end
    /// after the last row, or if their start is after their end.
    pub fn column_range(&self, column: usize, rows: Range<u64>) -> Result<Range<u64>, TableError> {
        let width = self.width(column)?;
        if rows.end > self.rows || rows.start > rows.end {
            return Err(TableError::RowsPastEnd {
                rows: self.rows,
                end: rows.end.max(rows.start),
            });
        }
        let start = self.starts[column];
        Ok(start + rows.start * width..start + rows.end * width)
    }

    /// Returns the parts that cover the `bytes` of the file, in order and without
    /// gaps, up to the end of the file. Only the first and the last part may
    /// extend beyond `bytes`, by less than one value.
    pub fn cover(&self, bytes: Range<u64>) -> impl Iterator<Item = FilePart> + '_ {
        let (from, to) = (bytes.start, bytes.end.min(self.file_len()));
        // Columns that end before the range begins are skipped in one step.
        let first = self.starts[1..].partition_point(|&end| end <= from);
        let trailer = from.max(self.trailer_start())..to;
        let trailer = (!trailer.is_empty()).then_some(FilePart::Trailer { bytes: trailer });
        (first..self.columns())
            .take_while(move |&column| self.starts[column] < to)
            .filter_map(move |column| self.cells(column, from, to))
            .map(FilePart::Cells)
            .chain(trailer)
    }

    /// The bytes of the trailer in the range `bytes` of the file.
    #[must_use]
    pub fn trailer(&self, bytes: Range<u64>) -> &'static [u8] {
        let within = |at: u64| {
            let offset = at.saturating_sub(self.trailer_start());
            usize::try_from(offset).map_or(TRAILER.len(), |offset| offset.min(TRAILER.len()))
        };
        TRAILER
            .get(within(bytes.start)..within(bytes.end))
            .unwrap_or(&[])
    }

    fn trailer_start(&self) -> u64 {
        self.starts[self.columns()]
    }

    /// The cells of `column` in the bytes `from..to` of the file.
    fn cells(&self, column: usize, from: u64, to: u64) -> Option<CellRange> {
        let (start, end) = (self.starts[column], self.starts[column + 1]);
        let width = self.widths[column];
        let from = from.max(start) - start;
        let to = to.min(end).checked_sub(start)?;
        if from >= to {
            return None;
        }
        let rows = from / width..to.div_ceil(width);
        Some(CellRange {
            column,
            bytes: start + rows.start * width..start + rows.end * width,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, ValueFormat};
    use proptest::prelude::*;

    fn layout(rows: u64, formats: &[ValueFormat]) -> Layout {
        let column = |(i, &format): (usize, &ValueFormat)| Column::new(format!("{i:03}"), format);
        let columns = formats.iter().enumerate().map(column).collect();
        Layout::new(&Schema::new(rows, columns).unwrap())
    }

    /// The column and row of each byte of the file; `None` for the trailer.
    fn owners(rows: u64, formats: &[ValueFormat]) -> Vec<Option<(usize, u64)>> {
        let mut owners = Vec::new();
        for (column, format) in formats.iter().enumerate() {
            for row in 0..rows {
                owners.extend(std::iter::repeat_n(Some((column, row)), format.width()));
            }
        }
        owners.extend([None; 10]);
        owners
    }

    fn any_table() -> impl Strategy<Value = (u64, Vec<ValueFormat>)> {
        let served: Vec<_> = ValueFormat::ALL
            .into_iter()
            .filter(|&format| format != ValueFormat::String)
            .collect();
        (
            0..20_u64,
            prop::collection::vec(prop::sample::select(served), 1..8),
        )
    }

    proptest! {
        #[test]
        fn cover_returns_the_cells_that_contain_the_bytes(
            (rows, formats) in any_table(), start in 0..1000_u64, len in 0..1000_u64,
        ) {
            let layout = layout(rows, &formats);
            let owners = owners(rows, &formats);
            prop_assert_eq!(layout.file_len(), owners.len() as u64);

            let wanted = start..start + len;
            let mut expected: Vec<_> = (wanted.start..wanted.end.min(layout.file_len()))
                .map(|at| owners[usize::try_from(at).unwrap()])
                .collect();
            expected.dedup();
            let mut covered = Vec::new();
            let mut at = None;
            for part in layout.cover(wanted.clone()) {
                let bytes = part.bytes();
                prop_assert!(bytes.start < bytes.end);
                prop_assert!(at.is_none_or(|at| at == bytes.start), "a gap");
                at = Some(bytes.end);
                match part {
                    FilePart::Cells(cells) => {
                        prop_assert_eq!(
                            layout.column_range(cells.column, cells.rows.clone()),
                            Ok(cells.bytes)
                        );
                        covered.extend(cells.rows.map(|row| Some((cells.column, row))));
                    }
                    FilePart::Trailer { bytes } => {
                        prop_assert!(!layout.trailer(bytes).is_empty());
                        covered.push(None);
                    }
                }
            }
            prop_assert_eq!(covered, expected);
        }

        #[test]
        fn column_range_contains_the_cells_of_the_rows(
            (rows, formats) in any_table(), column in 0..8_usize, start in 0..20_u64, end in 0..20_u64,
        ) {
            let layout = layout(rows, &formats);
            let range = layout.column_range(column, start..end);
            if column < formats.len() && start <= end && end <= rows {
                let range = range.unwrap();
                let owners = owners(rows, &formats);
                let width = formats[column].width() as u64;
                prop_assert_eq!(range.end - range.start, (end - start) * width);
                for at in range {
                    let (owner, row) = owners[usize::try_from(at).unwrap()].unwrap();
                    prop_assert!(owner == column && (start..end).contains(&row));
                }
            } else {
                prop_assert!(range.is_err());
            }
        }

        #[test]
        fn any_range_does_not_panic(start: u64, end: u64, rows in 0..i32::MAX as u64) {
            let layout = layout(rows, &[ValueFormat::Float64, ValueFormat::Boolean]);
            prop_assert!(layout.cover(start..end).count() <= 3);
            let _ = layout.trailer(start..end);
            let _ = layout.column_range(1, start..end);
        }
    }

    #[test]
    fn trailer_is_an_empty_java_dictionary() {
        let layout = layout(2, &[ValueFormat::Int32]);
        assert_eq!(layout.file_len(), 18);
        let schema = Schema::new(0, vec![Column::new("a", ValueFormat::Int32)]).unwrap();
        assert_eq!(Layout::len_of(&schema, 2), 18);
        assert_eq!(layout.trailer(8..18), TRAILER);
        assert_eq!(layout.trailer(17..100), [0]);
        assert_eq!(layout.trailer(0..8), [0_u8; 0]);
        let parts: Vec<_> = layout.cover(5..9).collect();
        assert_eq!(
            parts,
            [
                FilePart::Cells(CellRange {
                    column: 0,
                    rows: 1..2,
                    bytes: 4..8
                }),
                FilePart::Trailer { bytes: 8..9 }
            ]
        );
    }
}
