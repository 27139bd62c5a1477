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

use bytes::Bytes;
use tokio::sync::watch;

use super::planner::columns::{AHEAD, MAX_REQUESTS};
use super::request_stats::{RequestCounts, RequestStats};
use super::table_file::TableFile;
use super::{ByteSource, ContentError};
use crate::cache::{CacheError, CacheRead};
use crate::memory::MemoryBudget;
use icos_portal::{DataClient, ObjectId};
use icos_sync::SingleFlight;
use icos_table::{Layout, Schema};

mod fetch;
mod slice;

/// How often someone waits for bytes that are gone again, or were never meant,
/// before they can be read.
const IN_VAIN: u32 = 2 * MAX_REQUESTS;
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
    flights: SingleFlight<(), Result<(), ContentError>>,
    /// Told whenever bytes have come.
    arrived: watch::Sender<()>,
    /// How far into the `.cpb` file readers want a slice to run.
    wanted: watch::Sender<u64>,
    /// Where in the file the slice under way is.
    position: AtomicU64,
    /// Told whenever someone waits for what that slice will not bring.
    others: watch::Sender<()>,
    /// Where the last read of the `.cpb` file ended.
    last_end: AtomicU64,
    /// Bytes that have come from the portal.
    received: AtomicU64,
    request_stats: Arc<RequestStats>,
}

