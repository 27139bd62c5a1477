//! What the mount says about itself: who is logged in, what failed and why.
//! Readable as `status.json`, `errors` and `metrics` in `.icosfs`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::Store;
use crate::catalog::Catalog;
use crate::content::ByteSource;
use icos_portal::Account;
use icos_portal::account::LoginStatus;
use icos_portal::http::Http;
use icos_portal::traffic::TrafficStats;

mod live_state;
mod metrics;

pub use live_state::LiveState;
use live_state::LiveStateSource;

/// Failures remembered.
const REMEMBERED: usize = 100;
/// How long a look at the login may take: a status must come soon.
const PATIENCE: Duration = Duration::from_millis(300);

/// What is settled when the mount begins.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MountInfo {
    /// Version of icosfs.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The repository.
    pub portal: String,
    /// Base URLs of its services.
    pub services: ServiceUrls,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Where bytes are kept.
    pub cache: PathBuf,
    /// Where its owner's commands reach it, if they can.
    #[serde(default)]
    pub control: Option<PathBuf>,
    /// When the mount began.
    pub since: Timestamp,
}

/// Base URLs of the three services.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServiceUrls {
    /// Authentication.
    pub auth: String,
    /// Metadata.
    pub meta: String,
    /// Data.
    pub data: String,
}

/// A failure that a program was told of by an errno.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failure {
    /// When it last happened.
    pub at: Timestamp,
    /// How often it happened in a row.
    pub times: u64,
    /// What was being done, e.g. `read`.
    pub operation: String,
    /// To which file.
    pub file: String,
    /// The errno's name, e.g. `EACCES`.
    pub errno: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What was done since the mount began.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServedStats {
    /// READ requests of the kernel.
    pub reads: u64,
    /// Bytes that they were answered with.
    pub bytes: u64,
    /// The same, by the farthest place that an answer came from.
    #[serde(default)]
    pub from: BTreeMap<ByteSource, u64>,
    /// Files opened for the kernel to read by itself.
    pub passed_through: u64,
}

/// A request of the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// LOOKUP: what a name is.
    Lookup,
    /// GETATTR: a file's attributes.
    GetAttr,
    /// OPEN of a file.
    Open,
    /// READ.
    Read,
    /// OPENDIR.
    OpenDir,
    /// READDIR: names.
    ReadDir,
    /// READDIRPLUS: names with attributes.
    ReadDirPlus,
    /// GETXATTR or LISTXATTR.
    Xattr,
    /// STATFS.
    StatFs,
}

impl Operation {
    const ALL: [Operation; 9] = [
        Operation::Lookup,
        Operation::GetAttr,
        Operation::Open,
        Operation::Read,
        Operation::OpenDir,
        Operation::ReadDir,
        Operation::ReadDirPlus,
        Operation::Xattr,
        Operation::StatFs,
    ];

    fn name(self) -> &'static str {
        match self {
            Operation::Lookup => "lookup",
            Operation::GetAttr => "getattr",
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::OpenDir => "opendir",
            Operation::ReadDir => "readdir",
            Operation::ReadDirPlus => "readdirplus",
            Operation::Xattr => "xattr",
            Operation::StatFs => "statfs",
        }
    }
}

/// The whole of `.icosfs/status.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MountStatus {
    /// What is settled.
    #[serde(flatten)]
    pub about: MountInfo,
    /// What was done.
    pub served: ServedStats,
    /// What was asked of the portal.
    #[serde(default)]
    pub traffic: TrafficStats,
    /// The kernel's requests since the mount began, by name.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
    /// What the mount has at this moment.
    #[serde(flatten)]
    pub state: LiveState,
    /// The login; none for anonymous access.
    pub login: Option<LoginStatus>,
    /// The last failures, newest first.
    pub errors: Vec<Failure>,
}

