//! Where leases are: in the store, or on a server beside it.

use bytes::Bytes;

#[cfg(feature = "cluster")]
use super::lease_server::LeaseServer;
use super::store::{SharedStore, StoreError, StoreVersion, StoredObject};

/// Maximum length of a lease, in bytes.
pub(super) const MAX_LEN: usize = 4 << 10;

/// Where leases are. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum LeaseStore {
    /// In the store of the segments, by its conditional writes.
    Store(SharedStore),
    /// On a server of Redis, by its scripts.
    #[cfg(feature = "cluster")]
    Server(LeaseServer),
}

impl LeaseStore {
    /// Whether machines can have leases now.
    pub(super) fn works(&self) -> bool {
        match self {
            Self::Store(store) => !store.lacks_conditions(),
            #[cfg(feature = "cluster")]
            Self::Server(server) => server.problem().is_none(),
        }
    }

    /// Whether they are in the store of the segments.
    pub(super) fn is_in_store(&self) -> bool {
        match self {
            Self::Store(_) => true,
            #[cfg(feature = "cluster")]
            Self::Server(_) => false,
        }
    }

    /// Where they are, and why they do not work, if they are not in the store.
    pub(super) fn server(&self) -> Option<(String, Option<String>)> {
        match self {
            Self::Store(_) => None,
            #[cfg(feature = "cluster")]
            Self::Server(server) => {
                let problem = server.problem().map(|problem| problem.to_string());
                Some((server.location().to_owned(), problem))
            }
        }
    }

    /// Tests whether machines can have leases.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot; the same for the other operations.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        match self {
            Self::Store(store) => store.test_conditions().await,
            #[cfg(feature = "cluster")]
            Self::Server(server) => server.probe().await,
        }
    }

    /// Returns the lease at `key`, if there is one.
    pub(super) async fn get(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
        match self {
            Self::Store(store) => store.get(key, MAX_LEN).await,
            #[cfg(feature = "cluster")]
            Self::Server(server) => server.get(key).await,
        }
    }

    /// Creates the lease at `key` if there is none.
    pub(super) async fn create(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        match self {
            Self::Store(store) => store.create(key, bytes).await,
            #[cfg(feature = "cluster")]
            Self::Server(server) => server.create(key, &bytes).await,
        }
    }

    /// Replaces the lease at `key` if its version is `expected`.
    pub(super) async fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        match self {
            Self::Store(store) => store.replace(key, expected, bytes).await,
            #[cfg(feature = "cluster")]
            Self::Server(server) => server.replace(key, expected, &bytes).await,
        }
    }

    /// Frees the lease at `key` if its version is `expected`: in the store, `bytes`, which
    /// say so, replace it.
    pub(super) async fn free(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        match self {
            Self::Store(store) => store.replace(key, expected, bytes).await.map(drop),
            #[cfg(feature = "cluster")]
            Self::Server(server) => server.delete(key, expected).await,
        }
    }
}
