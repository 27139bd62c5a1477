//! What the mount says about itself: who is logged in, what failed and why.
//! Readable as `status.json`, `errors` and `metrics` in `.icosfs`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::portal::Account;
use crate::portal::account::LoginStatus;

/// Failures remembered.
const REMEMBERED: usize = 100;
/// How long a look at the login may take: a status must come soon.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is settled when the mount begins.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct About {
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
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Served {
    /// READ requests of the kernel.
    pub reads: u64,
    /// Bytes that they were answered with.
    pub bytes: u64,
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
}

impl Operation {
    const ALL: [Operation; 8] = [
        Operation::Lookup,
        Operation::GetAttr,
        Operation::Open,
        Operation::Read,
        Operation::OpenDir,
        Operation::ReadDir,
        Operation::ReadDirPlus,
        Operation::Xattr,
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
        }
    }
}

/// The whole of `.icosfs/status.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// What is settled.
    #[serde(flatten)]
    pub about: About,
    /// What was done.
    pub served: Served,
    /// The kernel's requests since the mount began, by name.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
    /// The login; none for anonymous access.
    pub login: Option<LoginStatus>,
    /// The last failures, newest first.
    pub errors: Vec<Failure>,
}

/// Collects what happens.
#[derive(Debug)]
pub struct Report {
    about: About,
    account: Option<Account>,
    failures: Mutex<VecDeque<Failure>>,
    reads: AtomicU64,
    bytes: AtomicU64,
    passed_through: AtomicU64,
    requests: [AtomicU64; Operation::ALL.len()],
}

impl Report {
    /// Begins a report, with what `account` knows of the login.
    #[must_use]
    pub fn new(about: About, account: Option<Account>) -> Self {
        Self {
            about,
            account,
            failures: Mutex::default(),
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            passed_through: AtomicU64::new(0),
            requests: Default::default(),
        }
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

    fn served(&self) -> Served {
        Served {
            reads: self.reads.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            passed_through: self.passed_through.load(Ordering::Relaxed),
        }
    }

    /// `.icosfs/metrics`: counters as Prometheus reads them.
    #[must_use]
    pub fn metrics_text(&self) -> Vec<u8> {
        use std::fmt::Write as _;

        let mut text = String::from("# TYPE icosfs_requests_total counter\n");
        for (name, count) in self.requests() {
            let _ = writeln!(
                text,
                "icosfs_requests_total{{operation=\"{name}\"}} {count}"
            );
        }
        let served = self.served();
        for (name, count) in [
            ("read_bytes", served.bytes),
            ("files_passed_through", served.passed_through),
        ] {
            let _ = writeln!(text, "# TYPE icosfs_{name}_total counter");
            let _ = writeln!(text, "icosfs_{name}_total {count}");
        }
        text.into_bytes()
    }

    /// Notes a READ that was answered with `bytes` bytes.
    pub fn read(&self, bytes: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes a file opened for the kernel to read by itself.
    pub fn passed_through(&self) {
        self.passed_through.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a failure; one like the last only raises its count.
    pub fn failed(&self, operation: &str, file: String, errno: i32, reason: String) {
        let errno = nix::errno::Errno::from_raw(errno);
        tracing::warn!(operation, file, ?errno, reason, "failed");
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

    /// The last failures, newest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().cloned().collect()
    }

    /// All of it, as it is now.
    pub async fn status(&self) -> Status {
        let login = match &self.account {
            // A login is in a file, whose disk may not answer.
            Some(account) => tokio::time::timeout(PATIENCE, account.status())
                .await
                .unwrap_or_default(),
            None => None,
        };
        Status {
            about: self.about.clone(),
            login,
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

    #[test]
    fn repeated_failures_are_counted_and_old_ones_forgotten() {
        let about = About {
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
            since: Timestamp::UNIX_EPOCH,
        };
        let report = Report::new(about, None);
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
