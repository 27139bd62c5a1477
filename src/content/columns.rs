//! A table's columns: which it has, and their bytes, fetched by the slice into
//! its `.cpb` file in the cache.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::ContentError;
use super::direct::DataFolder;
use super::table_file::TableFile;
use crate::cache::{CacheError, Entry, Found, Place, Store};
use crate::catalog::{Object, Spec};
use crate::flight::Flights;
use crate::memory::Memory;
use crate::portal::data::{ColumnsRequest, RowSlice, StoredTable};
use crate::portal::lists::ColumnRow;
use crate::portal::{DataClient, ObjectId, PortalError};
use crate::table::dataset::{Presence, Title};
use crate::table::{
    Column, CsvWriter, Dataset, DatasetColumn, Layout, Part, Schema, StoredType, TableError,
    ValueFormat,
};

/// Bytes of columns in the first slice of a table that is read from its start;
/// enough for a `head`.
const FIRST_WINDOW: u64 = 256 << 10;
/// Each further slice is this many times larger.
const GROWTH: u64 = 8;
/// The last slice takes what is left: every request counts as a download.
const SLICES: u32 = 5;
/// Columns are cached in pieces of this size: a window of rows touches one
/// piece of each column, and a read checks whole pieces.
const PIECE: usize = 16 << 10;
/// How often rows are fetched that are gone again before they can be drawn.
const IN_VAIN: u32 = 3;

/// What is known of tables beyond the catalog.
#[derive(Debug)]
pub(super) struct Tables {
    data: DataClient,
    store: Store,
    data_folder: Option<DataFolder>,
    /// By the dataset's IRI.
    datasets: Mutex<HashMap<String, Arc<Dataset>>>,
    /// By the dataset's IRI: the header of its tables whose columns' order is
    /// not in the metadata.
    headers: Arc<Mutex<HashMap<String, Bytes>>>,
    header_flights: Flights<String, Result<Bytes, PortalError>>,
}

impl Tables {
    pub(super) fn new(data: DataClient, store: Store) -> Self {
        Self {
            data,
            store,
            data_folder: None,
            datasets: Mutex::default(),
            headers: Arc::default(),
            header_flights: Flights::default(),
        }
    }

    pub(super) fn with_data_folder(self, folder: DataFolder) -> Self {
        Self {
            data_folder: Some(folder),
            ..self
        }
    }

    /// A length that the CSV of `object` does not exceed; 0 if it is no table
    /// that can be drawn, which a read will explain.
    pub(super) fn csv_bound(&self, object: &Object) -> u64 {
        let Some((rows, spec)) = object.as_table() else {
            return 0;
        };
        self.ingested(object, spec)
            .map_or(0, |columns| CsvWriter::new(&columns).size_bound(rows))
    }

    /// The columns that `object` has as a table.
    pub(super) async fn open(&self, object: &Object) -> Result<Arc<Columns>, ContentError> {
        let (rows, spec) = object.as_table().ok_or(TableError::NoColumns)?;
        let mut schema = Schema::new(rows, self.ingested(object, spec)?)?;
        if object.column_names().is_none() {
            let header = self.header(object.id(), spec).await?;
            schema = schema.ordered_by_header(&header)?;
        }
        let layout = Layout::new(&schema);
        let place = Place::new(spec.format(), &format!("{}.cpb", object.id()))?;
        let direct = match &self.data_folder {
            Some(folder) => folder.find(object.id(), &place, layout.file_len()).await,
            None => None,
        };
        let file = TableFile::new(direct, self.store.clone(), place, layout.file_len());
        Ok(Arc::new(Columns {
            id: object.id(),
            folder: spec.format().to_owned(),
            schema,
            layout,
            file,
            data: self.data.clone(),
            memory: self.store.memory().clone(),
            slices: AtomicU32::new(0),
            flights: Flights::default(),
        }))
    }

    fn ingested(&self, object: &Object, spec: &Spec) -> Result<Vec<Column>, TableError> {
        let dataset = self.dataset(spec)?;
        match object.column_names() {
            Some(names) => dataset.ingested(names),
            None => dataset.mandatory(),
        }
    }

