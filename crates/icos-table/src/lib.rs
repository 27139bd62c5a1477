//! The ICOS Carbon Portal's columnar tables: schema, file layout, and writers
//! for CSV, NetCDF and (feature `parquet`) Parquet.
//!
//! The portal stores a table as binary columns. Each column is contiguous and
//! big-endian; the columns follow one another in the order of their names. Row
//! counts, names and types come from the metadata, never from the bytes. Both
//! metadata and bytes are untrusted: no input may cause a panic, or an
//! allocation larger than the requested rows need.
//!
//! This crate does no I/O and knows nothing of files, caches or the portal's
//! client. Facts about the portal come from the public source of its data
//! service (`data`, tables in `formats/`); comments cite the file.
//!
//! A table passes through these types:
//!
//! 1. A [`Dataset`] and the column names of a table give the table's ingested
//!    [`Column`]s.
//! 2. These and the number of rows make a [`Schema`].
//! 3. The [`Layout`] of a schema says which bytes of the `.cpb` file to fetch.
//! 4. A [`CsvWriter`] or a `ParquetWriter` renders windows of rows.
//! 5. A [`RowIndex`] maps byte ranges of the rendered CSV back to rows.
//! 6. A [`NetCdfLayout`] maps byte ranges of the table's NetCDF file to rows of columns.
//!
//! # Example
//!
//! Describe a table of two columns and render both of its rows as CSV:
//!
//! ```
//! use icos_table::{Column, CsvWriter, Schema, ValueFormat};
//!
//! let schema = Schema::new(
//!     2,
//!     vec![
//!         Column::new("TIMESTAMP", ValueFormat::Iso8601DateTime),
//!         Column::new("co2", ValueFormat::Float32),
//!     ],
//! )?;
//! let writer = CsvWriter::new(schema.columns());
//!
//! // Big-endian columns, as the portal sends them. NaN is the null.
//! let timestamps = [1_577_836_800_000_f64, 1_577_840_400_000.0].map(f64::to_be_bytes);
//! let co2 = [412.37_f32, f32::NAN].map(f32::to_be_bytes);
//!
//! let mut csv = writer.header().to_vec();
//! writer.render(2, &[timestamps.as_flattened(), co2.as_flattened()], &mut csv)?;
//! assert_eq!(
//!     String::from_utf8_lossy(&csv),
//!     "TIMESTAMP,co2\n2020-01-01T00:00:00Z,412.37\n2020-01-01T01:00:00Z,\n"
//! );
//! # Ok::<(), icos_table::TableError>(())
//! ```

pub mod csv;
pub mod dataset;
mod decimal;
mod digits;
pub mod flags;
pub mod format;
pub mod index;
mod java_regex;
pub mod layout;
pub mod netcdf;
mod number;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod schema;
mod time;

pub use csv::CsvWriter;
pub use dataset::{Dataset, DatasetColumn};
pub use flags::GoodFlags;
pub use format::{StoredType, ValueFormat};
pub use index::RowIndex;
pub use layout::{FilePart, Layout};
pub use netcdf::{NetCdfLayout, NetCdfPart, Spacing};
#[cfg(feature = "parquet")]
pub use parquet::ParquetWriter;
pub use schema::{Column, Schema, find_column};

/// Why a table cannot be read.
///
/// The portal's own CSV stream may still serve such a table; see
/// [`TableError::portal_may_serve_csv`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The metadata names a value format outside the portal's vocabulary.
    #[error("expected a value format of the portal (e.g. float32), found {0:?}")]
    UnknownFormat(String),
    /// The table has more rows than the portal can count.
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
    /// The table has no column that its dataset defines.
    #[error("expected at least one column, found none that the dataset defines")]
    NoColumns,
    /// The portal serves no columns of a table with a column of strings.
    #[error(
        "column {0:?} holds strings, and the portal serves no columns of a table that contains strings"
    )]
    StringColumn(String),
    /// Two definitions match a column, and the portal's choice depends on an
    /// order that it does not publish.
    #[error("column {label:?} may be {one} or {other} by its dataset; use the portal's own CSV")]
    Ambiguous {
        /// The column's name.
        label: String,
        /// A matching format.
        one: ValueFormat,
        /// Another matching format.
        other: ValueFormat,
    },
    /// A column's title is a Java pattern without a known equivalent in the
    /// `regex` crate.
    #[error("cannot match column names by the Java pattern {pattern:?}: {reason}")]
    UnsupportedRegex {
        /// The pattern in the metadata.
        pattern: String,
        /// Why it cannot be translated.
        reason: String,
    },
    /// A name that must be matched by a pattern contains a line break, which
    /// Java and the `regex` crate treat differently.
    #[error("cannot match the column name {0:?} by pattern: it contains a line break")]
    LineBreakInTitle(String),
    /// The table has no column of this name.
    #[error("expected a column of the table, found {0:?}")]
    NoSuchColumn(String),
    /// A column position is out of range.
    #[error("expected a column position below {columns}, found {index}")]
    NoSuchIndex {
        /// Number of columns.
        columns: usize,
        /// The requested position.
        index: usize,
    },
    /// The requested rows end after the last row of the table.
    #[error("expected rows up to {rows}, found {end}")]
    RowsPastEnd {
        /// Number of rows of the table.
        rows: u64,
        /// End of the requested rows, exclusive.
        end: u64,
    },
    /// The portal's CSV header does not list the expected columns.
    #[error("expected a header of {expected} known columns, found {found:?}")]
    HeaderMismatch {
        /// Number of columns of the schema.
        expected: usize,
        /// The header line, truncated.
        found: String,
    },
    /// A header cannot be split into names, since a name contains a separator.
    #[error("cannot tell columns apart in the portal's header: {0:?} contains a separator")]
    AmbiguousHeader(String),
    /// The bytes of a column do not have the length of the rows.
    #[error("expected {expected} bytes of column {column}, found {found}")]
    WindowLength {
        /// Position of the column in the window.
        column: usize,
        /// Width times rows.
        expected: usize,
        /// Number of bytes that the caller passed.
        found: usize,
    },
    /// A window does not have one slice per column of the writer.
    #[error("expected a window of {expected} columns, found {found}")]
    WindowShape {
        /// Columns of the writer.
        expected: usize,
        /// Columns of the window.
        found: usize,
    },
    /// A row index is inconsistent.
    #[error("expected increasing row offsets, found {0}; render the table again")]
    BrokenIndex(String),
}

impl TableError {
    /// Whether the portal's own `/csv` may serve the table although this crate
    /// cannot read it. That is the case where only the table's description is
    /// the problem, not the table itself.
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

/// Checks that a window has `rows` rows of one column per format.
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
