//! Sends a request for columns, and stores the response in the cache.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::Columns;
use crate::cache::{CacheError, CacheFile};
use crate::content::block_writer::BlockWriter;
use crate::content::planner::IDLE;
use crate::content::planner::columns::{self as planner, ColumnScope};
use crate::content::shared_download::{Turn, wait_for_turn};
use crate::content::sharing::ColumnSelection;
use crate::content::{ByteSource, ContentError};
use icos_portal::data::{ColumnsRequest, RowSlice, StoredTable};
use icos_table::{FilePart, StoredType};

impl Columns {
    /// Downloads all columns of rows from `missing.start` on, for a reader that
    /// takes `read_len` bytes at once.
    pub(super) async fn fetch_rows(
        &self,
        missing: Range<u64>,
        read_len: u64,
    ) -> Result<(), ContentError> {
        let requests = self.requests.load(Ordering::Relaxed);
        let row_width = self.schema.row_width();
        let rows = planner::rows_to_request(&missing, requests, row_width, read_len);
        let rows = (self.file.grid()).complete_rows(&rows, self.schema.rows());
        self.fetch(0..self.layout.columns(), rows).await
    }

    /// Downloads the byte `offset` of the `.cpb` file, with as much around it as
    /// the planner decides.
    pub(super) async fn fetch_bytes(&self, offset: u64) -> Result<(), ContentError> {
        let rows = 0..self.schema.rows();
        let Some(FilePart::Cells(cells)) = self.layout.cover(offset..offset + 1).next() else {
            return self.complete().await;
        };
        let requests = self.requests.load(Ordering::Relaxed);
        let last_end = self.last_end.load(Ordering::Relaxed);
        let stored_len = self.schema.stored_len();
        let capacity = self.capacity();
        let scope = planner::columns_to_request(
            offset,
            cells.column,
            requests,
            stored_len,
            capacity,
            last_end,
        );
        let from = match scope {
            ColumnScope::From(column) => column,
            ColumnScope::Following => {
                let block = self.file.grid().aligned_rows(&cells.rows, rows.end);
                let rest = block.start..rows.end;
                let columns = if rest.start == 0 {
                    self.columns_that_fit(cells.column, capacity)
                } else {
                    cells.column..cells.column + 1
                };
                let columns: Vec<usize> = columns.collect();
                return self.fetch_columns(&columns, rest).await;
            }
            ColumnScope::One => {
                let gap = self.missing_of(cells.column, &(cells.rows.start..rows.end));
                return self
                    .fetch_columns(&[cells.column], gap.unwrap_or(cells.rows))
                    .await;
            }
        };
        let first = (from..self.layout.columns())
            .filter_map(|column| Some(self.missing_of(column, &rows)?.start))
            .min();
        self.fetch(from..self.layout.columns(), first.unwrap_or(0)..rows.end)
            .await
    }

    /// The column `first`, and as many after it as have `capacity` bytes together.
    fn columns_that_fit(&self, first: usize, capacity: u64) -> Range<usize> {
        let mut end = first + 1;
        while end < self.layout.columns() {
            let columns: Vec<usize> = (first..=end).collect();
            let row = self.width_of(&columns);
            if row.saturating_mul(self.schema.rows()) > capacity {
                break;
            }
            end += 1;
        }
        first..end
    }

    /// Downloads `rows` of those `stored` columns that lack some of them, or as
    /// many rows as fit into the cache.
    pub(super) async fn fetch(
        &self,
        stored: impl IntoIterator<Item = usize>,
        rows: Range<u64>,
    ) -> Result<(), ContentError> {
        let columns: Vec<usize> = stored
            .into_iter()
            .filter(|&column| self.missing_of(column, &rows).is_some())
            .collect();
        if columns.is_empty() {
            return Ok(());
        }
        self.fetch_columns(&columns, rows).await
    }

