//! A table's CSV as the portal itself writes it, for the few tables that
//! cannot be drawn here: fetched whole at first need, and kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::ContentError;
use super::kept::portal_key;
use crate::cache::{Entry, Found, Growing, Place, Store};
use crate::flight::Flights;
use crate::portal::{DataClient, ObjectId};

/// A table that only the portal can write.
#[derive(Debug)]
pub(super) struct PortalCsv {
    id: ObjectId,
    place: Place,
    store: Store,
    data: DataClient,
    fetched: Mutex<Option<Arc<Entry>>>,
    flights: Flights<(), Result<Arc<Entry>, ContentError>>,
}

impl PortalCsv {
    pub(super) fn new(id: ObjectId, store: Store, data: DataClient) -> Result<Self, ContentError> {
        let place = Place::new(Place::CSV, &format!("{id}.csv"))?;
        let fetched = Mutex::new(store.sealed(&place));
        Ok(Self {
            id,
            place,
            store,
            data,
            fetched,
            flights: Flights::default(),
        })
    }

    /// The exact length, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        self.fetched().as_ref().map(|entry| entry.len())
    }

    pub(super) async fn exact_size(&self) -> Result<u64, ContentError> {
        Ok(self.whole().await?.len())
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        loop {
            let entry = self.whole().await?;
            match entry.read(offset..offset.saturating_add(len as u64))? {
                Found::Bytes(bytes) => return Ok(bytes.into()),
                // Damaged on the disk. The portal sends no ranges of it, so
                // all of it is fetched anew.
                Found::Missing(_) => *self.fetched() = None,
            }
        }
    }

    async fn whole(&self) -> Result<Arc<Entry>, ContentError> {
        let fetched = self.fetched().clone();
        if let Some(entry) = fetched {
            return Ok(entry);
        }
        let (id, data) = (self.id, self.data.clone());
        let (store, place) = (self.store.clone(), self.place.clone());
        let entry = self
            .flights
            .join((), || async move {
                let _buffers = store.memory().for_stream().await?;
                let mut tries = data.tries();
                loop {
                    match fetch(&data, id, &store, &place).await {
                        Err(ContentError::Portal(error)) if tries.again(&error).await => {}
                        fetched => return fetched,
                    }
                }
            })
            .await?;
        *self.fetched() = Some(Arc::clone(&entry));
        let (notes, key) = (self.store.notes(), portal_key(self.id));
        let told = notes.get(key);
        notes.put(key, entry.len());
        // Others were told another length.
        if told.is_some_and(|told| told != entry.len()) {
            return Err(ContentError::WrongMemory { id });
        }
        Ok(entry)
    }

    fn fetched(&self) -> MutexGuard<'_, Option<Arc<Entry>>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches all of it: the portal sends no ranges.
async fn fetch(
    data: &DataClient,
    id: ObjectId,
    store: &Store,
    place: &Place,
) -> Result<Arc<Entry>, ContentError> {
    let mut body = data.csv(id, None).await?;
    let mut growing = Growing::new(store.clone(), place.clone())?;
    while let Some(chunk) = body.chunk().await? {
        growing.append(&chunk)?;
    }
    Ok(growing.finish()?)
}
