//! Errors that keep the cache from storing bytes: each cause is reported once, to
//! the log or to the handler.

use std::collections::HashSet;
use std::fmt;

use super::CacheError;
use icos_sync::Mutex;

type ErrorHandler = Box<dyn Fn(&CacheError) + Send + Sync>;

/// The causes so far, and the handler.
#[derive(Default)]
pub(super) struct ErrorReports(Mutex<ReportState>);

#[derive(Default)]
struct ReportState {
    /// Error numbers reported so far.
    causes: HashSet<Option<i32>>,
    /// Errors from before the handler was set.
    pending: Vec<CacheError>,
    handler: Option<ErrorHandler>,
}

impl ErrorReports {
    /// Reports `error`, unless one of the same cause was reported before. Reads
    /// continue without the cache.
    pub(super) fn report(&self, error: CacheError) {
        let cause = match &error {
            CacheError::Io { errno, .. } => *errno,
            CacheError::DiskFull { .. } => Some(libc::ENOSPC),
            CacheError::DiskHangs { .. } => Some(libc::ETIMEDOUT),
            CacheError::TooSmall
            | CacheError::NoMemory(_)
            | CacheError::ChecksumMismatch { .. }
            | CacheError::UnsafeName(_) => None,
        };
        let mut state = self.0.lock();
        if !state.causes.insert(cause) {
            return;
        }
        if let Some(handler) = &state.handler {
            handler(&error);
        } else {
            tracing::warn!(%error, "reads continue without the cache");
            state.pending.push(error);
        }
    }

    /// Calls `handler` with all errors, those reported before included.
    pub(super) fn set_handler(&self, handler: ErrorHandler) {
        let mut state = self.0.lock();
        state.pending.drain(..).for_each(|error| handler(&error));
        state.handler = Some(handler);
    }
}

impl fmt::Debug for ErrorReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorReports").finish_non_exhaustive()
    }
}
