//! Objects of the store that were rejected, and where that is reported.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use lru::LruCache;

use super::store::StoreVersion;
use icos_sync::Mutex;

/// The number of rejected objects that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// An object of the store that is not what it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{key} in the shared cache was rejected: {reason}; its bytes are fetched from the portal")]
pub struct Rejection {
    /// The key of the object in the store.
    pub key: String,
    /// What was expected and what was found.
    pub reason: String,
}

type Report = Box<dyn Fn(&Rejection) + Send + Sync>;

/// Which objects were rejected: each is counted once for each of its versions.
#[derive(Default)]
pub(super) struct Rejections {
    seen: Mutex<Option<LruCache<String, StoreVersion>>>,
    distrusted: Mutex<Option<LruCache<String, ()>>>,
    report: OnceLock<Arc<Report>>,
}

impl fmt::Debug for Rejections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejections").finish_non_exhaustive()
    }
}

impl Rejections {
    pub(super) fn on_rejection(&self, report: impl Fn(&Rejection) + Send + Sync + 'static) {
        // Set once, at the start.
        let _ = self.report.set(Arc::new(Box::new(report)));
    }

    /// Ignores what the store has of the object at `path` from now on.
    pub(super) fn distrust(&self, path: String) {
        let mut distrusted = self.distrusted.lock();
        let distrusted = distrusted.get_or_insert_with(|| LruCache::new(REMEMBERED));
        distrusted.put(path, ());
    }

    pub(super) fn is_distrusted(&self, path: &str) -> bool {
        let mut distrusted = self.distrusted.lock();
        (distrusted.as_mut()).is_some_and(|distrusted| distrusted.get(path).is_some())
    }

    /// Notes that the object at `key` was rejected in `version`. Returns whether that is
    /// new.
    pub(super) fn note(&self, key: &str, version: StoreVersion, reason: &str) -> bool {
        {
            let mut seen = self.seen.lock();
            let seen = seen.get_or_insert_with(|| LruCache::new(REMEMBERED));
            if seen.put(key.to_owned(), version.clone()) == Some(version) {
                return false;
            }
        }
        let rejection = Rejection {
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        tracing::warn!(key, reason, "bytes in the shared cache were rejected");
        if let Some(report) = self.report.get() {
            report(&rejection);
        }
        true
    }
}
