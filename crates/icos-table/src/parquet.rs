//! Writes tables as Parquet: the columns and values of the CSV, with types,
//! units and origin.
//!
//! | value format | Arrow type | |
//! |---|---|---|
//! | int32, float32, float64 | the same | |
//! | bmpChar | dictionary of strings | |
//! | boolean | boolean | |
//! | iso8601date, etcDate | date32 | |
//! | iso8601month | date32 | the first day of the month, as pandas parses `2020-12` |
//! | iso8601timeOfDay | time32, ms | modulo 24 hours, as in the CSV: 24:00 becomes 00:00 |
//! | iso8601dateTime | timestamp, ms, UTC | |
//! | isoLikeLocalDateTime, etcLocalDateTime | timestamp, ms | without zone: the time zone is unknown, although the CSV writes a `Z` |
//!
//! Nulls, including NaN, are Parquet nulls. Units and other facts about a column
//! are metadata of its field; facts about the table are metadata of the file. A
//! repeated column, which has the same values, is written once: most readers
//! refuse files with duplicate names.
//!
//! The caller passes the table window by window; the writer buffers at most one
//! row group.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError as LibraryError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::{Column, TableError, ValueFormat, check_window};

mod arrays;

/// Approximate size in bytes of the cells of a row group.
const GROUP_BYTES: usize = 64 << 20;
/// Bounds of the number of rows of a row group: enough rows to compress well, few
/// enough that readers can process several groups in parallel.
const GROUP_ROWS: std::ops::RangeInclusive<usize> = 8 << 10..=1 << 20;

/// Why a table could not be written as Parquet.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The window does not match the columns.
    #[error(transparent)]
    Window(#[from] TableError),
    /// The Parquet library or the underlying writer failed.
    #[error("cannot write Parquet: {0}")]
    Write(#[from] LibraryError),
    /// The columns cannot be combined into a record batch.
    #[error("cannot combine the columns: {0}")]
    Batch(#[from] ArrowError),
}

impl ParquetError {
    /// The error of the underlying writer, if that was the cause.
    ///
    /// # Errors
    ///
    /// Returns `self` unchanged if there was another cause.
    pub fn into_io(self) -> Result<io::Error, Self> {
        match self {
            ParquetError::Write(LibraryError::External(cause)) => cause
                .downcast()
                .map(|error| *error)
                .map_err(|cause| ParquetError::Write(LibraryError::External(cause))),
            error => Err(error),
        }
    }
}

/// Writes a table as Parquet to `W`.
pub struct ParquetWriter<W: Write + Send> {
    formats: Vec<ValueFormat>,
    /// Window positions of the columns to write, without repeats.
    written: Vec<usize>,
    schema: SchemaRef,
    inner: ArrowWriter<TakeableWriter<W>>,
}

/// The underlying writer. [`ParquetWriter::finish`] takes it back directly, since
/// the library's own method would turn an error of the last write into text.
struct TakeableWriter<W>(Option<W>);

impl<W: Write + Send> ParquetWriter<W> {
    /// Creates a writer of these columns, in this order, without repeated names.
    /// The pairs of `file_metadata`, e.g. PID and citation, become the file's
    /// key-value metadata.
    ///
    /// # Errors
    ///
    /// [`ParquetError::Write`].
    pub fn new(
        out: W,
        columns: &[Column],
        file_metadata: &[(String, String)],
    ) -> Result<Self, ParquetError> {
        let mut names = HashSet::new();
        let written: Vec<usize> = (0..columns.len())
            .filter(|&at| names.insert(columns[at].label.as_str()))
            .collect();
        let fields: Vec<Field> = written.iter().map(|&at| field(at, columns)).collect();
        // Stored twice: Arrow's readers use the Arrow schema's metadata, other
        // readers the file's.
        let schema = Schema::new_with_metadata(fields, file_metadata.iter().cloned().collect());
        let schema = Arc::new(schema);
        let inner = ArrowWriter::try_new(
            TakeableWriter(Some(out)),
            Arc::clone(&schema),
            Some(properties(columns, &written, file_metadata)),
        )?;
        Ok(ParquetWriter {
            formats: columns.iter().map(|column| column.format).collect(),
            written,
            schema,
            inner,
        })
    }

    /// Writes `rows` rows. `columns` contains for each column, including repeats,
    /// the big-endian bytes of exactly these rows.
    ///
    /// # Errors
    ///
    /// [`ParquetError::Window`] if they do not match the columns; otherwise as [`Self::new`].
    pub fn write(&mut self, rows: usize, columns: &[&[u8]]) -> Result<(), ParquetError> {
        check_window(&self.formats, rows, columns)?;
        if rows == 0 {
            return Ok(());
        }
        let arrays = self
            .written
            .iter()
            .map(|&at| arrays::of(self.formats[at], columns[at]))
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        Ok(self.inner.write(&batch)?)
    }

    /// Completes the file and returns the underlying writer.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn finish(mut self) -> Result<W, ParquetError> {
        self.inner.finish()?;
        self.inner.sync().map_err(LibraryError::from)?;
        let out = self.inner.inner_mut().0.take();
        Ok(out.expect("only `finish` takes the writer, and it consumes `self`"))
    }
}

impl<W: Write> Write for TakeableWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(out) => out.write(bytes),
            // Not reached with data: the library's buffer is empty after `finish`.
            None => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), W::flush)
    }
}

