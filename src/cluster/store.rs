//! The store behind its circuit breakers: one for reading, one for writing.
//!
//! A store that is full or denies access is read on. One that does not respond is out
//! for both. Tests in the background close the breakers again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::SharedCacheRole;
use super::breaker::StoreBreaker;
use super::folder::FolderStore;
use super::location::SharedLocation;
#[cfg(feature = "cluster")]
use super::s3::S3Store;
use super::status::{Counters, SharedCacheState};

/// The key of the object that the tests read and write.
const PROBE_KEY: &str = "v1/probe";
/// Maximum length of that object in bytes.
const MAX_PROBE: usize = 4 << 10;

/// Why an operation of the store failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// It made no progress for too long.
    #[error("it made no progress for {} ms", .0.as_millis())]
    Stalled(Duration),
    /// There is no room in it.
    #[error("it is full: {0}")]
    Full(String),
    /// It denies access.
    #[error("it denies access: {0}")]
    Denied(String),
    /// It creates an object that exists already, although it was told not to.
    #[error(
        "it ignores conditions (If-None-Match, If-Match), as `rclone serve s3` does, so that machines cannot agree which of them downloads; give a server of Redis with --shared-leases, or use a folder, or a store that has them, such as S3, MinIO or Ceph"
    )]
    NoConditions,
    /// This program cannot use such a store.
    #[error(
        "this icosfs was built without S3 and Redis; install a package, or build it with `cargo install --features cluster`"
    )]
    NotBuilt,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// The longest message of a store in an error, in characters.
#[cfg(feature = "cluster")]
const MAX_MESSAGE: usize = 300;

/// The start of a text of a store or server, on one line, without secrets and without
/// commands to the terminal.
#[cfg(feature = "cluster")]
pub(super) fn foreign_text(text: &str) -> String {
    let start: String = text.chars().take(MAX_MESSAGE).collect();
    icos_portal::foreign_text(&start)
}

/// Tells versions of an object apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct StoreVersion(pub(super) String);

/// An object of the store.
#[derive(Clone, Debug)]
pub(super) struct StoredObject {
    pub(super) bytes: Bytes,
    pub(super) version: StoreVersion,
}

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SharedStore(Arc<GuardedStore>);

#[derive(Debug)]
struct GuardedStore {
    backend: Backend,
    reading: StoreBreaker,
    writing: StoreBreaker,
    counters: Arc<Counters>,
    /// Set once it was found to ignore conditions.
    lacks_conditions: AtomicBool,
}

#[derive(Debug)]
enum Backend {
    Folder(FolderStore),
    #[cfg(feature = "cluster")]
    Bucket(S3Store),
}

#[derive(Clone, Copy, Debug)]
enum StoreAccess {
    Read,
    Write,
}

impl SharedStore {
    /// The store at `location`, whose operations may make no progress for `timeout`.
    pub(super) fn open(
        location: SharedLocation,
        timeout: Duration,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let backend = match location {
            SharedLocation::Folder(path) => Backend::Folder(FolderStore::new(path, timeout)),
            #[cfg(feature = "cluster")]
            SharedLocation::Bucket { name, prefix } => {
                Backend::Bucket(S3Store::open(&name, prefix, timeout)?)
            }
            #[cfg(not(feature = "cluster"))]
            SharedLocation::Bucket { .. } => return Err(StoreError::NotBuilt),
        };
        Ok(Self(Arc::new(GuardedStore {
            backend,
            reading: StoreBreaker::default(),
            writing: StoreBreaker::default(),
            counters,
            lacks_conditions: AtomicBool::new(false),
        })))
    }

    /// Returns the object at `key`, if it exists. Of an object that is longer than `max`
    /// bytes, a part is returned that is longer than `max`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; at once if the store does not work.
    pub(super) async fn get(
        &self,
        key: &str,
        max: usize,
    ) -> Result<Option<StoredObject>, StoreError> {
        self.0.reading.check()?;
        let got = self.0.backend.get(key, max).await;
        self.note(StoreAccess::Read, got)
    }

