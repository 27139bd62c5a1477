//! A file that is made whole at first need and kept, for it cannot be had in
//! parts: what the portal sends no ranges of, and what is built here.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{ContentError, Origin};
use crate::cache::{CacheError, Entry, Found, Place, Store};
use icos_portal::ObjectId;
use icos_sync::SingleFlight;

/// How often a read has the file made again whose bytes are damaged on the
/// disk, or were pushed out of memory, before it gives up.
const TRIES: u32 = 3;

/// One such file. What makes it is given by whoever reads it: however many
/// do, it is made once.
#[derive(Debug)]
pub(super) struct CompleteFile {
    id: ObjectId,
    store: Store,
    state: Mutex<State>,
    flights: SingleFlight<(), Result<Arc<Entry>, ContentError>>,
}

#[derive(Debug)]
struct State {
    entry: Option<Arc<Entry>>,
    /// The length that others were told.
    told: Option<u64>,
}

impl CompleteFile {
    /// The file of object `id` at `place`, made in an earlier run or not; its
    /// length may have been `told` then.
    pub(super) fn new(id: ObjectId, store: Store, place: &Place, told: Option<u64>) -> Self {
        let entry = store.sealed(place);
        let told = entry.as_ref().map(|entry| entry.len()).or(told);
        Self {
            id,
            store,
            state: Mutex::new(State { entry, told }),
            flights: SingleFlight::default(),
        }
    }

    /// The exact length, if it is known: that of a file that is gone is still
    /// what others were told.
    pub(super) fn size(&self) -> Option<u64> {
        self.state().told
    }

    /// Whether the disk has all of it.
    pub(super) fn is_on_disk(&self) -> bool {
        let state = self.state();
        (state.entry.as_ref()).is_some_and(|entry| entry.is_sealed() && !entry.is_in_memory())
    }

    /// Offers the disk what only memory has; whether it takes all of it.
    pub(super) fn offer_to_disk(&self) -> bool {
        let entry = self.state().entry.clone();
        let settled =
            entry.is_some_and(|entry| entry.offer_to_disk() && entry.seal(entry.life()).is_ok());
        settled && self.is_on_disk()
    }

    /// The exact length; the file is made if that is not known.
    pub(super) async fn exact_size<F>(&self, make: impl FnOnce() -> F) -> Result<u64, ContentError>
    where
        F: Future<Output = Result<Arc<Entry>, ContentError>> + Send + 'static,
    {
        match self.size() {
            Some(size) => Ok(size),
            None => Ok(self.whole(make).await?.len()),
        }
    }

    /// The file in the cache, if it is there and the kernel may read it.
    pub(super) fn sealed_file(&self) -> Option<File> {
        self.state().entry.as_ref()?.sealed_file()
    }

    /// The file, made by `make` unless it is there.
    ///
    /// # Errors
    ///
    /// [`ContentError::WrongMemory`] if it came out longer or shorter than
    /// others were told; now they know.
    async fn whole<F>(&self, make: impl FnOnce() -> F) -> Result<Arc<Entry>, ContentError>
    where
        F: Future<Output = Result<Arc<Entry>, ContentError>> + Send + 'static,
    {
        if let Some(entry) = self.state().entry.clone() {
            Origin::Cache.note();
            return Ok(entry);
        }
        // Even what is built here needs the portal's metadata, at least.
        Origin::Portal.note();
        let entry = self.flights.join((), make).await?;
        let told = {
            let mut state = self.state();
            state.entry = Some(Arc::clone(&entry));
            state.told.replace(entry.len())
        };
        if told.is_some_and(|told| told != entry.len()) {
            return Err(ContentError::WrongMemory { id: self.id });
        }
        Ok(entry)
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end.
    pub(super) async fn read<F>(
        &self,
        offset: u64,
        len: usize,
        make: impl Fn() -> F,
    ) -> Result<Bytes, ContentError>
    where
        F: Future<Output = Result<Arc<Entry>, ContentError>> + Send + 'static,
    {
        for _ in 0..TRIES {
            let entry = self.whole(&make).await?;
            let end = entry.len().min(offset.saturating_add(len as u64));
            let range = offset.min(end)..end;
            let bytes = range.end - range.start + Entry::SURPLUS;
            let share = self.store.memory().for_answer(bytes).await?;
            match entry.read(range)? {
                Found::Bytes(bytes) => return Ok(share.hold(bytes)),
                Found::Missing(_) => self.forget(&entry),
            }
        }
        Err(CacheError::TooSmall.into())
    }

    /// Has the next reader make the file again, of which `entry` lacks some.
    fn forget(&self, entry: &Arc<Entry>) {
        let mut state = self.state();
        // Another reader may have had it made again already.
        state.entry.take_if(|now| Arc::ptr_eq(now, entry));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
