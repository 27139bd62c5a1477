//! One FUSE request in progress: its reply, and its trace, which counts the
//! request when it arrives and logs its outcome.

use std::cell::Cell;
use std::time::Instant;

use fuser::{Errno, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr};
use tracing::Span;

use crate::content::ByteSource;
use crate::daemon::report::{DaemonReport, Operation};

/// A request that waits for its reply. The sender of the reply takes `reply` out.
#[derive(Debug)]
pub(super) struct PendingReply<R> {
    pub(super) reply: R,
    pub(super) trace: RequestTrace,
}

/// A reply, which may be an error.
pub(super) trait Reply: Send + 'static {
    /// Replies with an error.
    fn error(self, errno: Errno);
}

macro_rules! impl_reply {
    ($($reply:ty)*) => {$(
        impl Reply for $reply {
            fn error(self, errno: Errno) {
                self.error(errno);
            }
        }
    )*};
}

impl_reply!(ReplyAttr ReplyData ReplyEntry ReplyOpen ReplyStatfs ReplyXattr);

impl<R: Reply> PendingReply<R> {
    /// Replies with an error.
    pub(super) fn error(self, errno: Errno) {
        self.trace.errno.set(Some(errno.code()));
        self.reply.error(errno);
    }
}

/// The trace of a request. When it is dropped, it logs success or the error.
#[derive(Debug)]
pub(super) struct RequestTrace {
    span: Span,
    since: Instant,
    errno: Cell<Option<i32>>,
    /// The number of bytes of the reply, and their source.
    read: Cell<Option<(usize, ByteSource)>>,
}

impl RequestTrace {
    /// Counts a request. `span`, of level DEBUG, names its parameters.
    pub(super) fn new(report: &DaemonReport, operation: Operation, span: Span) -> Self {
        report.count_request(operation);
        Self {
            span,
            since: Instant::now(),
            errno: Cell::default(),
            read: Cell::default(),
        }
    }

    /// The span in which all work for this request runs.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Records the number of bytes of the reply and their source.
    pub(super) fn replied(&self, bytes: usize, source: ByteSource) {
        self.read.set(Some((bytes, source)));
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        if self.span.is_disabled() {
            return;
        }
        let (bytes, source) = self.read.get().unzip();
        let outcome = match self.errno.get() {
            None => "ok".to_owned(),
            Some(errno) => format!("{:?}", nix::errno::Errno::from_raw(errno)),
        };
        self.span.in_scope(|| {
            tracing::debug!(
                outcome,
                bytes,
                source = source.map(ByteSource::name),
                elapsed = ?self.since.elapsed(),
                "replied"
            );
        });
    }
}