/// Collects what happens.
#[derive(Debug)]
pub struct MountReport {
    about: MountInfo,
    account: Option<Account>,
    http: Http,
    watched: Option<LiveStateSource>,
    failures: Mutex<VecDeque<Failure>>,
    /// All that there were, by the errno's name.
    failed: Mutex<BTreeMap<String, u64>>,
    reads: AtomicU64,
    /// By their origin.
    bytes: [AtomicU64; ByteSource::ALL.len()],
    passed_through: AtomicU64,
    requests: [AtomicU64; Operation::ALL.len()],
}

impl MountReport {
    /// Begins a report, with what `account` knows of the login, and what was
    /// asked by `http`.
    #[must_use]
    pub fn new(about: MountInfo, account: Option<Account>, http: Http) -> Self {
        Self {
            about,
            account,
            http,
            watched: None,
            failures: Mutex::default(),
            failed: Mutex::default(),
            reads: AtomicU64::new(0),
            bytes: Default::default(),
            passed_through: AtomicU64::new(0),
            requests: Default::default(),
        }
    }

    /// The same, with a look at `catalog` and `store` in each status.
    #[must_use]
    pub fn watching(self, catalog: Catalog, store: Store) -> Self {
        let watched = Some(LiveStateSource { catalog, store });
        Self { watched, ..self }
    }

    /// Notes a request of the kernel.
    pub fn asked(&self, operation: Operation) {
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
            .map(|origin| (origin, self.bytes[origin as usize].load(Ordering::Relaxed)))
            .collect();
        ServedStats {
            reads: self.reads.load(Ordering::Relaxed),
            bytes: from.values().sum(),
            from,
            passed_through: self.passed_through.load(Ordering::Relaxed),
        }
    }

    /// Notes a READ that was answered with `bytes` bytes.
    pub fn read(&self, bytes: usize, origin: ByteSource) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes[origin as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes a file opened for the kernel to read by itself.
    pub fn passed_through(&self) {
        self.passed_through.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a failure; one like the last only raises its count.
    pub fn failed(&self, operation: &str, file: String, errno: i32, reason: String) {
        let errno = nix::errno::Errno::from_raw(errno);
        tracing::warn!(operation, file, ?errno, reason, "failed");
        *self
            .failed_so_far()
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
        failures.truncate(REMEMBERED);
    }

    fn failed_so_far(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last failures, newest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().cloned().collect()
    }

    /// All of it, as it is now.
    pub async fn status(&self) -> MountStatus {
        let login = async {
            // A login is in a file, whose disk may not answer.
            let status = self.account.as_ref()?.status();
            tokio::time::timeout(PATIENCE, status).await.ok()?
        };
        let (login, state) = tokio::join!(login, self.state());
        MountStatus {
            about: self.about.clone(),
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

    /// `.icosfs/status.json`.
    pub async fn status_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(&self.status().await).unwrap_or_default();
        json.push(b'\n');
        json
    }

    async fn state(&self) -> LiveState {
        match &self.watched {
            Some(watched) => watched.look().await,
            None => LiveState::default(),
        }
    }

    /// `.icosfs/metrics`, as Prometheus reads it.
    pub async fn metrics_text(&self) -> Vec<u8> {
        let state = self.state().await;
        let counters = metrics::Counters {
            since: self.about.since,
            served: self.served(),
            requests: self.requests().collect(),
            failed: self.failed_so_far().clone(),
            traffic: self.http.traffic(),
            state,
        };
        counters.text().into_bytes()
    }

    /// `.icosfs/errors`: a line a failure, newest first.
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
    use super::*;
    use icos_portal::http::Timeouts;

    #[test]
    fn repeated_failures_are_counted_and_old_ones_forgotten() {
        let about = MountInfo {
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
        let report = MountReport::new(about, None, Http::new(Timeouts::default()).unwrap());
        let fail =
            |file: &str| report.failed("read", file.to_owned(), libc::EACCES, "no".to_owned());
        fail("a");
        fail("a");
        fail("b");
        let errors = report.failures();
        assert_eq!(errors.len(), 2);
        assert_eq!((errors[1].times, errors[1].errno.as_str()), (2, "EACCES"));
        (0..200).for_each(|n| fail(&n.to_string()));
        assert_eq!(report.failures().len(), REMEMBERED);
    }
}
