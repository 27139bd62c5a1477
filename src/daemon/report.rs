//! Counters and failures of a mount or server, readable as `status.json`, `errors` and
//! `metrics` in `.icosfs`.
//!
//! The mutex is a leaf: no lock is taken while it is held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icos_sync::spawn_blocking;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::cache::Store;
use crate::catalog::{Catalog, ListAge};
use crate::cluster::SharedCache;
use crate::content::ByteSource;
use icos_portal::http::Http;
use icos_portal::{Account, ObjectId};

mod metrics;
mod status;

pub use status::{
    DaemonInfo, DaemonStatus, Failure, FrontEnd, LiveState, MountLogin, ServedStats, ServerAddress,
    ServiceUrls,
};

/// Number of failures that are stored.
const MAX_FAILURES: usize = 100;
/// Number of objects whose reading is recorded.
const MAX_READ_OBJECTS: usize = 100_000;
/// Timeout for each value that is read from a disk, which may be slow or hang, so
/// that a status is available soon.
const READ_TIMEOUT: Duration = Duration::from_millis(300);

/// Collects counters and failures of a mount or server. Shared by all requests.
#[derive(Debug)]
pub struct DaemonReport {
    info: DaemonInfo,
    account: Option<Account>,
    http: Http,
    catalog: Catalog,
    store: Store,
    failures: Mutex<Failures>,
    /// The objects whose data were read.
    read_objects: Mutex<BTreeSet<ObjectId>>,
    reads: AtomicU64,
    /// Bytes in replies to READ, by source.
    bytes: [AtomicU64; ByteSource::ALL.len()],
    passed_through: AtomicU64,
    refused_crawlers: AtomicU64,
    shared_cache: Option<SharedCache>,
    requests: [AtomicU64; OPERATIONS.len()],
}

#[derive(Debug, Default)]
struct Failures {
    /// The most recent failures, newest first.
    recent: VecDeque<Failure>,
    /// Number of all failures, by the errno's name.
    counts: BTreeMap<String, u64>,
}

/// A kind of request: of the kernel to a mount, or of a client to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// LOOKUP of a name in a directory.
    Lookup,
    /// GETATTR.
    GetAttr,
    /// OPEN of a file.
    Open,
    /// READ.
    Read,
    /// OPENDIR.
    OpenDir,
    /// READDIR: names only.
    ReadDir,
    /// READDIRPLUS: names with attributes.
    ReadDirPlus,
    /// GETXATTR or LISTXATTR.
    Xattr,
    /// STATFS.
    StatFs,
    /// GET.
    HttpGet,
    /// HEAD.
    HttpHead,
    /// OPTIONS.
    HttpOptions,
    /// PROPFIND: the properties of files and folders.
    HttpPropfind,
    /// A request without the secret, or from another origin.
    HttpRefused,
    /// A request with another method.
    HttpOther,
}

/// The names of all operations in `status.json` and metrics, in the order of their
/// discriminants: first those of mounts, then those of servers.
const OPERATIONS: [&str; 15] = [
    "lookup",
    "getattr",
    "open",
    "read",
    "opendir",
    "readdir",
    "readdirplus",
    "xattr",
    "statfs",
    "http-get",
    "http-head",
    "http-options",
    "http-propfind",
    "http-refused",
    "http-other",
];
/// The number of operations of mounts.
const FUSE_OPERATIONS: usize = 9;

impl DaemonReport {
    /// Creates a report that includes the login status of `account`, the request
    /// counters of `http`, the ages of `catalog`'s lists and the usage of `store`.
    #[must_use]
    pub fn new(
        info: DaemonInfo,
        account: Option<Account>,
        http: Http,
        catalog: Catalog,
        store: Store,
    ) -> Self {
        Self {
            info,
            account,
            http,
            catalog,
            store,
            failures: Mutex::default(),
            read_objects: Mutex::default(),
            reads: AtomicU64::new(0),
            bytes: Default::default(),
            passed_through: AtomicU64::new(0),
            refused_crawlers: AtomicU64::new(0),
            shared_cache: None,
            requests: Default::default(),
        }
    }

    /// Includes the status of the cache that is shared with other machines.
    #[must_use]
    pub fn with_shared_cache(self, shared_cache: Option<SharedCache>) -> Self {
        Self {
            shared_cache,
            ..self
        }
    }

