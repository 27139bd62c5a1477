//! The SHA-256 of an original, computed while its bytes arrive, so that a file
//! that is read once from start to end is not read again for verification.
//!
//! The hash covers the first bytes of the file, in one epoch of the cache file.
//! It stays valid while the epoch lasts, whether those bytes are still in the
//! cache or were evicted.
//!
//! Downloads add what they store ([`RunningHash::add`]), and the verifier hashes the
//! rest from the cache ([`RunningHash::check`]). One thread at a time continues the
//! hash. A thread that has the next bytes waits for it; it holds no lock, and neither
//! does the one that it waits for. These calls block, on the disk or for another thread
//! that does.
//!
//! Lock order: the state, then the lock of the cache file.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::ContentError;
use crate::cache::{CacheFile, CacheRead, Epoch};
use icos_portal::ObjectId;

/// How far the hash may be behind the start of a piece, in bytes, to catch up from the
/// cache and continue with that piece.
const MAX_CATCH_UP: u64 = 8 << 20;

/// How much one call of [`RunningHash::check`] hashes, so that no job of the disk pool
/// takes long.
const CHECK_STEP: u64 = 256 << 20;

/// The hash of the first bytes of a file.
#[derive(Debug, Default)]
pub(super) struct RunningHash {
    state: Mutex<HashState>,
    /// Notified when a thread returns the hash.
    returned: Condvar,
}

#[derive(Debug, Default)]
struct HashState {
    /// Not up to date while a thread continues the hash.
    hash: Option<PartialHash>,
    is_continued: bool,
}

#[derive(Clone, Debug)]
struct PartialHash {
    /// The number of bytes hashed.
    position: u64,
    hash: Sha256,
    /// The epoch of those bytes.
    epoch: Epoch,
}

/// The hash, while a thread continues it. Returned when dropped.
struct Continuation<'a> {
    running: &'a RunningHash,
    hash: PartialHash,
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
    /// More bytes are to be hashed: the check continues with the next call.
    Unfinished,
}

/// Whether the cache had all bytes to hash.
enum Advance {
    Done,
    BytesMissing,
}

impl RunningHash {
    /// Continues the hash with `bytes`, which are at `offset` of `epoch`, if the hash is
    /// near enough and the cache has what is between.
    pub(super) fn add(&self, cached: &CacheFile, epoch: Epoch, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let is_near = |position: u64| {
            let between = position..offset.max(position);
            position < end
                && between.end - between.start <= MAX_CATCH_UP
                && cached.first_missing(&between).is_none()
        };
        let Some(mut next) = self.continue_if(cached, is_near) else {
            return;
        };
        let hash = &mut next.hash;
        // Fails if bytes were evicted meanwhile: the hash stops before them.
        if hash.epoch == epoch && matches!(hash.advance(cached, offset), Ok(Advance::Done)) {
            let hashed = usize::try_from(hash.position - offset).expect("within the bytes");
            hash.add(&bytes[hashed..]);
        }
    }

    /// As [`RunningHash::add`], if these are the very next bytes to hash: then nothing is
    /// waited for. Otherwise returns false.
    pub(super) fn add_at_once(
        &self,
        cached: &CacheFile,
        epoch: Epoch,
        offset: u64,
        bytes: &[u8],
    ) -> bool {
        let mut state = self.state();
        let is_next = |hash: &PartialHash| hash.epoch == epoch && hash.position == offset;
        if state.is_continued || cached.epoch() != epoch {
            return false;
        }
        let hash = match &state.hash {
            Some(hash) if is_next(hash) => hash.clone(),
            Some(hash) if hash.epoch == epoch => return false,
            _ if offset == 0 => PartialHash::new(epoch),
            _ => return false,
        };
        let mut next = self.begin(&mut state, hash);
        drop(state);
        next.hash.add(bytes);
        true
    }

    /// Whether the cache has all bytes that are not hashed yet. Does not block. While
    /// another thread continues the hash, the bytes that it hashes count as not hashed.
    pub(super) fn can_finish(&self, cached: &CacheFile) -> bool {
        let epoch = cached.epoch();
        let state = self.state();
        let current = state.hash.as_ref().filter(|hash| hash.epoch == epoch);
        let position = current.map_or(0, |hash| hash.position);
        cached.first_missing(&(position..cached.len())).is_none()
    }

    /// Hashes the rest of the file from the cache, or a part of it, and compares the result
    /// with `id`.
    pub(super) fn check(
        &self,
        cached: &CacheFile,
        id: ObjectId,
    ) -> Result<HashCheck, ContentError> {
        let Some(mut next) = self.continue_if(cached, |_| true) else {
            return Ok(HashCheck::Missing(0));
        };
        let hash = &mut next.hash;
        let end = cached.len().min(hash.position + CHECK_STEP);
        let advanced = hash.advance(cached, end)?;
        let matches = id.matches(&hash.hash.clone().finalize().into());
        Ok(match advanced {
            Advance::BytesMissing => HashCheck::Missing(hash.position),
            Advance::Done if end < cached.len() => HashCheck::Unfinished,
            Advance::Done if matches => HashCheck::Match(hash.epoch),
            Advance::Done => HashCheck::Mismatch(hash.epoch),
        })
    }

