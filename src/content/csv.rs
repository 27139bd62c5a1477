//! A table's CSV at any offset: only the rows that show the bytes asked for
//! are drawn, from columns that are fetched as far as they are needed.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::ContentError;
use super::columns::{Columns, RefetchLimit};
use super::drawn::Drawn;
use super::kept::Kept;
use crate::cache::Store;
use icos_portal::ObjectId;
use icos_sync::SingleFlight;
use icos_table::index::TextSpan;
use icos_table::{CsvWriter, RowIndex};

/// About how much text is drawn at once for who reads on and on: enough that a
/// wide table's columns are read in long stretches.
const CHUNK: usize = 1 << 20;
/// Where every so many rows begin is noted, fewer if they are long: who reads
/// here and there has no more than these drawn.
const EVERY: std::ops::RangeInclusive<usize> = 64..=1024;
/// How many chunks are drawn side by side for who waits for all of them: one
/// takes a processor for some milliseconds. (Linux tells their number from files.)
static SIDE_BY_SIDE: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |all| all.get().min(4)));

/// A table seen as text.
#[derive(Debug)]
pub(super) struct CsvFile {
    columns: Arc<Columns>,
    writer: CsvWriter,
    drawn: Arc<Drawn>,
    kept: Arc<Kept>,
    known: Mutex<Known>,
    /// How many of the index's marks make a chunk.
    marks: usize,
    flights: SingleFlight<Range<u64>, Result<Arc<RowIndex>, ContentError>>,
    /// Where the last read ended.
    last_end: AtomicU64,
}

/// What is known of the text.
#[derive(Debug)]
struct Known {
    /// Grows from the first row on; whole once the length is known.
    index: RowIndex,
    /// The length that was remembered, and that others may have been told.
    promised: Option<u64>,
}

/// Rows that were drawn.
struct Drawing {
    text: Bytes,
    /// Where they begin in it.
    index: RowIndex,
}

impl CsvFile {
    pub(super) async fn open(
        columns: Arc<Columns>,
        drawn: Arc<Drawn>,
        store: Store,
    ) -> Result<Self, ContentError> {
        let writer = CsvWriter::new(columns.schema().columns());
        // Rows are about half as long as the longest can be.
        let in_chunk = 2 * CHUNK / writer.max_row_len();
        let every = in_chunk.clamp(*EVERY.start(), *EVERY.end());
        let marks = (in_chunk / every).max(1);
        let every = u32::try_from(every).unwrap_or(u32::MAX);
        let every = NonZeroU32::new(every).unwrap_or(NonZeroU32::MIN);
        let header = writer.header().len() as u64;
        let kept = Arc::new(Kept::new(store, columns.id(), columns.schema())?);
        let (remembering, rows) = (Arc::clone(&kept), columns.schema().rows());
        let recalled =
            tokio::task::spawn_blocking(move || remembering.index(header, every, rows)).await;
        let index = recalled.ok().flatten();
        Ok(Self {
            known: Mutex::new(Known {
                promised: kept.length(),
                index: index.unwrap_or_else(|| RowIndex::new(header, every)),
            }),
            columns,
            writer,
            drawn,
            kept,
            marks,
            flights: SingleFlight::default(),
            last_end: AtomicU64::new(0),
        })
    }

