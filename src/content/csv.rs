//! A table's CSV at any offset. Only the rows that cover the requested bytes are
//! rendered, from columns that are downloaded as far as those rows need them.
//!
//! The row index maps text offsets to row numbers. It starts empty, grows from
//! the first row as text is rendered, and is complete once the length of the
//! text is known. A complete index is stored in the cache, so that a later mount
//! starts with it. A stored length or index is untrusted: it is compared with
//! the rendered text, and discarded if they differ.
//!
//! Locks: `known` is held for lookups and updates of the index and while the length
//! is recorded, never while columns are downloaded or rows rendered.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

mod rendered_text;

pub(super) use rendered_text::RenderedText;

use super::ContentError;
use super::columns::{Columns, RefetchLimit};
use super::row_index_store::RowIndexStore;
use crate::cache::Store;
use icos_portal::ObjectId;
use icos_sync::{SingleFlight, run_blocking};
use icos_table::index::TextSpan;
use icos_table::{CsvWriter, RowIndex};

/// The approximate length of the text that is rendered at once for a sequential
/// reader: long enough to read a wide table's columns in long runs.
const CHUNK_LEN: usize = 1 << 20;
/// The number of rows between two marks of the row index, fewer for long rows. A
/// random read renders at most the rows between two marks.
const ROWS_PER_MARK: std::ops::RangeInclusive<usize> = 64..=1024;
/// The number of chunks to render in parallel for a reader that needs all of them.
/// Each takes a processor for a few milliseconds. (Linux reads the number of
/// processors from files, so it is determined once.)
static PARALLEL_CHUNKS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |all| all.get().min(4)));

/// A table rendered as CSV.
#[derive(Debug)]
pub(super) struct CsvFile {
    columns: Arc<Columns>,
    writer: CsvWriter,
    text_cache: Arc<RenderedText>,
    row_index_store: Arc<RowIndexStore>,
    known: Mutex<KnownText>,
    /// The number of marks of the index in a chunk.
    marks: usize,
    flights: SingleFlight<Range<u64>, Result<Arc<RowIndex>, ContentError>>,
    /// The offset at which the last read ended.
    last_end: AtomicU64,
}

/// What is known about the text.
#[derive(Debug)]
struct KnownText {
    /// Grows from the first row; complete once the length is known.
    index: RowIndex,
    /// The length that an earlier mount recorded. It may have been reported to
    /// programs.
    recorded_len: Option<u64>,
}

/// The text of some rows.
struct RenderedRows {
    text: Bytes,
    /// Where the rows begin in the text.
    index: RowIndex,
}

impl CsvFile {
    pub(super) async fn open(
        columns: Arc<Columns>,
        text_cache: Arc<RenderedText>,
        store: Store,
    ) -> Result<Self, ContentError> {
        let writer = CsvWriter::new(columns.schema().columns());
        // Rows are about half as long as the longest can be.
        let in_chunk = 2 * CHUNK_LEN / writer.max_row_len();
        let every = in_chunk.clamp(*ROWS_PER_MARK.start(), *ROWS_PER_MARK.end());
        let marks = (in_chunk / every).max(1);
        let every = u32::try_from(every).unwrap_or(u32::MAX);
        let every = NonZeroU32::new(every).unwrap_or(NonZeroU32::MIN);
        let header = writer.header().len() as u64;
        let row_index_store = Arc::new(RowIndexStore::new(store, columns.id(), columns.schema())?);
        let (loading, rows) = (Arc::clone(&row_index_store), columns.schema().rows());
        let loaded = icos_sync::spawn_blocking(move || loading.index(header, every, rows)).await;
        let index = loaded.ok().flatten();
        Ok(Self {
            known: Mutex::new(KnownText {
                recorded_len: row_index_store.length(),
                index: index.unwrap_or_else(|| RowIndex::new(header, every)),
            }),
            columns,
            writer,
            text_cache,
            row_index_store,
            marks,
            flights: SingleFlight::default(),
            last_end: AtomicU64::new(0),
        })
    }

