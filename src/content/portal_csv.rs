//! A table's CSV as the portal writes it, for the few tables that cannot be
//! rendered here: downloaded completely on the first read, and cached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ContentError;
use super::complete_file::CompleteFile;
use super::row_index_store::portal_csv_key;
use crate::cache::{AppendedFile, CacheFile, CachePath, Store};
use icos_portal::{DataClient, ObjectId, PortalError};
use icos_table::TableError;

/// The CSV of table `id`, which cannot be rendered here for `reason`.
///
/// # Errors
///
/// [`ContentError::Cache`] if the cache has no path for it.
pub(super) fn portal_csv(
    id: ObjectId,
    reason: TableError,
    store: Store,
    data: DataClient,
) -> Result<CompleteFile, ContentError> {
    let path = CachePath::new(CachePath::CSV, &format!("{id}.csv"))?;
    let recorded_len = store.sizes().get(portal_csv_key(id));
    let download = Arc::new(CsvDownload {
        id,
        reason,
        refused: AtomicBool::default(),
        path: path.clone(),
        store: store.clone(),
        data,
    });
    let make = move || Arc::clone(&download).run();
    Ok(CompleteFile::new(id, store, &path, recorded_len, make))
}

/// Downloads the complete file: the portal sends no ranges.
struct CsvDownload {
    id: ObjectId,
    reason: TableError,
    /// Whether the portal failed to write it too. It is not requested again.
    refused: AtomicBool,
    path: CachePath,
    store: Store,
    data: DataClient,
}

impl CsvDownload {
    async fn run(self: Arc<Self>) -> Result<Arc<CacheFile>, ContentError> {
        if self.refused.load(Ordering::Relaxed) {
            return Err(self.reason.clone().into());
        }
        let _buffers = self.store.memory().reserve_stream().await?;
        let mut retries = self.data.retries();
        loop {
            match self.attempt().await {
                // The portal cannot write string columns.
                Err(ContentError::Portal(PortalError::Status { status: 500, .. }))
                    if matches!(self.reason, TableError::StringColumn(_)) =>
                {
                    self.refused.store(true, Ordering::Relaxed);
                    return Err(self.reason.clone().into());
                }
                Err(ContentError::Portal(error)) if retries.back_off(&error).await => {}
                result => return result,
            }
        }
    }

    async fn attempt(&self) -> Result<Arc<CacheFile>, ContentError> {
        let mut body = self.data.csv(self.id, None).await?;
        let mut file = AppendedFile::new(self.store.clone(), self.path.clone());
        while let Some(chunk) = body.chunk().await? {
            file.append(&chunk)?;
        }
        let cached = file.finish()?;
        let sizes = self.store.sizes();
        sizes.set(portal_csv_key(self.id), cached.len());
        Ok(cached)
    }
}