    fn dataset(&self, spec: &Spec) -> Result<Arc<Dataset>, TableError> {
        let iri = spec.dataset().unwrap_or_default();
        let mut datasets = self.datasets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dataset) = datasets.get(iri) {
            return Ok(Arc::clone(dataset));
        }
        let columns: Result<_, TableError> = spec.columns().iter().map(definition).collect();
        let dataset = Arc::new(Dataset::new(columns?));
        datasets.insert(iri.to_owned(), Arc::clone(&dataset));
        Ok(dataset)
    }

    /// The header line of `id`'s CSV, asked of the portal once per dataset.
    async fn header(&self, id: ObjectId, spec: &Spec) -> Result<Bytes, PortalError> {
        let iri = spec.dataset().unwrap_or_default().to_owned();
        let known = {
            let headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
            headers.get(&iri).cloned()
        };
        if let Some(header) = known {
            return Ok(header);
        }
        let (data, headers, kept_as) = (self.data.clone(), Arc::clone(&self.headers), iri.clone());
        self.header_flights
            .join(iri, || async move {
                let header = data.csv_header(id).await?;
                headers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(kept_as, header.clone());
                Ok(header)
            })
            .await
    }
}

fn definition(row: &ColumnRow) -> Result<DatasetColumn, TableError> {
    Ok(DatasetColumn {
        column: Column::new(&*row.title, ValueFormat::from_iri(&row.format)?),
        title: if row.regex {
            Title::Pattern
        } else {
            Title::Verbatim
        },
        presence: if row.optional {
            Presence::Optional
        } else {
            Presence::Mandatory
        },
    })
}

/// The columns of one table.
#[derive(Debug)]
pub(super) struct Columns {
    id: ObjectId,
    folder: String,
    schema: Schema,
    layout: Layout,
    file: TableFile,
    data: DataClient,
    memory: Memory,
    /// Slices fetched so far.
    slices: AtomicU32,
    flights: Flights<(), Result<(), ContentError>>,
}

