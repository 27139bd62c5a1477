//! A table's columns: downloads their bytes into the table's `.cpb` file in the
//! cache, for every representation of the table.
//!
//! Each request counts as a download. Rendering needs rows of all columns; a
//! reader of the `.cpb` file needs bytes of one column.
//!
//! ```text
//!  rows (CSV, Parquet, export)     bytes of the .cpb file
//!    ensure, ensure_cells            read
//!        |                             |
//!        v  missing                    v  missing
//!      single flight: one request at a time
//!        |
//!        +- planner (pure): which columns, which rows
//!        +- fetch: response --> ColumnWriter --> BlockWriter --> cache file
//!                                   |
//!                  position, arrived: wake the waiting readers
//! ```
//!
//! Invariants:
//!
//! - At most one request of a table is under way. While it is paused ahead of its
//!   readers, it ends if a reader waits for other bytes.
//! - Request number [`MAX_REQUESTS`] fetches everything that is missing, if it fits
//!   into the cache.
//! - A reader waits for the network without holding memory, and gives up after a
//!   limited number of requests whose bytes do not stay ([`RefetchLimit`]).
//!
//! What to request is decided in [`planner::columns`](super::planner::columns).
//! No lock is held here: the shared state is atomics and watch channels.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::watch;

use super::planner::columns::{COLUMNS_AHEAD, MAX_REQUESTS};
use super::request_stats::{RequestCounts, RequestStats};
use super::sharing::DataSource;
use super::table_file::TableFile;
use super::{ByteSource, ContentError};
use crate::cache::{CacheError, CacheRead};
use crate::memory::MemoryBudget;
use icos_portal::ObjectId;
use icos_sync::SingleFlight;
use icos_table::{Layout, Schema};

mod fetch;

/// How often a reader requests bytes that are evicted before it reads them, or
/// that the response did not include.
const MAX_REFETCHES: u32 = 2 * MAX_REQUESTS;

/// The columns of one table.
#[derive(Debug)]
pub(super) struct Columns {
    id: ObjectId,
    folder: String,
    schema: Schema,
    layout: Layout,
    file: TableFile,
    data: DataSource,
    /// Requests sent so far.
    requests: AtomicU32,
    flights: SingleFlight<(), Result<(), ContentError>>,
    /// Notified when bytes have been stored.
    arrived: watch::Sender<()>,
    /// Up to which offset of the `.cpb` file readers want the request to run.
    run_until: watch::Sender<u64>,
    /// The offset at which the request under way stores its next bytes.
    position: AtomicU64,
    /// Notified when a reader waits for bytes that the request under way does
    /// not deliver.
    diverted: watch::Sender<()>,
    /// Where the last read of the `.cpb` file ended.
    last_end: AtomicU64,
    /// Bytes received from the portal.
    received: AtomicU64,
    request_stats: Arc<RequestStats>,
}

