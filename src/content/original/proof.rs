//! The hash of an original, carried on while its bytes arrive, so that a file
//! that is read once from start to end is not read again to prove it.
//!
//! What was hashed counts as long as the cache's bytes are of the same
//! [`Epoch`], whether they are still there or not.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::ContentError;
use crate::cache::{CacheFile, CacheRead, Epoch};
use icos_portal::ObjectId;

/// How many pieces may wait for the processor: the hash takes about as long as
/// the rest of the way, on another core.
const WAITING: usize = 2;

/// How far behind a stream the hash may be to catch up with it, in bytes.
const CATCH_UP: u64 = 8 << 20;

/// The hash of a file's first bytes, unless someone is carrying it on.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Taken for moments only.
    kept: Mutex<Option<Running>>,
    carriers: watch::Sender<Carriers>,
}

/// Who carries the hash on.
#[derive(Debug, Default)]
struct Carriers {
    count: usize,
    /// How many want it back.
    recallers: usize,
}

/// One of those who carry it on, until dropped.
struct Carrier(Arc<Proof>);

/// As long as it lives, nobody carries the hash on.
pub(super) struct Recalled<'a>(&'a Proof);

#[derive(Debug)]
struct Running {
    /// How many bytes went in.
    upto: u64,
    hash: Sha256,
    /// What they are of.
    epoch: Epoch,
}

/// Carries the hash on with the bytes of a stream.
#[derive(Debug)]
pub(super) struct Follower {
    /// How many bytes of the stream went in already.
    skip: u64,
    pieces: mpsc::Sender<Bytes>,
    hashing: JoinHandle<()>,
}

/// What a check has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Checked {
    /// All bytes of this epoch are right.
    Right(Epoch),
    /// Those of this epoch are not.
    Wrong(Epoch),
    /// It can go on once the bytes from here on have come again.
    Missing(u64),
}

impl Proof {
    /// Someone to give the bytes of a stream of `range`; none if the hash is
    /// not there, nor can be brought there by what the cache holds.
    pub(super) fn follow(
        self: &Arc<Self>,
        entry: &Arc<CacheFile>,
        range: &Range<u64>,
    ) -> Option<Follower> {
        let carrier = Carrier::of(self)?;
        let running = self.take_of(entry);
        let behind = range.start.saturating_sub(running.upto);
        let within_reach =
            behind <= CATCH_UP && entry.missing(running.upto..range.start).is_empty();
        if running.upto >= range.end || !within_reach {
            self.put(running, entry.epoch());
            return None;
        }
        let skip = running.upto.saturating_sub(range.start);
        let (pieces, waiting) = mpsc::channel::<Bytes>(WAITING);
        let carrying = carrier.carry(running, Arc::clone(entry), range.start, waiting);
        Some(Follower {
            skip,
            pieces,
            hashing: tokio::spawn(carrying),
        })
    }

    /// Takes back what `follower` has hashed.
    pub(super) async fn stop(&self, follower: Follower) {
        let Follower {
            pieces, hashing, ..
        } = follower;
        drop(pieces);
        // A panic in there is a bug; the file is then hashed from the start.
        let _ = hashing.await;
    }

    /// Has whoever carries the hash on bring it back, for who cannot wait until
    /// their stream has come to its end.
    pub(super) async fn recall(&self) -> Recalled<'_> {
        self.carriers
            .send_modify(|carriers| carriers.recallers += 1);
        let recalled = Recalled(self);
        let mut carriers = self.carriers.subscribe();
        // Never fails: `self` holds the sender.
        let _ = carriers.wait_for(|carriers| carriers.count == 0).await;
        recalled
    }

    /// Whether the hash can go on to the end by what is there.
    pub(super) fn can_end(&self, entry: &CacheFile) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let upto = (kept.as_ref()).filter(|running| running.epoch == entry.epoch());
        upto.is_some_and(|running| entry.missing(running.upto..entry.len()).is_empty())
    }

    /// Whether the bytes of `entry` are those that `id` promises; what is not
    /// there must be fetched first.
    pub(super) fn check(&self, entry: &CacheFile, id: ObjectId) -> Result<Checked, ContentError> {
        let mut running = self.take_of(entry);
        let advanced = running.advance(entry, entry.len());
        let (upto, epoch) = (running.upto, running.epoch);
        let right = id.matches(&running.hash.clone().finalize().into());
        self.put(running, entry.epoch());
        Ok(match advanced? {
            Advanced::Short => Checked::Missing(upto),
            Advanced::There if right => Checked::Right(epoch),
            Advanced::There => Checked::Wrong(epoch),
        })
    }

    /// The hash of what the entry is of now.
    fn take_of(&self, entry: &CacheFile) -> Running {
        (self.take())
            .filter(|running| running.epoch == entry.epoch())
            .unwrap_or_else(|| Running::new(entry))
    }

    fn take(&self) -> Option<Running> {
        (self.kept.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Keeps whichever is further of `epoch`: two streams may bring the same
    /// bytes.
    fn put(&self, running: Running, epoch: Epoch) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let upto = (kept.as_ref()).and_then(|kept| (kept.epoch == epoch).then_some(kept.upto));
        if running.epoch == epoch && upto.is_none_or(|upto| upto < running.upto) {
            *kept = Some(running);
        }
    }
}

