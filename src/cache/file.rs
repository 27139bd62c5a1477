//! One file of the cache: which blocks are present, and what is known of them.
//!
//! This module opens and closes a file and answers queries of its state. Each other
//! operation has a module of its own below it:
//!
//! ```text
//!  read    words -> bytes from the disk or from memory -> check -> bytes, or a gap
//!  write   complete blocks -> compare with words -> disk (write), else memory
//!  evict   words become "evicted", then space is released; the end of an epoch
//!  seal    sync, then rename to the complete name
//!  files   the files of an epoch: names, opening, creation
//!  data    the data file: writable while the file is partial
//!  direct  verification of a sealed file, before the kernel reads it directly
//!  shared  downloads and blocks of other processes with the same cache folder
//!  claims  which blocks on the disk a thread writes, releases or checks
//! ```
//!
//! `state` is locked for moments, never during disk work. Work on the bytes of blocks
//! on the disk is serialized by claims. `names` is held while the files are renamed,
//! created or removed; reads and writes do not take it. Order: a claim, then `names`,
//! then `state`.

use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::block_map::BlockMap;
use super::memory_tier::MIN_RETAINED;
use super::{CacheError, CachePath, DiskPool, Grid, StoreState};
use icos_sync::{Locked, Mutex};

mod claims;
mod data;
mod direct;
mod evict;
mod files;
mod memory;
mod read;
mod seal;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub(super) use data::Stamp;
pub(super) use direct::MAX_VERIFICATIONS;
pub use direct::{BackingFile, DirectFile};
pub use read::CacheRead;
pub use shared::{DownloadClaim, DownloadLock};

use files::{EpochFiles, FilePaths, OpenedFile};
use state::{FileStage, FileState};

/// A file of the cache, complete or partial.
///
/// [`CacheFile::read`] and [`CacheFile::write`] block on the disk; async tasks call
/// [`CacheFile::read_in_pool`] and [`CacheFile::write_in_pool`]. Queries of the state do
/// not block. Blocks that the disk does not accept are in memory, the latest ones only.
#[derive(Debug)]
pub struct CacheFile {
    grid: Arc<Grid>,
    path: CachePath,
    store: Arc<StoreState>,
    /// This file, for the memory tier.
    self_ref: Weak<CacheFile>,
    paths: FilePaths,
    /// Bytes that were read while the file was sealed.
    read_sealed: AtomicU64,
    /// Whether a verification for direct reads is under way.
    is_verifying: AtomicBool,
    names: Mutex<()>,
    state: Mutex<FileState>,
}

/// A period in which each block of a file has one checksum, even when the block
/// is evicted and downloaded again. So all bytes that were read in one epoch
/// belong together and can be verified together, whether or not they
/// were ever present at the same time. Numbers are unique in the process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Epoch(u64);

impl Epoch {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

impl CacheFile {
    /// How many bytes of memory a read may take beyond the bytes it returns: it
    /// reads complete blocks.
    pub const READ_OVERHEAD: u64 = super::MAX_BLOCK as u64;

    pub(super) fn open(store: Arc<StoreState>, path: &CachePath, grid: Arc<Grid>) -> Arc<Self> {
        let paths = FilePaths::new(path, store.root.path());
        let failed = |error: io::Error| CacheError::io(&paths.partial, &error);
        let opened = match paths.open(&grid) {
            // The cache folder was removed, or was never created.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                store
                    .root
                    .create_folders()
                    .and_then(|()| paths.open(&grid).map_err(failed))
            }
            opened => opened.map_err(failed),
        };
        let opened = opened.unwrap_or_else(|error| {
            store.errors.report(error);
            OpenedFile {
                epoch: EpochFiles::in_memory(),
                map: BlockMap::new(Arc::clone(&grid)),
                stage: FileStage::MemoryOnly,
            }
        });
        let OpenedFile { epoch, map, stage } = opened;
        let state = FileState::new(Arc::clone(&grid), Arc::new(epoch), map, stage);
        Arc::new_cyclic(|self_ref| Self {
            grid,
            path: path.clone(),
            store,
            self_ref: self_ref.clone(),
            paths,
            read_sealed: AtomicU64::new(0),
            is_verifying: AtomicBool::new(false),
            names: Mutex::default(),
            state: Mutex::new(state),
        })
    }