    /// Counts a request.
    pub fn count_request(&self, operation: Operation) {
        self.requests[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a READ with a reply of `bytes` bytes.
    pub fn count_read(&self, bytes: usize, source: ByteSource) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes[source as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records that data of `object` were read.
    pub fn add_read_object(&self, object: ObjectId) {
        let mut objects = self.lock_read_objects();
        if objects.len() < MAX_READ_OBJECTS {
            objects.insert(object);
        }
    }

    /// Returns the content of `.icosfs/read`: the ids of the objects whose data were
    /// read, a line each.
    #[must_use]
    pub fn read_objects_text(&self) -> Vec<u8> {
        let lines = self.lock_read_objects();
        let lines = lines.iter().map(|id| format!("{id}\n"));
        lines.collect::<String>().into_bytes()
    }

    fn lock_read_objects(&self) -> MutexGuard<'_, BTreeSet<ObjectId>> {
        let objects = self.read_objects.lock();
        objects.unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an open for passthrough.
    pub fn count_passthrough_open(&self) {
        self.passed_through.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an open that was refused because the program opens every file.
    pub fn count_refused_crawler(&self) {
        self.refused_crawlers.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a failure, which a program received as `errno`: the name of an errno, or
    /// the status of a response. If it equals the previous one, increments its count.
    pub fn record_failure(&self, operation: &str, file: String, errno: String, reason: String) {
        tracing::warn!(operation, file, errno, reason, "operation failed");
        let new = Failure {
            at: Timestamp::now(),
            times: 1,
            operation: operation.to_owned(),
            file,
            errno,
            reason,
        };
        let mut failures = self.lock_failures();
        *failures.counts.entry(new.errno.clone()).or_default() += 1;
        match failures.recent.front_mut() {
            Some(last)
                if (&last.operation, &last.file, &last.reason)
                    == (&new.operation, &new.file, &new.reason) =>
            {
                last.at = new.at;
                last.times += 1;
            }
            _ => failures.recent.push_front(new),
        }
        failures.recent.truncate(MAX_FAILURES);
    }

    fn lock_failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the most recent failures, newest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.lock_failures().recent.iter().cloned().collect()
    }

    /// Returns the current status.
    pub async fn status(&self) -> DaemonStatus {
        let login = async {
            // The login is in a file.
            let status = self.account.as_ref()?.status();
            timeout(READ_TIMEOUT, status).await.ok()?
        };
        let (login, status) = tokio::join!(login, self.status_without_login());
        DaemonStatus { login, ..status }
    }

    async fn status_without_login(&self) -> DaemonStatus {
        let (catalog, store) = (self.catalog.clone(), self.store.clone());
        let lists = spawn_blocking(move || catalog.lists());
        let usage = spawn_blocking(move || store.usage());
        let (lists, usage) =
            tokio::join!(timeout(READ_TIMEOUT, lists), timeout(READ_TIMEOUT, usage));
        let (first, count) = match self.info.front {
            FrontEnd::Mount { .. } => (0, FUSE_OPERATIONS),
            FrontEnd::Server { .. } => (FUSE_OPERATIONS, OPERATIONS.len()),
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let from: BTreeMap<ByteSource, u64> = (ByteSource::ALL.into_iter())
            .map(|source| (source, load(&self.bytes[source as usize])))
            .collect();
        DaemonStatus {
            info: self.info.clone(),
            state: LiveState {
                lists: match lists {
                    Ok(Ok(Ok(lists))) => lists,
                    _ => ListAge::default(),
                },
                cache_use: usage.ok().and_then(Result::ok),
            },
            login: None,
            shared_cache: self.shared_cache.as_ref().map(SharedCache::status),
            traffic: self.http.traffic(),
            served: ServedStats {
                reads: load(&self.reads),
                bytes: from.values().sum(),
                from,
                passed_through: load(&self.passed_through),
                refused_crawlers: load(&self.refused_crawlers),
            },
            requests: (OPERATIONS.iter().zip(&self.requests))
                .skip(first)
                .take(count)
                .map(|(&name, count)| (name.to_owned(), load(count)))
                .collect(),
            errors: self.failures(),
        }
    }

    /// Returns the content of `.icosfs/status.json`.
    pub async fn status_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(&self.status().await).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Returns the content of `.icosfs/metrics`, in the Prometheus text format.
    pub async fn metrics_text(&self) -> Vec<u8> {
        let status = self.status_without_login().await;
        metrics::render(&status, &self.lock_failures().counts).into_bytes()
    }

    /// Returns the content of `.icosfs/errors`: one line per failure, newest first.
    #[must_use]
    pub fn errors_text(&self) -> Vec<u8> {
        let mut text = String::new();
        for failure in self.failures() {
            let Failure {
                at,
                times,
                operation,
                file,
                errno,
                reason,
            } = failure;
            let _ = writeln!(
                text,
                "{at} {operation} {file}: {errno} ({times}x): {reason}"
            );
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cache::CacheLimits;
    use crate::catalog::ObjectSelection;
    use icos_portal::http::Timeouts;
    use icos_portal::{Envri, MetadataClient, Services};

    #[test]
    fn repeated_failure_is_counted_and_oldest_failures_are_dropped() {
        let info = DaemonInfo {
            version: String::new(),
            pid: 1,
            portal: "ICOS".to_owned(),
            services: ServiceUrls {
                auth: String::new(),
                meta: String::new(),
                data: String::new(),
            },
            front: FrontEnd::Mount {
                mountpoint: PathBuf::new(),
            },
            cache: PathBuf::new(),
            control: None,
            since: Timestamp::UNIX_EPOCH,
            login_from: MountLogin::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        let http = Http::new(Timeouts::default()).unwrap();
        let meta = MetadataClient::new(http.clone(), Services::of(Envri::Icos));
        let selection = ObjectSelection::default();
        let catalog = Catalog::open(meta, folder.path(), Duration::MAX, selection).unwrap();
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(folder.path().join("cache"), CacheLimits { disk, memory });
        let report = DaemonReport::new(info, None, http, catalog, store);
        let fail = |file: &str| {
            report.record_failure(
                "read",
                file.to_owned(),
                "EACCES".to_owned(),
                "no".to_owned(),
            );
        };
        fail("a");
        fail("a");
        fail("b");
        let errors = report.failures();
        assert_eq!(errors.len(), 2);
        assert_eq!((errors[1].times, errors[1].errno.as_str()), (2, "EACCES"));
        (0..200).for_each(|n| fail(&n.to_string()));
        assert_eq!(report.failures().len(), MAX_FAILURES);
    }
}
