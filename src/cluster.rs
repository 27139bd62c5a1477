//! A cache that the machines of a cluster share, on a store that its operator already
//! has, so that the portal delivers each byte to a cluster once.
//!
//! It lies between a miss of the local cache and the request to the portal. `content`
//! asks [`SharedCache::open`] for the bytes of an object from an offset on, and gives it
//! an [`Upstream`], which requests them from the portal; it reads a [`SharedStream`] and
//! does not see where the bytes come from. This module knows neither the portal nor the
//! local cache.
//!
//! ```text
//!  content --open(object, range, upstream)--> SharedStream (stream)
//!                |  next segment              |        |
//!                v                            v        v
//!   store: get   present and proven? --yes--> bytes    |
//!                | no                                  |
//!                v                                     |
//!   lease: held by another machine? --yes--> wait, look again (bounded)
//!                | no: claim it                        |
//!                v                                     v
//!   upstream --chunks--> reader            Publisher (publisher): seals segments,
//!                  \--copies of 8 MiB----> puts them, renews the lease, manifest last
//! ```
//!
//! Invariants:
//!
//! - **Proof.** A reader gets bytes of the store only if they are proven: with a key, by
//!   the seal of each segment; without one, once the complete object matches the digest
//!   in its id (until then they are in memory or in a file without a name). Everything
//!   else is rejected, counted, and fetched from upstream. Leases and manifests prove
//!   nothing and need not be true.
//! - **Correctness never depends on a lease.** Two holders are two downloads. All
//!   writers of a segment write the same bytes, so segments may be overwritten.
//! - **The store is optional at every moment.** An operation without progress fails after
//!   [`SharedCacheOptions::timeout`]; that opens a circuit breaker, and streams go on
//!   upstream from where they are. A background task closes it. Readers never wait for
//!   the publication of what they read for longer than three seconds in all.
//! - Waits for another machine end when its lease does not change, its position does not
//!   move, or no segment appears; then the waiting stream uses its own upstream.
//! - A machine that only reads claims no lease and publishes nothing.
//! - Segments in memory are bounded by [`SharedCacheOptions::memory`].
//!
//! The objects in the store are documented in `docs/cluster-format.md`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[cfg(feature = "cluster")]
mod aws_files;
#[cfg(feature = "cluster")]
mod bounded_http;
mod breaker;
mod folder;
mod gc;
mod key;
mod lease;
#[cfg(feature = "cluster")]
mod lease_connection;
#[cfg(feature = "cluster")]
mod lease_server;
mod lease_store;
mod location;
mod private_file;
mod publisher;
mod rejections;
#[cfg(feature = "cluster")]
mod resp;
#[cfg(feature = "cluster")]
mod s3;
mod seal;
mod segments;
mod spool;
mod status;
mod store;
mod stream;
mod value;

pub use gc::{GcError, GcOptions, GcReport, collect_garbage};
pub use key::{ClusterKey, KeyError};
pub use location::{BadLeaseLocation, BadLocation, LeaseLocation, SharedLocation};
pub use private_file::{PrivateFileError, read_password};
pub use rejections::Rejection;
pub use status::{SharedCacheState, SharedCacheStatus};
pub use store::StoreError;
pub use stream::SharedStream;

use lease_store::LeaseStore;
use rejections::Rejections;
use seal::Seal;
use status::Counters;
use store::SharedStore;

/// The length of a segment in bytes; the last one of an object is shorter.
pub const SEGMENT: u64 = 8 << 20;
/// The longest object that is shared without a key, in bytes: it is stored a second time
/// until it is proven.
const MAX_UNSEALED: u64 = 1 << 30;
/// Bytes of one permit of [`SharedCache`]'s memory.
const MEMORY_UNIT: u64 = 64 << 10;

/// A server that has the leases of a shared cache.
#[derive(Clone, Debug)]
pub struct LeaseServerOptions {
    /// Where it is.
    pub location: LeaseLocation,
    /// The password of the login.
    pub password: Option<SecretString>,
}

/// What a machine does with a shared cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SharedCacheRole {
    /// It reads what others wrote, and writes what it downloads.
    Writer,
    /// It reads what others wrote, and writes nothing.
    Reader,
}

/// How to use a shared cache.
#[derive(Debug)]
pub struct SharedCacheOptions {
    /// Where it is.
    pub location: SharedLocation,
    /// Where its leases are, if not in the store.
    pub leases: Option<LeaseServerOptions>,
    /// The key that seals what this process writes, and proves what it reads.
    pub key: Option<ClusterKey>,
    /// What this process does. With a public key, it has to be a reader.
    pub role: SharedCacheRole,
    /// How long an operation of the store may make no progress.
    pub timeout: Duration,
    /// The memory for segments, in bytes.
    pub memory: u64,
    /// A folder on this machine for objects that are not proven yet.
    pub scratch: PathBuf,
}

/// An object that machines share.
#[derive(Clone, Debug)]
pub struct SharedObject {
    /// The path of its segments in the store: safe names, separated by slashes.
    pub path: String,
    /// Its length in bytes.
    pub length: u64,
    /// The start of the SHA-256 digest of its bytes, if its id tells it.
    pub digest: Option<[u8; 18]>,
}

/// Delivers the bytes of an object that are not in the shared cache.
pub trait Upstream: Send + Sync {
    /// The bytes, in order.
    type Stream: UpstreamStream<Error = Self::Error>;
    /// Why they are not delivered.
    type Error: Send;

