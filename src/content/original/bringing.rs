//! How a stream comes into the cache: one task takes it from the network,
//! another checks and keeps it, and the hash is a third, so that on a quick line
//! no core waits for another.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::piece::{Arriving, Piece};
use super::proof::Follower;
use super::stream::Stream;
use super::{ContentError, OriginalFile};

/// How many pieces may wait to be kept.
const WAITING: usize = 2;

impl OriginalFile {
    /// Fetches `stream`'s range into the cache.
    pub(super) async fn run(self: &Arc<Self>, stream: &Arc<Stream>) -> Result<(), ContentError> {
        let follower = self.proof.follow(&self.entry, &stream.range());
        let (pieces, coming) = mpsc::channel(WAITING);
        let keeper = Arc::clone(self).keep(Arc::clone(stream), coming, follower);
        let keeping = tokio::spawn(keeper);
        let fetched = self.fetch(stream, pieces).await;
        // A panic in there is a bug; what it did not keep is missing.
        let kept = keeping.await.unwrap_or(Ok(()));
        kept.and(fetched)
    }

    /// Hands over what comes of `stream`, piece by piece, as long as someone
    /// takes it.
    async fn fetch(
        &self,
        stream: &Stream,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<(), ContentError> {
        let _buffers = self.memory.for_stream().await?;
        let len = self.entry.len();
        let range = stream.range();
        let to = (range.end < len).then_some(range.end);
        stream.asked();
        let mut original = self.data.original(self.id, range.start, to).await?;
        if original.total != len {
            return Err(ContentError::WrongLength {
                id: self.id,
                expected: len,
                found: original.total,
            });
        }
        stream.answered();
        let mut arriving = Arriving::first(range.start);
        loop {
            let chunk = {
                let mut coming = pin!(original.chunk());
                loop {
                    let Some(due) = arriving.due() else {
                        break coming.await?;
                    };
                    match timeout_at(due, &mut coming).await {
                        Ok(chunk) => break chunk?,
                        Err(_late) => {
                            let piece = arriving.cut(true, stream.awaited(), &self.memory);
                            if pieces.send(piece).await.is_err() {
                                return Ok(());
                            }
                        }
                    }
                }
            };
            let Some(mut chunk) = chunk else {
                break;
            };
            while !chunk.is_empty() {
                arriving.take(&mut chunk);
                if arriving.is_full() {
                    let piece = arriving.cut(true, stream.awaited(), &self.memory);
                    if pieces.send(piece).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !stream.is_wanted(arriving.at()).await {
                return Ok(());
            }
        }
        let piece = arriving.cut(false, stream.awaited(), &self.memory);
        // Fails if what came before could not be kept.
        let _ = pieces.send(piece).await;
        Ok(())
    }

    /// Keeps the pieces of `stream` that come, and lets its readers know.
    async fn keep(
        self: Arc<Self>,
        stream: Arc<Stream>,
        mut pieces: mpsc::Receiver<Piece>,
        mut follower: Option<Follower>,
    ) -> Result<(), ContentError> {
        let mut kept = Ok(());
        while let Some(piece) = pieces.recv().await {
            kept = self.keep_piece(&stream, piece, &mut follower).await;
            if kept.is_err() {
                break;
            }
        }
        if let Some(follower) = follower {
            self.proof.stop(follower).await;
        }
        let life = self.entry.life();
        // A block was damaged, say, and is mended.
        if self.entry.is_proved() && self.entry.is_complete() && !self.entry.is_sealed() {
            Arc::clone(&self.entry).seal_soon(life).await;
        }
        kept
    }

    async fn keep_piece(
        &self,
        stream: &Stream,
        piece: Piece,
        follower: &mut Option<Follower>,
    ) -> Result<(), ContentError> {
        let Piece {
            at,
            bytes,
            may_stay,
        } = piece;
        let end = at + bytes.len() as u64;
        if end > stream.range().end {
            return Err(ContentError::WrongLength {
                id: self.id,
                expected: stream.range().end,
                found: end,
            });
        }
        let life = self.entry.life();
        let written = self.entry.write(at, &bytes);
        let same_life = self.entry.life() == life;
        // Whoever read what was there before may have read wrong bytes.
        if !same_life {
            self.spoiled.note(self.id);
        }
        if let Err(error) = written {
            tracing::warn!(%error, id = %self.id, "an object is not always the same");
            return Err(ContentError::WrongHash { id: self.id });
        }
        if may_stay && same_life {
            stream.recent.hold(at, bytes.clone(), life);
        }
        let is_last = end == stream.range().end;
        if !is_last {
            stream.reached(end);
        }
        if let Some(follower) = follower {
            follower.feed(bytes).await;
        }
        if is_last {
            // Whoever finds the file whole wants its hash.
            if let Some(follower) = follower.take() {
                self.proof.stop(follower).await;
            }
            stream.reached(end);
        }
        Ok(())
    }
}
