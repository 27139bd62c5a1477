//! A table's columns: their bytes, fetched by the slice into the table's
//! `.cpb` file in the cache, whatever the table is seen as.
//!
//! Every request counts as a download. Whoever needs rows needs them of all
//! columns; whoever reads the `.cpb` file needs bytes of one. Both are served
//! by one request at a time, and after a few of them all that is missing comes
//! in one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::ContentError;
use super::table_file::TableFile;
use crate::cache::{CacheError, Found};
use crate::flight::Flights;
use crate::memory::Memory;
use crate::portal::data::{ColumnsRequest, RowSlice, StoredTable};
use crate::portal::{DataClient, ObjectId};
use crate::table::{Layout, Part, Schema, StoredType};

mod slice;

use slice::{Rest, Target};

/// Bytes of columns in the first slice of a table that is read from its start;
/// enough for a `head`.
const FIRST_WINDOW: u64 = 256 << 10;
/// Each further slice is this many times larger.
const GROWTH: u64 = 8;
/// The last slice takes what is left: every request counts as a download.
const SLICES: u32 = 5;
/// How often someone waits for bytes that are gone again, or were never meant,
/// before they can be read.
const IN_VAIN: u32 = 2 * SLICES;
/// A slice up to this size is fetched to its end, whatever is read of it.
const SMALL: u64 = 4 << 20;
/// How far a longer one runs ahead of who reads the `.cpb` file, and how far
/// from where the last read ended the next may begin to be part of a sequence.
const AHEAD: u64 = 4 << 20;
/// How long it waits for a reader to come back.
const IDLE: Duration = Duration::from_secs(20);

/// The columns of one table.
#[derive(Debug)]
pub(super) struct Columns {
    id: ObjectId,
    folder: String,
    schema: Schema,
    layout: Layout,
    file: TableFile,
    data: DataClient,
    /// Slices fetched so far.
    slices: AtomicU32,
    flights: Flights<(), Result<(), ContentError>>,
    /// Told whenever bytes have come.
    arrived: watch::Sender<()>,
    /// How far into the `.cpb` file readers want a slice to run.
    wanted: watch::Sender<u64>,
    /// Where the last read of the `.cpb` file ended.
    last_end: AtomicU64,
}

impl Columns {
    pub(super) fn new(
        id: ObjectId,
        folder: String,
        schema: Schema,
        file: TableFile,
        data: DataClient,
    ) -> Self {
        Self {
            id,
            folder,
            layout: Layout::new(&schema),
            schema,
            file,
            data,
            slices: AtomicU32::new(0),
            flights: Flights::default(),
            arrived: watch::Sender::new(()),
            wanted: watch::Sender::new(0),
            last_end: AtomicU64::new(0),
        }
    }

