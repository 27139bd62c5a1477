//! The trace of one FUSE request: counts it when it arrives, and logs its
//! outcome when it has its reply.

use std::cell::Cell;
use std::time::Instant;

use fuser::Errno;
use tracing::Span;

use super::report::{MountReport, Operation};
use crate::content::ByteSource;

/// One request in progress. When it is dropped, it logs success, or the error
/// that was passed to [`failed`].
///
/// [`failed`]: RequestTrace::failed
#[derive(Debug)]
pub(super) struct RequestTrace {
    span: Span,
    since: Instant,
    errno: Cell<Option<i32>>,
    bytes: Cell<Option<usize>>,
    source: Cell<Option<ByteSource>>,
}

impl RequestTrace {
    /// Counts a request. `span`, of level DEBUG, names its parameters.
    pub(super) fn new(report: &MountReport, operation: Operation, span: Span) -> Self {
        report.count_request(operation);
        Self {
            span,
            since: Instant::now(),
            errno: Cell::default(),
            bytes: Cell::default(),
            source: Cell::default(),
        }
    }

    /// The span in which all work for this request runs.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Records the error of the reply and returns it.
    pub(super) fn failed(&self, errno: Errno) -> Errno {
        self.errno.set(Some(errno.code()));
        errno
    }

    /// Records the number of bytes of the reply and their source.
    pub(super) fn replied(&self, bytes: usize, source: ByteSource) {
        self.bytes.set(Some(bytes));
        self.source.set(Some(source));
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        if self.span.is_disabled() {
            return;
        }
        let Self {
            span,
            since,
            errno,
            bytes,
            source,
        } = self;
        let outcome = match errno.get() {
            None => "ok".to_owned(),
            Some(errno) => format!("{:?}", nix::errno::Errno::from_raw(errno)),
        };
        span.in_scope(|| {
            tracing::debug!(
                outcome,
                bytes = bytes.get(),
                source = source.get().map(ByteSource::name),
                elapsed = ?since.elapsed(),
                "replied"
            );
        });
    }
}
