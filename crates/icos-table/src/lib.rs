//! The portal's tables: what they hold, where their bytes lie, and how they
//! are drawn as CSV and Parquet.
//!
//! A table comes as binary columns: each whole, one after another, big-endian,
//! in the order of their names. Row counts, names and types come from the
//! metadata, never from the bytes. Both are untrusted: no input may panic, or
//! allocate beyond the rows asked for.
//!
//! Pure: no I/O, no knowledge of files, caches or the portal's client. Facts
//! about the portal are from its data service's public source (`data`, tables
//! in `formats/`), named where they are used.
//!
//! The way of a table: a [`Dataset`] and a table's actual column names give
//! its ingested columns; with the row count they are a [`Schema`]; its
//! [`Layout`] says which bytes to fetch; a [`CsvWriter`] draws windows of rows;
//! a [`RowIndex`] finds the rows behind a range of the text.

pub mod csv;
pub mod dataset;
mod decimal;
mod digits;
pub mod flags;
pub mod format;
pub mod index;
mod java_regex;
pub mod layout;
mod number;
pub mod parquet;
pub mod schema;
mod time;

pub use csv::CsvWriter;
pub use dataset::{Dataset, DatasetColumn};
pub use flags::GoodFlags;
pub use format::{StoredType, ValueFormat};
pub use index::RowIndex;
pub use layout::{FilePart, Layout};
pub use parquet::ParquetWriter;
pub use schema::{Column, Schema};

/// Why something is no table that can be read here.
///
/// Where the portal itself would serve such a table, its own CSV stream still
/// can; see [`TableError::portal_may_serve_csv`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The metadata names a value format that is none of the portal's.
    #[error("expected a value format of the portal (e.g. float32), found {0:?}")]
    UnknownFormat(String),
    /// More rows than the portal can count.
    #[error("expected at most 2147483647 rows, as the portal counts them, found {0}")]
    TooManyRows(u64),
    /// Columns times rows exceed what a file can hold.
    #[error("expected a table of less than 8 EiB, found {columns} columns of {rows} rows")]
    TooLarge {
        /// Number of columns.
        columns: usize,
        /// Number of rows.
        rows: u64,
    },
    /// There is nothing to read.
    #[error("expected at least one column, found none that the dataset knows")]
    NoColumns,
    /// The portal serves no columns of a table with a column of strings.
    #[error(
        "column {0:?} holds strings, and the portal serves no columns of a table that has such"
    )]
    StringColumn(String),
    /// Two definitions fit a column, and which one the portal takes depends on
    /// an order that it does not tell.
    #[error("column {label:?} may be {one} or {other} by its dataset; use the portal's own CSV")]
    Ambiguous {
        /// The column's name.
        label: String,
        /// A fitting format.
        one: ValueFormat,
        /// A different fitting format.
        other: ValueFormat,
    },
    /// A column's name is a Java pattern that has no sure equivalent here.
    #[error("cannot match column names by the Java pattern {pattern:?}: {reason}")]
    UnsupportedRegex {
        /// The pattern as the metadata has it.
        pattern: String,
        /// What stands in the way.
        reason: String,
    },
    /// A pattern meets a name whose line breaks Java treats in its own way.
    #[error("cannot match the column name {0:?} by pattern: it contains a line break")]
    LineBreakInTitle(String),
    /// No column of that name.
    #[error("expected a column of the table, found {0:?}")]
    NoSuchColumn(String),
    /// A column's position is past the last.
    #[error("expected a column position below {columns}, found {index}")]
    NoSuchIndex {
        /// Number of columns.
        columns: usize,
        /// The position asked for.
        index: usize,
    },
    /// Rows were asked for that the table does not have.
    #[error("expected rows up to {rows}, found {end}")]
    RowsPastEnd {
        /// Number of rows of the table.
        rows: u64,
        /// End of the rows asked for, exclusive.
        end: u64,
    },
    /// The header the portal sends is not of the columns that were expected.
    #[error("expected a header of {expected} known columns, found {found:?}")]
    HeaderMismatch {
        /// Number of columns of the schema.
        expected: usize,
        /// The header line, cut short.
        found: String,
    },
    /// A header cannot be read back, since a name contains a separator.
    #[error("cannot tell columns apart in the portal's header: {0:?} contains a separator")]
    AmbiguousHeader(String),
    /// Column bytes were handed over whose length does not fit the rows.
    #[error("expected {expected} bytes of column {column}, found {found}")]
    WindowLength {
        /// Position of the column in the window.
        column: usize,
        /// Width times rows.
        expected: usize,
        /// What was handed over.
        found: usize,
    },
    /// A window has another number of columns than its reader.
    #[error("expected a window of {expected} columns, found {found}")]
    WindowShape {
        /// Columns of the reader.
        expected: usize,
        /// Columns of the window.
        found: usize,
    },
    /// A row index does not describe one text.
    #[error("expected growing offsets of rows, found {0}; draw the table anew")]
    BrokenIndex(String),
}

impl TableError {
    /// Whether the portal's own `/csv` may answer for a table that cannot be
    /// read here: it is the table's description that is hard to follow, not
    /// the table that the portal refuses.
    #[must_use]
    pub fn portal_may_serve_csv(&self) -> bool {
        match self {
            TableError::Ambiguous { .. }
            | TableError::UnsupportedRegex { .. }
            | TableError::LineBreakInTitle(_)
            | TableError::HeaderMismatch { .. }
            | TableError::AmbiguousHeader(_)
            | TableError::UnknownFormat(_)
            | TableError::StringColumn(_) => true,
            TableError::TooManyRows(_)
            | TableError::TooLarge { .. }
            | TableError::NoColumns
            | TableError::NoSuchColumn(_)
            | TableError::NoSuchIndex { .. }
            | TableError::RowsPastEnd { .. }
            | TableError::WindowLength { .. }
            | TableError::WindowShape { .. }
            | TableError::BrokenIndex(_) => false,
        }
    }
}

/// Makes sure that a window is of columns of these formats and so many rows.
fn check_window(formats: &[ValueFormat], rows: usize, columns: &[&[u8]]) -> Result<(), TableError> {
    if columns.len() != formats.len() {
        return Err(TableError::WindowShape {
            expected: formats.len(),
            found: columns.len(),
        });
    }
    for (column, (format, bytes)) in formats.iter().zip(columns).enumerate() {
        let expected = rows.saturating_mul(format.width());
        if bytes.len() != expected {
            return Err(TableError::WindowLength {
                column,
                expected,
                found: bytes.len(),
            });
        }
    }
    Ok(())
}
