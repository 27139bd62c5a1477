//! Renders rows as CSV, byte for byte as the portal's `/csv` does.
//!
//! The text is a header of column names, then one line per row with its cells
//! separated by commas. Nothing is quoted or escaped, and lines end in `\n`
//! (`BinTableCsvReader.scala`, `numCsvSerializer`). A null is an empty cell.
//!
//! The writer works on windows: for each column the big-endian bytes of the
//! same rows. It splits a window into blocks that fit the processor's cache.
//! In a block it renders column by column, each cell into a fixed-size buffer
//! that holds the longest possible text, and then joins the cells row by row.
//! The cells of a column thus do not depend on each other, so that the
//! processor can work on several at once.

mod cells;

use super::number::CellText;
use super::{Column, RowIndex, TableError, ValueFormat, check_window};

/// Rows of a block, unless [`BLOCK_CELLS`] limits them.
const BLOCK_ROWS: usize = 64;
/// Cells of a block; a block has at least one row.
const BLOCK_CELLS: usize = 4096;

/// Renders rows of certain columns as CSV.
#[derive(Clone, Debug)]
pub struct CsvWriter {
    header: Vec<u8>,
    formats: Vec<ValueFormat>,
    max_row_len: usize,
}

impl CsvWriter {
    /// Creates a writer of these columns, in this order. A column may be
    /// repeated.
    #[must_use]
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a Column>) -> Self {
        let mut header = Vec::new();
        let mut formats = Vec::new();
        let mut max_row_len = 0;
        for column in columns {
            if !formats.is_empty() {
                header.push(b',');
            }
            header.extend_from_slice(column.label.as_bytes());
            max_row_len += cells::max_len(column.format) + 1;
            formats.push(column.format);
        }
        header.push(b'\n');
        CsvWriter {
            header,
            formats,
            max_row_len: max_row_len.max(1),
        }
    }

    /// The first line, with its line end.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The value formats of the columns of a window.
    #[must_use]
    pub fn formats(&self) -> &[ValueFormat] {
        &self.formats
    }

    /// Upper bound of the length of one row in bytes, with its line end.
    #[must_use]
    pub fn max_row_len(&self) -> usize {
        self.max_row_len
    }

    /// Upper bound of the size in bytes of a CSV of `rows` rows.
    #[must_use]
    pub fn size_bound(&self, rows: u64) -> u64 {
        rows.saturating_mul(self.max_row_len as u64)
            .saturating_add(self.header.len() as u64)
    }

    /// Appends `rows` rows to `out`, without the header. `columns` contains for
    /// each column the bytes of exactly these rows.
    ///
    /// # Errors
    ///
    /// [`TableError::WindowShape`] or [`TableError::WindowLength`] if the
    /// window does not match the columns or rows; nothing is appended then.
    pub fn render(
        &self,
        rows: usize,
        columns: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), TableError> {
        check_window(&self.formats, rows, columns)?;
        self.render_rows(columns, rows, |text| out.extend_from_slice(text));
        Ok(())
    }

    /// As [`CsvWriter::render`], for the rows that follow those in `index`; adds
    /// them to the index.
    ///
    /// # Errors
    ///
    /// As [`CsvWriter::render`]; [`TableError::BrokenIndex`] if the text's size
    /// overflows.
    pub fn render_indexed(
        &self,
        rows: usize,
        columns: &[&[u8]],
        out: &mut Vec<u8>,
        index: &mut RowIndex,
    ) -> Result<(), TableError> {
        check_window(&self.formats, rows, columns)?;
        let mut rendered = 0;
        while rendered < rows {
            let step = usize::try_from(index.rows_to_next_mark())
                .unwrap_or(usize::MAX)
                .min(rows - rendered);
            let widths = self.formats.iter().map(|format| format.width());
            let window: Vec<&[u8]> = columns
                .iter()
                .zip(widths)
                .map(|(bytes, width)| &bytes[rendered * width..(rendered + step) * width])
                .collect();
            let before = out.len();
            self.render(step, &window, out)?;
            index.push(step as u64, (out.len() - before) as u64)?;
            rendered += step;
        }
        Ok(())
    }

    /// The size in bytes of `rows` rendered rows, without storing their text.
    ///
    /// # Errors
    ///
    /// As [`CsvWriter::render`].
    pub fn measure(&self, rows: usize, columns: &[&[u8]]) -> Result<u64, TableError> {
        check_window(&self.formats, rows, columns)?;
        let mut len = 0;
        self.render_rows(columns, rows, |text| len += text.len() as u64);
        Ok(len)
    }

    fn render_rows(&self, columns: &[&[u8]], rows: usize, mut emit: impl FnMut(&[u8])) {
        let most = (BLOCK_CELLS / columns.len().max(1)).clamp(1, BLOCK_ROWS);
        let height = most.min(rows);
        let mut texts = vec![CellText::default(); columns.len() * height];
        let mut lens = vec![0; columns.len() * height];
        // Copying a cell copies its complete buffer, which may extend past the
        // end of the last row.
        let mut text = vec![0; height * self.max_row_len + size_of::<CellText>()];
        let mut from = 0;
        while from < rows {
            let to = rows.min(from + height);
            for (column, (&format, bytes)) in self.formats.iter().zip(columns).enumerate() {
                let bytes = &bytes[from * format.width()..to * format.width()];
                let cells_of_column = column * height..column * height + to - from;
                cells::render(
                    format,
                    bytes,
                    &mut texts[cells_of_column.clone()],
                    &mut lens[cells_of_column],
                );
            }
            let mut at = 0;
            for row in 0..to - from {
                for cell in (row..texts.len()).step_by(height) {
                    let target: &mut CellText = text[at..]
                        .first_chunk_mut()
                        .expect("`text` has room for the longest rows and one more cell");
                    *target = texts[cell];
                    at += usize::from(lens[cell]);
                    text[at] = b',';
                    at += 1;
                }
                // The last comma becomes the line end. Without columns the lines
                // are empty, as in the portal's CSV.
                at += usize::from(columns.is_empty());
                text[at - 1] = b'\n';
            }
            emit(&text[..at]);
            from = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use proptest::prelude::*;

    fn writer(formats: &[ValueFormat]) -> CsvWriter {
        let columns: Vec<_> = formats
            .iter()
            .map(|&format| Column::new(format.name(), format))
            .collect();
        CsvWriter::new(&columns)
    }

    /// Rows of a table of one value format, as text.
    fn column(format: ValueFormat, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        let rows = bytes.len() / format.width();
        writer(&[format]).render(rows, &[bytes], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn render_writes_the_text_and_null_of_every_format() {
        let ints = |values: [i32; 3]| values.map(i32::to_be_bytes).concat();
        let doubles = |values: [f64; 3]| values.map(f64::to_be_bytes).concat();
        let floats = [f32::NAN, -0.0, 412.37].map(f32::to_be_bytes).concat();
        let chars = [0, 0xe4, 0xd83d].map(u16::to_be_bytes).concat();
        for (format, bytes, text) in [
            (ValueFormat::Int32, ints([i32::MIN, 0, -7]), "\n0\n-7\n"),
            (ValueFormat::Float32, floats, "\n-0.0\n412.37\n"),
            (
                ValueFormat::Float64,
                doubles([f64::NAN, 1e7, f64::INFINITY]),
                "\n1.0E7\nInfinity\n",
            ),
            (ValueFormat::BmpChar, chars, "\n\u{e4}\n?\n"),
            (ValueFormat::Boolean, vec![0x80, 1, 0], "\n1\n0\n"),
            (
                ValueFormat::Iso8601Date,
                ints([i32::MIN, 0, -1]),
                "\n1970-01-01\n1969-12-31\n",
            ),
            (
                ValueFormat::EtcDate,
                ints([i32::MIN, 0, -1]),
                "\n1970-01-01\n1969-12-31\n",
            ),
            (
                ValueFormat::Iso8601Month,
                ints([i32::MIN, 24_251, 0]),
                "\n2020-12\n0000-01\n",
            ),
            (
                ValueFormat::Iso8601TimeOfDay,
                ints([i32::MIN, 86_400, 1]),
                "\n00:00\n00:00:01\n",
            ),
            (
                ValueFormat::Iso8601DateTime,
                doubles([f64::NAN, 0.0, 1.0]),
                "\n1970-01-01T00:00:00Z\n1970-01-01T00:00:00.001Z\n",
            ),
        ] {
            assert_eq!(column(format, &bytes), text, "{format}");
        }
        for format in [
            ValueFormat::IsoLikeLocalDateTime,
            ValueFormat::EtcLocalDateTime,
        ] {
            let bytes = doubles([f64::NAN, 0.0, 1.0]);
            assert_eq!(
                column(format, &bytes),
                column(ValueFormat::Iso8601DateTime, &bytes)
            );
        }
    }

    #[test]
    fn render_does_not_quote_separators_or_quotes() {
        let columns = [
            Column::new("a,b", ValueFormat::BmpChar),
            Column::new("\"q\"\n", ValueFormat::BmpChar),
        ];
        let writer = CsvWriter::new(&columns);
        assert_eq!(writer.header(), b"a,b,\"q\"\n\n");
        let mut out = Vec::new();
        writer
            .render(1, &[&[0, b','], &[0, b'"']], &mut out)
            .unwrap();
        assert_eq!(out, b",,\"\n");
    }

    #[test]
    fn render_of_mismatched_window_returns_error() {
        let writer = writer(&[ValueFormat::Int32, ValueFormat::Boolean]);
        let mut out = Vec::new();
        for (rows, columns) in [
            (1, vec![&[0; 4][..]]),
            (1, vec![&[0; 3], &[0]]),
            (usize::MAX, vec![&[0; 4], &[0]]),
            (0, vec![&[], &[0]]),
        ] {
            assert!(writer.render(rows, &columns, &mut out).is_err());
            assert!(writer.measure(rows, &columns).is_err());
        }
        assert!(out.is_empty());
    }

    /// A table of random formats and bytes.
    fn any_table() -> impl Strategy<Value = (Vec<ValueFormat>, usize, Vec<Vec<u8>>)> {
        let formats = prop::collection::vec(prop::sample::select(&ValueFormat::ALL[..]), 1..6)
            .prop_map(|formats| {
                let served = |&format: &ValueFormat| format != ValueFormat::String;
                formats.into_iter().filter(served).collect::<Vec<_>>()
            });
        (formats, 0..40_usize).prop_flat_map(|(formats, rows)| {
            let bytes: Vec<_> = formats
                .iter()
                .map(|format| prop::collection::vec(any::<u8>(), rows * format.width()))
                .collect();
            (Just(formats), Just(rows), bytes)
        })
    }

    proptest! {
        #[test]
        fn any_bytes_stay_within_the_size_bound_and_render_the_same_row_by_row(
            (formats, rows, bytes) in any_table(), every in 1..20_u32,
        ) {
            let writer = writer(&formats);
            let columns: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
            let mut whole = Vec::new();
            writer.render(rows, &columns, &mut whole).unwrap();
            prop_assert_eq!(writer.measure(rows, &columns).unwrap(), whole.len() as u64);
            let total = whole.len() + writer.header().len();
            prop_assert!(total as u64 <= writer.size_bound(rows as u64));

            let every = NonZeroU32::new(every).unwrap();
            let mut index = RowIndex::new(writer.header().len() as u64, every);
            let mut apart = Vec::new();
            for row in 0..rows {
                let cells: Vec<&[u8]> = formats
                    .iter()
                    .zip(&columns)
                    .map(|(format, bytes)| &bytes[row * format.width()..][..format.width()])
                    .collect();
                let before = apart.len();
                writer.render_indexed(1, &cells, &mut apart, &mut index).unwrap();
                prop_assert!(apart.len() - before <= writer.max_row_len());
            }
            prop_assert_eq!(&apart, &whole);

            let mut again = RowIndex::new(writer.header().len() as u64, every);
            whole.clear();
            writer.render_indexed(rows, &columns, &mut whole, &mut again).unwrap();
            prop_assert_eq!(apart, whole);
            prop_assert_eq!(index, again);
        }
    }
}
