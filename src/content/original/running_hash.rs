//! The SHA-256 of an original, computed while its bytes arrive, so that a file
//! that is read once from start to end is not read again for verification.
//!
//! The hash covers the first bytes of the file, in one epoch of the cache file.
//! It stays valid while the epoch lasts, whether those bytes are still in the
//! cache or were evicted.
//!
//! A task that continues the hash takes it out of [`RunningHash`]: a download
//! ([`HashFeed`]) or the check of the complete file ([`RunningHash::check`]). A
//! download that finds it taken may begin another one at the start of the file;
//! the longer of the two is stored. A verifier that cannot wait
//! for a download to end recalls the hash ([`RunningHash::recall`]); until it
//! drops the [`HashRecall`], no other download takes it.
//!
//! Lock order: the stored state, then the lock of the cache file.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::ContentError;
use crate::cache::{CacheFile, CacheRead, Epoch};
use icos_portal::ObjectId;

/// The number of pieces that may wait to be hashed. Hashing, on its own core,
/// takes about as long as everything else.
const HASH_QUEUE: usize = 2;

/// How far the hash may be behind the start of a download, in bytes, for the
/// download's task to catch up and continue it.
const MAX_CATCH_UP: u64 = 8 << 20;

/// The hash of the first bytes of a file.
#[derive(Debug, Default)]
pub(super) struct RunningHash {
    /// `None` while a task continues the hash, and before the first one does.
    stored: Mutex<Option<PartialHash>>,
    users: watch::Sender<HashUsers>,
}

/// Counts the tasks that want the hash.
#[derive(Debug, Default)]
struct HashUsers {
    /// Downloads that continue it.
    feeds: usize,
    /// Verifiers that recall it.
    recalls: usize,
}

/// Counts as one of [`HashUsers::feeds`] until dropped.
struct FeedGuard(Arc<RunningHash>);

/// While this lives, no download continues the hash.
pub(super) struct HashRecall<'a>(&'a RunningHash);

#[derive(Debug)]
struct PartialHash {
    /// The number of bytes hashed.
    position: u64,
    hash: Sha256,
    /// The epoch of those bytes.
    epoch: Epoch,
}

/// Continues the hash with the bytes of one download.
#[derive(Debug)]
pub(super) struct HashFeed {
    /// The number of bytes at the start of the download that are hashed
    /// already.
    skip: u64,
    pieces: mpsc::Sender<Bytes>,
    hashing: JoinHandle<()>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HashCheck {
    /// The file's bytes in this epoch match its id.
    Match(Epoch),
    /// They do not.
    Mismatch(Epoch),
    /// Bytes from this offset on are missing; the check can continue there
    /// after they have been downloaded again.
    Missing(u64),
}

/// Whether the cache had all bytes to hash.
enum Advance {
    Done,
    BytesMissing,
}

impl RunningHash {
    /// Continues the hash with the bytes of a download of `range`. Returns
    /// `None` while a verifier recalls the hash, or if the bytes between the hash
    /// and the range are too many or missing.
    pub(super) fn follow(
        self: &Arc<Self>,
        cached: &Arc<CacheFile>,
        range: &Range<u64>,
    ) -> Option<HashFeed> {
        let guard = FeedGuard::new(self)?;
        let partial = self.take_current(cached);
        let behind = range.start.saturating_sub(partial.position);
        let is_within_reach = behind <= MAX_CATCH_UP
            && cached
                .first_missing(&(partial.position..range.start))
                .is_none();
        if partial.position >= range.end || !is_within_reach {
            self.put(partial, cached.epoch());
            return None;
        }
        let skip = partial.position.saturating_sub(range.start);
        let (pieces, received) = mpsc::channel::<Bytes>(HASH_QUEUE);
        let hashing = guard.hash(partial, Arc::clone(cached), range.start, received);
        Some(HashFeed {
            skip,
            pieces,
            hashing: tokio::spawn(hashing),
        })
    }

    /// Makes the downloads that continue the hash store it, and waits until
    /// they have.
    pub(super) async fn recall(&self) -> HashRecall<'_> {
        self.users.send_modify(|users| users.recalls += 1);
        let recall = HashRecall(self);
        let mut users = self.users.subscribe();
        // Never fails: `self` holds the sender.
        let _ = users.wait_for(|users| users.feeds == 0).await;
        recall
    }

    /// Whether the cache has all bytes that are not hashed yet.
    pub(super) fn can_finish(&self, cached: &CacheFile) -> bool {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let current = (stored.as_ref()).filter(|partial| partial.epoch == cached.epoch());
        current.is_some_and(|partial| {
            let rest = partial.position..cached.len();
            cached.first_missing(&rest).is_none()
        })
    }

    /// Hashes the rest of the file from the cache, and compares the result with
    /// `id`. Blocks on the disk.
    pub(super) fn check(
        &self,
        cached: &CacheFile,
        id: ObjectId,
    ) -> Result<HashCheck, ContentError> {
        let mut partial = self.take_current(cached);
        let advanced = partial.advance(cached, cached.len());
        let (position, epoch) = (partial.position, partial.epoch);
        let matches = id.matches(&partial.hash.clone().finalize().into());
        self.put(partial, cached.epoch());
        Ok(match advanced? {
            Advance::BytesMissing => HashCheck::Missing(position),
            Advance::Done if matches => HashCheck::Match(epoch),
            Advance::Done => HashCheck::Mismatch(epoch),
        })
    }

