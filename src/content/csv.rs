//! A table's CSV at any offset: only the rows that show the bytes asked for
//! are drawn, from columns that are fetched as far as they are needed.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use super::ContentError;
use super::columns::Columns;
use super::drawn::Drawn;
use crate::flight::Flights;
use crate::table::{CsvWriter, RowIndex};

/// About how much text is drawn at once: enough that a wide table's columns
/// are read in long stretches.
const CHUNK: usize = 1 << 20;

/// A table seen as text.
#[derive(Debug)]
pub(super) struct CsvFile {
    columns: Arc<Columns>,
    writer: CsvWriter,
    drawn: Arc<Drawn>,
    /// Grows from the first row on; whole once the length is known.
    index: Mutex<RowIndex>,
    flights: Flights<u64, Result<(), ContentError>>,
}

impl CsvFile {
    pub(super) fn new(columns: Arc<Columns>, drawn: Arc<Drawn>) -> Self {
        let writer = CsvWriter::new(columns.schema().columns());
        // Rows are about half as long as the longest can be.
        let every = (2 * CHUNK / writer.max_row_len()).max(64);
        let every = u32::try_from(every).unwrap_or(u32::MAX);
        let every = NonZeroU32::new(every).unwrap_or(NonZeroU32::MIN);
        let index = RowIndex::new(writer.header().len() as u64, every);
        Self {
            columns,
            writer,
            drawn,
            index: Mutex::new(index),
            flights: Flights::default(),
        }
    }

    /// The exact length, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        let index = self.index();
        (index.rows() == self.columns.schema().rows()).then(|| index.text_len())
    }

    /// The exact length: all columns are fetched, and all rows drawn or
    /// measured.
    pub(super) async fn exact_size(self: Arc<Self>) -> Result<u64, ContentError> {
        loop {
            if let Some(size) = self.size() {
                return Ok(size);
            }
            let row = self.index().rows();
            self.columns.expect_all(row).await?;
            self.extend().await?;
        }
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end.
    pub(super) async fn read(
        self: Arc<Self>,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let mut out = BytesMut::new();
        while out.len() < len {
            let at = offset.saturating_add(out.len() as u64);
            let wanted = len - out.len();
            if let Some(header) = usize::try_from(at)
                .ok()
                .and_then(|at| self.writer.header().get(at..))
                .filter(|rest| !rest.is_empty())
            {
                out.extend_from_slice(&header[..header.len().min(wanted)]);
                continue;
            }
            let (span, done) = {
                let index = self.index();
                let done = index.rows() == self.columns.schema().rows();
                (index.locate(at..at.saturating_add(1)), done)
            };
            match span {
                Some(span) => {
                    let text = self.text(span.rows).await?;
                    let from = usize::try_from(at - span.bytes.start).unwrap_or(usize::MAX);
                    // Never empty: the span shows the byte at `at`.
                    let rest = text.get(from..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                    if rest.len() >= wanted && out.is_empty() {
                        return Ok(text.slice(from..from + wanted));
                    }
                    out.extend_from_slice(&rest[..rest.len().min(wanted)]);
                }
                None if done => break,
                None => self.extend().await?,
            }
        }
        Ok(out.freeze())
    }

    /// Draws, or measures, the rows that follow those the index knows, up to
    /// its next mark or the end of what is there.
    async fn extend(self: &Arc<Self>) -> Result<(), ContentError> {
        let (start, mark) = {
            let index = self.index();
            (index.rows(), index.rows() + index.rows_to_next_mark())
        };
        let file = Arc::clone(self);
        self.flights
            .join(start, || async move {
                let end = file.columns.available(start).await?.min(mark);
                let text = file.text(start..end).await?;
                let mut index = file.index();
                if index.rows() == start {
                    index.push(end - start, text.len() as u64)?;
                }
                Ok(())
            })
            .await
    }

    /// The text of `rows`, which are those between two marks or fewer.
    async fn text(self: &Arc<Self>, rows: Range<u64>) -> Result<Bytes, ContentError> {
        let id = self.columns.id();
        if let Some(text) = self.drawn.get(id, rows.clone()) {
            return Ok(text);
        }
        loop {
            self.columns.ensure(rows.clone()).await?;
            let row = self.columns.schema().row_width() + self.writer.max_row_len() as u64 / 2;
            let bytes = row.saturating_mul(rows.end - rows.start);
            let memory = self.columns.memory();
            let _share = memory.for_answer(bytes).await?;
            let (file, drawing) = (Arc::clone(self), rows.clone());
            let drawn = tokio::task::spawn_blocking(move || file.draw(&drawing)).await;
            // A panic in there is a bug; the next reader may meet it as well.
            let text =
                drawn.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            if let Some(text) = text {
                self.drawn.put(id, rows, text.clone());
                return Ok(text);
            }
        }
    }

    fn draw(&self, rows: &Range<u64>) -> Result<Option<Bytes>, ContentError> {
        let Some(window) = self.columns.window(rows)? else {
            return Ok(None);
        };
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let columns: Vec<&[u8]> = window.iter().map(Vec::as_slice).collect();
        let mut text = Vec::with_capacity(count.saturating_mul(self.writer.max_row_len() / 2));
        self.writer.draw(count, &columns, &mut text)?;
        Ok(Some(text.into()))
    }

    fn index(&self) -> MutexGuard<'_, RowIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
