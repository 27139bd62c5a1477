//! Counters of the shared cache, and what `icosfs status` and the metrics show of it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What happened since the process started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) segments_read: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) segments_written: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) values_read: AtomicU64,
    pub(super) values_written: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) leases: AtomicU64,
    pub(super) taken_over: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) store_failures: AtomicU64,
    pub(super) unpublished: AtomicU64,
    /// The number of publications under way.
    pub(super) publishing: watch::Sender<u32>,
}

/// Whether the store works.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedCacheState {
    /// It is read and written.
    #[default]
    Working,
    /// It is read, but not written.
    ReadOnly,
    /// It is neither read nor written; the portal delivers all bytes.
    Unavailable,
}

/// The status of the shared cache.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct SharedCacheStatus {
    /// Where it is.
    pub location: String,
    /// Whether it works.
    pub state: SharedCacheState,
    /// Why it does not.
    pub problem: Option<String>,
    /// Whether machines cannot have leases, so that they download at once: the store
    /// ignores conditions, or the server of leases fails.
    pub leases_off: bool,
    /// The server of leases, if they are not in the store.
    pub lease_server: Option<String>,
    /// Why that server is not used now.
    pub lease_problem: Option<String>,
    /// Whether this process only reads it.
    pub reads_only: bool,
    /// Whether a key proves its bytes: only then are tables shared.
    pub keyed: bool,
    /// Number of segments read from the store.
    pub segments_read: u64,
    /// The bytes of these.
    pub bytes_read: u64,
    /// Number of segments written to the store.
    pub segments_written: u64,
    /// The bytes of these.
    pub bytes_written: u64,
    /// Number of lists and header lines read from the store.
    pub values_read: u64,
    /// Number of lists and header lines written to the store.
    pub values_written: u64,
    /// Number of objects of the store that were rejected.
    pub rejected: u64,
    /// Number of leases that this process claimed.
    pub leases: u64,
    /// Number of these that another process had let expire.
    pub taken_over: u64,
    /// Number of waits for another machine's download.
    pub waits: u64,
    /// Number of failed operations of the store.
    pub store_failures: u64,
    /// Number of downloads that were not published completely.
    pub unpublished: u64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    /// Returns the present values.
    pub(super) fn status(
        &self,
        location: String,
        keyed: bool,
        (state, problem): (SharedCacheState, Option<String>),
    ) -> SharedCacheStatus {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SharedCacheStatus {
            location,
            state,
            problem,
            keyed,
            reads_only: false,
            leases_off: false,
            lease_server: None,
            lease_problem: None,
            segments_read: load(&self.segments_read),
            bytes_read: load(&self.bytes_read),
            segments_written: load(&self.segments_written),
            bytes_written: load(&self.bytes_written),
            values_read: load(&self.values_read),
            values_written: load(&self.values_written),
            rejected: load(&self.rejected),
            leases: load(&self.leases),
            taken_over: load(&self.taken_over),
            waits: load(&self.waits),
            store_failures: load(&self.store_failures),
            unpublished: load(&self.unpublished),
        }
    }
}
