//! A file that is made whole at first need and kept, for it cannot be had in
//! parts: what the portal sends no ranges of, and what is built here.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{ByteSource, ContentError};
use crate::cache::{CacheError, CacheFile, CachePath, CacheRead, Store};
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
    flights: SingleFlight<(), Result<Arc<CacheFile>, ContentError>>,
}

#[derive(Debug)]
struct State {
    entry: Option<Arc<CacheFile>>,
    /// The length that others were told.
    told: Option<u64>,
}

impl CompleteFile {
    /// The file of object `id` at `place`, made in an earlier run or not; its
    /// length may have been `told` then.
    pub(super) fn new(id: ObjectId, store: Store, place: &CachePath, told: Option<u64>) -> Self {
        let entry = store.open_sealed(place);
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
        (state.entry.as_ref()).is_some_and(|entry| entry.is_sealed() && !entry.has_memory_blocks())
    }

    /// Offers the disk what only memory has; whether it takes all of it.
    pub(super) fn move_to_disk(&self) -> bool {
        let entry = self.state().entry.clone();
        let settled =
            entry.is_some_and(|entry| entry.move_to_disk() && entry.seal(entry.epoch()).is_ok());
        settled && self.is_on_disk()
    }

    /// The exact length; the file is made if that is not known.
    pub(super) async fn exact_size<F>(&self, make: impl FnOnce() -> F) -> Result<u64, ContentError>
    where
        F: Future<Output = Result<Arc<CacheFile>, ContentError>> + Send + 'static,
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
    async fn whole<F>(&self, make: impl FnOnce() -> F) -> Result<Arc<CacheFile>, ContentError>
    where
        F: Future<Output = Result<Arc<CacheFile>, ContentError>> + Send + 'static,
    {
        if let Some(entry) = self.state().entry.clone() {
            ByteSource::Cache.note();
            return Ok(entry);
        }
        // Even what is built here needs the portal's metadata, at least.
        ByteSource::Portal.note();
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
        F: Future<Output = Result<Arc<CacheFile>, ContentError>> + Send + 'static,
    {
        for _ in 0..TRIES {
            let entry = self.whole(&make).await?;
            let end = entry.len().min(offset.saturating_add(len as u64));
            let range = offset.min(end)..end;
            let bytes = range.end - range.start + CacheFile::READ_OVERHEAD;
            let reservation = self.store.memory().reserve_reply(bytes).await?;
            match entry.read(range)? {
                CacheRead::Bytes(bytes) => return Ok(reservation.attach(bytes)),
                CacheRead::Missing(_) => self.forget(&entry),
            }
        }
        Err(CacheError::TooSmall.into())
    }

    /// Has the next reader make the file again, of which `entry` lacks some.
    fn forget(&self, entry: &Arc<CacheFile>) {
        let mut state = self.state();
        // Another reader may have had it made again already.
        state.entry.take_if(|now| Arc::ptr_eq(now, entry));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
