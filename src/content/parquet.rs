//! A table as Parquet: built completely into the cache on the first read, then read
//! like any other file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::ContentError;
use super::columns::{Columns, RefetchLimit};
use super::complete_file::CompleteFile;
use super::landing_pages::LandingPages;
use super::tables::Tables;
use crate::cache::{AppendedFile, CacheError, CacheFile, CachePath, Store};
use crate::catalog::Object;
use icos_portal::ObjectId;
use icos_sync::run_blocking;
use icos_table::ParquetWriter;
use icos_table::parquet::ParquetError;

/// The approximate length of the columns passed to the writer at once.
const WINDOW: u64 = 4 << 20;
/// The number of files to build in parallel: each holds up to a row group in
/// memory.
const PARALLEL_BUILDS: usize = 2;

/// What a build needs, shared by all files. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ParquetBuilder {
    pub(super) tables: Arc<Tables>,
    pub(super) landing_pages: Arc<LandingPages>,
    pub(super) store: Store,
    permits: Arc<Semaphore>,
}

impl ParquetBuilder {
    pub(super) fn new(tables: Arc<Tables>, landing_pages: Arc<LandingPages>, store: Store) -> Self {
        Self {
            tables,
            landing_pages,
            store,
            permits: Arc::new(Semaphore::new(PARALLEL_BUILDS)),
        }
    }
}

/// One table as Parquet.
#[derive(Debug)]
pub(super) struct ParquetFile {
    object: Arc<Object>,
    path: CachePath,
    builder: ParquetBuilder,
    file: CompleteFile,
}

impl ParquetFile {
    pub(super) fn new(object: Arc<Object>, builder: ParquetBuilder) -> Result<Self, ContentError> {
        let path = path(object.id())?;
        Ok(Self {
            file: CompleteFile::new(object.id(), builder.store.clone(), &path, None),
            object,
            path,
            builder,
        })
    }

    /// The exact length, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        self.file.size()
    }

    /// Whether the disk has the complete file.
    pub(super) fn is_on_disk(&self) -> bool {
        self.file.is_on_disk()
    }

    /// Tries to move blocks that are in memory only to the disk; whether it has room
    /// for all of them.
    pub(super) fn move_to_disk(&self) -> bool {
        self.file.move_to_disk()
    }

    pub(super) async fn exact_size(&self) -> Result<u64, ContentError> {
        self.file.exact_size(|| self.build()).await
    }

    /// Reads at most `len` bytes from `offset`; fewer only at the end.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        self.file.read(offset, len, || self.build()).await
    }

    /// The file in the cache, if it is built.
    pub(super) fn sealed_file(&self) -> Option<File> {
        self.file.sealed_file()
    }

    fn build(&self) -> impl Future<Output = Result<Arc<CacheFile>, ContentError>> + Send + 'static {
        let (object, path) = (Arc::clone(&self.object), self.path.clone());
        let builder = self.builder.clone();
        async move { build(&object, path, &builder).await }
    }
}

/// The cache path of a table as Parquet.
fn path(id: ObjectId) -> Result<CachePath, CacheError> {
    CachePath::new(CachePath::VIEWS, &format!("{id}.parquet"))
}

async fn build(
    object: &Arc<Object>,
    path: CachePath,
    builder: &ParquetBuilder,
) -> Result<Arc<CacheFile>, ContentError> {
    // The semaphore is never closed.
    let _permit = builder.permits.acquire().await;
    let columns = builder.tables.open(object).await?;
    let info = builder.landing_pages.object_info(object.id()).await?;
    let described = info.describe(columns.schema().columns());
    let out = CacheWriter(AppendedFile::new(builder.store.clone(), path));
    let mut writer = ParquetWriter::new(out, &described, &info.file_metadata())?;
    columns.expect_all(0).await?;
    let (rows, width) = (columns.schema().rows(), columns.schema().row_width());
    let window = (WINDOW / width).max(1);
    let mut row = 0;
    let mut refetches = RefetchLimit::default();
    while row < rows {
        let next = rows.min(row + window);
        columns.ensure(row..next).await?;
        let (reading, range) = (Arc::clone(&columns), row..next);
        let (back, written) = run_blocking(move || {
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
    run_blocking(move || Ok(writer.finish()?.0.finish()?)).await
}

/// Writes some rows; `false` if some cells must be downloaded again first.
fn write(
    writer: &mut ParquetWriter<CacheWriter>,
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

/// An appended file as [`io::Write`].
struct CacheWriter(AppendedFile);

impl io::Write for CacheWriter {
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
            // The writer failed: with an error of the cache, or another.
            Ok(error) => match error.downcast() {
                Ok(error) => ContentError::Cache(error),
                Err(error) => ContentError::ParquetNotWritten(error.to_string()),
            },
            Err(ParquetError::Window(error)) => error.into(),
            Err(error) => ContentError::ParquetNotWritten(error.to_string()),
        }
    }
}
