//! A request of the kernel while it is being answered: counted when it comes,
//! told of in the log when it has its answer.

use std::cell::Cell;
use std::time::Instant;

use fuser::Errno;
use tracing::Span;

use super::{MountReport, Operation};
use crate::content::ByteSource;

/// One request. Its end says how it was answered: well, unless [`failed`] was
/// called.
///
/// [`failed`]: RequestTrace::failed
#[derive(Debug)]
pub(super) struct RequestTrace {
    span: Span,
    since: Instant,
    errno: Cell<Option<i32>>,
    bytes: Cell<Option<usize>>,
    origin: Cell<Option<ByteSource>>,
}

impl RequestTrace {
    /// Notes a request; `span` says of what, at level DEBUG.
    pub(super) fn new(report: &MountReport, operation: Operation, span: Span) -> Self {
        report.asked(operation);
        Self {
            span,
            since: Instant::now(),
            errno: Cell::default(),
            bytes: Cell::default(),
            origin: Cell::default(),
        }
    }

    /// What is done for it is done in this.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Notes with which error it is answered, and gives that.
    pub(super) fn failed(&self, errno: Errno) -> Errno {
        self.errno.set(Some(errno.code()));
        errno
    }

    /// Notes how many bytes it is answered with, and where they came from.
    pub(super) fn answered(&self, bytes: usize, origin: ByteSource) {
        self.bytes.set(Some(bytes));
        self.origin.set(Some(origin));
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
            origin,
        } = self;
        let outcome = match errno.get() {
            None => "ok".to_owned(),
            Some(errno) => format!("{:?}", nix::errno::Errno::from_raw(errno)),
        };
        span.in_scope(|| {
            tracing::debug!(
                outcome,
                bytes = bytes.get(),
                from = origin.get().map(ByteSource::name),
                took = ?since.elapsed(),
                "answered"
            );
        });
    }
}