    /// What it is drawn from.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    fn id(&self) -> ObjectId {
        self.columns.id()
    }

    /// The exact length, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        let known = self.known();
        let whole = || self.is_whole(&known.index).then(|| known.index.text_len());
        known.promised.or_else(whole)
    }

    fn is_whole(&self, index: &RowIndex) -> bool {
        index.rows() == self.columns.schema().rows()
    }

    /// The exact length: unless it is known, all columns are fetched, and all
    /// rows drawn.
    pub(super) async fn exact_size(self: Arc<Self>) -> Result<u64, ContentError> {
        loop {
            if let Some(size) = self.size() {
                return Ok(size);
            }
            let row = self.known().index.rows();
            self.columns.expect_all(row).await?;
            self.extend(0, u64::MAX).await?;
        }
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end.
    pub(super) async fn read(
        self: Arc<Self>,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let mut out = BytesMut::new();
        let end = offset.saturating_add(len as u64);
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
            let (span, whole) = self.locate(at..end);
            match span {
                Some(span) => {
                    let from = usize::try_from(at - span.bytes.start).unwrap_or(usize::MAX);
                    let text = self.text(span.clone()).await?;
                    // Never empty: the span shows the byte at `at`.
                    let rest = text.get(from..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                    if rest.len() <= wanted {
                        self.drawn.is_read(self.id(), span.rows);
                    }
                    if rest.len() >= wanted && out.is_empty() {
                        return Ok(text.slice(from..from + wanted));
                    }
                    out.extend_from_slice(&rest[..rest.len().min(wanted)]);
                }
                None if whole => break,
                None => {
                    let row = self.known().index.rows();
                    self.columns.note_byte_source(&(row..row + 1));
                    self.extend(len as u64, 1).await?;
                }
            }
        }
        // Nobody reads to an end that is only remembered.
        while self.is_unproved(end) {
            self.extend(len as u64, u64::MAX).await?;
        }
        let end = offset.saturating_add(out.len() as u64);
        self.last_end.store(end, Ordering::Relaxed);
        Ok(out.freeze())
    }

    /// Whether a read up to `end` would end where the text is only remembered
    /// to end.
    fn is_unproved(&self, end: u64) -> bool {
        let known = self.known();
        known.promised.is_some_and(|promised| promised <= end) && !self.is_whole(&known.index)
    }

    /// The rows to draw for a read of `bytes`, if they are known already, and
    /// whether all are: a whole chunk if it is at hand, or for who reads on from
    /// about where the last read ended. (The kernel's readahead comes out of
    /// order, and who maps a file may read it at several places at once.)
    fn locate(&self, bytes: Range<u64>) -> (Option<TextSpan>, bool) {
        let index = &self.known().index;
        let last_end = self.last_end.load(Ordering::Relaxed);
        let reads_on = bytes.start.abs_diff(last_end) <= CHUNK as u64;
        let chunk = index
            .block(bytes.start, self.marks)
            .filter(|chunk| reads_on || self.drawn.has(self.id(), &chunk.rows));
        let span = chunk.or_else(|| index.locate(bytes));
        (span, self.is_whole(index))
    }

    /// Draws the rows that follow those the index knows, for who reads
    /// `at_once` bytes at a time: so many chunks of them, or what is there.
    async fn extend(self: &Arc<Self>, at_once: u64, chunks: u64) -> Result<(), ContentError> {
        let (start, chunk) = {
            let index = &self.known().index;
            let chunk = self.marks as u64 * u64::from(index.every().get());
            (index.rows(), chunk)
        };
        let mut from = start - start % chunk;
        let there = self.columns.available(start, at_once).await?;
        let end = there.min(from.saturating_add(chunk.saturating_mul(chunks)));
        let file = Arc::clone(self);
        let draw = move |n: u64| {
            let from = from + n * chunk;
            Arc::clone(&file).draw_once(from..end.min(from + chunk))
        };
        let mut drawn = stream::iter(0..(end - from).div_ceil(chunk))
            .map(draw)
            .buffered(*SIDE_BY_SIDE);
        while let Some(index) = drawn.next().await {
            let index = index?;
            self.learn(from, &index)?;
            from += index.rows();
        }
        Ok(())
    }

    /// Draws and keeps a chunk; whoever wants the same meanwhile gets the same.
    async fn draw_once(self: Arc<Self>, rows: Range<u64>) -> Result<Arc<RowIndex>, ContentError> {
        let file = Arc::clone(&self);
        self.flights
            .join(rows.clone(), || async move {
                let drawing = file.draw(rows.clone()).await?;
                file.drawn.put(file.id(), rows, drawing.text);
                Ok(Arc::new(drawing.index))
            })
            .await
    }

    /// Notes where the rows from number `from` on begin, unless they are known,
    /// or some before them are not.
    fn learn(&self, from: u64, drawn: &RowIndex) -> Result<(), ContentError> {
        let mut known = self.known();
        if !(from..from + drawn.rows()).contains(&known.index.rows()) {
            return Ok(());
        }
        known.index.replace_from(from, drawn)?;
        if self.is_whole(&known.index) {
            let length = known.index.text_len();
            if known.promised.is_some_and(|promised| promised != length) {
                return Err(self.forget(&mut known));
            }
            self.kept.remember(&known.index);
        }
        Ok(())
    }

    /// Forgets what is remembered of this table, which turned out wrong.
    fn forget(&self, known: &mut Known) -> ContentError {
        let (header, every) = (known.index.header_len(), known.index.every());
        *known = Known {
            index: RowIndex::new(header, every),
            promised: None,
        };
        self.kept.forget();
        ContentError::WrongMemory { id: self.id() }
    }

    /// The text of rows whose place is known.
    async fn text(self: &Arc<Self>, span: TextSpan) -> Result<Bytes, ContentError> {
        let fits = |text: &Bytes| text.len() as u64 == span.bytes.end - span.bytes.start;
        // It may have been drawn before, when more or less was known.
        if let Some(text) = self.drawn.get(self.id(), span.rows.clone()).filter(fits) {
            return Ok(text);
        }
        self.columns.note_byte_source(&span.rows);
        let text = self.draw(span.rows.clone()).await?.text;
        if !fits(&text) {
            return Err(self.forget(&mut self.known()));
        }
        self.drawn.put(self.id(), span.rows, text.clone());
        Ok(text)
    }

    async fn draw(self: &Arc<Self>, rows: Range<u64>) -> Result<Drawing, ContentError> {
        let mut refetches = RefetchLimit::default();
        loop {
            self.columns.ensure(rows.clone()).await?;
            let row = self.columns.schema().row_width() + self.writer.max_row_len() as u64 / 2;
            let bytes = row.saturating_mul(rows.end - rows.start);
            let memory = self.columns.memory();
            let _reservation = memory.reserve_reply(bytes).await?;
            let (file, drawing) = (Arc::clone(self), rows.clone());
            let drawn = tokio::task::spawn_blocking(move || file.draw_window(&drawing)).await;
            // A panic in there is a bug; the next reader may meet it as well.
            let drawing =
                drawn.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            if let Some(drawing) = drawing {
                return Ok(drawing);
            }
            refetches.attempt(rows.start)?;
        }
    }

    /// Draws `rows`, which begin at a mark; `None` if some must be fetched
    /// again. Blocks on the disk.
    fn draw_window(&self, rows: &Range<u64>) -> Result<Option<Drawing>, ContentError> {
        let Some(window) = self.columns.window(rows)? else {
            return Ok(None);
        };
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let every = self.known().index.every();
        let mut text = Vec::with_capacity(count.saturating_mul(self.writer.max_row_len() / 2));
        // Counts from the first of these rows, which is at a mark.
        let mut index = RowIndex::new(0, every);
        let columns: Vec<&[u8]> = window.iter().map(Vec::as_slice).collect();
        self.writer
            .render_indexed(count, &columns, &mut text, &mut index)?;
        let text = text.into();
        Ok(Some(Drawing { text, index }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