impl Columns {
    pub(super) fn new(
        id: ObjectId,
        folder: String,
        schema: Schema,
        file: TableFile,
        data: DataSource,
        request_stats: Arc<RequestStats>,
    ) -> Self {
        Self {
            requests: AtomicU32::new(request_stats.take(id).requests),
            request_stats,
            id,
            folder,
            layout: Layout::new(&schema),
            schema,
            file,
            data,
            flights: SingleFlight::default(),
            arrived: watch::Sender::new(()),
            run_until: watch::Sender::new(0),
            position: AtomicU64::new(0),
            diverted: watch::Sender::new(()),
            last_end: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Opens the file in the cache, so that later calls need not wait for the disk.
    pub(super) async fn open_file(&self) -> Result<(), ContentError> {
        Ok(self.file.open().await?)
    }

    pub(super) fn id(&self) -> ObjectId {
        self.id
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The budget for buffers.
    pub(super) fn memory(&self) -> &MemoryBudget {
        self.file.memory()
    }

    /// Whether some of the bytes are in memory only.
    pub(super) fn has_memory_blocks(&self) -> bool {
        self.file.has_memory_blocks()
    }

    /// Moves blocks that are in memory only to the disk. Returns whether the
    /// disk took all of them.
    pub(super) fn move_to_disk(&self) -> bool {
        self.file.move_to_disk()
    }

    /// The length of the `.cpb` file in bytes.
    pub(super) fn file_len(&self) -> u64 {
        self.layout.file_len()
    }

    /// Downloads what is missing of all columns in `rows`, and perhaps more.
    pub(super) async fn ensure(self: &Arc<Self>, rows: Range<u64>) -> Result<(), ContentError> {
        self.ensure_rows(rows, 0).await
    }

    /// As [`Columns::ensure`], for a reader that takes `read_len` bytes at once.
    async fn ensure_rows(
        self: &Arc<Self>,
        rows: Range<u64>,
        read_len: u64,
    ) -> Result<(), ContentError> {
        self.open_file().await?;
        let mut refetches = RefetchLimit::default();
        while let Some(missing) = self.first_missing(rows.clone()) {
            refetches.attempt(missing.start)?;
            if refetches.is_repeated() {
                return self.ensure_only(rows).await;
            }
            // All columns are needed: a request under way must run to its end.
            self.run_until(u64::MAX);
            let columns = Arc::clone(self);
            self.flights
                .join((), || async move {
                    // Another flight may have delivered some of it meanwhile.
                    let rest = missing.start..columns.schema.rows();
                    match columns.first_missing(rest) {
                        Some(still) => columns.fetch_rows(still, read_len).await,
                        None => Ok(()),
                    }
                })
                .await?;
        }
        Ok(())
    }

    /// As [`Columns::ensure`], but downloads nothing more: for a reader whose bytes were
    /// evicted before it read them. Otherwise readers would evict what they need
    /// themselves, and what others need, again and again.
    pub(super) async fn ensure_only(
        self: &Arc<Self>,
        rows: Range<u64>,
    ) -> Result<(), ContentError> {
        let all: Vec<usize> = (0..self.layout.columns()).collect();
        let ranges: Result<Vec<_>, _> = (all.iter())
            .map(|&column| self.layout.column_range(column, rows.clone()))
            .collect();
        self.file.cached().evict_last(&ranges?);
        self.ensure_cells(&all, rows).await
    }

    /// Downloads what is missing of `rows` of some stored columns, in one request
    /// if it fits into the cache.
    pub(super) async fn ensure_cells(
        self: &Arc<Self>,
        stored: &[usize],
        rows: Range<u64>,
    ) -> Result<(), ContentError> {
        self.open_file().await?;
        let mut refetches = RefetchLimit::default();
        while let Some(row) = self.first_missing_row(stored, &rows) {
            refetches.attempt(row)?;
            self.run_until(u64::MAX);
            let (columns, stored, rows) = (Arc::clone(self), stored.to_vec(), rows.clone());
            self.flights
                .join((), || async move {
                    match columns.first_missing_row(&stored, &rows) {
                        Some(row) => columns.fetch(stored, row..rows.end).await,
                        None => Ok(()),
                    }
                })
                .await?;
        }
        Ok(())
    }

    /// The first of `rows` that is missing of one of the stored columns.
    fn first_missing_row(&self, stored: &[usize], rows: &Range<u64>) -> Option<u64> {
        stored
            .iter()
            .filter_map(|&column| Some(self.missing_of(column, rows)?.start))
            .min()
    }

    /// Notes where `rows` come from, for the reply under way.
    pub(super) fn note_byte_source(&self, rows: &Range<u64>) {
        match self.first_missing(rows.clone()) {
            Some(_) => ByteSource::Portal.note(),
            None => self.file.source().note(),
        }
    }

    /// Notes that bytes which are present are read, for the reply under way.
    pub(super) fn note_present(&self) {
        self.file.source().note();
    }

    /// The number of bytes that are missing of `rows` of some stored columns.
    pub(super) fn missing_bytes(&self, stored: &[usize], rows: &Range<u64>) -> u64 {
        let ranges = stored
            .iter()
            .filter_map(|&column| self.layout.column_range(column, rows.clone()).ok());
        ranges.map(|range| self.file.missing_bytes(range)).sum()
    }

    /// The number of bytes received from the portal so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Notifies when more bytes have been received.
    pub(super) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrived.subscribe()
    }

    /// How many bytes of columns the cache can store without evicting some of them.
    pub(super) fn capacity(&self) -> u64 {
        self.file.cached().capacity() / 2
    }

    /// The number of bytes that a row of some stored columns takes.
    pub(super) fn width_of(&self, stored: &[usize]) -> u64 {
        let widths = stored.iter().filter_map(|&at| self.layout.width(at).ok());
        widths.sum()
    }

    /// Prepares for all rows from `row` on to be rendered: downloads what is
    /// missing in one request, if it fits into the cache.
    pub(super) async fn expect_all(self: &Arc<Self>, row: u64) -> Result<(), ContentError> {
        self.requests.store(MAX_REQUESTS, Ordering::Relaxed);
        let rest = row..self.schema.rows();
        if self.first_missing(rest.clone()).is_some() && self.schema.stored_len() <= self.capacity()
        {
            self.ensure(rest).await?;
        }
        Ok(())
    }

    /// Waits until at least `row` can be rendered; returns the end of the rows
    /// that can be, from `row` on. The reader takes `read_len` bytes at once.
    pub(super) async fn available(
        self: &Arc<Self>,
        row: u64,
        read_len: u64,
    ) -> Result<u64, ContentError> {
        let rows = self.schema.rows();
        self.ensure_rows(row..rows.min(row + 1), read_len).await?;
        Ok(self
            .first_missing(row..rows)
            .map_or(rows, |missing| missing.start))
    }

    /// Reads `bytes` of the `.cpb` file. A sequential read from its start is
    /// served by one request, while its bytes arrive.
    pub(super) async fn read(self: &Arc<Self>, bytes: Range<u64>) -> Result<Bytes, ContentError> {
        let end = bytes.end.min(self.layout.file_len());
        let bytes = bytes.start.min(end)..end;
        let mut refetches = RefetchLimit::default();
        loop {
            let reservation = self.memory().reserve_reply(end - bytes.start).await?;
            let gap = match self.file.read_in_pool(bytes.clone()).await? {
                CacheRead::Bytes(found) => {
                    self.last_end.store(end, Ordering::Relaxed);
                    self.file.source().note();
                    return Ok(reservation.attach(found));
                }
                CacheRead::Missing(gap) => gap,
            };
            drop(reservation);
            refetches.attempt(gap.start)?;
            ByteSource::Portal.note();
            self.request_bytes(bytes.clone()).await?;
        }
    }

    /// Waits until the cache has `bytes` of the `.cpb` file, or a request has
    /// ended. Starts a request if none is under way.
    async fn request_bytes(self: &Arc<Self>, bytes: Range<u64>) -> Result<(), ContentError> {
        let mut arrived = self.arrived.subscribe();
        self.run_until(bytes.end.saturating_add(COLUMNS_AHEAD));
        // What is missing before the position does not arrive with the request
        // under way.
        let position = self.position.load(Ordering::Acquire);
        let gap = self.file.first_missing(bytes.clone());
        if gap.is_some_and(|gap| gap.start < position) {
            self.diverted.send_replace(());
        }
        let (columns, range) = (Arc::clone(self), bytes.clone());
        let flight = self.flights.join((), || async move {
            match columns.file.first_missing(range) {
                Some(still) => columns.fetch_bytes(still.start).await,
                None => Ok(()),
            }
        });
        let arrival = async {
            while self.file.first_missing(bytes.clone()).is_some() {
                // Never fails: `self` holds the sender.
                let _ = arrived.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = arrival => Ok(()),
            ended = flight => match ended {
                // Bytes that arrived before a failure are valid.
                Err(error) if self.file.first_missing(bytes.clone()).is_some() => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Lets the request run up to `end` at least.
    fn run_until(&self, end: u64) {
        self.run_until.send_if_modified(|run_until| {
            let is_further = *run_until < end;
            *run_until = (*run_until).max(end);
            is_further
        });
    }

    /// The first part of `rows` that is missing of some column.
    fn first_missing(&self, rows: Range<u64>) -> Option<Range<u64>> {
        (0..self.layout.columns())
            .filter_map(|column| self.missing_of(column, &rows))
            .min_by_key(|gap| (gap.start, std::cmp::Reverse(gap.end)))
    }

    /// The first part of `rows` that is missing of a stored column.
    fn missing_of(&self, column: usize, rows: &Range<u64>) -> Option<Range<u64>> {
        let bytes = self.layout.column_range(column, rows.clone()).ok()?;
        let width = self.layout.width(column).ok()?;
        let gap = self.file.first_missing(bytes.clone())?;
        let first = rows.start + (gap.start - bytes.start) / width;
        let end = rows.start + (gap.end - bytes.start).div_ceil(width);
        Some(first..end)
    }

    /// The bytes of `rows` of the CSV's columns; `None` if some of them are
    /// corrupt or evicted and must be downloaded again. Blocks on the disk.
    pub(super) fn window(&self, rows: &Range<u64>) -> Result<Option<Vec<Vec<u8>>>, ContentError> {
        let mut window = Vec::with_capacity(self.schema.columns().len());
        for csv in 0..self.schema.columns().len() {
            let stored = self.schema.stored_index(csv).unwrap_or(csv);
            match self.cells(stored, rows)? {
                Some(bytes) => window.push(bytes),
                None => return Ok(None),
            }
        }
        Ok(Some(window))
    }

    /// The bytes of `rows` of a stored column; `None` as for
    /// [`Columns::window`]. Blocks on the disk.
    pub(super) fn cells(
        &self,
        stored: usize,
        rows: &Range<u64>,
    ) -> Result<Option<Vec<u8>>, ContentError> {
        let range = self.layout.column_range(stored, rows.clone())?;
        Ok(match self.file.read(range)? {
            CacheRead::Bytes(bytes) => Some(bytes),
            CacheRead::Missing(_) => None,
        })
    }
}

impl Drop for Columns {
    fn drop(&mut self) {
        // A complete file needs no further requests.
        if !self.file.is_complete() {
            let counts = RequestCounts {
                requests: *self.requests.get_mut(),
                ..RequestCounts::default()
            };
            self.request_stats.note(self.id, counts);
        }
    }
}

/// Limits how often a reader requests the same bytes again, because they are
/// evicted or damaged before it reads them: each time is a download.
#[derive(Debug, Default)]
pub(super) struct RefetchLimit {
    /// The furthest position that was requested.
    furthest: Option<u64>,
    /// Requests since then.
    refetches: u32,
}

impl RefetchLimit {
    /// Whether the last attempt was for bytes that had been received before.
    pub(super) fn is_repeated(&self) -> bool {
        self.refetches > 0
    }

    /// Counts an attempt to get what is missing from `position` on.
    ///
    /// # Errors
    ///
    /// [`CacheError::TooSmall`] after too many attempts without progress.
    pub(super) fn attempt(&mut self, position: u64) -> Result<(), ContentError> {
        // Bytes before the furthest position were received, but evicted again.
        if self.furthest.is_none_or(|furthest| furthest < position) {
            self.furthest = Some(position);
            self.refetches = 0;
        } else if self.refetches < MAX_REFETCHES {
            self.refetches += 1;
        } else {
            return Err(CacheError::TooSmall.into());
        }
        Ok(())
    }
}
