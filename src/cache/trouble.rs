//! What keeps the cache from keeping: told once for each cause, to the log and
//! to whoever watches.

use std::collections::HashSet;
use std::fmt;

use super::CacheError;
use icos_sync::Mutex;

type Watcher = Box<dyn Fn(&CacheError) + Send + Sync>;

/// The causes so far, and who wants to know.
#[derive(Default)]
pub(super) struct Troubles(Mutex<State>);

#[derive(Default)]
struct State {
    known: HashSet<Option<i32>>,
    /// What happened before anyone watched.
    untold: Vec<CacheError>,
    watcher: Option<Watcher>,
}

impl Troubles {
    /// KnownSizes that the cache could not do its part; reads go on without it.
    pub(super) fn note(&self, error: CacheError) {
        let cause = match &error {
            CacheError::Io { errno, .. } => *errno,
            CacheError::DiskFull { .. } => Some(libc::ENOSPC),
            CacheError::TooSmall
            | CacheError::NoMemory(_)
            | CacheError::Differs { .. }
            | CacheError::UnsafeName(_) => None,
        };
        let mut state = self.0.lock();
        if !state.known.insert(cause) {
            return;
        }
        if let Some(watcher) = &state.watcher {
            watcher(&error);
        } else {
            tracing::warn!(%error, "reads go on without the cache");
            state.untold.push(error);
        }
    }

    /// Tells `watcher` of all causes, those so far and those to come.
    pub(super) fn watch(&self, watcher: Watcher) {
        let mut state = self.0.lock();
        state.untold.drain(..).for_each(|error| watcher(&error));
        state.watcher = Some(watcher);
    }
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Troubles").finish_non_exhaustive()
    }
}