    pub(super) fn id(&self) -> ObjectId {
        self.id
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The memory for its buffers.
    pub(super) fn memory(&self) -> &Memory {
        self.file.memory()
    }

    /// Length of the `.cpb` file in bytes.
    pub(super) fn file_len(&self) -> u64 {
        self.layout.file_len()
    }

    /// Fetches what is missing of `rows`, and perhaps more.
    pub(super) async fn ensure(self: &Arc<Self>, rows: Range<u64>) -> Result<(), ContentError> {
        let mut patience = Patience::default();
        while let Some(missing) = self.first_missing(rows.clone()) {
            patience.try_again(missing.start)?;
            // All columns are needed: a slice under way must run to its end.
            self.want(u64::MAX);
            let columns = Arc::clone(self);
            self.flights
                .join((), || async move {
                    // What another flight brought meanwhile need not come again.
                    let rest = missing.start..columns.schema.rows();
                    match columns.first_missing(rest) {
                        Some(still) => columns.fetch_rows(still).await,
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

    /// Reads `bytes` of the `.cpb` file: who reads it from the start gets it
    /// from one request, as it comes.
    pub(super) async fn read(self: &Arc<Self>, bytes: Range<u64>) -> Result<Bytes, ContentError> {
        let end = bytes.end.min(self.layout.file_len());
        let bytes = bytes.start.min(end)..end;
        let mut patience = Patience::default();
        loop {
            let (columns, range) = (Arc::clone(self), bytes.clone());
            let reading = tokio::task::spawn_blocking(move || columns.file.read(range)).await;
            let read =
                reading.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            let gap = match read {
                Found::Bytes(found) => {
                    self.last_end.store(end, Ordering::Relaxed);
                    return Ok(found.into());
                }
                Found::Missing(gap) => gap,
            };
            patience.try_again(gap.start)?;
            self.bring(bytes.clone()).await?;
        }
    }

    /// Waits until `bytes` of the `.cpb` file are there, or a request has
    /// ended.
    async fn bring(self: &Arc<Self>, bytes: Range<u64>) -> Result<(), ContentError> {
        let mut arrived = self.arrived.subscribe();
        self.want(bytes.end.saturating_add(AHEAD));
        let (columns, range) = (Arc::clone(self), bytes.clone());
        let flight = self.flights.join((), || async move {
            match columns.file.first_missing(range) {
                Some(still) => columns.fetch_bytes(still.start).await,
                None => Ok(()),
            }
        });
        let there = async {
            while self.file.first_missing(bytes.clone()).is_some() {
                // Never fails: `self` holds the sender.
                let _ = arrived.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = there => Ok(()),
            landed = flight => match landed {
                // Bytes that came before a failure are as good as any.
                Err(error) if self.file.first_missing(bytes.clone()).is_some() => Err(error),
                _ => Ok(()),
            },
        }
    }

    fn want(&self, end: u64) {
        self.wanted.send_if_modified(|wanted| {
            let further = *wanted < end;
            *wanted = (*wanted).max(end);
            further
        });
    }

    /// The first stretch of `rows` of which some column is missing.
    fn first_missing(&self, rows: Range<u64>) -> Option<Range<u64>> {
        (0..self.layout.columns())
            .filter_map(|column| self.missing_of(column, &rows))
            .min_by_key(|gap| (gap.start, std::cmp::Reverse(gap.end)))
    }

    /// The first stretch of `rows` that is missing of a stored column.
    fn missing_of(&self, column: usize, rows: &Range<u64>) -> Option<Range<u64>> {
        let bytes = self.layout.column_range(column, rows.clone()).ok()?;
        let width = self.layout.width(column).ok()?;
        let gap = self.file.first_missing(bytes.clone())?;
        let first = rows.start + (gap.start - bytes.start) / width;
        let end = rows.start + (gap.end - bytes.start).div_ceil(width);
        Some(first..end)
    }

    /// Fetches all columns of the rows from `missing.start` on, more with each
    /// request.
    async fn fetch_rows(&self, missing: Range<u64>) -> Result<(), ContentError> {
        let slices = self.slices.load(Ordering::Relaxed);
        let window = FIRST_WINDOW.saturating_mul(GROWTH.saturating_pow(slices));
        let left = missing.end - missing.start;
        let length = if slices + 1 >= SLICES {
            left
        } else {
            (window / self.schema.row_width()).max(1).min(left)
        };
        self.fetch(0, missing.start..missing.start + length).await
    }

    /// Fetches what the byte `at` of the `.cpb` file belongs to: of a short
    /// file, or for who reads it in sequence, all that follows as well; else
    /// just the rest of its column.
    async fn fetch_bytes(&self, at: u64) -> Result<(), ContentError> {
        let rows = 0..self.schema.rows();
        let Some(Part::Cells(cells)) = self.layout.cover(at..at + 1).next() else {
            return self.complete().await;
        };
        let patient = self.slices.load(Ordering::Relaxed) + 1 < SLICES;
        let last_end = self.last_end.load(Ordering::Relaxed);
        let from = if !patient || self.schema.stored_len() <= SMALL {
            0
        } else if at >= last_end && at - last_end <= AHEAD {
            cells.column
        } else {
            let gap = self.missing_of(cells.column, &(cells.rows.start..rows.end));
            return self
                .fetch_columns(&[cells.column], gap.unwrap_or(cells.rows))
                .await;
        };
        let first = (from..self.layout.columns())
            .filter_map(|column| Some(self.missing_of(column, &rows)?.start))
            .min();
        self.fetch(from, first.unwrap_or(0)..rows.end).await
    }

    /// Fetches `rows` of all columns from number `from` on that lack some of
    /// them, as far as the cache can hold them together.
    async fn fetch(&self, from: usize, rows: Range<u64>) -> Result<(), ContentError> {
        let columns: Vec<usize> = (from..self.layout.columns())
            .filter(|&column| self.missing_of(column, &rows).is_some())
            .collect();
        if columns.is_empty() {
            return Ok(());
        }
        self.fetch_columns(&columns, rows).await
    }

    async fn fetch_columns(&self, columns: &[usize], rows: Range<u64>) -> Result<(), ContentError> {
        let width: u64 = columns
            .iter()
            .filter_map(|&column| self.layout.width(column).ok())
            .sum();
        // A table larger than the cache goes through it piece by piece.
        let fits = (self.file.entry().capacity() / 2 / width.max(1)).max(1);
        let length = (rows.end - rows.start).min(fits);
        let rows = rows.start..rows.start + length;
        self.slices.fetch_add(1, Ordering::Relaxed);
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
            column_numbers: columns.to_vec(),
            slice: (!whole).then_some(RowSlice {
                offset: rows.start,
                length,
            }),
        };
        let ranges: Result<Vec<_>, _> = columns
            .iter()
            .map(|&column| self.layout.column_range(column, rows.clone()))
            .collect();
        let expected = width * length;
        let wrong_length = |found: u64| ContentError::WrongLength {
            id: self.id,
            expected,
            found,
        };
        let _buffers = self.memory().for_stream().await?;
        let mut body = self.data.columns(&request).await?;
        if let Some(found) = body.expected().filter(|&found| found != expected) {
            return Err(wrong_length(found));
        }
        let mut target = Target::new(self.file.entry(), ranges?);
        while let Some(chunk) = body.chunk().await? {
            target.write(&chunk).map_err(|rest| match rest {
                Rest::TooMuch => wrong_length(expected + 1),
                Rest::Failed(error) => error,
            })?;
            self.arrived.send_replace(());
            if expected > SMALL && !self.is_wanted(target.position()).await {
                target.finish()?;
                return Ok(());
            }
        }
        let received = target.finish()?;
        if received != expected {
            return Err(wrong_length(received));
        }
        self.complete().await
    }

    /// Waits while a slice that has come to byte `at` is far enough ahead of
    /// its readers; false if they do not come back.
    async fn is_wanted(&self, at: u64) -> bool {
        let mut wanted = self.wanted.subscribe();
        let further = tokio::time::timeout(IDLE, wanted.wait_for(|wanted| at < *wanted)).await;
        further.is_ok()
    }

    /// Adds the trailer, and gives the file its name once all columns are
    /// there.
    async fn complete(&self) -> Result<(), ContentError> {
        let (entry, len) = (self.file.entry(), self.layout.file_len());
        let trailer = self.schema.stored_len()..len;
        entry.write(trailer.start, self.layout.trailer(trailer))?;
        if !entry.is_complete() {
            return Ok(());
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

/// How long to go on asking for what does not stay.
#[derive(Debug, Default)]
struct Patience {
    furthest: Option<u64>,
    in_vain: u32,
}

impl Patience {
    /// Counts one more try to get what is missing from `position` on.
    fn try_again(&mut self, position: u64) -> Result<(), ContentError> {
        // What came before may be gone again for want of room.
        if self.furthest.is_none_or(|furthest| furthest < position) {
            self.furthest = Some(position);
            self.in_vain = 0;
        } else if self.in_vain < IN_VAIN {
            self.in_vain += 1;
        } else {
            return Err(CacheError::TooSmall.into());
        }
        Ok(())
    }
}
