//! Moves the bytes of one download from the network into the cache.
//!
//! Two tasks work on each download, so that on a fast connection the network does not wait
//! for the disk. The second one hands the pieces that wait to the disk pool, and meanwhile
//! hashes those before:
//!
//! ```text
//!  receive --(2 pieces)--> store ------------> hash
//!  network to pieces       cache, position     RunningHash
//! ```
//!
//! The position moves once a piece is in the cache, before it is hashed; only
//! the last piece is hashed first, so that a reader that finds the file complete
//! also finds its hash.

use std::mem::take;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::ContentError;
use super::context::OriginalContext;
use super::download::Download;
use super::piece::{Piece, PieceBuilder};
use crate::cache::{DownloadLock, Epoch};
use crate::content::shared_download::{MAX_DISTANCE, Turn, wait_for_turn};

/// The number of pieces that may wait to be stored.
const STORE_QUEUE: usize = 2;
/// The number of pieces that one job stores. More of them would keep their memory longer.
const MAX_BATCH: usize = 3;

/// The task that fills one download.
#[derive(Debug)]
pub(super) struct Transfer {
    file: Arc<OriginalContext>,
    download: Arc<Download>,
}

impl Transfer {
    pub(super) fn new(file: Arc<OriginalContext>, download: Arc<Download>) -> Self {
        Self { file, download }
    }

    /// Downloads the range into the cache, and ends the download.
    pub(super) async fn run(self) {
        let result = self.transfer().await;
        self.download.end(result);
    }

    async fn transfer(&self) -> Result<(), ContentError> {
        let Self { file, download } = self;
        let Turn::Request(lock) = self.wait_for_turn().await? else {
            return Ok(());
        };
        let (pieces, received) = mpsc::channel(STORE_QUEUE);
        let store = StoreTask {
            file: Arc::clone(file),
            download: Arc::clone(download),
            lock,
        };
        let storing = icos_sync::spawn_task(store.run(received));
        let received = tokio::select! {
            received = self.receive(&pieces) => received,
            // A piece could not be stored: the other task returns the error.
            () = pieces.closed() => Ok(()),
        };
        drop(pieces);
        let stored = storing.await;
        // A panic in the task is a bug: the file is not trusted.
        let stored = stored.unwrap_or(Err(ContentError::WrongHash { id: file.id }));
        stored.and(received)
    }

    /// Waits while another process downloads the same bytes into the same cache. The
    /// position moves with what it delivers.
    async fn wait_for_turn(&self) -> Result<Turn, ContentError> {
        let Self { file, download } = self;
        let range = download.range();
        let position = || {
            let gap = file.cached.first_missing(&range);
            gap.map_or(range.end, |gap| gap.start)
        };
        let follow = || {
            let position = position();
            if position > download.position() {
                download.set_position(position);
            }
            position
        };
        let delivers = |other: &Range<u64>| {
            let next = position();
            other.contains(&next) && next - other.start <= MAX_DISTANCE
        };
        Ok(wait_for_turn(&file.cached, range.clone(), follow, delivers).await?)
    }

    /// Sends the request, and the response on to `pieces`, piece by piece.
    async fn receive(&self, pieces: &mpsc::Sender<Piece>) -> Result<(), ContentError> {
        let Self { file, download } = self;
        let _reservation = file.memory.reserve_stream().await?;
        let len = file.cached.len();
        let range = download.range();
        download.note_request();
        let mut original = file.data.original(file.id, len, range.clone()).await?;
        download.note_response();
        let mut builder = PieceBuilder::new(range);
        let send = async |builder: &mut PieceBuilder, more| {
            let piece = builder.cut(more, download.awaited(), &file.memory);
            // Fails if pieces cannot be stored: then this task is cancelled.
            let _ = pieces.send(piece).await;
            builder.restart_clock();
        };
        loop {
            let chunk = {
                let mut next = pin!(original.chunk());
                loop {
                    let Some(due) = builder.due() else {
                        break next.await?;
                    };
                    match timeout_at(due, &mut next).await {
                        Ok(chunk) => break chunk?,
                        Err(_elapsed) => send(&mut builder, true).await,
                    }
                }
            };
            let Some(mut chunk) = chunk else {
                break;
            };
            while !chunk.is_empty() {
                builder.take(&mut chunk);
                if builder.is_full() {
                    send(&mut builder, true).await;
                }
            }
            if !download.continues(builder.offset()) {
                // The download may end in this pause: what has arrived is
                // stored before.
                if builder.due().is_some() {
                    send(&mut builder, true).await;
                }
                if !download
                    .wait_to_resume(builder.offset(), &file.memory)
                    .await
                {
                    return Ok(());
                }
                builder.restart_clock();
            }
        }
        send(&mut builder, false).await;
        Ok(())
    }
}

/// The task that stores the pieces of one download.
struct StoreTask {
    file: Arc<OriginalContext>,
    download: Arc<Download>,
    /// Of the bytes that are not stored yet.
    lock: Option<DownloadLock>,
}

