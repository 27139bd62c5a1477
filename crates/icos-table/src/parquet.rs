//! Tables as Parquet: the CSV's columns and values, with their types, units
//! and origin.
//!
//! | value format | Arrow type | |
//! |---|---|---|
//! | int32, float32, float64 | the same | |
//! | bmpChar | dictionary of strings | |
//! | boolean | boolean | |
//! | iso8601date, etcDate | date32 | |
//! | iso8601month | date32 | the month's first day, as pandas reads `2020-12` |
//! | iso8601timeOfDay | time32, ms | of whole days nothing is left, as in the CSV: 24:00 is 00:00 |
//! | iso8601dateTime | timestamp, ms, UTC | |
//! | isoLikeLocalDateTime, etcLocalDateTime | timestamp, ms | without zone: the CSV's `Z` promises what nobody knows |
//!
//! Nulls are nulls, NaN among them. Units and whatever else is known of a
//! column are its field's metadata; what is known of the table is the file's.
//! A column's name is there once: repeats, which hold the same values, would
//! keep most readers from opening the file.
//!
//! Fed window by window; holds one row group at most.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError as Library;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::{Column, TableError, ValueFormat, check_window};

mod arrays;

/// Bytes of cells that make a row group, about.
const GROUP_BYTES: usize = 64 << 20;
/// Bounds for the rows of a row group: enough to compress, few enough that
/// readers can work on several groups at once.
const GROUP_ROWS: std::ops::RangeInclusive<usize> = 8 << 10..=1 << 20;

/// Why no Parquet was written.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The window does not fit the columns.
    #[error(transparent)]
    Window(#[from] TableError),
    /// Parquet cannot take it, or the file cannot.
    #[error("cannot write Parquet: {0}")]
    Write(#[from] Library),
    /// Columns that do not fit each other.
    #[error("cannot put columns together: {0}")]
    Batch(#[from] ArrowError),
}

impl ParquetError {
    /// What the writer beneath said, if it was that which failed.
    ///
    /// # Errors
    ///
    /// The error itself, if it was not.
    pub fn into_io(self) -> Result<io::Error, Self> {
        match self {
            ParquetError::Write(Library::External(cause)) => cause
                .downcast()
                .map(|error| *error)
                .map_err(|cause| ParquetError::Write(Library::External(cause))),
            error => Err(error),
        }
    }
}

/// Writes a table as Parquet to `W`.
pub struct ParquetWriter<W: Write + Send> {
    formats: Vec<ValueFormat>,
    /// Positions in the window of the columns that are written.
    written: Vec<usize>,
    schema: SchemaRef,
    inner: ArrowWriter<Out<W>>,
}

/// What is written to. Taken back by itself, for the library gives it back with
/// what it says of a last failed write turned into text.
struct Out<W>(Option<W>);

impl<W: Write + Send> ParquetWriter<W> {
    /// A writer of these columns, in their order, repeats of a name left out.
    /// `about` is kept in the file by keys, e.g. its PID and citation.
    ///
    /// # Errors
    ///
    /// [`ParquetError::Write`].
    pub fn new(
        out: W,
        columns: &[Column],
        about: &[(String, String)],
    ) -> Result<Self, ParquetError> {
        let mut names = HashSet::new();
        let written: Vec<usize> = (0..columns.len())
            .filter(|&at| names.insert(columns[at].label.as_str()))
            .collect();
        let fields: Vec<Field> = written.iter().map(|&at| field(at, columns)).collect();
        // Twice, since Arrow's readers look there, and the others in the file.
        let schema = Schema::new_with_metadata(fields, about.iter().cloned().collect());
        let schema = Arc::new(schema);
        let inner = ArrowWriter::try_new(
            Out(Some(out)),
            Arc::clone(&schema),
            Some(properties(columns, &written, about)),
        )?;
        Ok(ParquetWriter {
            formats: columns.iter().map(|column| column.format).collect(),
            written,
            schema,
            inner,
        })
    }

    /// Writes `rows` rows. `columns` has for each column, repeats too, the
    /// big-endian bytes of just these rows.
    ///
    /// # Errors
    ///
    /// [`ParquetError::Window`] if they do not fit; else as [`Self::new`].
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

    /// Ends the file and gives it back.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn finish(mut self) -> Result<W, ParquetError> {
        self.inner.finish()?;
        self.inner.sync().map_err(Library::from)?;
        let out = self.inner.inner_mut().0.take();
        Ok(out.expect("it is taken here alone"))
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(out) => out.write(bytes),
            // The library's buffer is empty by then.
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

/// The field of a column, with what is known about it.
fn field(at: usize, columns: &[Column]) -> Field {
    let Column {
        label,
        format,
        metadata,
    } = &columns[at];
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
    about: &[(String, String)],
) -> WriterProperties {
    let row_width: usize = written.iter().map(|&at| columns[at].format.width()).sum();
    let rows = (GROUP_BYTES / row_width.max(1)).clamp(*GROUP_ROWS.start(), *GROUP_ROWS.end());
    let about = about
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        .collect();
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("icosfs version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(rows))
        .set_key_value_metadata(Some(about));
    for &at in written {
        // Times go in steps: their differences are what compresses.
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
