//! A cache of query results, as the meta service has it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sparesults::QueryResultsFormat;

/// The most results to cache.
const MOST_ENTRIES: usize = 512;

/// Cached results, by query and accepted formats.
pub(crate) struct QueryCache {
    life: Duration,
    longest: usize,
    entries: Mutex<HashMap<QueryKey, CachedResult>>,
}

/// A cache key: accepted types, URL query, body.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(crate) struct QueryKey(pub(crate) String, pub(crate) String, pub(crate) Bytes);

struct CachedResult {
    since: Instant,
    format: QueryResultsFormat,
    results: Bytes,
}

impl QueryCache {
    pub(crate) fn new(life: Duration, longest: usize) -> Self {
        Self {
            life,
            longest,
            entries: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, key: &QueryKey) -> Option<(QueryResultsFormat, Bytes)> {
        let entries = self.entries();
        let entry = entries.get(key)?;
        (entry.since.elapsed() < self.life).then(|| (entry.format, entry.results.clone()))
    }

    pub(crate) fn put(&self, key: QueryKey, format: QueryResultsFormat, results: &Bytes) {
        if results.len() > self.longest {
            return;
        }
        let mut entries = self.entries();
        if entries.len() >= MOST_ENTRIES {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.since);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                entries.remove(&oldest);
            }
        }
        let entry = CachedResult {
            since: Instant::now(),
            format,
            results: results.clone(),
        };
        entries.insert(key, entry);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<QueryKey, CachedResult>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