    /// Requests the bytes of `range`.
    fn open(
        &self,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Self::Stream, Self::Error>> + Send;
}

/// The bytes of one request to an [`Upstream`].
pub trait UpstreamStream: Send {
    /// Why the rest is not delivered.
    type Error: Send;

    /// Returns the next bytes, or `None` after the last ones.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
}

/// The shared cache. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedCache(Arc<Shared>);

/// What all streams share.
#[derive(Debug)]
struct Shared {
    store: SharedStore,
    leases: LeaseStore,
    seal: Seal,
    role: SharedCacheRole,
    memory: Arc<Semaphore>,
    memory_units: u32,
    scratch: PathBuf,
    counters: Arc<Counters>,
    rejections: Rejections,
    /// A name of this machine, for people that look into the store.
    node: String,
    location: String,
}

impl SharedCache {
    /// Uses the store that `options` name. Does not wait for it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the settings are not those of a store.
    pub fn new(options: SharedCacheOptions) -> Result<Self, StoreError> {
        let SharedCacheOptions {
            location,
            leases,
            key,
            role,
            timeout,
            memory,
            scratch,
        } = options;
        let counters = Arc::new(Counters::default());
        // Two segments: one that is received, and one that is written.
        let memory = memory.max(2 * SEGMENT) / MEMORY_UNIT;
        let memory = u32::try_from(memory).unwrap_or(u32::MAX >> 4);
        let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let shown = location.to_string();
        let store = SharedStore::open(location, timeout, Arc::clone(&counters))?;
        let leases = match leases {
            None => LeaseStore::Store(store.clone()),
            #[cfg(feature = "cluster")]
            Some(LeaseServerOptions { location, password }) => {
                let password = password.as_ref();
                let server = lease_server::LeaseServer::open(&location, password, &shown, timeout);
                LeaseStore::Server(server?)
            }
            #[cfg(not(feature = "cluster"))]
            Some(_) => return Err(StoreError::NotBuilt),
        };
        Ok(Self(Arc::new(Shared {
            location: shown,
            store,
            leases,
            seal: key.map_or(Seal::Checksum, ClusterKey::into_seal),
            role,
            memory: Arc::new(Semaphore::new(memory as usize)),
            memory_units: memory,
            scratch,
            counters,
            rejections: Rejections::default(),
            node: node.trim().to_owned(),
        })))
    }

    /// Opens a stream of `range` of `object`. What the store does not have comes from
    /// `upstream`, and is put into the store.
    #[must_use]
    pub fn open<U: Upstream>(
        &self,
        object: SharedObject,
        range: Range<u64>,
        upstream: U,
    ) -> SharedStream<U> {
        SharedStream::new(Arc::clone(&self.0), object, range, upstream)
    }

    /// Whether objects without a digest are shared: their bytes are proven by the key.
    #[must_use]
    pub fn shares_unproven(&self) -> bool {
        self.0.seal.proves()
    }

    /// Calls `report` whenever bytes of the store are rejected.
    pub fn on_rejection(&self, report: impl Fn(&Rejection) + Send + Sync + 'static) {
        self.0.rejections.on_rejection(report);
    }

    /// Ignores what the store has of the object at `path` from now on: its bytes turned
    /// out to be wrong.
    pub fn distrust(&self, path: String) {
        self.0.rejections.distrust(path);
    }

    /// Tests whether the store can be read, and, by a writer, written.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.0.store.probe(self.0.role).await
    }

    /// Tests whether machines can have leases.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot.
    pub async fn probe_leases(&self) -> Result<(), StoreError> {
        match (self.0.role, self.0.leases.is_in_store()) {
            // It would have to write.
            (SharedCacheRole::Reader, true) => Ok(()),
            _ => self.0.leases.probe().await,
        }
    }

    /// Returns its counters and whether it works.
    #[must_use]
    pub fn status(&self) -> SharedCacheStatus {
        let Shared {
            store,
            leases,
            seal,
            counters,
            location,
            ..
        } = &*self.0;
        let (lease_server, lease_problem) = leases.server().unzip();
        SharedCacheStatus {
            reads_only: self.0.role == SharedCacheRole::Reader,
            leases_off: !leases.works(),
            lease_server,
            lease_problem: lease_problem.flatten(),
            ..counters.status(location.clone(), seal.proves(), store.state())
        }
    }

    /// Waits until what was received is published, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let mut publishing = self.0.counters.publishing.subscribe();
        let idle = publishing.wait_for(|&publishing| publishing == 0);
        let _ = tokio::time::timeout(limit, idle).await;
    }
}

impl Shared {
    /// Reserves memory for a segment of `len` bytes.
    async fn reserve(&self, len: u64) -> OwnedSemaphorePermit {
        let units = self.units(len);
        let permit = Arc::clone(&self.memory).acquire_many_owned(units).await;
        permit.expect("the semaphore is never closed")
    }

    /// The same; `None` if there is no memory for it now.
    fn reserve_now(&self, len: u64) -> Option<OwnedSemaphorePermit> {
        let memory = Arc::clone(&self.memory);
        memory.try_acquire_many_owned(self.units(len)).ok()
    }

    fn units(&self, len: u64) -> u32 {
        let units = u32::try_from(len.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        units.clamp(1, self.memory_units)
    }
}

#[cfg(test)]
mod tests;
