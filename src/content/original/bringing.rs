//! How a stream comes into the cache.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::timeout_at;

use super::piece::{Arriving, Piece};
use super::proof::Follower;
use super::stream::Stream;
use super::{ContentError, OriginalFile};

impl OriginalFile {
    /// Fetches `stream`'s range into the cache.
    pub(super) async fn run(
        &self,
        stream: &Stream,
        follower: &mut Option<Follower>,
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
                            self.keep(stream, piece, follower).await?;
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
                    self.keep(stream, piece, follower).await?;
                }
            }
            if !stream.is_wanted(stream.position()).await {
                return Ok(());
            }
        }
        let piece = arriving.cut(false, stream.awaited(), &self.memory);
        self.keep(stream, piece, follower).await?;
        let life = self.entry.life();
        // A block was damaged, say, and is mended.
        if self.entry.is_proved() && self.entry.is_complete() && !self.entry.is_sealed() {
            Arc::clone(&self.entry).seal_soon(life).await;
        }
        Ok(())
    }

    /// Keeps a piece of the stream, and lets its readers know.
    async fn keep(
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
