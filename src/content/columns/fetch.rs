//! What is fetched of a table for whoever needs some of it, and how it comes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::Columns;
use super::slice::{Rest, Target};
use crate::content::ContentError;
use crate::content::planner::IDLE;
use crate::content::planner::columns::{self as planner, ColumnScope};
use icos_portal::data::{ColumnsRequest, RowSlice, StoredTable};
use icos_table::{FilePart, StoredType};

impl Columns {
    /// Fetches all columns of the rows from `missing.start` on, more with each
    /// request, and more for who reads much at once.
    pub(super) async fn fetch_rows(
        &self,
        missing: Range<u64>,
        at_once: u64,
    ) -> Result<(), ContentError> {
        let requests = self.slices.load(Ordering::Relaxed);
        let row_width = self.schema.row_width();
        let rows = planner::rows_to_request(&missing, requests, row_width, at_once);
        self.fetch(0..self.layout.columns(), rows).await
    }

    /// Fetches what the byte `at` of the `.cpb` file belongs to: of a short
    /// file, or for who reads it in sequence, all that follows as well; else
    /// just the rest of its column.
    pub(super) async fn fetch_bytes(&self, at: u64) -> Result<(), ContentError> {
        let rows = 0..self.schema.rows();
        let Some(FilePart::Cells(cells)) = self.layout.cover(at..at + 1).next() else {
            return self.complete().await;
        };
        let requests = self.slices.load(Ordering::Relaxed);
        let last_end = self.last_end.load(Ordering::Relaxed);
        let stored_len = self.schema.stored_len();
        let scope = planner::columns_to_request(at, cells.column, requests, stored_len, last_end);
        let from = match scope {
            ColumnScope::From(column) => column,
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

    /// Fetches `rows` of those of the `stored` columns that lack some of them,
    /// as far as the cache can hold them together.
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

    async fn fetch_columns(&self, columns: &[usize], rows: Range<u64>) -> Result<(), ContentError> {
        let width = self.width_of(columns);
        let rows = planner::rows_that_fit(&rows, width, self.capacity());
        let length = rows.end - rows.start;
        let before = self.slices.fetch_add(1, Ordering::Relaxed);
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
        let may_pause = planner::may_pause(expected, rows.end == self.schema.rows(), before);
        let wrong_length = |found: u64| ContentError::WrongLength {
            id: self.id,
            expected,
            found,
        };
        let ranges = ranges?;
        let first = ranges.first().map_or(0, |range| range.start);
        self.position.store(first, Ordering::Release);
        let mut others = self.others.subscribe();
        let _buffers = self.memory().reserve_stream().await?;
        let mut body = self.data.columns(&request).await?;
        if let Some(found) = body.content_length().filter(|&found| found != expected) {
            return Err(wrong_length(found));
        }
        let mut target = Target::new(self.file.entry(), ranges);
        while let Some(chunk) = body.chunk().await? {
            target.write(&chunk).map_err(|rest| match rest {
                Rest::TooMuch => wrong_length(expected + 1),
                Rest::Failed(error) => error,
            })?;
            self.received
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            self.arrived.send_replace(());
            let position = target.position();
            self.position.store(position, Ordering::Release);
            if may_pause && !self.is_wanted(position, &mut others).await {
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
    /// its readers; false if they do not come back, or if others wait for
    /// something else.
    async fn is_wanted(&self, at: u64, others: &mut watch::Receiver<()>) -> bool {
        let mut wanted = self.wanted.subscribe();
        tokio::select! {
            biased;
            _ = wanted.wait_for(|wanted| at < *wanted) => true,
            _ = others.changed() => false,
            () = tokio::time::sleep(IDLE) => false,
        }
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
        Arc::clone(entry).seal_in_background(entry.epoch()).await;
        Ok(())
    }
}
