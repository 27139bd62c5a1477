//! Files that several processes download at the same time into one cache folder.
//!
//! A process locks the bytes that it downloads, so that others can wait for them, and
//! takes over the blocks that others have listed in the block map. Nothing depends on
//! it: without locks, bytes are downloaded more than once.

use std::ops::Range;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::CacheFile;
use super::files::{DiskFiles, EpochFiles};
use super::state::{Comparison, FileStage};
use crate::cache::block_map::{BlockState, Word};
use crate::cache::file_lock::{self, LockKind};

/// How many words are read at once.
const WORDS: u64 = 8 << 10;

/// The lock of bytes that this process downloads. Dropping it releases them.
#[derive(Debug)]
pub struct DownloadLock {
    epoch: Arc<EpochFiles>,
    bytes: Range<u64>,
}

/// The result of an attempt to lock bytes.
#[derive(Debug)]
pub enum DownloadClaim {
    /// No other process downloads them. There is no lock if the file system has none.
    Granted(Option<DownloadLock>),
    /// Another process downloads these bytes, some of which were requested.
    Taken(Range<u64>),
}

impl CacheFile {
    /// Locks `bytes`, which this process is about to download.
    #[must_use]
    pub fn claim_download(&self, bytes: Range<u64>) -> DownloadClaim {
        let epoch = Arc::clone(&self.state().epoch);
        let Some(DiskFiles { data, .. }) = &epoch.disk else {
            return DownloadClaim::Granted(None);
        };
        let file = data.writer();
        let claim =
            file_lock::try_lock_range(file, LockKind::Exclusive, &bytes).and_then(|locked| {
                if locked {
                    let (epoch, bytes) = (Arc::clone(&epoch), bytes.clone());
                    return Ok(DownloadClaim::Granted(Some(DownloadLock { epoch, bytes })));
                }
                let taken = file_lock::locked_range(file, &bytes)?;
                // It may have been released just now.
                Ok(DownloadClaim::Taken(taken.unwrap_or(bytes)))
            });
        claim.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot lock a download");
            DownloadClaim::Granted(None)
        })
    }

    /// Takes over the blocks of `bytes` that other processes have listed in the block map.
    /// Those that contradict the blocks of this process are left out.
    pub fn take_over_blocks(&self, bytes: &Range<u64>) {
        let blocks = self.grid.touching(bytes);
        let mut next = blocks.start;
        loop {
            let part = {
                let missing = self.state().map.first_missing(next..blocks.end);
                let Some(first) = missing else { return };
                first..blocks.end.min(first + WORDS)
            };
            next = part.end;
            // No other thread writes or releases them meanwhile.
            let claim = self.claim(&part);
            let Some(disk) = &claim.epoch.disk else {
                return;
            };
            let words = match disk.map.read_all(&part) {
                Ok(words) => words,
                Err(error) => {
                    tracing::debug!(%error, "cannot read the block map of a file again");
                    return;
                }
            };
            let mut state = self.state();
            if state.epoch.number != claim.epoch.number || state.stage != FileStage::Partial {
                return;
            }
            for (block, word) in part.zip(words) {
                if !word.is_present() || state.compare(block, word) != Comparison::Missing {
                    continue;
                }
                // Readers of this process may have the same bytes from before.
                let was_read = state.map.get(block).state() == BlockState::Evicted;
                let listed = Word::from_disk(word.0);
                state.add(block, if was_read { word.present() } else { listed });
            }
        }
    }
}

impl DownloadLock {
    /// Releases the bytes before `position`, which are in the cache. Blocks on the disk.
    pub fn advance(&mut self, position: u64) {
        let start = position.clamp(self.bytes.start, self.bytes.end);
        self.release(&(self.bytes.start..start));
        self.bytes.start = start;
    }

    fn release(&self, bytes: &Range<u64>) {
        release(&self.epoch, bytes);
    }
}

fn release(epoch: &EpochFiles, bytes: &Range<u64>) {
    if let Some(DiskFiles { data, .. }) = &epoch.disk
        // A length of 0 would mean all bytes.
        && !bytes.is_empty()
        && let Err(error) = file_lock::unlock_range(data.writer(), bytes)
    {
        tracing::debug!(%error, "a downloaded range stays locked");
    }
}

impl Drop for DownloadLock {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let (epoch, bytes) = (Arc::clone(&self.epoch), self.bytes.clone());
        let release = move || release(&epoch, &bytes);
        // A network file system writes all bytes before it releases a lock.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(release)),
            Err(_no_runtime) => release(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CachePath, CacheRead, Grid, Store};

    /// The same file, as two processes open it.
    fn opened_twice(dir: &tempfile::TempDir) -> [Arc<CacheFile>; 2] {
        let (disk, memory) = (1 << 40, 1 << 20);
        [(); 2].map(|()| {
            let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
            let path = CachePath::new("netcdf", "x").unwrap();
            store.file(&path, Grid::in_steps(4, 12))
        })
    }

    #[test]
    fn bytes_that_another_process_downloads_are_taken_until_they_have_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = opened_twice(&dir);
        let DownloadClaim::Granted(Some(mut lock)) = one.claim_download(0..12) else {
            panic!("no other process downloads it");
        };
        let taken = |bytes| match other.claim_download(bytes) {
            DownloadClaim::Taken(taken) => Some(taken),
            DownloadClaim::Granted(_) => None,
        };
        assert_eq!(taken(8..12), Some(0..12));
        one.write(0, b"0123").unwrap();
        lock.advance(4);
        assert_eq!((taken(0..4), taken(0..8)), (None, Some(4..12)));
        other.take_over_blocks(&(0..12));
        assert_eq!(other.missing(0..12), vec![4..12]);
        drop(lock);
        assert_eq!(taken(0..12), None);
    }

    #[test]
    fn blocks_of_other_processes_are_taken_over_unless_they_contradict_own_ones() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = opened_twice(&dir);
        one.write(0, b"0123").unwrap();
        one.evict(0);
        other.write(0, b"01x3").unwrap();
        one.write(4, b"4567").unwrap();
        one.evict(4);
        other.write(4, b"4567").unwrap();
        other.write(8, b"89ab").unwrap();
        let epoch = one.epoch();
        one.take_over_blocks(&(0..12));
        assert_eq!(one.missing(0..12), vec![0..4]);
        assert_eq!(
            one.read(4..12).unwrap(),
            CacheRead::Bytes(b"456789ab".to_vec())
        );
        assert_eq!(one.epoch(), epoch);
        // What it has evicted is not taken over again.
        one.evict(8);
        one.take_over_blocks(&(8..12));
        assert_eq!(one.missing(8..12), vec![8..12]);
    }

    /// Regression: two processes that opened a file for the first time at the same moment
    /// removed the files of each other.
    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "tests may fail if no thread starts"
    )]
    fn file_that_two_processes_create_at_once_is_shared() {
        for round in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let (disk, memory) = (1 << 40, 1 << 20);
            let stores =
                [(); 2].map(|()| Store::open(dir.path().to_owned(), CacheLimits { disk, memory }));
            let path = CachePath::new("netcdf", "x").unwrap();
            let start = std::sync::Barrier::new(2);
            let [one, other] = std::thread::scope(|scope| {
                let threads = stores.each_ref().map(|store| {
                    scope.spawn(|| {
                        start.wait();
                        store.file(&path, 4)
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            one.write(0, b"0123").unwrap();
            other.take_over_blocks(&(0..4));
            let found = other.read(0..4).unwrap();
            assert_eq!(found, CacheRead::Bytes(b"0123".to_vec()), "round {round}");
        }
    }
}
