//! The hash of an original, carried on while its bytes arrive, so that a file
//! that is read once from start to end is not read again to prove it.
//!
//! What was hashed counts as long as the cache's bytes are of the same
//! [`Life`], whether they are still there or not.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ContentError;
use crate::cache::{Entry, Found, Life};
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
    /// What they are of.
    life: Life,
}

/// Carries the hash on with the bytes of a stream.
#[derive(Debug)]
pub(super) struct Follower {
    /// How many bytes of the stream went in already.
    skip: u64,
    pieces: mpsc::Sender<Bytes>,
    hashed: JoinHandle<Running>,
}

/// What a check has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Checked {
    /// All bytes of this life are right.
    Right(Life),
    Wrong,
    /// It can go on once the bytes from here on have come again.
    Missing(u64),
}

impl Proof {
    /// Someone to give the bytes of a stream of `range`; none if the hash is
    /// not in there.
    pub(super) fn follow(&self, entry: &Entry, range: &Range<u64>) -> Option<Follower> {
        let running = self.take_of(entry);
        if !range.contains(&running.upto) {
            self.put(Some(running));
            return None;
        }
        let skip = running.upto - range.start;
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let hashed = tokio::spawn(async move {
            let mut running = running;
            while let Some(piece) = waiting.recv().await {
                running.add(&piece);
            }
            running
        });
        Some(Follower {
            skip,
            pieces,
            hashed,
        })
    }

    /// Takes back what `follower` has hashed.
    pub(super) async fn stop(&self, follower: Follower) {
        let Follower { pieces, hashed, .. } = follower;
        drop(pieces);
        // A panic in there is a bug; the file is then hashed from the start.
        self.put(hashed.await.ok());
    }

    /// Whether the hash is at the end of the file.
    pub(super) fn is_whole(&self, entry: &Entry) -> bool {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (running.as_ref()).is_some_and(|r| r.upto == entry.len() && r.life == entry.life())
    }

    /// Whether the bytes of `entry` are those that `id` promises; what is not
    /// there must be fetched first.
    pub(super) fn check(&self, entry: &Entry, id: ObjectId) -> Result<Checked, ContentError> {
        let mut running = self.take_of(entry);
        while running.upto < entry.len() {
            let next = entry.len().min(running.upto + (1 << 20));
            match entry.read(running.upto..next)? {
                Found::Bytes(bytes) => running.add(&bytes),
                Found::Missing(gap) => {
                    if gap.start > running.upto
                        && let Found::Bytes(bytes) = entry.read(running.upto..gap.start)?
                    {
                        running.add(&bytes);
                    }
                    let from = running.upto;
                    self.put(Some(running));
                    return Ok(Checked::Missing(from));
                }
            }
        }
        let life = running.life;
        let right = id.matches(&running.hash.clone().finalize().into());
        self.put(Some(running));
        Ok(if right {
            Checked::Right(life)
        } else {
            Checked::Wrong
        })
    }

    /// The hash of what the entry is of now.
    fn take_of(&self, entry: &Entry) -> Running {
        (self.take())
            .filter(|running| running.life == entry.life())
            .unwrap_or_else(|| Running::new(entry))
    }

    fn take(&self) -> Option<Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps whichever is further: two streams may bring the same bytes.
    fn put(&self, running: Option<Running>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let further = match (&*kept, &running) {
            (Some(kept), Some(other)) => kept.life != other.life || kept.upto < other.upto,
            (None, _) => true,
            (Some(_), None) => false,
        };
        if further {
            *kept = running;
        }
    }
}

impl Running {
    fn new(entry: &Entry) -> Self {
        Self {
            upto: 0,
            hash: Sha256::new(),
            life: entry.life(),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.upto += bytes.len() as u64;
    }
}

impl Follower {
    /// Hands over the bytes that come next.
    pub(super) async fn feed(&mut self, mut piece: Bytes) {
        let skipped = self.skip.min(piece.len() as u64);
        self.skip -= skipped;
        piece.advance(usize::try_from(skipped).expect("within the piece"));
        // Fails only if hashing panicked, which `stop` finds out.
        let _ = self.pieces.send(piece).await;
    }
}
