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
        let fetched = tokio::select! {
            fetched = self.fetch(stream, &pieces) => fetched,
            // What comes cannot be kept; the keeper says why.
            () = pieces.closed() => Ok(()),
        };
        drop(pieces);
        // A panic in there is a bug, and no reason to trust the file.
        let kept = keeping.await;
        let kept = kept.unwrap_or(Err(ContentError::WrongHash { id: self.id }));
        kept.and(fetched)
    }

    /// Hands over what comes of `stream`, piece by piece.
    async fn fetch(
        &self,
        stream: &Stream,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<(), ContentError> {
        let _buffers = self.memory.reserve_stream().await?;
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
        let mut arriving = Arriving::first(range);
        let hand_over = async |arriving: &mut Arriving, more| {
            let piece = arriving.cut(more, stream.awaited(), &self.memory);
            // Fails if it cannot be kept: then nothing more is fetched.
            let _ = pieces.send(piece).await;
            arriving.go_on();
        };
        loop {
            let chunk = {
                let mut coming = pin!(original.chunk());
                loop {
                    let Some(due) = arriving.due() else {
                        break coming.await?;
                    };
                    match timeout_at(due, &mut coming).await {
                        Ok(chunk) => break chunk?,
                        Err(_late) => hand_over(&mut arriving, true).await,
                    }
                }
            };
            let Some(mut chunk) = chunk else {
                break;
            };
            while !chunk.is_empty() {
                arriving.take(&mut chunk);
                if arriving.is_full() {
                    hand_over(&mut arriving, true).await;
                }
            }
            if !stream.is_wanted(arriving.at()) {
                // What has come need not come again if nobody comes back.
                if arriving.due().is_some() {
                    hand_over(&mut arriving, true).await;
                }
                if !stream.is_wanted_again(arriving.at()).await {
                    return Ok(());
                }
                arriving.go_on();
            }
        }
        hand_over(&mut arriving, false).await;
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
        while kept.is_ok()
            && let Some(piece) = pieces.recv().await
        {
            kept = self.keep_piece(&stream, piece, &mut follower).await;
        }
        drop(pieces);
        if let Some(follower) = follower {
            self.proof.stop(follower).await;
        }
        kept?;
        let epoch = self.entry.epoch();
        // A block was damaged, say, and is mended.
        if self.entry.is_verified() && self.entry.is_complete() && !self.entry.is_sealed() {
            Arc::clone(&self.entry).seal_in_background(epoch).await;
        }
        Ok(())
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
        let epoch = self.entry.epoch();
        let written = self.entry.write(at, &bytes);
        let same_epoch = self.entry.epoch() == epoch;
        // Whoever read what was there before may have read wrong bytes.
        if !same_epoch {
            self.corrupt_files.note(self.id);
        }
        if let Err(error) = written {
            tracing::warn!(%error, id = %self.id, "an object is not always the same");
            return Err(ContentError::WrongHash { id: self.id });
        }
        if may_stay && same_epoch {
            stream.recent.hold(at, bytes.clone(), epoch);
        } else {
            // Its readers keep up with a slow stream from the cache.
            stream.recent.clear();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::DownloadOptions;
    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};
    use crate::memory::MemoryBudget;
    use crate::test_portal::client_services;
    use icos_demo::{DemoOptions, DemoPortal, Repository};
    use icos_portal::Bootstrap;

    /// That was noticed only once more came, which may be never; meanwhile
    /// everyone who needed the rest waited for it.
    #[tokio::test]
    async fn a_stream_that_cannot_be_kept_ends_though_the_portal_says_no_more() {
        const LEN: u64 = 3 << 20;
        let mut repository = Repository::builtin(1);
        let id = repository.add_original("x.bin", LEN);
        let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
        let stall = json!({"object": id.to_string(), "fault": {"stall": {"after": 1 << 20}}});
        portal.add_fault(serde_json::from_value(stall).unwrap());
        let bootstrap = Bootstrap::with_services(client_services(&portal)).unwrap();
        let clients = bootstrap.from_cookie_token(&portal.token()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 64 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let entry = store.file(&CachePath::new("bin", "x").unwrap(), LEN);
        // Other bytes than those that will come.
        entry.write(128 << 10, &vec![7; 128 << 10]).unwrap();
        let (memory, how) = (MemoryBudget::new(memory), DownloadOptions::default());
        let (corrupt_files, request_stats) = (Arc::default(), Arc::default());
        let file = OriginalFile::new(
            id,
            entry,
            clients.data,
            memory,
            how,
            corrupt_files,
            request_stats,
        );

        let reading = Arc::new(file).read(0, 0, 512 << 10);
        let read = tokio::time::timeout(Duration::from_secs(15), reading).await;

        let error = read.expect("it ends soon").unwrap_err();
        assert!(matches!(error, ContentError::WrongHash { .. }), "{error}");
    }
}
