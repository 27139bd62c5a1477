//! A table's CSV as the portal writes it, for the few tables that cannot be
//! rendered here: downloaded completely on the first read, held against the
//! metadata ([`CsvCheck`]), and cached. Of several processes that share the cache, one
//! downloads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ContentError;
use super::complete_file::CompleteFile;
use super::csv_check::{CsvCheck, CsvOutline};
use super::row_index_store::portal_csv_key;
use super::shared_download::lock_path;
use crate::cache::{AppendedFile, CacheFile, CachePath, Store};
use crate::catalog::Object;
use icos_portal::http::Retries;
use icos_portal::{DataClient, ObjectId, PortalError};
use icos_sync::run_blocking;
use icos_table::TableError;

/// The CSV of table `object`, which cannot be rendered here for `reason`.
///
/// # Errors
///
/// [`ContentError::Cache`] if the cache has no path for it.
pub(super) async fn portal_csv(
    object: &Object,
    reason: TableError,
    store: Store,
    data: DataClient,
) -> Result<CompleteFile, ContentError> {
    let id = object.id();
    let path = CachePath::new(CachePath::CSV, &format!("{id}.csv"))?;
    let check = CsvCheck::of(object);
    let cached = checked_file(id, &path, &store, check.clone()).await;
    let recorded_len = store.sizes().get(portal_csv_key(id));
    let download = Arc::new(CsvDownload {
        id,
        reason,
        refused: AtomicBool::default(),
        check,
        path,
        store: store.clone(),
        data,
    });
    let make = move || Arc::clone(&download).run();
    Ok(CompleteFile::new(id, store, cached, recorded_len, make))
}

/// The file in the cache, if there is one that agrees with the metadata. A length
/// is recorded for files that were checked; files of older versions have none.
async fn checked_file(
    id: ObjectId,
    path: &CachePath,
    store: &Store,
    check: CsvCheck,
) -> Option<Arc<CacheFile>> {
    let (opened, at) = (store.clone(), path.clone());
    let cached = store
        .disk()
        .run(move || opened.open_sealed(&at))
        .await
        .ok()??;
    let len = cached.len();
    if store.sizes().get(portal_csv_key(id)) == Some(len) {
        return Some(cached);
    }
    let file = Arc::clone(&cached);
    let at = store.clone();
    // Of a large file it takes long.
    let checking = run_blocking(move || {
        let checked = check.check_file(&file);
        if checked.is_ok() {
            at.sizes().set(portal_csv_key(id), len);
            at.sizes().write();
        }
        checked
    });
    match checking.await {
        Ok(()) => Some(cached),
        Err(error) => {
            tracing::warn!(%id, %error, "a cached CSV contradicts the metadata; it will be downloaded again");
            None
        }
    }
}

/// Downloads the complete file: the portal sends no ranges.
struct CsvDownload {
    id: ObjectId,
    reason: TableError,
    /// Whether the portal failed to write it too. It is not requested again.
    refused: AtomicBool,
    check: CsvCheck,
    path: CachePath,
    store: Store,
    data: DataClient,
}

impl CsvDownload {
    async fn run(self: Arc<Self>) -> Result<Arc<CacheFile>, ContentError> {
        if self.refused.load(Ordering::Relaxed) {
            return Err(self.reason.clone().into());
        }
        let (_lock, waited) = lock_path(&self.store, &self.path).await;
        if waited
            && let Some(made) =
                checked_file(self.id, &self.path, &self.store, self.check.clone()).await
        {
            return Ok(made);
        }
        let _buffers = self.store.memory().reserve_stream().await?;
        let mut retries = self.data.retries(self.id);
        loop {
            match self.attempt(&mut retries).await {
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

    async fn attempt(&self, retries: &mut Retries) -> Result<Arc<CacheFile>, ContentError> {
        let mut body = self.data.csv(self.id, None, retries).await?;
        let (store, path) = (self.store.clone(), self.path.clone());
        let create = move || AppendedFile::new(store, path);
        let mut file = self.store.disk().run(create).await?;
        let mut text = CsvOutline::default();
        while let Some(chunk) = body.chunk().await? {
            text.add(&chunk);
            let (back, appended) = (self.store.disk())
                .run(move || {
                    let appended = file.append(&chunk);
                    (file, appended)
                })
                .await?;
            appended?;
            file = back;
        }
        self.check.check(&text)?;
        let (store, key) = (self.store.clone(), portal_csv_key(self.id));
        let finish = move || {
            let cached = file.finish()?;
            store.sizes().set(key, cached.len());
            store.sizes().write();
            Ok(cached)
        };
        // The sync of a large file may take long.
        run_blocking(finish).await
    }
}