    /// Takes the hash, or begins a new one if there is none of this epoch.
    fn take_current(&self, cached: &CacheFile) -> PartialHash {
        let taken = (self.stored.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        taken
            .filter(|partial| partial.epoch == cached.epoch())
            .unwrap_or_else(|| PartialHash::new(cached))
    }

    /// Stores `partial` if it is of `epoch` and further than the stored one:
    /// two downloads may deliver the same bytes.
    fn put(&self, partial: PartialHash, epoch: Epoch) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let position =
            (stored.as_ref()).and_then(|stored| (stored.epoch == epoch).then_some(stored.position));
        if partial.epoch == epoch && position.is_none_or(|position| position < partial.position) {
            *stored = Some(partial);
        }
    }
}

impl FeedGuard {
    /// Returns `None` while a verifier recalls the hash.
    fn new(running: &Arc<RunningHash>) -> Option<Self> {
        let is_free = running.users.send_if_modified(|users| {
            let is_free = users.recalls == 0;
            users.feeds += usize::from(is_free);
            is_free
        });
        is_free.then(|| Self(Arc::clone(running)))
    }

    /// Continues the hash up to `start` from the cache, then with `pieces`,
    /// until these end or the hash is recalled.
    async fn hash(
        self,
        partial: PartialHash,
        cached: Arc<CacheFile>,
        start: u64,
        mut pieces: mpsc::Receiver<Bytes>,
    ) {
        let mut users = self.0.users.subscribe();
        let file = Arc::clone(&cached);
        let catching_up = tokio::task::spawn_blocking(move || {
            let mut partial = partial;
            // Fails if bytes were evicted meanwhile: the hash stops before
            // them.
            let _ = partial.advance(&file, start);
            partial
        });
        let Ok(mut partial) = catching_up.await else {
            return;
        };
        let has_caught_up = partial.position >= start;
        loop {
            tokio::select! {
                biased;
                _ = users.wait_for(|users| users.recalls > 0) => break,
                piece = pieces.recv() => match piece {
                    Some(piece) if has_caught_up => partial.add(&piece),
                    Some(_) => {}
                    None => break,
                },
            }
        }
        self.0.put(partial, cached.epoch());
    }
}

impl Drop for FeedGuard {
    fn drop(&mut self) {
        (self.0.users).send_modify(|users| users.feeds -= 1);
    }
}

impl Drop for HashRecall<'_> {
    fn drop(&mut self) {
        (self.0.users).send_modify(|users| users.recalls -= 1);
    }
}

impl PartialHash {
    fn new(cached: &CacheFile) -> Self {
        Self {
            position: 0,
            hash: Sha256::new(),
            epoch: cached.epoch(),
        }
    }

    /// Continues with bytes from the cache, up to `end`.
    fn advance(&mut self, cached: &CacheFile, end: u64) -> Result<Advance, ContentError> {
        while self.position < end {
            let next = end.min(self.position + (1 << 20));
            let read = match cached.read(self.position..next)? {
                CacheRead::Missing(gap) if gap.start > self.position => {
                    cached.read(self.position..gap.start)?
                }
                read => read,
            };
            match read {
                CacheRead::Bytes(bytes) => self.add(&bytes),
                CacheRead::Missing(_) => return Ok(Advance::BytesMissing),
            }
        }
        Ok(Advance::Done)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.position += bytes.len() as u64;
    }
}

impl HashFeed {
    /// Adds the next bytes of the download.
    pub(super) async fn add(&mut self, mut piece: Bytes) {
        let skipped = self.skip.min(piece.len() as u64);
        self.skip -= skipped;
        piece.advance(usize::try_from(skipped).expect("within the piece"));
        // Fails if the hash was recalled.
        let _ = self.pieces.send(piece).await;
    }

    /// Waits until all added bytes are hashed and the hash is stored.
    pub(super) async fn stop(self) {
        drop(self.pieces);
        // After a panic, which is a bug, the file is hashed from its start.
        let _ = self.hashing.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};

    /// The file was hashed again from its start: a file may be complete before
    /// the download that delivers its last gap has ended.
    #[tokio::test]
    async fn recall_returns_the_hash_of_a_download_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let bytes = Bytes::from(vec![7; 3 * (128 << 10)]);
        let cached = store.file(&CachePath::new("x", "y").unwrap(), bytes.len() as u64);
        cached.write(0, &bytes).unwrap();
        let running = Arc::new(RunningHash::default());
        let mut feed = running.follow(&cached, &(0..cached.len())).unwrap();
        feed.add(bytes.slice(..128 << 10)).await;

        let recall = running.recall().await;

        // No other download continues it now.
        assert!(running.follow(&cached, &(0..cached.len())).is_none());
        drop(recall);
        let position = |running: &RunningHash| {
            let stored = running.stored.lock().unwrap();
            stored.as_ref().map(|partial| partial.position)
        };
        let stored = position(&running).expect("the download stored it");
        assert!(stored <= 128 << 10);
        // Later bytes of the download are ignored, and do not block it.
        for _ in 0..2 * HASH_QUEUE {
            feed.add(bytes.slice(..128 << 10)).await;
        }
        feed.stop().await;
        assert_eq!(position(&running), Some(stored));
        let check = running
            .check(&cached, ObjectId::of_content(&bytes))
            .unwrap();
        assert_eq!(check, HashCheck::Match(cached.epoch()));
    }
}
