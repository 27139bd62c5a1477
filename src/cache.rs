//! Bytes kept: sparse files with a checksum for every block, renamed into a
//! Jupyter user's data folder once they are complete.
//!
//! Complete files lie at `<folder>/<name>` under `dataAppStorage` (`documents`
//! beside it), where the portal's Python library would look for them, so
//! nothing incomplete may ever bear such a name. Incomplete ones lie in
//! `partial`, each with a journal of the blocks that are there.
//!
//! Knows nothing of the portal or of inodes; whoever fills an [`CacheFile`] knows
//! where bytes come from.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

mod blocks;
mod entry;
mod folder;
mod gone;
mod growing;
mod held;
mod journal;
mod paths;
mod place;
#[cfg(test)]
mod races;
mod sizes;
mod space;
mod spill;
mod trouble;

pub use entry::{CacheFile, CacheRead, Epoch};
pub use folder::{CacheFolder, FileCheck, FolderFile};
pub use growing::AppendedFile;
pub(crate) use journal::read_journal_of;
pub use place::CachePath;
pub use sizes::KnownSizes;
pub use space::{DiskUsage, default_limit};

use place::{LENGTHS, PARTIAL, SUMS};
use space::{Claim, Space};
use spill::Spill;
use trouble::Troubles;

use tokio::sync::Semaphore;

use crate::memory::{MemoryBudget, NoMemory};
use icos_sync::{Locked, Mutex};

/// Why the cache did not keep or give bytes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system refused.
    #[error("the cache file {path} cannot be used: {reason}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
        /// Its error number, if it gave one.
        errno: Option<i32>,
    },
    /// The disk has no room for more.
    #[error(
        "the disk of the cache {path} is nearly full; free some space, or name another folder with --cache-dir"
    )]
    DiskFull {
        /// The cache.
        path: PathBuf,
    },
    /// Buffers had to wait for too long.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// What must be there together does not stay.
    #[error(
        "neither the disk nor the memory of the cache can hold what must be there at once; raise --cache-size or --memory, or name another folder with --cache-dir"
    )]
    TooSmall,
    /// Bytes that came again are not those that came before.
    #[error(
        "bytes of {path} arrived that are not those that arrived before; they were dropped, read again to fetch them anew"
    )]
    Differs {
        /// What they are of.
        path: PathBuf,
    },
    /// A name that is not one safe path component.
    #[error("expected a plain file name for the cache, found {0:?}")]
    UnsafeName(String),
}

impl CacheError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason: error.to_string(),
            errno: error.raw_os_error(),
        }
    }
}

/// How much to keep, and where.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Bytes on the disk.
    pub disk: u64,
    /// Bytes of memory for all buffers.
    pub memory: u64,
}

/// The cache of one repository. Cheap to clone: clones are the same cache.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    space: Space,
    memory: MemoryBudget,
    spill: Spill,
    troubles: Troubles,
    notes: KnownSizes,
    /// Entries in use: each file has one, however many read it.
    open: Mutex<HashMap<CachePath, Weak<CacheFile>>>,
    /// Turns at having the disk take a whole file.
    sealing: Arc<Semaphore>,
}

/// So many files at once are taken by the disk.
const SEALING: u32 = 8;

impl Store {
    /// Opens, or creates, the cache in `root`, for its owner alone. Where the
    /// disk does not let it, nothing is kept but in memory.
    #[must_use]
    pub fn open(root: PathBuf, bounds: CacheLimits) -> Self {
        let memory = MemoryBudget::new(bounds.memory);
        let folders = Shared::create_folders_in(&root);
        let shared = Shared {
            notes: KnownSizes::open(&root.join(LENGTHS)),
            space: Space::new(root.clone(), bounds.disk),
            root,
            spill: Spill::new(memory.block_limit()),
            memory,
            troubles: Troubles::default(),
            open: Mutex::default(),
            sealing: Arc::new(Semaphore::new(SEALING as usize)),
        };
        if let Err(error) = folders {
            shared.troubles.note(error);
        }
        Self(Arc::new(shared))
    }

    /// Waits until the disk has taken all complete files that it is to take.
    pub async fn wait_for_seals(&self) {
        // Fails never: nobody closes it.
        let _ = self.0.sealing.acquire_many(SEALING).await;
    }

    /// The memory for buffers, its own and those of what reads from it.
    #[must_use]
    pub fn memory(&self) -> &MemoryBudget {
        &self.0.memory
    }

    /// Tells `watcher` what keeps the cache from keeping bytes, once for each
    /// cause, those so far included.
    pub fn on_error(&self, watcher: impl Fn(&CacheError) + Send + Sync + 'static) {
        self.0.troubles.watch(Box::new(watcher));
    }

    /// Where the cache lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// How much it holds, and may hold. Blocks on the disk: the first time, for
    /// a look at every file.
    #[must_use]
    pub fn usage(&self) -> DiskUsage {
        self.0.space.usage()
    }

    /// Lengths of files that took all of their bytes to find out, by keys that
    /// say what they are of.
    #[must_use]
    pub fn sizes(&self) -> &KnownSizes {
        &self.0.notes
    }

    /// The entry at `place` of a file that is `len` bytes long. What an
    /// earlier run left of a file with another length is dropped.
    #[must_use]
    pub fn file(&self, place: &CachePath, len: u64) -> Arc<CacheFile> {
        let mut open = self.0.open();
        if let Some(entry) = open.get(place).and_then(Weak::upgrade)
            && entry.len() == len
        {
            return entry;
        }
        open.retain(|_, entry| entry.strong_count() > 0);
        let entry = CacheFile::open(Arc::clone(&self.0), place, len);
        open.insert(place.clone(), Arc::downgrade(&entry));
        entry
    }

    /// The entry at `place`, if it is complete: for files whose length nothing
    /// else tells.
    #[must_use]
    pub fn open_sealed(&self, place: &CachePath) -> Option<Arc<CacheFile>> {
        let len = fs::metadata(place.complete_in(&self.0.root)).ok()?.len();
        let entry = self.file(place, len);
        entry.is_sealed().then_some(entry)
    }

    /// Makes the next [`Store::file`] at `place` open the file anew.
    fn forget(&self, place: &CachePath) {
        self.0.open().remove(place);
    }
}

impl Shared {
    fn open(&self) -> Locked<'_, HashMap<CachePath, Weak<CacheFile>>> {
        self.open.lock()
    }

    fn create_folders(&self) -> Result<(), CacheError> {
        Self::create_folders_in(&self.root)
    }

    fn create_folders_in(root: &Path) -> Result<(), CacheError> {
        let folders = [root.to_owned(), root.join(PARTIAL), root.join(SUMS)];
        folders.iter().try_for_each(|dir| create_private_dir(dir))
    }

    /// Takes `bytes` of the disk; false if there is no room to be made.
    fn claim(&self, bytes: u64) -> bool {
        let is_open = |place: &CachePath| {
            let open = self.open();
            open.get(place).is_some_and(|e| e.strong_count() > 0)
        };
        match self.space.claim(bytes, is_open) {
            Claim::Granted => true,
            Claim::BoundReached => false,
            Claim::DiskFull => {
                self.troubles.note(CacheError::DiskFull {
                    path: self.root.clone(),
                });
                false
            }
        }
    }
}

fn create_private_dir(path: &Path) -> Result<(), CacheError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| CacheError::io(path, &error))
}

fn remove_if_there(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CacheError::io(path, &error)),
        _ => Ok(()),
    }
}