impl Columns {
    pub(super) fn new(
        id: ObjectId,
        folder: String,
        schema: Schema,
        file: TableFile,
        data: DataClient,
        request_stats: Arc<RequestStats>,
    ) -> Self {
        Self {
            slices: AtomicU32::new(request_stats.recall(id).requests),
            request_stats,
            id,
            folder,
            layout: Layout::new(&schema),
            schema,
            file,
            data,
            flights: SingleFlight::default(),
            arrived: watch::Sender::new(()),
            wanted: watch::Sender::new(0),
            position: AtomicU64::new(0),
            others: watch::Sender::new(()),
            last_end: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    pub(super) fn id(&self) -> ObjectId {
        self.id
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The memory for its buffers.
    pub(super) fn memory(&self) -> &MemoryBudget {
        self.file.memory()
    }

    /// Whether some of the bytes are in memory only.
    pub(super) fn has_memory_blocks(&self) -> bool {
        self.file.has_memory_blocks()
    }

    /// Offers the disk what only memory has; whether it takes all of it.
    pub(super) fn move_to_disk(&self) -> bool {
        self.file.move_to_disk()
    }

    /// Length of the `.cpb` file in bytes.
    pub(super) fn file_len(&self) -> u64 {
        self.layout.file_len()
    }

    /// Fetches what is missing of `rows`, and perhaps more.
    pub(super) async fn ensure(self: &Arc<Self>, rows: Range<u64>) -> Result<(), ContentError> {
        self.bring_rows(rows, 0).await
    }

    /// As [`Columns::ensure`], for who reads so many bytes at once.
    async fn bring_rows(
        self: &Arc<Self>,
        rows: Range<u64>,
        at_once: u64,
    ) -> Result<(), ContentError> {
        let mut refetches = RefetchLimit::default();
        while let Some(missing) = self.first_missing(rows.clone()) {
            refetches.attempt(missing.start)?;
            // All columns are needed: a slice under way must run to its end.
            self.want(u64::MAX);
            let columns = Arc::clone(self);
            self.flights
                .join((), || async move {
                    // What another flight brought meanwhile need not come again.
                    let rest = missing.start..columns.schema.rows();
                    match columns.first_missing(rest) {
                        Some(still) => columns.fetch_rows(still, at_once).await,
                        None => Ok(()),
                    }
                })
                .await?;
        }
        Ok(())
    }

    /// Fetches what is missing of `rows` of some stored columns, in one request
    /// if the cache can hold it.
    pub(super) async fn ensure_cells(
        self: &Arc<Self>,
        stored: &[usize],
        rows: Range<u64>,
    ) -> Result<(), ContentError> {
        let mut refetches = RefetchLimit::default();
        while let Some(row) = self.first_lacking(stored, &rows) {
            refetches.attempt(row)?;
            self.want(u64::MAX);
            let (columns, stored, rows) = (Arc::clone(self), stored.to_vec(), rows.clone());
            self.flights
                .join((), || async move {
                    match columns.first_lacking(&stored, &rows) {
                        Some(row) => columns.fetch(stored, row..rows.end).await,
                        None => Ok(()),
                    }
                })
                .await?;
        }
        Ok(())
    }

    /// The first of `rows` that one of the stored columns lacks.
    fn first_lacking(&self, stored: &[usize], rows: &Range<u64>) -> Option<u64> {
        let lacking = stored.iter();
        lacking
            .filter_map(|&column| Some(self.missing_of(column, rows)?.start))
            .min()
    }

    /// Notes where an answer under way gets `rows` from.
    pub(super) fn note_byte_source(&self, rows: &Range<u64>) {
        match self.first_missing(rows.clone()) {
            Some(_) => ByteSource::Portal.note(),
            None => self.file.origin().note(),
        }
    }

    /// How many bytes are missing of `rows` of some stored columns.
    pub(super) fn missing_bytes(&self, stored: &[usize], rows: &Range<u64>) -> u64 {
        let ranges = stored
            .iter()
            .filter_map(|&column| self.layout.column_range(column, rows.clone()).ok());
        ranges.map(|range| self.file.missing_bytes(range)).sum()
    }

    /// How many bytes have come from the portal so far, and word of more.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrived.subscribe()
    }

    /// How many bytes of columns can be counted on to stay until they are
    /// read.
    pub(super) fn capacity(&self) -> u64 {
        self.file.entry().capacity() / 2
    }

    /// Bytes of a row of some stored columns.
    pub(super) fn width_of(&self, stored: &[usize]) -> u64 {
        let widths = stored.iter().filter_map(|&at| self.layout.width(at).ok());
        widths.sum()
    }

    /// Prepares for all rows from `row` on to be drawn: what is missing comes
    /// in one request, if the cache can hold it.
    pub(super) async fn expect_all(self: &Arc<Self>, row: u64) -> Result<(), ContentError> {
        self.slices.store(MAX_REQUESTS, Ordering::Relaxed);
        let rest = row..self.schema.rows();
        if self.first_missing(rest.clone()).is_some() && self.schema.stored_len() <= self.capacity()
        {
            self.ensure(rest).await?;
        }
        Ok(())
    }

    /// From `row` on, the end of the rows that can be drawn, once there is at
    /// least one. The reader asks for `at_once` bytes at a time.
    pub(super) async fn available(
        self: &Arc<Self>,
        row: u64,
        at_once: u64,
    ) -> Result<u64, ContentError> {
        let rows = self.schema.rows();
        self.bring_rows(row..rows.min(row + 1), at_once).await?;
        Ok(self
            .first_missing(row..rows)
            .map_or(rows, |missing| missing.start))
    }

    /// Reads `bytes` of the `.cpb` file: who reads it from the start gets it
    /// from one request, as it comes.
    pub(super) async fn read(self: &Arc<Self>, bytes: Range<u64>) -> Result<Bytes, ContentError> {
        let end = bytes.end.min(self.layout.file_len());
        let bytes = bytes.start.min(end)..end;
        let mut refetches = RefetchLimit::default();
        loop {
            let reservation = self.memory().reserve_reply(end - bytes.start).await?;
            let (columns, range) = (Arc::clone(self), bytes.clone());
            let reading = tokio::task::spawn_blocking(move || columns.file.read(range)).await;
            let read =
                reading.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            let gap = match read {
                CacheRead::Bytes(found) => {
                    self.last_end.store(end, Ordering::Relaxed);
                    self.file.origin().note();
                    return Ok(reservation.attach(found));
                }
                CacheRead::Missing(gap) => gap,
            };
            drop(reservation);
            refetches.attempt(gap.start)?;
            ByteSource::Portal.note();
            self.bring(bytes.clone()).await?;
        }
    }

    /// Waits until `bytes` of the `.cpb` file are there, or a request has
    /// ended.
    async fn bring(self: &Arc<Self>, bytes: Range<u64>) -> Result<(), ContentError> {
        let mut arrived = self.arrived.subscribe();
        self.want(bytes.end.saturating_add(AHEAD));
        // All that the slice brings before its position is there by then.
        let position = self.position.load(Ordering::Acquire);
        let gap = self.file.first_missing(bytes.clone());
        if gap.is_some_and(|gap| gap.start < position) {
            self.others.send_replace(());
        }
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

    /// The bytes of `rows` of the CSV's columns; `None` if a piece turned out
    /// damaged and must be fetched again. Blocks on the disk.
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
        // Of what came as a whole nothing more will be asked.
        if !self.file.is_complete() {
            let asked = RequestCounts {
                requests: *self.slices.get_mut(),
                bytes: 0,
            };
            self.request_stats.note(self.id, asked);
        }
    }
}

/// How long to go on asking for what does not stay, be it for want of room or
/// for a disk that damages it: every time is a download.
#[derive(Debug, Default)]
pub(super) struct RefetchLimit {
    furthest: Option<u64>,
    in_vain: u32,
}

impl RefetchLimit {
    /// Counts one more try to get what is missing from `position` on.
    pub(super) fn attempt(&mut self, position: u64) -> Result<(), ContentError> {
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
