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
    Stream(mpsc::Receiver<BodyMessage>),
    /// A stream of which everything came.
    Ended,
}

/// What a task sends to the connection.
#[derive(Debug)]
enum BodyMessage {
    Piece(Bytes),
    Failure(io::Error),
    /// Everything was sent. A task that panics does not say so.
    End,
}

/// Sends the pieces of a body. One that is dropped before [`BodySender::end`] ends the
/// connection early, so that the client does not take the body for complete.
#[derive(Debug)]
pub(super) struct BodySender(mpsc::Sender<BodyMessage>);

/// The client is gone: nothing more needs to be produced.
#[derive(Debug)]
pub(super) struct ClientGone;

impl BodySender {
    /// Sends a piece, once the connection has room for it.
    pub(super) async fn send(&self, piece: impl Into<Bytes>) -> Result<(), ClientGone> {
        let sent = self.0.send(BodyMessage::Piece(piece.into())).await;
        sent.map_err(|_| ClientGone)
    }

    /// Ends the body, which is complete.
    pub(super) async fn end(self) {
        let _ = self.0.send(BodyMessage::End).await;
    }

    /// Ends the body and the connection by an error.
    pub(super) async fn fail(self, error: io::Error) {
        let _ = self.0.send(BodyMessage::Failure(error)).await;
    }

    /// Waits until the client is gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
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
    pub(super) fn stream(len: Option<u64>) -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        let body = Self {
            source: BodySource::Stream(receiver),
            remaining: len,
            request: None,
        };
        (BodySender(sender), body)
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
        let message = match &mut self.source {
            BodySource::Bytes(bytes) => bytes.take().map_or(BodyMessage::End, BodyMessage::Piece),
            BodySource::Stream(receiver) => match receiver.poll_recv(context) {
                Poll::Ready(Some(message)) => message,
                // The task ended early, such as by a panic.
                Poll::Ready(None) => BodyMessage::Failure(io::ErrorKind::UnexpectedEof.into()),
                Poll::Pending => return Poll::Pending,
            },
            BodySource::Ended => BodyMessage::End,
        };
        let piece = match message {
            BodyMessage::Piece(bytes) => Ok(bytes),
            BodyMessage::End if self.remaining.is_none_or(|remaining| remaining == 0) => {
                self.source = BodySource::Ended;
                return Poll::Ready(None);
            }
            BodyMessage::End => Err(io::ErrorKind::UnexpectedEof.into()),
            BodyMessage::Failure(error) => Err(error),
        };
        let len = piece.as_ref().map_or(0, Bytes::len) as u64;
        self.remaining = (self.remaining).map(|remaining| remaining.saturating_sub(len));
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_fn;

    use super::*;

    /// The bytes of a body, or its error.
    async fn collected(mut body: ReplyBody) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while !body.is_end_stream()
            && let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
        {
            bytes.extend_from_slice(&frame?.into_data().unwrap());
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn body_of_a_task_that_panics_is_not_complete() {
        for len in [None, Some(2), Some(3)] {
            let (sender, body) = ReplyBody::stream(len);
            let task = tokio::spawn(async move {
                sender.send("ab").await.unwrap();
                panic!("as a bug would");
            });
            let found = collected(body).await;
            // After all announced bytes, the client has a complete reply.
            assert_eq!(found.is_ok(), len == Some(2), "{len:?}: {found:?}");
            assert!(task.await.is_err());
        }
    }

    #[tokio::test]
    async fn body_that_is_ended_is_complete_if_all_announced_bytes_came() {
        for (len, is_complete) in [(None, true), (Some(2), true), (Some(3), false)] {
            let (sender, body) = ReplyBody::stream(len);
            sender.send("ab").await.unwrap();
            sender.end().await;
            assert_eq!(collected(body).await.is_ok(), is_complete, "{len:?}");
        }
        assert_eq!(collected(ReplyBody::of("ab")).await.unwrap(), b"ab");
        assert_eq!(collected(ReplyBody::empty()).await.unwrap(), b"");
    }
}
