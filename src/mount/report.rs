//! Counters and failures of a mount, readable as `status.json`, `errors` and
//! `metrics` in `.icosfs`.
//!
//! The two mutexes are leaves: no lock is taken while one of them is held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::Store;
use crate::catalog::Catalog;
use crate::content::ByteSource;
use icos_portal::Account;
use icos_portal::http::Http;

mod live_state;
mod metrics;
mod operation;
mod status;

pub use live_state::LiveState;
pub use operation::Operation;
pub use status::{Failure, MountInfo, MountStatus, ServedStats, ServiceUrls};

use live_state::LiveStateSource;

/// Number of failures that are stored.
const MAX_FAILURES: usize = 100;
/// Timeout for the login's status, so that a status is available soon.
const LOGIN_TIMEOUT: Duration = Duration::from_millis(300);

/// Collects counters and failures of a mount. Shared by all requests.
#[derive(Debug)]
pub struct MountReport {
    info: MountInfo,
    account: Option<Account>,
    http: Http,
    live: Option<LiveStateSource>,
    failures: Mutex<VecDeque<Failure>>,
    /// Number of all failures, by the errno's name.
    failure_counts: Mutex<BTreeMap<String, u64>>,
    reads: AtomicU64,
    /// Bytes in replies to READ, by source.
    bytes: [AtomicU64; ByteSource::ALL.len()],
    passed_through: AtomicU64,
    requests: [AtomicU64; Operation::ALL.len()],
}

impl MountReport {
    /// Creates a report that includes the login status of `account` and the
    /// request counters of `http`.
    #[must_use]
    pub fn new(info: MountInfo, account: Option<Account>, http: Http) -> Self {
        Self {
            info,
            account,
            http,
            live: None,
            failures: Mutex::default(),
            failure_counts: Mutex::default(),
            reads: AtomicU64::new(0),
            bytes: Default::default(),
            passed_through: AtomicU64::new(0),
            requests: Default::default(),
        }
    }

    /// Includes the ages of `catalog`'s lists and the usage of `store` in each
    /// status.
    #[must_use]
    pub fn with_live_state(self, catalog: Catalog, store: Store) -> Self {
        let live = Some(LiveStateSource { catalog, store });
        Self { live, ..self }
    }

    /// Counts a FUSE request.
    pub fn count_request(&self, operation: Operation) {
        self.requests[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        (Operation::ALL.into_iter()).map(|operation| {
            let count = self.requests[operation as usize].load(Ordering::Relaxed);
            (operation.name(), count)
        })
    }

    fn served(&self) -> ServedStats {
        let from: BTreeMap<ByteSource, u64> = ByteSource::ALL
            .into_iter()
            .map(|source| (source, self.bytes[source as usize].load(Ordering::Relaxed)))
            .collect();
        ServedStats {
            reads: self.reads.load(Ordering::Relaxed),
            bytes: from.values().sum(),
            from,
            passed_through: self.passed_through.load(Ordering::Relaxed),
        }
    }

    /// Counts a READ with a reply of `bytes` bytes.
    pub fn count_read(&self, bytes: usize, source: ByteSource) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes[source as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts an open for passthrough.
    pub fn count_passthrough_open(&self) {
        self.passed_through.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a failure. If it equals the previous one, increments its count.
    pub fn record_failure(&self, operation: &str, file: String, errno: i32, reason: String) {
        let errno = nix::errno::Errno::from_raw(errno);
        tracing::warn!(operation, file, ?errno, reason, "operation failed");
        *self
            .lock_failure_counts()
            .entry(format!("{errno:?}"))
            .or_default() += 1;
        let new = Failure {
            at: Timestamp::now(),
            times: 1,
            operation: operation.to_owned(),
            file,
            errno: format!("{errno:?}"),
            reason,
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.front_mut() {
            Some(last)
                if (&last.operation, &last.file, &last.reason)
                    == (&new.operation, &new.file, &new.reason) =>
            {
                last.at = new.at;
                last.times += 1;
            }
            _ => failures.push_front(new),
        }
        failures.truncate(MAX_FAILURES);
    }

    fn lock_failure_counts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.failure_counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the most recent failures, newest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().cloned().collect()
    }

    /// Returns the current status.
    pub async fn status(&self) -> MountStatus {
        let login = async {
            // The login is in a file, on a disk that may hang.
            let status = self.account.as_ref()?.status();
            tokio::time::timeout(LOGIN_TIMEOUT, status).await.ok()?
        };
        let (login, state) = tokio::join!(login, self.live_state());
        MountStatus {
            info: self.info.clone(),
            state,
            login,
            traffic: self.http.traffic(),
            served: self.served(),
            requests: (self.requests())
                .map(|(name, count)| (name.to_owned(), count))
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

    async fn live_state(&self) -> LiveState {
        match &self.live {
            Some(source) => source.read().await,
            None => LiveState::default(),
        }
    }

    /// Returns the content of `.icosfs/metrics`, in the Prometheus text format.
    pub async fn metrics_text(&self) -> Vec<u8> {
        let state = self.live_state().await;
        let counters = metrics::Counters {
            since: self.info.since,
            served: self.served(),
            requests: self.requests().collect(),
            failures: self.lock_failure_counts().clone(),
            traffic: self.http.traffic(),
            state,
        };
        counters.text().into_bytes()
    }

    /// Returns the content of `.icosfs/errors`: one line per failure, newest first.
    #[must_use]
    pub fn errors_text(&self) -> Vec<u8> {
        use std::fmt::Write as _;

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
    use icos_portal::http::Timeouts;

    #[test]
    fn repeated_failure_is_counted_and_oldest_failures_are_dropped() {
        let info = MountInfo {
            version: String::new(),
            pid: 1,
            portal: "ICOS".to_owned(),
            services: ServiceUrls {
                auth: String::new(),
                meta: String::new(),
                data: String::new(),
            },
            mountpoint: PathBuf::new(),
            cache: PathBuf::new(),
            control: None,
            since: Timestamp::UNIX_EPOCH,
        };
        let report = MountReport::new(info, None, Http::new(Timeouts::default()).unwrap());
        let fail = |file: &str| {
            report.record_failure("read", file.to_owned(), libc::EACCES, "no".to_owned());
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