    /// Puts an object at `key`, in place of another one.
    ///
    /// # Errors
    ///
    /// As [`SharedStore::get`]; the same for the other operations.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.check_writing()?;
        let put = self.0.backend.put(key, bytes).await;
        self.note(StoreAccess::Write, put)
    }

    /// Puts an object at `key` if there is none, and returns its version.
    pub(super) async fn create(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        self.check_writing()?;
        let created = self.0.backend.create(key, bytes).await;
        self.note(StoreAccess::Write, created)
    }

    /// Puts an object at `key` if the present one has version `expected`, and returns its
    /// version.
    pub(super) async fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        self.check_writing()?;
        let replaced = self.0.backend.replace(key, expected, bytes).await;
        self.note(StoreAccess::Write, replaced)
    }

    /// Tests whether the store can be read, and written by a writer, whatever the breakers
    /// say.
    pub(super) async fn probe(&self, role: SharedCacheRole) -> Result<(), StoreError> {
        if role == SharedCacheRole::Writer {
            self.0.test(StoreAccess::Write).await?;
        }
        self.0.test(StoreAccess::Read).await
    }

    /// Tests whether it honours conditions.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoConditions`] if it does not.
    pub(super) async fn test_conditions(&self) -> Result<(), StoreError> {
        self.0.backend.test_conditions().await
    }

    /// Whether it was found to ignore conditions.
    pub(super) fn lacks_conditions(&self) -> bool {
        self.0.lacks_conditions.load(Ordering::Relaxed)
    }

    /// Whether it works, and why not.
    pub(super) fn state(&self) -> (SharedCacheState, Option<String>) {
        let GuardedStore {
            reading, writing, ..
        } = &*self.0;
        match (reading.problem(), writing.problem()) {
            (Some(problem), _) => (SharedCacheState::Unavailable, Some(problem.to_string())),
            (None, Some(problem)) => (SharedCacheState::ReadOnly, Some(problem.to_string())),
            (None, None) => (SharedCacheState::Working, None),
        }
    }

    fn check_writing(&self) -> Result<(), StoreError> {
        self.0.reading.check()?;
        self.0.writing.check()
    }

    /// Notes the result of an operation.
    fn note<T>(&self, access: StoreAccess, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => self.0.breaker(access).note_success(),
            Err(error @ StoreError::NoConditions) => {
                if !self.0.lacks_conditions.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "leases of the shared cache are off");
                }
            }
            Err(error) => {
                Counters::add(&self.0.counters.store_failures, 1);
                self.break_off(access, error);
                // It does not respond: reads would not, either.
                if matches!(error, StoreError::Stalled(_)) {
                    self.break_off(StoreAccess::Read, error);
                }
            }
        }
        result
    }

    fn break_off(&self, access: StoreAccess, error: &StoreError) {
        if self.0.breaker(access).open(error.clone()) {
            tracing::warn!(%error, ?access, "the shared cache is not used for now");
            icos_sync::spawn_task(test_until_it_works(Arc::downgrade(&self.0), access));
        }
    }
}

impl Backend {
    async fn get(&self, key: &str, max: usize) -> Result<Option<StoredObject>, StoreError> {
        match self {
            Self::Folder(folder) => folder.get(key, max).await,
            #[cfg(feature = "cluster")]
            Self::Bucket(bucket) => bucket.get(key, max).await,
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.put(key, bytes).await,
            #[cfg(feature = "cluster")]
            Self::Bucket(bucket) => bucket.put(key, bytes).await,
        }
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Option<StoreVersion>, StoreError> {
        match self {
            Self::Folder(folder) => folder.create(key, bytes).await,
            #[cfg(feature = "cluster")]
            Self::Bucket(bucket) => bucket.create(key, bytes).await,
        }
    }

    async fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        match self {
            Self::Folder(folder) => folder.replace(key, expected, bytes).await,
            #[cfg(feature = "cluster")]
            Self::Bucket(bucket) => bucket.replace(key, expected, bytes).await,
        }
    }

    /// # Errors
    ///
    /// [`StoreError::NoConditions`] if it ignores conditions.
    async fn test_conditions(&self) -> Result<(), StoreError> {
        match self {
            // Links have them.
            Self::Folder(_) => std::future::ready(Ok(())).await,
            #[cfg(feature = "cluster")]
            Self::Bucket(bucket) => bucket.test_conditions().await,
        }
    }
}

impl GuardedStore {
    fn breaker(&self, access: StoreAccess) -> &StoreBreaker {
        match access {
            StoreAccess::Read => &self.reading,
            StoreAccess::Write => &self.writing,
        }
    }

    async fn test(&self, access: StoreAccess) -> Result<(), StoreError> {
        match access {
            StoreAccess::Read => self.backend.get(PROBE_KEY, MAX_PROBE).await.map(drop),
            StoreAccess::Write => {
                // Long enough to need room.
                let bytes = Bytes::from_static(&[b'\n'; MAX_PROBE]);
                self.backend.put(PROBE_KEY, bytes).await
            }
        }
    }
}

/// Closes the breaker once the store works, unless the store is dropped before.
async fn test_until_it_works(store: Weak<GuardedStore>, access: StoreAccess) {
    loop {
        let Some(pause) = store.upgrade().map(|s| s.breaker(access).next_pause()) else {
            return;
        };
        tokio::time::sleep(pause).await;
        let Some(store) = store.upgrade() else {
            return;
        };
        match store.test(access).await {
            Ok(()) => {
                tracing::info!(?access, "the shared cache works again");
                return store.breaker(access).close();
            }
            Err(error) => {
                let _ = store.breaker(access).open(error);
            }
        }
    }
}
