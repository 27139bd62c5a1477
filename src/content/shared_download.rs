//! Downloads of several processes of this machine that share a cache folder: bytes that
//! another process is downloading are not requested again.
//!
//! The other process holds a lock of the cache file ([`CacheFile::claim_download`]) or of
//! its path ([`Store::try_lock_path`]), which the kernel releases when the process ends. Waiting is limited: a process that makes no
//! progress, or takes long, is not waited for, and the bytes are then downloaded twice.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::{
    CacheError, CacheFile, CachePath, DownloadClaim, DownloadLock, PathLock, Store,
};

/// The interval at which the block map is read.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// How long to wait for a process that makes no progress.
const MAX_STALL: Duration = Duration::from_secs(5);
/// How long to wait in all.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// How far before the wanted bytes a download may be that is waited for.
pub(super) const MAX_DISTANCE: u64 = 16 << 20;

/// Waits while another process makes the file at `path`. Returns the lock that this
/// process holds from now on, and whether another process had it before.
pub(super) async fn lock_path(store: &Store, path: &CachePath) -> (Option<PathLock>, bool) {
    let started = Instant::now();
    let mut waited = false;
    loop {
        let (at, locked) = (store.clone(), path.clone());
        let lock = store.disk().run(move || at.try_lock_path(&locked)).await;
        let lock = lock.ok().flatten();
        if lock.is_some() || started.elapsed() > MAX_WAIT {
            return (lock, waited);
        }
        waited = true;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What a download should do.
#[derive(Debug)]
pub(super) enum Turn {
    /// Request the bytes, and hold the lock until they are in the cache.
    Request(Option<DownloadLock>),
    /// Nothing: another process has delivered the first of the wanted bytes.
    Delivered,
}

/// Waits while another process downloads some of `bytes` of `cached`.
///
/// `position` returns how much of what is wanted is in the cache, as a number that
/// grows. `delivers` says whether a download of the given bytes delivers what is wanted
/// next.
pub(super) async fn wait_for_turn(
    cached: &Arc<CacheFile>,
    bytes: Range<u64>,
    position: impl Fn() -> u64,
    delivers: impl Fn(&Range<u64>) -> bool,
) -> Result<Turn, CacheError> {
    let (started, first) = (Instant::now(), position());
    let (mut last, mut moved) = (first, started);
    loop {
        let (file, wanted) = (Arc::clone(cached), bytes.clone());
        let claiming = cached.disk().run(move || {
            // The claim first: a process records its blocks before it releases its lock.
            let claim = file.claim_download(wanted.clone());
            file.take_over_blocks(&wanted);
            claim
        });
        // If the disk hangs, the bytes could not be stored either.
        let claim = claiming.await?;
        let now = position();
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        let give_up = |lock| {
            if last > first {
                Turn::Delivered
            } else {
                Turn::Request(lock)
            }
        };
        match claim {
            DownloadClaim::Granted(lock) => return Ok(give_up(lock)),
            DownloadClaim::Taken(other)
                if !delivers(&other)
                    || moved.elapsed() > MAX_STALL
                    || started.elapsed() > MAX_WAIT =>
            {
                return Ok(give_up(None));
            }
            DownloadClaim::Taken(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}