    /// Takes the hash, or begins a new one if there is none of this epoch, if `is_wanted`
    /// accepts the number of bytes hashed. Waits while another thread continues it.
    fn continue_if(
        &self,
        cached: &CacheFile,
        is_wanted: impl Fn(u64) -> bool,
    ) -> Option<Continuation<'_>> {
        let mut state = self.state();
        loop {
            let epoch = cached.epoch();
            let current = state.hash.as_ref().filter(|hash| hash.epoch == epoch);
            if !is_wanted(current.map_or(0, |hash| hash.position)) {
                return None;
            }
            if !state.is_continued {
                let hash = current.cloned().unwrap_or_else(|| PartialHash::new(epoch));
                return Some(self.begin(&mut state, hash));
            }
            state = (self.returned.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(&self, state: &mut HashState, hash: PartialHash) -> Continuation<'_> {
        state.is_continued = true;
        let running = self;
        Continuation { running, hash }
    }

    fn state(&self) -> MutexGuard<'_, HashState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Continuation<'_> {
    fn drop(&mut self) {
        let mut state = self.running.state();
        let empty = PartialHash::new(self.hash.epoch);
        state.hash = Some(mem::replace(&mut self.hash, empty));
        state.is_continued = false;
        drop(state);
        self.running.returned.notify_all();
    }
}

impl PartialHash {
    fn new(epoch: Epoch) -> Self {
        Self {
            position: 0,
            hash: Sha256::new(),
            epoch,
        }
    }

    /// Continues with bytes from the cache, up to `end`, or to the first that are missing
    /// or of another epoch.
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
                CacheRead::Bytes(bytes) if cached.epoch() == self.epoch => self.add(&bytes),
                CacheRead::Bytes(_) | CacheRead::Missing(_) => return Ok(Advance::BytesMissing),
            }
        }
        Ok(Advance::Done)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.position += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};

    const BLOCK: u64 = 128 << 10;

    fn bytes(blocks: u8) -> Vec<u8> {
        (0..blocks)
            .flat_map(|block| vec![block; 128 << 10])
            .collect()
    }

    /// The file was hashed again from its start: a file may be complete before
    /// the download that delivers its last gap has ended.
    #[test]
    fn check_continues_the_hash_of_a_download_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let bytes = bytes(3);
        let cached = store.file(&CachePath::new("x", "y").unwrap(), 3 * BLOCK);
        cached.write(0, &bytes).unwrap();
        let running = RunningHash::default();
        let first = usize::try_from(BLOCK).unwrap();
        running.add(&cached, cached.epoch(), 0, &bytes[..first]);
        let position = || running.state().hash.as_ref().map(|hash| hash.position);
        assert_eq!(position(), Some(BLOCK));
        let id = ObjectId::of_content(&bytes);
        let check = || running.check(&cached, id).unwrap();
        assert_eq!(check(), HashCheck::Match(cached.epoch()));
        // The download adds the rest afterwards.
        running.add(&cached, cached.epoch(), BLOCK, &bytes[first..]);
        assert_eq!(position(), Some(3 * BLOCK));
        assert_eq!(check(), HashCheck::Match(cached.epoch()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Several downloads deliver pieces in any order, also twice, from two threads.
        #[test]
        fn pieces_in_any_order_give_the_hash_of_the_file(
            pieces in prop::collection::vec((0_u8..6, 1_u8..4), 0..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (disk, memory) = (1 << 30, 1 << 20);
            let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
            let bytes = bytes(6);
            let cached = store.file(&CachePath::new("x", "y").unwrap(), 6 * BLOCK);
            let running = RunningHash::default();
            let deliver = |first: u8, blocks: u8| {
                let last = (first + blocks).min(6);
                let offset = u64::from(first) * BLOCK;
                let end = usize::try_from(u64::from(last) * BLOCK).unwrap();
                let piece = &bytes[usize::try_from(offset).unwrap()..end];
                cached.write(offset, piece).unwrap();
                let epoch = cached.epoch();
                if !running.add_at_once(&cached, epoch, offset, piece) {
                    running.add(&cached, epoch, offset, piece);
                }
            };
            std::thread::scope(|scope| {
                for part in pieces.chunks(6) {
                    let deliver_all = || part.iter().for_each(|&(first, blocks)| deliver(first, blocks));
                    std::thread::Builder::new().spawn_scoped(scope, deliver_all).unwrap();
                }
            });
            let id = ObjectId::of_content(&bytes);
            match running.check(&cached, id).unwrap() {
                HashCheck::Missing(from) => {
                    let gap = cached.first_missing(&(0..6 * BLOCK));
                    prop_assert_eq!(Some(from), gap.map(|gap| gap.start));
                }
                check => prop_assert_eq!(check, HashCheck::Match(cached.epoch())),
            }
            deliver(0, 6);
            prop_assert_eq!(running.check(&cached, id).unwrap(), HashCheck::Match(cached.epoch()));
        }
    }
}
