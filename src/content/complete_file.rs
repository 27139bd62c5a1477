//! Files that are stored completely before they are read: those of which the
//! portal sends no ranges, and those that are built here.
//!
//! However many readers there are, the file is made once (single flight), when it
//! is first needed. The lock is never held across a wait; the lock of the cache
//! file is not taken under it, except by [`CompleteFile::is_on_disk`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{ByteSource, ContentError};
use crate::cache::{CacheError, CacheFile, CacheRead, Store};
use icos_portal::ObjectId;
use icos_sync::SingleFlight;

/// How often a read has the file made, because its blocks are corrupt or were
/// evicted, before the read fails.
const MAX_ATTEMPTS: u32 = 3;

type Made = Result<Arc<CacheFile>, ContentError>;

/// A file that is stored completely before it is read.
pub(super) struct CompleteFile {
    id: ObjectId,
    store: Store,
    /// Makes the file.
    make: Box<dyn Fn() -> BoxFuture<'static, Made> + Send + Sync>,
    state: Mutex<CompleteFileState>,
    flights: SingleFlight<(), Made>,
}

#[derive(Debug)]
struct CompleteFileState {
    cached: Option<Arc<CacheFile>>,
    /// The length that was reported to readers.
    reported_len: Option<u64>,
}

impl CompleteFile {
    /// The file of object `id`. An earlier run may have made `cached`, and reported
    /// `reported_len`; `make` makes the file.
    pub(super) fn new<F>(
        id: ObjectId,
        store: Store,
        cached: Option<Arc<CacheFile>>,
        reported_len: Option<u64>,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Made> + Send + 'static,
    {
        let reported_len = cached.as_ref().map(|cached| cached.len()).or(reported_len);
        Self {
            id,
            store,
            make: Box::new(move || make().boxed()),
            state: Mutex::new(CompleteFileState {
                cached,
                reported_len,
            }),
            flights: SingleFlight::default(),
        }
    }

    /// The exact length, if it is known. It remains known after the file is
    /// evicted, because it was reported.
    pub(super) fn size(&self) -> Option<u64> {
        self.state().reported_len
    }

    /// Whether all of it is on the disk.
    pub(super) fn is_on_disk(&self) -> bool {
        let state = self.state();
        (state.cached.as_ref())
            .is_some_and(|cached| cached.is_sealed() && !cached.has_memory_blocks())
    }

    /// Moves blocks that are in memory only to the disk. Returns whether the
    /// disk took all of them.
    pub(super) fn move_to_disk(&self) -> bool {
        let cached = self.state().cached.clone();
        let is_moved = cached
            .is_some_and(|cached| cached.move_to_disk() && cached.seal(cached.epoch()).is_ok());
        is_moved && self.is_on_disk()
    }

    /// The exact length. Makes the file if the length is not known.
    pub(super) async fn exact_size(&self) -> Result<u64, ContentError> {
        match self.size() {
            Some(size) => Ok(size),
            None => Ok(self.get_or_make().await?.len()),
        }
    }

    /// The file in the cache, if it was made.
    pub(super) fn cached_file(&self) -> Option<Arc<CacheFile>> {
        self.state().cached.clone()
    }

    /// Returns the file, which is made if it is not in the cache.
    ///
    /// # Errors
    ///
    /// [`ContentError::WrongRecord`] if its length differs from the reported
    /// one. The new length is reported from then on.
    async fn get_or_make(&self) -> Made {
        if let Some(cached) = self.state().cached.clone() {
            ByteSource::Cache.note();
            return Ok(cached);
        }
        // A file that is built here needs the portal's metadata, at least.
        ByteSource::Portal.note();
        let cached = self.flights.join((), &self.make).await?;
        let reported_len = {
            let mut state = self.state();
            state.cached = Some(Arc::clone(&cached));
            state.reported_len.replace(cached.len())
        };
        if reported_len.is_some_and(|reported_len| reported_len != cached.len()) {
            return Err(ContentError::WrongRecord { id: self.id });
        }
        Ok(cached)
    }

    /// Reads from `offset` on, `len` bytes, or fewer at the end of the file.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        for _ in 0..MAX_ATTEMPTS {
            let cached = self.get_or_make().await?;
            let end = cached.len().min(offset.saturating_add(len as u64));
            let range = offset.min(end)..end;
            let bytes = range.end - range.start + CacheFile::READ_OVERHEAD;
            let reservation = self.store.memory().reserve_reply(bytes).await?;
            match cached.read_in_pool(range).await? {
                CacheRead::Bytes(bytes) => return Ok(reservation.attach(bytes)),
                CacheRead::Missing(_) => self.forget(&cached),
            }
        }
        Err(CacheError::TooSmall.into())
    }

    /// Has the next reader make the file again, because blocks of `incomplete`
    /// are missing.
    fn forget(&self, incomplete: &Arc<CacheFile>) {
        let mut state = self.state();
        // Another reader may have made a new file already.
        state
            .cached
            .take_if(|cached| Arc::ptr_eq(cached, incomplete));
    }

    fn state(&self) -> MutexGuard<'_, CompleteFileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CompleteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompleteFile")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
