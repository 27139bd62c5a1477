//! Tables as NetCDF-3 files: where each column is, and its bytes.
//!
//! A NetCDF-3 file in 64-bit-offset format (CDF-2; CDF-5 if a variable is longer than
//! 4 GiB) is a header, then each variable whole and big-endian: almost the layout of
//! the portal's columns. So any byte range of a variable is a row range of one column.
//!
//! | value format | NetCDF type | |
//! |---|---|---|
//! | int32, float32, float64 | the same | `_FillValue` is the portal's null |
//! | bmpChar | char | one byte: ISO 8859-1, other characters are `?`; null is NUL |
//! | boolean | byte | 0, 1, or -128 for null |
//! | iso8601date, etcDate | int | days since 1970 |
//! | iso8601month | int | the first day of the month, in days since 1970 |
//! | iso8601timeOfDay | int | seconds since midnight, modulo 24 hours as in the CSV |
//! | iso8601dateTime | double | milliseconds since 1970, UTC |
//! | isoLikeLocalDateTime, etcLocalDateTime | double | the same, in local time |
//!
//! The header is in [`header`]. It has a fixed length, which follows from the columns
//! alone and leaves room for any attributes, so that the size of the file is known
//! before anything else is: [`NetCdfLayout`]. A repeated column is written once.
//!
//! Formats: the "NetCDF Classic Format Specification" and the CDF-5 specification of
//! PnetCDF. No I/O.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::time::{DAY_SECONDS, days_to_month};
use super::{Column, TableError, ValueFormat};

mod budget;
pub mod header;
mod names;
mod quantities;
mod writer;

pub use header::{FileFacts, StationFacts};

/// A table with more bytes than this is spaced for readers of one variable.
const LONG: u64 = 1 << 20;
/// The page of the kernel: the header shares none with a column.
const PAGE: u64 = 4 << 10;
/// How much the HDF5 library reads at once when it looks for its signature.
const PROBE: u64 = 8;
/// The block in which the NetCDF library reads a file at least: with columns aligned to
/// it, a reader of one variable does not read bytes of others.
const ALIGNMENT: u64 = 8 << 10;
/// Before it reads the header, the NetCDF library reads this much of the file.
const FIRST_READ: u64 = 4 << 20;
/// The HDF5 library, which the NetCDF library asks first, looks for its signature at each
/// power of two: a column of up to this many bytes does not lie across one.
const MAX_SHIFTED: u64 = 64 << 20;
/// The length from which CDF-2 cannot describe a variable.
const CDF2_LIMIT: u64 = (1 << 32) - 4;

/// The type of a variable, by its number in the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NetCdfType {
    Byte = 1,
    Char = 2,
    Int = 4,
    Float = 5,
    Double = 6,
}

/// The classic formats that allow files of more than 2 GiB, by their version byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NetCdfVersion {
    /// 64-bit offsets.
    Cdf2 = 2,
    /// 64-bit lengths, too.
    Cdf5 = 5,
}

/// A column in the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct PlacedColumn {
    /// Its position among the columns that the layout was made of.
    source: usize,
    format: ValueFormat,
    /// Where its values begin in the file.
    begin: u64,
}

/// How the columns of a file are spaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spacing {
    /// One after another.
    Compact,
    /// With zeros where libraries read without need, so that a reader of the header, or
    /// of one variable of a long file, touches no other bytes.
    Lazy,
}

/// Where the columns of a table are in its NetCDF file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetCdfLayout {
    rows: u64,
    columns: Vec<PlacedColumn>,
    /// Whether the columns are spaced for readers of one variable.
    is_long: bool,
    header_len: u64,
    file_len: u64,
}

/// A part of a NetCDF file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NetCdfPart {
    /// Bytes of the header.
    Header {
        /// The byte range in the file.
        bytes: Range<u64>,
    },
    /// Complete values of one column.
    Cells {
        /// Position of the column in [`NetCdfLayout::sources`].
        column: usize,
        /// The rows.
        rows: Range<u64>,
        /// The byte range of these rows in the file. It may extend beyond the requested
        /// bytes by less than one value on each side.
        bytes: Range<u64>,
    },
    /// Zeros between columns.
    Padding {
        /// The byte range in the file.
        bytes: Range<u64>,
    },
}

