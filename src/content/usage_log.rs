//! Which objects were read without a request to the data service, reported to the portal:
//! it counts its users by these reports.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::cache::CachePath;
use icos_portal::{ObjectId, UsageReporter};

/// Reads of one file within this time are reported as one use.
const REPORT_INTERVAL: Duration = Duration::from_hours(1);
/// The number of files whose last report is remembered.
const REPORTED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Reports each file at most once within an hour.
#[derive(Debug)]
pub(super) struct UsageLog {
    reporter: Option<UsageReporter>,
    /// When each file was last reported as used.
    reported: Mutex<LruCache<(ObjectId, CachePath), Instant>>,
}

impl UsageLog {
    /// Reports to `reporter`, if there is one.
    pub(super) fn new(reporter: Option<UsageReporter>) -> Self {
        Self {
            reporter,
            reported: Mutex::new(LruCache::new(REPORTED)),
        }
    }

    /// Notes that the file of `id` at `path` was read.
    pub(super) fn note(&self, id: ObjectId, path: &CachePath) {
        let Some(reporter) = &self.reporter else {
            return;
        };
        let mut known = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (id, path.clone());
        let last = known.get(&key);
        if last.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            known.put(key, Instant::now());
            reporter.report(id);
        }
    }
}
