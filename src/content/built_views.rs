//! Views of a table that are built completely into the cache on the first read, then
//! read like any other file: Parquet, and the good values as CSV or Parquet.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::ContentError;
use super::complete_file::CompleteFile;
use super::export::{ExportError, ExportJob};
use super::landing_pages::LandingPages;
use super::last_sizes::ChangingFile;
use super::tables::Tables;
use crate::cache::{AppendedFile, CacheFile, CachePath, Store};
use crate::catalog::{Object, Representation};
use icos_sync::run_blocking;
use icos_table::parquet::ParquetError;

/// The number of files to build in parallel: each holds up to a row group in
/// memory.
const PARALLEL_BUILDS: usize = 2;

/// A view of a table that is built completely.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BuiltView {
    Parquet,
    GoodParquet,
    GoodCsv,
}

impl BuiltView {
    /// The view that `representation` shows, if it is one.
    pub(super) fn of(representation: Representation) -> Option<Self> {
        match representation {
            Representation::Parquet => Some(Self::Parquet),
            Representation::GoodParquet => Some(Self::GoodParquet),
            Representation::GoodCsv => Some(Self::GoodCsv),
            Representation::Original
            | Representation::Csv
            | Representation::Json
            | Representation::Cpb
            | Representation::NetCdf
            | Representation::GoodNetCdf => None,
        }
    }

    /// Its representation.
    pub(super) fn representation(self) -> Representation {
        match self {
            Self::Parquet => Representation::Parquet,
            Self::GoodParquet => Representation::GoodParquet,
            Self::GoodCsv => Representation::GoodCsv,
        }
    }

    /// Its name in the cache, after the id.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::GoodParquet => "good.parquet",
            Self::GoodCsv => "good.csv",
        }
    }
}

/// What a build needs, shared by all files. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ViewBuilder {
    tables: Arc<Tables>,
    landing_pages: Arc<LandingPages>,
    store: Store,
    permits: Arc<Semaphore>,
}

impl ViewBuilder {
    pub(super) fn new(tables: Arc<Tables>, landing_pages: Arc<LandingPages>, store: Store) -> Self {
        Self {
            tables,
            landing_pages,
            store,
            permits: Arc::new(Semaphore::new(PARALLEL_BUILDS)),
        }
    }

    /// A view of the table `object`. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`ContentError::Cache`] if the cache has no path for it.
    pub(super) fn file(
        &self,
        object: &Arc<Object>,
        view: BuiltView,
    ) -> Result<CompleteFile, ContentError> {
        let id = object.id();
        let path = CachePath::new(CachePath::VIEWS, &format!("{id}.{}", view.ending()))?;
        let (builder, object, at) = (self.clone(), Arc::clone(object), path.clone());
        let make = move || {
            let (builder, object, at) = (builder.clone(), Arc::clone(&object), at.clone());
            async move { builder.build(&object, view, at).await }
        };
        let store = self.store.clone();
        let cached = store.open_sealed(&path);
        if let Some(cached) = &cached {
            ChangingFile::View(id, view).record_size(store.sizes(), cached.len());
        }
        Ok(CompleteFile::new(id, store, cached, None, make))
    }

    async fn build(
        &self,
        object: &Arc<Object>,
        view: BuiltView,
        path: CachePath,
    ) -> Result<Arc<CacheFile>, ContentError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let columns = self.tables.open(object).await?;
        let info = self.landing_pages.object_info(object.id()).await?;
        let store = self.store.clone();
        let create = move || AppendedFile::new(store, path);
        let out = CacheWriter(self.store.disk().run(create).await?);
        let job = match view {
            BuiltView::Parquet => ExportJob::complete_table(columns, &info),
            BuiltView::GoodParquet | BuiltView::GoodCsv => ExportJob::good_values(columns, &info),
        };
        let written = match view {
            BuiltView::Parquet | BuiltView::GoodParquet => job.write_parquet(out, &|_| ()).await?,
            BuiltView::GoodCsv => job.write_csv(out, &|_| ()).await?,
        };
        let (store, id) = (self.store.clone(), object.id());
        let finish = move || {
            let file = written.0.finish()?;
            ChangingFile::View(id, view).record_size(store.sizes(), file.len());
            store.sizes().write();
            Ok(file)
        };
        // The sync of a large file may take long.
        run_blocking(finish).await
    }
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

impl From<ExportError> for ContentError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Content(error) => error,
            // The writer failed: with an error of the cache, or another.
            ExportError::Output(error) => match error.downcast() {
                Ok(error) => ContentError::Cache(error),
                Err(error) => ContentError::ParquetNotWritten(error.to_string()),
            },
            error => ContentError::ParquetNotWritten(error.to_string()),
        }
    }
}

impl From<ParquetError> for ContentError {
    fn from(error: ParquetError) -> Self {
        ExportError::from(error).into()
    }
}