impl NetCdfPart {
    /// The byte range of the part in the file.
    #[must_use]
    pub fn bytes(&self) -> Range<u64> {
        match self {
            NetCdfPart::Header { bytes }
            | NetCdfPart::Cells { bytes, .. }
            | NetCdfPart::Padding { bytes } => bytes.clone(),
        }
    }
}

impl NetCdfLayout {
    /// Creates the layout of a file with `rows` rows of these columns, in this order.
    /// Only formats and names count, so that metadata do not change the size of a file.
    ///
    /// # Errors
    ///
    /// [`TableError::StringColumn`], [`TableError::TooManyRows`] or
    /// [`TableError::TooLarge`].
    pub fn new<'a>(
        columns: impl IntoIterator<Item = &'a Column>,
        rows: u64,
        spacing: Spacing,
    ) -> Result<Self, TableError> {
        if rows > super::Schema::MAX_ROWS {
            return Err(TableError::TooManyRows(rows));
        }
        let mut labels = HashSet::new();
        let mut placed = Vec::new();
        let mut sum: u64 = 0;
        let mut count = 0;
        for (source, column) in columns.into_iter().enumerate() {
            count = source + 1;
            if column.format == ValueFormat::String {
                return Err(TableError::StringColumn(column.label.clone()));
            }
            if labels.insert(column.label.as_str()) {
                // At most 2^34: rows and widths are limited.
                let len = rows * width(column.format);
                // With as much space before it.
                sum = sum.saturating_add(2 * len + FIRST_READ);
                placed.push(PlacedColumn {
                    source,
                    format: column.format,
                    begin: 0,
                });
            }
        }
        if sum > i64::MAX as u64 / 2 {
            return Err(TableError::TooLarge {
                columns: count,
                rows,
            });
        }
        let data: u64 = placed.iter().map(|c| rows * width(c.format)).sum();
        let is_long = spacing == Spacing::Lazy && data > LONG;
        let header_len = budget::header_len(placed.len()).next_multiple_of(PAGE);
        let mut end = if is_long {
            header_len.max(FIRST_READ)
        } else {
            header_len
        };
        let alignment = if is_long { ALIGNMENT } else { PROBE };
        for column in &mut placed {
            let len = rows * width(column.format);
            column.begin = match spacing {
                Spacing::Compact => end.next_multiple_of(4),
                Spacing::Lazy => next_begin(end, len, alignment),
            };
            end = column.begin + len;
        }
        let end = end.next_multiple_of(if is_long { ALIGNMENT } else { 4 });
        Ok(NetCdfLayout {
            rows,
            columns: placed,
            is_long,
            header_len,
            file_len: end,
        })
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Size of the header in bytes, with the free space after it.
    #[must_use]
    pub fn header_len(&self) -> u64 {
        self.header_len
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The columns of the file in its order, as positions among the columns that the
    /// layout was made of.
    #[must_use]
    pub fn sources(&self) -> impl ExactSizeIterator<Item = usize> {
        self.columns.iter().map(|column| column.source)
    }

    /// Where the values of each column are in the file, in the same order.
    pub fn column_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let values = |c: &PlacedColumn| c.begin..c.begin + self.rows * width(c.format);
        self.columns.iter().map(values)
    }

    /// Whether a reader of one variable touches no bytes of others. In short files,
    /// readers of the header touch no variables, as far as possible.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.is_long
    }

    /// Returns the parts that cover `bytes`, in order and without gaps, up to the end of
    /// the file. Only the first and the last part may extend beyond `bytes`, by less
    /// than one value.
    pub fn cover(&self, bytes: Range<u64>) -> impl Iterator<Item = NetCdfPart> + '_ {
        let (from, to) = (bytes.start, bytes.end.min(self.file_len));
        let header = from..to.min(self.header_len);
        let header = (!header.is_empty()).then_some(NetCdfPart::Header { bytes: header });
        let begin = self.columns.first().map_or(self.file_len, |c| c.begin);
        let space = padding(self.header_len..begin, from, to);
        // Columns that end before the range begins are skipped in one step.
        let first = self.columns.partition_point(|column| column.begin <= from);
        let columns = (self.columns.iter().enumerate())
            .skip(first.saturating_sub(1))
            .take_while(move |(_, column)| column.begin < to)
            .flat_map(move |(at, column)| self.parts_of(at, column, from, to));
        header.into_iter().chain(space).chain(columns)
    }

    /// The cells of a column, and the space after it, in the bytes `from..to` of the
    /// file.
    fn parts_of(
        &self,
        at: usize,
        column: &PlacedColumn,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = NetCdfPart> + use<> {
        let (begin, width) = (column.begin, width(column.format));
        let end = begin + self.rows * width;
        let (first, last) = (from.max(begin), to.min(end));
        let cells = (first < last).then(|| {
            let rows = (first - begin) / width..(last - begin).div_ceil(width);
            NetCdfPart::Cells {
                column: at,
                bytes: begin + rows.start * width..begin + rows.end * width,
                rows,
            }
        });
        let next = self.columns.get(at + 1).map_or(self.file_len, |c| c.begin);
        cells.into_iter().chain(padding(end..next, from, to))
    }

    fn version(&self) -> NetCdfVersion {
        let longest = self.columns.iter().map(|c| self.rows * width(c.format));
        if longest.max().unwrap_or(0) >= CDF2_LIMIT {
            NetCdfVersion::Cdf5
        } else {
            NetCdfVersion::Cdf2
        }
    }
}