impl Columns {
    pub(super) fn id(&self) -> ObjectId {
        self.id
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Fetches what is missing of `rows`, and perhaps more.
    pub(super) async fn ensure(self: &Arc<Self>, rows: Range<u64>) -> Result<(), ContentError> {
        let mut furthest = None;
        let mut in_vain = 0;
        while let Some(missing) = self.first_missing(rows.clone()) {
            // Rows that came before may be gone again for want of room.
            if furthest.is_none_or(|row| row < missing.start) {
                furthest = Some(missing.start);
                in_vain = 0;
            } else if in_vain < IN_VAIN {
                in_vain += 1;
            } else {
                return Err(CacheError::TooSmall.into());
            }
            let columns = Arc::clone(self);
            self.flights
                .join((), || async move {
                    // What another flight brought meanwhile need not come again.
                    let rest = missing.start..columns.schema.rows();
                    match columns.first_missing(rest) {
                        Some(still) => columns.fetch(still).await,
                        None => Ok(()),
                    }
                })
                .await?;
        }
        Ok(())
    }

    /// Prepares for all rows from `row` on to be drawn: what is missing comes
    /// in one request, if the cache can hold it.
    pub(super) async fn expect_all(self: &Arc<Self>, row: u64) -> Result<(), ContentError> {
        self.slices.store(SLICES, Ordering::Relaxed);
        let rest = row..self.schema.rows();
        if self.first_missing(rest.clone()).is_some()
            && self.schema.stored_len() <= self.file.entry().capacity() / 2
        {
            self.ensure(rest).await?;
        }
        Ok(())
    }

    /// From `row` on, the end of the rows that can be drawn, once there is at
    /// least one.
    pub(super) async fn available(self: &Arc<Self>, row: u64) -> Result<u64, ContentError> {
        let rows = self.schema.rows();
        self.ensure(row..rows.min(row + 1)).await?;
        Ok(self
            .first_missing(row..rows)
            .map_or(rows, |missing| missing.start))
    }

    /// The first stretch of `rows` of which some column is missing.
    fn first_missing(&self, rows: Range<u64>) -> Option<Range<u64>> {
        (0..self.layout.columns())
            .filter_map(|column| {
                let bytes = self.layout.column_range(column, rows.clone()).ok()?;
                let width = self.layout.width(column).ok()?;
                let gap = self.file.first_missing(bytes.clone())?;
                let first = rows.start + (gap.start - bytes.start) / width;
                let end = rows.start + (gap.end - bytes.start).div_ceil(width);
                Some(first..end)
            })
            .min_by_key(|gap| (gap.start, std::cmp::Reverse(gap.end)))
    }

    async fn fetch(&self, missing: Range<u64>) -> Result<(), ContentError> {
        let _buffers = self.memory.for_stream().await?;
        let slices = self.slices.fetch_add(1, Ordering::Relaxed);
        let window = FIRST_WINDOW.saturating_mul(GROWTH.saturating_pow(slices));
        let length = if slices + 1 >= SLICES {
            missing.end - missing.start
        } else {
            (window / self.schema.row_width())
                .max(1)
                .min(missing.end - missing.start)
        };
        // A table larger than the cache goes through it piece by piece.
        let fits = (self.file.entry().capacity() / 2 / self.schema.row_width()).max(1);
        let length = length.min(fits);
        let rows = missing.start..missing.start + length;
        let whole = rows == (0..self.schema.rows());
        let request = ColumnsRequest {
            table_id: self.id,
            sub_folder: self.folder.clone(),
            schema: StoredTable {
                columns: self
                    .schema
                    .stored_types()
                    .map(StoredType::wire_name)
                    .collect(),
                size: self.schema.rows(),
            },
            column_numbers: (0..self.layout.columns()).collect(),
            slice: (!whole).then_some(RowSlice {
                offset: rows.start,
                length,
            }),
        };
        let mut body = self.data.columns(&request).await?;
        let expected = self.schema.row_width() * length;
        let wrong_length = |found: u64| ContentError::WrongLength {
            id: self.id,
            expected,
            found,
        };
        if let Some(found) = body.expected().filter(|&found| found != expected) {
            return Err(wrong_length(found));
        }
        let mut target = Target::new(self, rows)?;
        while let Some(chunk) = body.chunk().await? {
            target.write(&chunk).map_err(|rest| match rest {
                Rest::TooMuch => wrong_length(expected + 1),
                Rest::Failed(error) => error,
            })?;
        }
        let received = target.finish()?;
        if received != expected {
            return Err(wrong_length(received));
        }
        self.complete().await
    }

    /// Adds the trailer once all columns are there, and gives the file its
    /// name.
    async fn complete(&self) -> Result<(), ContentError> {
        let (entry, len) = (self.file.entry(), self.layout.file_len());
        for part in entry
            .missing(0..len)
            .into_iter()
            .flat_map(|gap| self.layout.cover(gap).collect::<Vec<_>>())
        {
            match part {
                Part::Trailer { bytes } => {
                    entry.write(bytes.start, self.layout.trailer(bytes.clone()))?;
                }
                Part::Cells(_) => return Ok(()),
            }
        }
        let entry = Arc::clone(entry);
        let sealed = tokio::task::spawn_blocking(move || entry.seal()).await;
        // A seal that failed is tried again by the next; the bytes are there.
        if let Ok(Err(error)) = sealed {
            tracing::warn!(%error, "a complete table could not be given its name");
        }
        Ok(())
    }

    /// The bytes of `rows` of the CSV's columns; `None` if a piece turned out
    /// damaged and must be fetched again. Blocks on the disk.
    pub(super) fn window(&self, rows: &Range<u64>) -> Result<Option<Vec<Vec<u8>>>, ContentError> {
        let mut window = Vec::with_capacity(self.schema.columns().len());
        for csv in 0..self.schema.columns().len() {
            let stored = self.schema.stored_index(csv).unwrap_or(csv);
            let range = self.layout.column_range(stored, rows.clone())?;
            match self.file.read(range)? {
                Found::Bytes(bytes) => window.push(bytes),
                Found::Missing(_) => return Ok(None),
            }
        }
        Ok(Some(window))
    }
}

/// Where the bytes of a slice go: column after column.
struct Target<'a> {
    entry: &'a Entry,
    /// What is still to come, first column first.
    ranges: std::vec::IntoIter<Range<u64>>,
    current: Range<u64>,
    piece: Vec<u8>,
    received: u64,
}

enum Rest {
    TooMuch,
    Failed(ContentError),
}

impl<'a> Target<'a> {
    fn new(columns: &'a Columns, rows: Range<u64>) -> Result<Self, TableError> {
        let ranges: Result<Vec<_>, _> = (0..columns.layout.columns())
            .map(|column| columns.layout.column_range(column, rows.clone()))
            .collect();
        Ok(Self {
            entry: columns.file.entry(),
            ranges: ranges?.into_iter(),
            current: 0..0,
            piece: Vec::with_capacity(PIECE),
            received: 0,
        })
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Rest> {
        self.received += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.current.is_empty() {
                self.current = self.ranges.next().ok_or(Rest::TooMuch)?;
                continue;
            }
            let room = (self.current.end - self.current.start) - self.piece.len() as u64;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let taken = bytes.len().min(room).min(PIECE - self.piece.len());
            self.piece.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if taken == room || self.piece.len() == PIECE {
                self.flush().map_err(Rest::Failed)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ContentError> {
        self.entry.write(self.current.start, &self.piece)?;
        self.current.start += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Keeps the rest; returns how many bytes came.
    fn finish(mut self) -> Result<u64, ContentError> {
        self.flush()?;
        Ok(self.received)
    }
}
