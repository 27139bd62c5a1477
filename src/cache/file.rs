//! One file of the cache: which blocks are present, and what is known of them.
//!
//! This module opens and closes a file and answers queries of its state. Reading
//! and verification of blocks, writing, blocks in memory, eviction and sealing
//! each have a module of their own below it.
//!
//! Two locks protect a file. `disk_lock` serializes changes of the data file with
//! the journal records that describe them, and is held over disk work. `state` is
//! taken after `disk_lock`, never before it, and is held over no disk work but
//! journal records, renames and the release of evicted blocks.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::blocks::{BlockSet, MAX_BLOCK};
use super::memory_tier::MIN_RETAINED;
use super::{CacheError, CachePath, StoreState};
use icos_sync::{Locked, Mutex};

mod evict;
mod memory;
mod open;
mod read;
mod seal;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub use read::CacheRead;

use open::{FilePaths, FileStage, OpenedFile};
use state::FileState;

/// A file of the cache, complete or partial.
///
/// Calls block on the disk, briefly: a read or write covers a few blocks at most
/// and is mostly served by the page cache. Blocks that the disk does not accept
/// are in memory, the latest ones only.
#[derive(Debug)]
pub struct CacheFile {
    len: u64,
    path: CachePath,
    store: Arc<StoreState>,
    /// This file, for the memory tier.
    self_ref: Weak<CacheFile>,
    paths: FilePaths,
    /// The data file; `None` if the disk cannot be used.
    data: Option<File>,
    disk_lock: Mutex<()>,
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
    pub const READ_OVERHEAD: u64 = MAX_BLOCK as u64;

    pub(super) fn open(store: Arc<StoreState>, path: &CachePath, len: u64) -> Arc<Self> {
        let paths = FilePaths::new(path, store.root.path());
        let failed = |error: io::Error| CacheError::io(&paths.partial, &error);
        let opened = match paths.open(len) {
            // The cache folder was removed, or was never created.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                store
                    .root
                    .create_folders()
                    .and_then(|()| paths.open(len).map_err(failed))
            }
            opened => opened.map_err(failed),
        };
        let (data, blocks, stage) = match opened {
            Ok(OpenedFile {
                data,
                blocks,
                stage,
            }) => (Some(data), blocks, stage),
            Err(error) => {
                store.errors.report(error);
                (None, BlockSet::default(), FileStage::MemoryOnly)
            }
        };
        Arc::new_cyclic(|self_ref| Self {
            len,
            path: path.clone(),
            store,
            self_ref: self_ref.clone(),
            paths,
            data,
            disk_lock: Mutex::default(),
            state: Mutex::new(FileState::new(blocks, stage)),
        })
    }

    /// Length of the complete file in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // A length, not a count of items.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether every byte is present.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state().blocks.present() == self.len
    }

    /// Whether the checksum of every byte is known: each block is present or was
    /// evicted in this epoch.
    #[must_use]
    pub fn has_all_checksums(&self) -> bool {
        let state = self.state();
        state.blocks.present() + state.evicted.len() == self.len
    }

    /// The block that was stored last of those that are new in this epoch. Before it
    /// was stored, the file lacked at least this block, so no reader has all bytes
    /// unless it read this block. `None` if no block was written since the file was
    /// opened, or if an epoch has ended since.
    #[must_use]
    pub fn last_new_block(&self) -> Option<Range<u64>> {
        self.state().last_new_block.clone()
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.state().epoch
    }

    /// Records that the caller has verified the bytes of `epoch`, which cover the
    /// file: from now on a write that contradicts them is rejected and they stay.
    /// False if the epoch has ended.
    pub fn mark_verified(&self, epoch: Epoch) -> bool {
        let mut state = self.state();
        let current = state.epoch == epoch;
        state.is_verified |= current;
        current
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
        matches!(self.state().stage, FileStage::Sealed(_))
    }

    /// How many bytes can be written without evicting some of them.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let share = {
            // Under the lock of the file: its last block in memory may be evicted
            // between the two queries.
            let state = self.state();
            let has_blocks = state.memory_used > 0;
            self.store.memory_tier.share(has_blocks).max(MIN_RETAINED)
        };
        if self.data.is_none() {
            return share;
        }
        // Blocks of other open files are not evicted for this one.
        let budget = &self.store.disk_budget;
        let allowed = budget.allowed();
        (allowed / 2)
            .max(allowed.saturating_sub(budget.used()))
            .max(share)
    }

    /// The parts of `range` that are not present, in order.
    #[must_use]
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.state().blocks.gaps(range).collect()
    }

    fn report(&self, error: &io::Error) {
        let error = CacheError::io(&self.paths.partial, error);
        self.store.errors.report(error);
    }

    fn state(&self) -> Locked<'_, FileState> {
        self.state.lock()
    }
}

impl Drop for CacheFile {
    /// Removes a partial file without blocks.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.memory_used > 0 {
            self.store.memory_tier.remove(state.memory_used, true);
        }
        let FileStage::Partial(journal) = &state.stage else {
            return;
        };
        if state.blocks.present() > 0 || self.len == 0 {
            return;
        }
        // Neither this process nor another one may be opening the file again.
        let Some(open) = self.store.open_files.try_lock() else {
            return;
        };
        let reopened = open
            .get(&self.path)
            .is_some_and(|file| file.strong_count() > 0);
        if !reopened && journal.lock_exclusively() {
            let _ = fs::remove_file(&self.paths.partial);
            let _ = fs::remove_file(&self.paths.journal);
        }
    }
}