impl StoreTask {
    async fn run(self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), ContentError> {
        let file = Arc::clone(&self.file);
        let end = self.download.range().end;
        let mut task = self;
        let mut unhashed = Vec::new();
        loop {
            if pieces.is_empty() {
                hash(&file, take(&mut unhashed)).await?;
            }
            let mut batch = Vec::new();
            if pieces.recv_many(&mut batch, MAX_BATCH).await == 0 {
                break;
            }
            let storing = file.cached.disk().run(move || {
                let stored: Result<Vec<_>, _> =
                    batch.into_iter().map(|piece| task.store(piece)).collect();
                (task, stored)
            });
            let hashing = hash(&file, take(&mut unhashed));
            let (stored, hashed) = tokio::join!(biased; storing, hashing);
            hashed?;
            let stored_pieces;
            (task, stored_pieces) = stored?;
            unhashed = stored_pieces?;
            if unhashed.last().is_some_and(|last| last.piece.end() == end) {
                // A reader that finds the file complete needs its hash.
                hash(&file, take(&mut unhashed)).await?;
                task.download.set_position(end);
            }
        }
        drop(pieces);
        let cached = Arc::clone(&file.cached);
        let epoch = cached.epoch();
        // A block of a verified file was damaged or evicted, and is back.
        if cached.is_verified() && cached.is_complete() && !cached.is_sealed() {
            cached.seal_in_background(epoch).await;
        }
        Ok(())
    }

    /// Stores a piece, and returns its epoch. The position moves, except to the end of the
    /// download: the last piece is hashed first. Blocks on the disk.
    fn store(&mut self, piece: Piece) -> Result<StoredPiece, ContentError> {
        let Self { file, download, .. } = self;
        let Piece {
            offset,
            bytes,
            may_retain,
        } = &piece;
        let (offset, may_retain) = (*offset, *may_retain);
        let end = piece.end();
        if end > download.range().end {
            return Err(ContentError::WrongLength {
                id: file.id,
                expected: download.range().end,
                found: end,
            });
        }
        let epoch = file.cached.epoch();
        let written = file.cached.write(offset, bytes);
        let same_epoch = file.cached.epoch() == epoch;
        if !same_epoch {
            // The new bytes differ from those that readers may have got before.
            file.corrupt_files.note(file.id);
        }
        if let Err(error) = written {
            tracing::warn!(%error, id = %file.id, "the portal sent different bytes of an object than before");
            return Err(ContentError::WrongHash { id: file.id });
        }
        if may_retain && same_epoch {
            download.recent.add(offset, bytes.clone(), epoch);
        } else {
            // Readers of a slow download read from the cache.
            download.recent.clear();
        }
        if let Some(lock) = &mut self.lock {
            lock.advance(end);
        }
        if end != download.range().end {
            download.set_position(end);
        }
        Ok(StoredPiece { piece, epoch })
    }
}

/// A piece that is in the cache.
struct StoredPiece {
    piece: Piece,
    epoch: Epoch,
}

/// Continues the hash of the file with `pieces`; in the disk pool, if the cache must be
/// read first.
async fn hash(file: &Arc<OriginalContext>, pieces: Vec<StoredPiece>) -> Result<(), ContentError> {
    for StoredPiece { piece, epoch } in pieces {
        let Piece { offset, bytes, .. } = piece;
        if (file.hash).add_at_once(&file.cached, epoch, offset, &bytes) {
            continue;
        }
        let context = Arc::clone(file);
        let add = move || (context.hash).add(&context.cached, epoch, offset, &bytes);
        file.cached.disk().run(add).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::OriginalFile;
    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};
    use crate::content::DownloadOptions;
    use crate::demo_portal::client_services;
    use crate::memory::MemoryBudget;
    use icos_demo::{DemoOptions, DemoPortal, DemoRepository};
    use icos_portal::Bootstrap;

    /// The error was noticed only once more bytes arrived, which may never
    /// happen; until then all readers of the rest waited.
    #[tokio::test]
    async fn a_download_that_cannot_be_stored_ends_while_the_portal_stalls() {
        const LEN: u64 = 3 << 20;
        let mut repository = DemoRepository::builtin(1);
        let id = repository.add_original("x.bin", LEN);
        let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
        let stall = json!({"object": id.to_string(), "fault": {"stall": {"after": 1 << 20}}});
        portal.add_fault(serde_json::from_value(stall).unwrap());
        let bootstrap = Bootstrap::with_services(client_services(&portal)).unwrap();
        let clients = bootstrap.from_cookie_token(&portal.token()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 64 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let cached = store.file(&CachePath::new("bin", "x").unwrap(), LEN);
        // Different bytes than the portal will send.
        cached.write(128 << 10, &vec![7; 128 << 10]).unwrap();
        let (memory, options) = (MemoryBudget::new(memory), DownloadOptions::default());
        let (corrupt_files, request_stats) = (Arc::default(), Arc::default());
        let file = OriginalFile::new(
            id,
            cached,
            clients.data.into(),
            memory,
            options,
            corrupt_files,
            request_stats,
        );

        let reading = Arc::new(file).read(0, 0, 512 << 10);
        let read = tokio::time::timeout(Duration::from_secs(15), reading).await;

        let error = read.expect("the read ends soon").unwrap_err();
        assert!(matches!(error, ContentError::WrongHash { .. }), "{error}");
    }
}