    /// The columns that the text is rendered from.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    fn id(&self) -> ObjectId {
        self.columns.id()
    }

    /// The exact length, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        let known = self.known();
        let rendered_len = || {
            self.is_complete(&known.index)
                .then(|| known.index.text_len())
        };
        known.recorded_len.or_else(rendered_len)
    }

    fn is_complete(&self, index: &RowIndex) -> bool {
        index.rows() == self.columns.schema().rows()
    }

    /// The exact length. Unless it is known, all columns are downloaded and all rows
    /// rendered.
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

    /// Reads at most `len` bytes from `offset`; fewer only at the end of the text.
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
            let (span, is_complete) = self.locate(at..end);
            match span {
                Some(span) => {
                    let from = usize::try_from(at - span.bytes.start).unwrap_or(usize::MAX);
                    let text = self.text(span.clone()).await?;
                    // Never empty: the span covers the byte at `at`.
                    let rest = text.get(from..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                    if rest.len() <= wanted {
                        self.text_cache.mark_read(self.id(), span.rows);
                    }
                    if rest.len() >= wanted && out.is_empty() {
                        return Ok(text.slice(from..from + wanted));
                    }
                    out.extend_from_slice(&rest[..rest.len().min(wanted)]);
                }
                None if is_complete => break,
                None => {
                    let row = self.known().index.rows();
                    self.columns.note_byte_source(&(row..row + 1));
                    self.extend(len as u64, 1).await?;
                }
            }
        }
        // A recorded end must be confirmed by rendering before a read reports it.
        while self.needs_exact_end(end) {
            self.extend(len as u64, u64::MAX).await?;
        }
        let end = offset.saturating_add(out.len() as u64);
        self.last_end.store(end, Ordering::Relaxed);
        Ok(out.freeze())
    }

    /// Whether a read up to `end` reaches an end of the text that is recorded but not
    /// yet confirmed by rendering.
    fn needs_exact_end(&self, end: u64) -> bool {
        let known = self.known();
        known
            .recorded_len
            .is_some_and(|recorded_len| recorded_len <= end)
            && !self.is_complete(&known.index)
    }

    /// Returns the rows to render for a read of `bytes`, if the index covers
    /// them, and whether the index is complete.
    ///
    /// The rows are a complete chunk if it is cached or if the read is near the
    /// end of the last one, else those between two marks. (Requests of the
    /// kernel's readahead arrive out of order, and a mapped file may be read at
    /// several positions at once.)
    fn locate(&self, bytes: Range<u64>) -> (Option<TextSpan>, bool) {
        let index = &self.known().index;
        let last_end = self.last_end.load(Ordering::Relaxed);
        let is_sequential = bytes.start.abs_diff(last_end) <= CHUNK_LEN as u64;
        let chunk = index
            .block(bytes.start, self.marks)
            .filter(|chunk| is_sequential || self.text_cache.has(self.id(), &chunk.rows));
        let span = chunk.or_else(|| index.locate(bytes));
        (span, self.is_complete(index))
    }

    /// Renders up to `chunks` chunks of the rows after those that the index covers, for
    /// a reader of `at_once` bytes at a time, as far as their columns are
    /// downloaded.
    async fn extend(self: &Arc<Self>, at_once: u64, chunks: u64) -> Result<(), ContentError> {
        let (start, chunk) = {
            let index = &self.known().index;
            let chunk = self.marks as u64 * u64::from(index.every().get());
            (index.rows(), chunk)
        };
        let mut from = start - start % chunk;
        let available = self.columns.available(start, at_once).await?;
        let end = available.min(from.saturating_add(chunk.saturating_mul(chunks)));
        let file = Arc::clone(self);
        let render = move |n: u64| {
            let from = from + n * chunk;
            Arc::clone(&file).render_shared(from..end.min(from + chunk))
        };
        let mut rendered = stream::iter(0..(end - from).div_ceil(chunk))
            .map(render)
            .buffered(*PARALLEL_CHUNKS);
        while let Some(index) = rendered.next().await {
            let index = index?;
            self.record(from, &index)?;
            from += index.rows();
        }
        Ok(())
    }

    /// Renders a chunk into the text cache, and returns its index. Concurrent callers
    /// for the same rows share one rendering.
    async fn render_shared(
        self: Arc<Self>,
        rows: Range<u64>,
    ) -> Result<Arc<RowIndex>, ContentError> {
        let file = Arc::clone(&self);
        self.flights
            .join(rows.clone(), || async move {
                let rendered = file.render(rows.clone()).await?;
                file.text_cache.put(file.id(), rows, rendered.text);
                Ok(Arc::new(rendered.index))
            })
            .await
    }

    /// Adds where the rows from number `from` begin to the index, unless it covers them
    /// or lacks rows before them.
    ///
    /// # Errors
    ///
    /// [`ContentError::WrongRecord`] if the complete text has another length than an
    /// earlier mount recorded.
    fn record(&self, from: u64, rendered: &RowIndex) -> Result<(), ContentError> {
        let mut known = self.known();
        if !(from..from + rendered.rows()).contains(&known.index.rows()) {
            return Ok(());
        }
        known.index.replace_from(from, rendered)?;
        if self.is_complete(&known.index) {
            let length = known.index.text_len();
            if known
                .recorded_len
                .is_some_and(|recorded_len| recorded_len != length)
            {
                return Err(self.discard_record(&mut known));
            }
            self.row_index_store.store(&known.index);
        }
        Ok(())
    }

    /// Discards the recorded length and index, which turned out to be wrong.
    fn discard_record(&self, known: &mut KnownText) -> ContentError {
        let (header, every) = (known.index.header_len(), known.index.every());
        *known = KnownText {
            index: RowIndex::new(header, every),
            recorded_len: None,
        };
        self.row_index_store.discard();
        ContentError::WrongRecord { id: self.id() }
    }

    /// The text of rows that the index covers.
    async fn text(self: &Arc<Self>, span: TextSpan) -> Result<Bytes, ContentError> {
        let fits = |text: &Bytes| text.len() as u64 == span.bytes.end - span.bytes.start;
        // The cached text may have been rendered under another index, with other
        // boundaries.
        if let Some(text) = self
            .text_cache
            .get(self.id(), span.rows.clone())
            .filter(fits)
        {
            return Ok(text);
        }
        self.columns.note_byte_source(&span.rows);
        let text = self.render(span.rows.clone()).await?.text;
        if !fits(&text) {
            return Err(self.discard_record(&mut self.known()));
        }
        self.text_cache.put(self.id(), span.rows, text.clone());
        Ok(text)
    }

    async fn render(self: &Arc<Self>, rows: Range<u64>) -> Result<RenderedRows, ContentError> {
        let mut refetches = RefetchLimit::default();
        let mut was_evicted = false;
        loop {
            if was_evicted {
                self.columns.ensure_only(rows.clone()).await?;
            } else {
                self.columns.ensure(rows.clone()).await?;
            }
            let row = self.columns.schema().row_width() + self.writer.max_row_len() as u64 / 2;
            let bytes = row.saturating_mul(rows.end - rows.start);
            let memory = self.columns.memory();
            let _reservation = memory.reserve_reply(bytes).await?;
            let (file, range) = (Arc::clone(self), rows.clone());
            let rendered = run_blocking(move || file.render_cached(&range)).await?;
            if let Some(rows) = rendered {
                return Ok(rows);
            }
            refetches.attempt(rows.start)?;
            was_evicted = true;
        }
    }

    /// Renders `rows`, which begin at a mark, from cached columns. `None` if some cells
    /// are missing and must be downloaded again. Blocks on disk I/O.
    fn render_cached(&self, rows: &Range<u64>) -> Result<Option<RenderedRows>, ContentError> {
        let Some(window) = self.columns.window(rows)? else {
            return Ok(None);
        };
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let every = self.known().index.every();
        let mut text = Vec::with_capacity(count.saturating_mul(self.writer.max_row_len() / 2));
        // Relative to the first of these rows, which is at a mark.
        let mut index = RowIndex::new(0, every);
        let columns: Vec<&[u8]> = window.iter().map(Vec::as_slice).collect();
        self.writer
            .render_indexed(count, &columns, &mut text, &mut index)?;
        let text = text.into();
        Ok(Some(RenderedRows { text, index }))
    }

    fn known(&self) -> MutexGuard<'_, KnownText> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
