//! A table as Parquet: built completely into the cache on the first read, then read
//! like any other file.

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
use crate::catalog::Object;
use icos_sync::run_blocking;
use icos_table::parquet::ParquetError;

/// The number of files to build in parallel: each holds up to a row group in
/// memory.
const PARALLEL_BUILDS: usize = 2;

/// What a build needs, shared by all files. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ParquetBuilder {
    tables: Arc<Tables>,
    landing_pages: Arc<LandingPages>,
    store: Store,
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

    /// The table `object` as Parquet. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`ContentError::Cache`] if the cache has no path for it.
    pub(super) fn file(&self, object: &Arc<Object>) -> Result<CompleteFile, ContentError> {
        let id = object.id();
        let path = CachePath::new(CachePath::VIEWS, &format!("{id}.parquet"))?;
        let (builder, object, at) = (self.clone(), Arc::clone(object), path.clone());
        let make = move || {
            let (builder, object, at) = (builder.clone(), Arc::clone(&object), at.clone());
            async move { builder.build(&object, at).await }
        };
        let store = self.store.clone();
        let cached = store.open_sealed(&path);
        if let Some(cached) = &cached {
            ChangingFile::Parquet(id).record_size(store.sizes(), cached.len());
        }
        Ok(CompleteFile::new(id, store, cached, None, make))
    }

    async fn build(
        &self,
        object: &Arc<Object>,
        path: CachePath,
    ) -> Result<Arc<CacheFile>, ContentError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let columns = self.tables.open(object).await?;
        let info = self.landing_pages.object_info(object.id()).await?;
        let store = self.store.clone();
        let create = move || AppendedFile::new(store, path);
        let out = CacheWriter(self.store.disk().run(create).await?);
        let job = ExportJob::complete_table(columns, &info);
        let written = job.write_parquet(out, &|_| ()).await?;
        let (store, id) = (self.store.clone(), object.id());
        let finish = move || {
            let file = written.0.finish()?;
            ChangingFile::Parquet(id).record_size(store.sizes(), file.len());
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
