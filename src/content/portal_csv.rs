//! A table's CSV as the portal writes it, for the few tables that cannot be
//! rendered here: downloaded completely on the first read, and cached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::ContentError;
use super::complete_file::CompleteFile;
use super::row_index_store::portal_csv_key;
use crate::cache::{AppendedFile, CacheFile, CachePath, Store};
use icos_portal::{DataClient, ObjectId, PortalError};
use icos_table::TableError;

/// A table that only the portal can write.
#[derive(Debug)]
pub(super) struct PortalCsv {
    id: ObjectId,
    /// Why the table cannot be rendered here.
    reason: TableError,
    /// Whether the portal failed to write it too. It is not requested again.
    refused: Arc<AtomicBool>,
    path: CachePath,
    store: Store,
    data: DataClient,
    file: CompleteFile,
}

impl PortalCsv {
    pub(super) fn new(
        id: ObjectId,
        reason: TableError,
        store: Store,
        data: DataClient,
    ) -> Result<Self, ContentError> {
        let path = CachePath::new(CachePath::CSV, &format!("{id}.csv"))?;
        let recorded_len = store.sizes().get(portal_csv_key(id));
        Ok(Self {
            id,
            file: CompleteFile::new(id, store.clone(), &path, recorded_len),
            reason,
            refused: Arc::default(),
            path,
            store,
            data,
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
        self.file.exact_size(|| self.download()).await
    }

    /// Reads at most `len` bytes from `offset`; fewer only at the end.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        self.file.read(offset, len, || self.download()).await
    }

    /// Downloads the complete file: the portal sends no ranges.
    fn download(
        &self,
    ) -> impl Future<Output = Result<Arc<CacheFile>, ContentError>> + Send + 'static {
        let (id, data) = (self.id, self.data.clone());
        let (store, path) = (self.store.clone(), self.path.clone());
        let (reason, refused) = (self.reason.clone(), Arc::clone(&self.refused));
        async move {
            if refused.load(Ordering::Relaxed) {
                return Err(reason.into());
            }
            let _buffers = store.memory().reserve_stream().await?;
            let mut retries = data.retries();
            loop {
                match download(&data, id, &store, &path).await {
                    // The portal cannot write string columns.
                    Err(ContentError::Portal(PortalError::Status { status: 500, .. }))
                        if matches!(reason, TableError::StringColumn(_)) =>
                    {
                        refused.store(true, Ordering::Relaxed);
                        return Err(reason.into());
                    }
                    Err(ContentError::Portal(error)) if retries.back_off(&error).await => {}
                    result => return result,
                }
            }
        }
    }
}

async fn download(
    data: &DataClient,
    id: ObjectId,
    store: &Store,
    path: &CachePath,
) -> Result<Arc<CacheFile>, ContentError> {
    let mut body = data.csv(id, None).await?;
    let mut file = AppendedFile::new(store.clone(), path.clone());
    while let Some(chunk) = body.chunk().await? {
        file.append(&chunk)?;
    }
    let entry = file.finish()?;
    store.sizes().set(portal_csv_key(id), entry.len());
    Ok(entry)
}