/// The part of `space` in the bytes `from..to` of the file.
fn padding(space: Range<u64>, from: u64, to: u64) -> Option<NetCdfPart> {
    let bytes = from.max(space.start)..to.min(space.end);
    (bytes.start < bytes.end).then_some(NetCdfPart::Padding { bytes })
}

/// Where a column of `len` bytes begins that follows `end`, which is not 0.
fn next_begin(end: u64, len: u64, alignment: u64) -> u64 {
    let mut begin = end.next_multiple_of(alignment);
    loop {
        let before = 1 << begin.ilog2();
        if begin == before {
            begin += alignment;
        }
        if len > MAX_SHIFTED || begin + len <= 2 * before {
            return begin;
        }
        begin = 2 * before;
    }
}

/// Converts the big-endian values of a column, as the portal stores them, to those of
/// the file.
#[must_use]
pub fn encode(format: ValueFormat, cells: &[u8]) -> Cow<'_, [u8]> {
    let ints = |convert: fn(i32) -> i32| {
        let cells = cells.as_chunks().0.iter().map(|&cell| {
            let value = i32::from_be_bytes(cell);
            if value == i32::MIN {
                value
            } else {
                convert(value)
            }
        });
        Cow::Owned(cells.flat_map(i32::to_be_bytes).collect())
    };
    match format {
        ValueFormat::BmpChar => {
            let units = cells.as_chunks().0.iter().map(|&cell| u16::from_be_bytes(cell));
            let latin = units.map(|unit| u8::try_from(unit).unwrap_or(b'?'));
            Cow::Owned(latin.collect())
        }
        ValueFormat::Iso8601Month => ints(|months| days_to_month(months).unwrap_or(i32::MIN)),
        ValueFormat::Iso8601TimeOfDay => ints(|seconds| seconds.rem_euclid(DAY_SECONDS)),
        ValueFormat::Int32
        | ValueFormat::Float32
        | ValueFormat::Float64
        | ValueFormat::Boolean
        | ValueFormat::Iso8601Date
        | ValueFormat::EtcDate
        | ValueFormat::Iso8601DateTime
        | ValueFormat::IsoLikeLocalDateTime
        | ValueFormat::EtcLocalDateTime
        // The portal does not serve strings, and a layout refuses them.
        | ValueFormat::String => Cow::Borrowed(cells),
    }
}

fn type_of(format: ValueFormat) -> NetCdfType {
    match format {
        ValueFormat::Int32
        | ValueFormat::Iso8601Date
        | ValueFormat::EtcDate
        | ValueFormat::Iso8601Month
        | ValueFormat::Iso8601TimeOfDay => NetCdfType::Int,
        ValueFormat::Float32 => NetCdfType::Float,
        ValueFormat::Float64
        | ValueFormat::Iso8601DateTime
        | ValueFormat::IsoLikeLocalDateTime
        | ValueFormat::EtcLocalDateTime => NetCdfType::Double,
        ValueFormat::BmpChar | ValueFormat::String => NetCdfType::Char,
        ValueFormat::Boolean => NetCdfType::Byte,
    }
}

/// Size of one value in the file, in bytes.
fn width(format: ValueFormat) -> u64 {
    match type_of(format) {
        NetCdfType::Byte | NetCdfType::Char => 1,
        NetCdfType::Int | NetCdfType::Float => 4,
        NetCdfType::Double => 8,
    }
}

#[cfg(test)]
mod tests;
