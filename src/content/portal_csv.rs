//! A table's CSV as the portal itself writes it, for the few tables that
//! cannot be drawn here: fetched whole at first need, and kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::ContentError;
use super::complete_file::CompleteFile;
use super::kept::portal_key;
use crate::cache::{AppendedFile, CacheFile, CachePath, Store};
use icos_portal::{DataClient, ObjectId, PortalError};
use icos_table::TableError;

/// A table that only the portal can write.
#[derive(Debug)]
pub(super) struct PortalCsv {
    id: ObjectId,
    /// Why it is not drawn here.
    reason: TableError,
    /// Whether the portal could not write it either: it need not be asked
    /// again and again.
    refused: Arc<AtomicBool>,
    place: CachePath,
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
        let place = CachePath::new(CachePath::CSV, &format!("{id}.csv"))?;
        let told = store.sizes().get(portal_key(id));
        Ok(Self {
            id,
            file: CompleteFile::new(id, store.clone(), &place, told),
            reason,
            refused: Arc::default(),
            place,
            store,
            data,
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
        self.file.exact_size(|| self.fetch()).await
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        self.file.read(offset, len, || self.fetch()).await
    }

    /// Fetches all of it: the portal sends no ranges.
    fn fetch(&self) -> impl Future<Output = Result<Arc<CacheFile>, ContentError>> + Send + 'static {
        let (id, data) = (self.id, self.data.clone());
        let (store, place) = (self.store.clone(), self.place.clone());
        let (reason, refused) = (self.reason.clone(), Arc::clone(&self.refused));
        async move {
            if refused.load(Ordering::Relaxed) {
                return Err(reason.into());
            }
            let _buffers = store.memory().reserve_stream().await?;
            let mut retries = data.retries();
            loop {
                match fetch(&data, id, &store, &place).await {
                    // The portal cannot write strings, or cannot yet.
                    Err(ContentError::Portal(PortalError::Status { status: 500, .. }))
                        if matches!(reason, TableError::StringColumn(_)) =>
                    {
                        refused.store(true, Ordering::Relaxed);
                        return Err(reason.into());
                    }
                    Err(ContentError::Portal(error)) if retries.back_off(&error).await => {}
                    fetched => return fetched,
                }
            }
        }
    }
}

async fn fetch(
    data: &DataClient,
    id: ObjectId,
    store: &Store,
    place: &CachePath,
) -> Result<Arc<CacheFile>, ContentError> {
    let mut body = data.csv(id, None).await?;
    let mut growing = AppendedFile::new(store.clone(), place.clone());
    while let Some(chunk) = body.chunk().await? {
        growing.append(&chunk)?;
    }
    let entry = growing.finish()?;
    store.sizes().set(portal_key(id), entry.len());
    Ok(entry)
}
