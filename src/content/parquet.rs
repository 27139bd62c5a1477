//! A table as Parquet: built whole into the cache at first need, and from then
//! on a file like any other.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::ContentError;
use super::about::Abouts;
use super::columns::{Columns, RefetchLimit};
use super::complete_file::CompleteFile;
use super::tables::Tables;
use crate::cache::{AppendedFile, CacheError, CacheFile, CachePath, Store};
use crate::catalog::Object;
use icos_portal::ObjectId;
use icos_table::ParquetWriter;
use icos_table::parquet::ParquetError;

/// About how many bytes of columns are handed to the writer at once.
const WINDOW: u64 = 4 << 20;
/// How many files are built at once: each holds up to a row group in memory.
const AT_ONCE: usize = 2;

/// What all Parquet files are made with.
#[derive(Clone, Debug)]
pub(super) struct Workshop {
    pub(super) tables: Arc<Tables>,
    pub(super) abouts: Abouts,
    pub(super) store: Store,
    places: Arc<Semaphore>,
}

impl Workshop {
    pub(super) fn new(tables: Arc<Tables>, abouts: Abouts, store: Store) -> Self {
        Self {
            tables,
            abouts,
            store,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// One table as Parquet.
#[derive(Debug)]
pub(super) struct ParquetFile {
    object: Arc<Object>,
    place: CachePath,
    workshop: Workshop,
    file: CompleteFile,
}

impl ParquetFile {
    pub(super) fn new(object: Arc<Object>, workshop: Workshop) -> Result<Self, ContentError> {
        let place = place(object.id())?;
        Ok(Self {
            file: CompleteFile::new(object.id(), workshop.store.clone(), &place, None),
            object,
            place,
            workshop,
        })
    }

    /// The exact length, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        self.file.size()
    }

    /// Whether the disk has all of it.
    pub(super) fn is_on_disk(&self) -> bool {
        self.file.is_on_disk()
    }

    /// Offers the disk what only memory has; whether it takes all of it.
    pub(super) fn move_to_disk(&self) -> bool {
        self.file.move_to_disk()
    }

    pub(super) async fn exact_size(&self) -> Result<u64, ContentError> {
        self.file.exact_size(|| self.build()).await
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        self.file.read(offset, len, || self.build()).await
    }

    /// The file in the cache, if it is built.
    pub(super) fn sealed_file(&self) -> Option<File> {
        self.file.sealed_file()
    }

    fn build(&self) -> impl Future<Output = Result<Arc<CacheFile>, ContentError>> + Send + 'static {
        let (object, place) = (Arc::clone(&self.object), self.place.clone());
        let workshop = self.workshop.clone();
        async move { build(&object, place, &workshop).await }
    }
}

/// Where a table's Parquet is kept.
fn place(id: ObjectId) -> Result<CachePath, CacheError> {
    CachePath::new(CachePath::VIEWS, &format!("{id}.parquet"))
}

async fn build(
    object: &Arc<Object>,
    place: CachePath,
    workshop: &Workshop,
) -> Result<Arc<CacheFile>, ContentError> {
    // Never closed.
    let _turn = workshop.places.acquire().await;
    let columns = workshop.tables.open(object).await?;
    let about = workshop.abouts.of_table(object.id()).await?;
    let described = about.describe(columns.schema().columns());
    let out = Sink(AppendedFile::new(workshop.store.clone(), place));
    let mut writer = ParquetWriter::new(out, &described, &about.of_file())?;
    columns.expect_all(0).await?;
    let (rows, width) = (columns.schema().rows(), columns.schema().row_width());
    let window = (WINDOW / width).max(1);
    let mut row = 0;
    let mut refetches = RefetchLimit::default();
    while row < rows {
        let next = rows.min(row + window);
        columns.ensure(row..next).await?;
        let (reading, range) = (Arc::clone(&columns), row..next);
        let (back, written) = off_the_loop(move || {
            let written = write(&mut writer, &reading, range);
            (writer, written)
        })
        .await;
        writer = back;
        if written? {
            row = next;
        } else {
            refetches.attempt(row)?;
        }
    }
    off_the_loop(move || Ok(writer.finish()?.0.finish()?)).await
}

/// Whether the rows could be written; if not, some must be fetched again.
fn write(
    writer: &mut ParquetWriter<Sink>,
    columns: &Columns,
    rows: std::ops::Range<u64>,
) -> Result<bool, ContentError> {
    let Some(window) = columns.window(&rows)? else {
        return Ok(false);
    };
    let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
    let window: Vec<&[u8]> = window.iter().map(Vec::as_slice).collect();
    writer.write(count, &window)?;
    Ok(true)
}

/// Runs what takes the disk or the processor for a while.
pub(super) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    // A panic in there is a bug; who waits may meet it as well.
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// A file that grows, to a writer.
struct Sink(AppendedFile);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<ParquetError> for ContentError {
    fn from(error: ParquetError) -> Self {
        match error.into_io() {
            // The cache's own words, where it was the cache.
            Ok(error) => match error.downcast() {
                Ok(error) => ContentError::Cache(error),
                Err(error) => ContentError::NotWritten(error.to_string()),
            },
            Err(ParquetError::Window(error)) => error.into(),
            Err(error) => ContentError::NotWritten(error.to_string()),
        }
    }
}