    /// Downloads `rows` of `columns`; more of them, if other machines share the table.
    async fn fetch_columns(&self, columns: &[usize], rows: Range<u64>) -> Result<(), ContentError> {
        let selection = ColumnSelection {
            columns: columns.to_vec(),
            rows,
        };
        let is_shared = self.data.shares_tables();
        let ColumnSelection { columns, rows } = if is_shared {
            let widths: Vec<u64> = (0..self.layout.columns())
                .map(|column| self.layout.width(column))
                .collect::<Result<_, _>>()?;
            selection.for_sharing(&widths, self.schema.rows(), self.capacity())
        } else {
            selection
        };
        let columns = &columns[..];
        let mut lock = match self.wait_for_turn(columns, &rows).await? {
            Turn::Request(lock) => lock,
            Turn::Delivered => return self.complete().await,
        };
        let width = self.width_of(columns);
        let (grid, all) = (self.file.grid(), self.schema.rows());
        let rows = grid.aligned_rows(&rows, all);
        let rows = planner::rows_that_fit(&rows, width, self.capacity());
        let rows = grid.complete_rows(&rows, all);
        let length = rows.end - rows.start;
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let is_all = rows == (0..self.schema.rows());
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
            slice: (!is_all).then_some(RowSlice {
                offset: rows.start,
                length,
            }),
        };
        let ranges: Result<Vec<_>, _> = columns
            .iter()
            .map(|&column| self.layout.column_range(column, rows.clone()))
            .collect();
        let expected = width * length;
        // Other machines wait for the bytes.
        let may_pause = !(is_shared && is_all)
            && planner::may_pause(expected, rows.end == self.schema.rows(), requests);
        let wrong_length = |found: u64| ContentError::WrongLength {
            id: self.id,
            expected,
            found,
        };
        let ranges = ranges?;
        let first = ranges.first().map_or(0, |range| range.start);
        self.position.store(first, Ordering::Release);
        let mut diverted = self.diverted.subscribe();
        let _reservation = self.memory().reserve_stream().await?;
        let mut body = self.data.columns(request, expected).await?;
        let mut writer = ColumnWriter::new(Arc::clone(self.file.cached()), ranges);
        while let Some(chunk) = body.chunk().await? {
            writer.write(&chunk).await.map_err(|error| match error {
                WriteError::TooManyBytes => wrong_length(expected + 1),
                WriteError::Cache(error) => error.into(),
            })?;
            self.received
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            // A command that needs the last bytes may end as soon as it has them: before
            // that, sealing of the file begins.
            if writer.received < expected {
                self.arrived.send_replace(());
            }
            let position = writer.position();
            self.position.store(position, Ordering::Release);
            if may_pause && writer.received < expected && !self.continues(position) {
                // Other processes need not wait for the readers of this one.
                lock = None;
                if !self.wait_to_resume(position, &mut diverted).await {
                    writer.flush().await?;
                    return Ok(());
                }
            }
        }
        writer.flush().await?;
        drop(lock);
        if writer.received != expected {
            return Err(wrong_length(writer.received));
        }
        self.complete().await?;
        self.arrived.send_replace(());
        Ok(())
    }

    /// Seals the file if it is complete, but could not be sealed while several processes
    /// had it open.
    pub(in crate::content) async fn seal_complete(&self) {
        if !matches!(self.file.source(), ByteSource::Cache) {
            return;
        }
        let cached = self.file.cached();
        if cached.is_complete() && !cached.is_sealed() {
            Arc::clone(cached).seal_in_background(cached.epoch()).await;
        }
    }

    /// Waits while another process downloads this table into the same cache.
    async fn wait_for_turn(
        &self,
        columns: &[usize],
        rows: &Range<u64>,
    ) -> Result<Turn, ContentError> {
        let position = || {
            let missing = columns
                .iter()
                .filter_map(|&column| Some(self.missing_of(column, rows)?.start));
            missing.min().unwrap_or(rows.end)
        };
        let last = AtomicU64::new(position());
        let follow = || {
            let position = position();
            if last.swap(position, Ordering::Relaxed) != position {
                self.arrived.send_replace(());
            }
            position
        };
        let all = 0..self.layout.file_len();
        Ok(wait_for_turn(self.file.cached(), all, follow, |_| true).await?)
    }

    /// Whether readers want the bytes at `position` now.
    fn continues(&self, position: u64) -> bool {
        position < *self.run_until.borrow()
    }

    /// Waits while the request is ahead of its readers at `position`; false if
    /// they do not return in time, if a reader waits for other bytes, or if another
    /// stream needs the memory.
    async fn wait_to_resume(&self, position: u64, diverted: &mut watch::Receiver<()>) -> bool {
        let mut run_until = self.run_until.subscribe();
        tokio::select! {
            biased;
            _ = run_until.wait_for(|&end| position < end) => true,
            _ = diverted.changed() => false,
            () = self.memory().stream_wanted() => false,
            () = tokio::time::sleep(IDLE) => false,
        }
    }

    /// Adds the trailer, and seals the file if all columns are in the cache.
    async fn complete(&self) -> Result<(), ContentError> {
        let (cached, len) = (self.file.cached(), self.layout.file_len());
        let trailer = self.schema.stored_len()..len;
        let bytes = self.layout.trailer(trailer.clone()).to_vec();
        cached.write_in_pool(trailer.start, bytes.into()).await?;
        if !cached.is_complete() {
            return Ok(());
        }
        Arc::clone(cached).seal_in_background(cached.epoch()).await;
        Ok(())
    }
}

/// Writes the bytes of a response, one column after another, to their places in
/// the `.cpb` file.
struct ColumnWriter {
    blocks: BlockWriter,
    /// The ranges that follow the current one.
    ranges: std::vec::IntoIter<Range<u64>>,
    /// Where the current range ends.
    end: u64,
    received: u64,
}

/// Why bytes were not written.
enum WriteError {
    /// The response is longer than the requested ranges.
    TooManyBytes,
    Cache(CacheError),
}

impl ColumnWriter {
    fn new(cached: Arc<CacheFile>, ranges: Vec<Range<u64>>) -> Self {
        Self {
            blocks: BlockWriter::new(cached, 0),
            ranges: ranges.into_iter(),
            end: 0,
            received: 0,
        }
    }

    /// The offset in the file up to which the current column is written.
    fn position(&self) -> u64 {
        self.blocks.position()
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        self.received += bytes.len() as u64;
        while !bytes.is_empty() {
            let left = self.end - self.blocks.received();
            if left == 0 {
                let range = self.ranges.next().ok_or(WriteError::TooManyBytes)?;
                self.blocks.seek(range.start);
                self.end = range.end;
                continue;
            }
            let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (column, rest) = bytes.split_at(taken);
            self.blocks.push(column).await.map_err(WriteError::Cache)?;
            bytes = rest;
            if self.blocks.received() == self.end {
                self.blocks.flush().await.map_err(WriteError::Cache)?;
            }
        }
        Ok(())
    }

    /// Writes the last complete blocks.
    async fn flush(&mut self) -> Result<(), CacheError> {
        self.blocks.flush().await
    }
}