impl Carrier {
    /// None while others want the hash back.
    fn of(proof: &Arc<Proof>) -> Option<Self> {
        let free = proof.carriers.send_if_modified(|carriers| {
            let free = carriers.recallers == 0;
            carriers.count += usize::from(free);
            free
        });
        free.then(|| Self(Arc::clone(proof)))
    }

    /// Carries the hash on to `start` by what the cache holds, then with the
    /// pieces that come, until they end or it is recalled.
    async fn carry(
        self,
        running: Running,
        entry: Arc<CacheFile>,
        start: u64,
        mut pieces: mpsc::Receiver<Bytes>,
    ) {
        let mut carriers = self.0.carriers.subscribe();
        let cached = Arc::clone(&entry);
        let caught_up = tokio::task::spawn_blocking(move || {
            let mut running = running;
            // Fails if something is gone again: then the hash stays there.
            let _ = running.advance(&cached, start);
            running
        });
        let Ok(mut running) = caught_up.await else {
            return;
        };
        let there = running.upto >= start;
        loop {
            tokio::select! {
                biased;
                _ = carriers.wait_for(|carriers| carriers.recallers > 0) => break,
                piece = pieces.recv() => match piece {
                    Some(piece) if there => running.add(&piece),
                    Some(_) => {}
                    None => break,
                },
            }
        }
        self.0.put(running, entry.epoch());
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        (self.0.carriers).send_modify(|carriers| carriers.count -= 1);
    }
}

impl Drop for Recalled<'_> {
    fn drop(&mut self) {
        (self.0.carriers).send_modify(|carriers| carriers.recallers -= 1);
    }
}

/// How far a hash could go on.
enum Advanced {
    There,
    Short,
}

impl Running {
    fn new(entry: &CacheFile) -> Self {
        Self {
            upto: 0,
            hash: Sha256::new(),
            epoch: entry.epoch(),
        }
    }

    /// Goes on with what the cache holds, as far as `to`.
    fn advance(&mut self, entry: &CacheFile, to: u64) -> Result<Advanced, ContentError> {
        while self.upto < to {
            let next = to.min(self.upto + (1 << 20));
            let found = match entry.read(self.upto..next)? {
                CacheRead::Missing(gap) if gap.start > self.upto => {
                    entry.read(self.upto..gap.start)?
                }
                found => found,
            };
            match found {
                CacheRead::Bytes(bytes) => self.add(&bytes),
                CacheRead::Missing(_) => return Ok(Advanced::Short),
            }
        }
        Ok(Advanced::There)
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
        // Fails if the hash was recalled.
        let _ = self.pieces.send(piece).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};

    /// It was hashed again from its start: a file may be whole before the
    /// stream that brings its last gap has come to an end.
    #[tokio::test]
    async fn who_needs_a_hash_that_is_carried_on_gets_it_as_far_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let bytes = Bytes::from(vec![7; 3 * (128 << 10)]);
        let entry = store.file(&CachePath::new("x", "y").unwrap(), bytes.len() as u64);
        entry.write(0, &bytes).unwrap();
        let proof = Arc::new(Proof::default());
        let mut follower = proof.follow(&entry, &(0..entry.len())).unwrap();
        follower.feed(bytes.slice(..128 << 10)).await;

        let recalled = proof.recall().await;

        // Nor does anyone begin with it now.
        assert!(proof.follow(&entry, &(0..entry.len())).is_none());
        drop(recalled);
        let upto = |proof: &Proof| proof.kept.lock().unwrap().as_ref().map(|kept| kept.upto);
        let kept = upto(&proof).expect("it was brought back");
        assert!(kept <= 128 << 10);
        // What it brings from now on is of no use any more, and holds up nobody.
        for _ in 0..2 * WAITING {
            follower.feed(bytes.slice(..128 << 10)).await;
        }
        proof.stop(follower).await;
        assert_eq!(upto(&proof), Some(kept));
        let right = proof.check(&entry, ObjectId::of_content(&bytes)).unwrap();
        assert_eq!(right, Checked::Right(entry.epoch()));
    }
}