impl<W: Write + Send> std::fmt::Debug for ParquetWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetWriter")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

fn data_type(format: ValueFormat) -> DataType {
    match format {
        ValueFormat::Int32 => DataType::Int32,
        ValueFormat::Float32 => DataType::Float32,
        ValueFormat::Float64 => DataType::Float64,
        ValueFormat::Boolean => DataType::Boolean,
        ValueFormat::BmpChar | ValueFormat::String => {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        }
        ValueFormat::Iso8601Date | ValueFormat::EtcDate | ValueFormat::Iso8601Month => {
            DataType::Date32
        }
        ValueFormat::Iso8601TimeOfDay => DataType::Time32(TimeUnit::Millisecond),
        ValueFormat::Iso8601DateTime => {
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
        }
        ValueFormat::IsoLikeLocalDateTime | ValueFormat::EtcLocalDateTime => {
            DataType::Timestamp(TimeUnit::Millisecond, None)
        }
    }
}

/// An upper bound of the length of the file of a table with these columns, in bytes,
/// unless its metadata are unusually long: values are stored as they are at worst, with
/// a bit each for nulls, and pages, column chunks and the end of the file describe them.
#[must_use]
pub fn len_bound(columns: &[Column], rows: u64) -> u64 {
    /// For the page headers and statistics of a column chunk.
    const CHUNK: u64 = 1 << 10;
    /// For the description of a column at the end of the file, twice.
    const COLUMN: u64 = 4 << 10;
    /// For the metadata of the file, twice.
    const FILE: u64 = 32 << 10;
    /// For a character in a dictionary, with its length, and there are no more of them.
    const CHARACTER: u64 = 8;
    const CHARACTERS: u64 = 1 << 16;
    let groups = rows / *GROUP_ROWS.start() as u64 + 1;
    let of_column = |column: &Column| {
        let values = rows.saturating_mul(column.format.width() as u64);
        let dictionary = match column.format {
            ValueFormat::BmpChar => rows.min(CHARACTERS) * CHARACTER,
            _ => 0,
        };
        // An eighth for nulls, and for data that do not compress.
        (values.saturating_add(values / 8).saturating_add(rows / 4))
            .saturating_add(dictionary)
            .saturating_add(groups.saturating_mul(CHUNK))
            .saturating_add(COLUMN + 3 * column.label.len() as u64)
    };
    let columns = columns.iter().map(of_column);
    columns.fold(FILE, u64::saturating_add)
}

/// The Arrow field of a column, with its metadata.
fn field(index: usize, columns: &[Column]) -> Field {
    let Column {
        label,
        format,
        metadata,
    } = &columns[index];
    let flagged: Vec<&str> = columns
        .iter()
        .filter(|other| {
            let model = other.metadata.model.as_ref();
            model.is_some_and(|model| metadata.is_flag_for.contains(model))
        })
        .map(|other| other.label.as_str())
        .collect();
    let facts = [
        ("unit", metadata.unit.clone()),
        ("description", metadata.description.clone()),
        ("quantity", metadata.quantity.clone()),
        ("value_format", Some(format.name().to_owned())),
        ("model", metadata.model.clone()),
        (
            "flag_for",
            (!flagged.is_empty()).then(|| flagged.join(", ")),
        ),
    ];
    let known: HashMap<String, String> = facts
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    Field::new(label, data_type(*format), true).with_metadata(known)
}

fn properties(
    columns: &[Column],
    written: &[usize],
    file_metadata: &[(String, String)],
) -> WriterProperties {
    let row_width: usize = written.iter().map(|&at| columns[at].format.width()).sum();
    let rows = (GROUP_BYTES / row_width.max(1)).clamp(*GROUP_ROWS.start(), *GROUP_ROWS.end());
    let pairs = file_metadata
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        .collect();
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("icosfs version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(rows))
        .set_key_value_metadata(Some(pairs));
    for &at in written {
        // Times mostly increase by a constant step: delta encoding suits them.
        if matches!(
            data_type(columns[at].format),
            DataType::Timestamp(..) | DataType::Date32
        ) {
            let path = ColumnPath::new(vec![columns[at].label.clone()]);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}

#[cfg(test)]
mod tests;
