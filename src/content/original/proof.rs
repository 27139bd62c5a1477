//! The hash of an original, carried on while its bytes arrive, so that a file
//! that is read once from start to end is not read again to prove it.
//!
//! What was hashed counts only as long as the cache still holds the same
//! bytes: [`Entry::changes`] tells.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ContentError;
use crate::cache::{Entry, Found};
use crate::portal::ObjectId;

/// How many pieces may wait for the processor: the hash takes about as long as
/// the rest of the way, on another core.
const WAITING: usize = 4;

/// The hash of a file's first bytes, unless someone is carrying it on.
#[derive(Debug, Default)]
pub(super) struct Proof(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    /// How many bytes went in.
    upto: u64,
    hash: Sha256,
    /// The entry's changes before the first of them.
    changes: u64,
}

/// Carries the hash on with the bytes of a stream.
#[derive(Debug)]
pub(super) struct Follower {
    pieces: mpsc::Sender<Bytes>,
    hashed: JoinHandle<Running>,
}

impl Proof {
    /// Someone to give the bytes of a stream that begins at `start`; none if
    /// the hash is not just there.
    pub(super) fn follow(&self, entry: &Entry, start: u64) -> Option<Follower> {
        let running = match self.take() {
            Some(running) if running.upto == start && running.changes == entry.changes() => running,
            _ if start == 0 => Running::new(entry),
            other => {
                self.put(other);
                return None;
            }
        };
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let hashed = tokio::spawn(async move {
            let mut running = running;
            while let Some(piece) = waiting.recv().await {
                running.add(&piece);
            }
            running
        });
        Some(Follower { pieces, hashed })
    }

    /// Takes back what `follower` has hashed.
    pub(super) async fn stop(&self, follower: Follower) {
        let Follower { pieces, hashed } = follower;
        drop(pieces);
        // A panic in there is a bug; the file is then hashed from the start.
        self.put(hashed.await.ok());
    }

    /// Whether the bytes of `entry` are those that `id` promises; none if some
    /// are gone again.
    pub(super) fn check(&self, entry: &Entry, id: ObjectId) -> Result<Option<bool>, ContentError> {
        let taken = self.take();
        let mut running = taken
            .filter(|running| running.changes == entry.changes())
            .unwrap_or_else(|| Running::new(entry));
        while running.upto < entry.len() {
            let next = entry.len().min(running.upto + (1 << 20));
            match entry.read(running.upto..next)? {
                Found::Bytes(bytes) => running.add(&bytes),
                // A block was damaged since: it will be fetched again.
                Found::Missing(_) => return Ok(None),
            }
        }
        Ok((running.changes == entry.changes())
            .then(|| id.matches(&running.hash.finalize().into())))
    }

    fn take(&self) -> Option<Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, running: Option<Running>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }
}

impl Running {
    fn new(entry: &Entry) -> Self {
        Self {
            upto: 0,
            hash: Sha256::new(),
            changes: entry.changes(),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.upto += bytes.len() as u64;
    }
}

impl Follower {
    /// Hands over the bytes that come next.
    pub(super) async fn feed(&self, piece: Bytes) {
        // Fails only if hashing panicked, which `stop` finds out.
        let _ = self.pieces.send(piece).await;
    }
}
