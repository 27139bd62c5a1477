//! Bodies of replies: bytes at hand, or a stream that a task produces.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::RequestInProgress;

/// The number of pieces that wait between the task that produces them and the
/// connection.
const PIECES: usize = 2;

/// The body of a reply. The request is in progress until it is dropped.
#[derive(Debug)]
pub(super) struct ReplyBody {
    source: BodySource,
    /// The number of bytes to come, if it is known.
    remaining: Option<u64>,
    pub(super) request: Option<RequestInProgress>,
}

#[derive(Debug)]
enum BodySource {
    Bytes(Option<Bytes>),
    Stream(mpsc::Receiver<io::Result<Bytes>>),
}

impl ReplyBody {
    /// No bytes.
    pub(super) fn empty() -> Self {
        Self::of(Bytes::new())
    }

    /// These bytes.
    pub(super) fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            remaining: Some(bytes.len() as u64),
            source: BodySource::Bytes((!bytes.is_empty()).then_some(bytes)),
            request: None,
        }
    }

    /// The pieces that are sent to the returned sender: `len` bytes in all, or a number
    /// that is not known yet.
    pub(super) fn stream(len: Option<u64>) -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        let body = Self {
            source: BodySource::Stream(receiver),
            remaining: len,
            request: None,
        };
        (sender, body)
    }

    /// The body of a reply to HEAD for a file of unknown length: none is sent, and the
    /// reply states no length.
    pub(super) fn of_unknown_length() -> Self {
        Self::stream(None).1
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match &mut self.source {
            BodySource::Bytes(bytes) => bytes.take().map(Ok),
            BodySource::Stream(receiver) => match receiver.poll_recv(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        let len = match &piece {
            Some(Ok(bytes)) => bytes.len() as u64,
            // The task ended early, such as by a panic: the client must not take the
            // bytes for complete.
            None if self.remaining.is_some_and(|remaining| remaining > 0) => {
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            }
            Some(Err(_)) | None => 0,
        };
        self.remaining = self
            .remaining
            .map(|remaining| remaining.saturating_sub(len));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