    /// Threads for work on the disk of the cache.
    #[must_use]
    pub fn disk(&self) -> &DiskPool {
        &self.store.disk_pool
    }

    /// Length of the complete file in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // A length, not a count of items.
    pub fn len(&self) -> u64 {
        self.grid.len()
    }

    /// Where its blocks begin and end.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Whether every byte is present.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state().map.present() == self.len()
    }

    /// Whether the checksum of every byte is known: each block is present or was
    /// evicted in this epoch.
    #[must_use]
    pub fn has_all_checksums(&self) -> bool {
        self.state().map.known() == self.len()
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.state().epoch.number
    }

    /// Records that the caller has verified the bytes of `epoch`, which cover the
    /// file: from now on a write that contradicts them is rejected and they stay.
    /// False if the epoch has ended.
    pub fn mark_verified(&self, epoch: Epoch) -> bool {
        let mut state = self.state();
        let is_current = state.epoch.number == epoch;
        state.is_verified |= is_current;
        is_current
    }

    /// Whether the bytes of the current epoch are verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.state().is_verified
    }

    /// Whether some of the blocks are in memory only, until the file is closed.
    #[must_use]
    pub fn has_memory_blocks(&self) -> bool {
        self.state().memory_used > 0
    }

    /// Whether the file is complete and has its complete name.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed_stamp().is_some()
    }

    /// How many bytes can be written without evicting some of them.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let (share, has_disk) = {
            // Under the lock of the file: its last block in memory may be evicted
            // between the two queries.
            let state = self.state();
            let share = self.store.memory_tier.share(state.memory_used > 0);
            (share.max(MIN_RETAINED), state.epoch.disk.is_some())
        };
        if !has_disk {
            return share;
        }
        // Blocks of other open files are not evicted for this one.
        let budget = &self.store.disk_budget;
        let allowed = budget.allowed();
        (allowed / 2)
            .max(allowed.saturating_sub(budget.used()))
            .max(share)
    }

    /// The first part of `range` that is not present.
    #[must_use]
    pub fn first_missing(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let blocks = self.grid.touching(range);
        let gap = self.state().map.first_gap(&blocks)?;
        let gap = self.grid.bytes_of(&gap);
        Some(gap.start.max(range.start)..gap.end.min(range.end))
    }

    /// The number of bytes of `range` that are not present.
    #[must_use]
    pub fn missing_bytes(&self, mut range: Range<u64>) -> u64 {
        let mut bytes = 0;
        while let Some(gap) = self.first_missing(&range) {
            bytes += gap.end - gap.start;
            range.start = gap.end;
        }
        bytes
    }

    fn report(&self, error: &io::Error) {
        let error = CacheError::io(&self.paths.partial, error);
        self.store.errors.report(error);
    }

    fn state(&self) -> Locked<'_, FileState> {
        self.state.lock()
    }

    /// The parts of `range` that are not present, in order.
    #[cfg(test)]
    pub(super) fn missing(&self, mut range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        while let Some(gap) = self.first_missing(&range) {
            range.start = gap.end;
            gaps.push(gap);
        }
        gaps
    }
}

impl Drop for CacheFile {
    /// Removes a partial file without blocks.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.memory_used > 0 {
            self.store.memory_tier.remove(state.memory_used, true);
        }
        let is_empty = state.map.present() == 0 && self.grid.len() > 0;
        let Some(disk) = state.epoch.disk.as_ref().filter(|_| is_empty) else {
            return;
        };
        if state.stage != FileStage::Partial {
            return;
        }
        // Neither this process nor another one may be opening the file again.
        self.store.open_files.remove_closed(&self.path, || {
            if disk.map.is_at(&self.paths.map) && disk.map.lock_exclusively() {
                let _ = fs::remove_file(&self.paths.partial);
                let _ = fs::remove_file(&self.paths.map);
            }
        });
    }
}
