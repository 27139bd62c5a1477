//! The cache: downloaded bytes on this machine, in blocks with checksums, and
//! complete files that a Jupyter user's Python library reads, too.
//!
//! # The life of a block
//!
//! 1. *Downloaded*: `content` downloads bytes and passes them to
//!    [`CacheFile::write`]. Where blocks begin and end follows from what the file is
//!    ([`Grid`]), never from how it was read; only complete blocks are stored.
//! 2. *Written* to the sparse data file, within the disk budget. Blocks that the
//!    disk does not accept go to the memory tier.
//! 3. *Present*: its word in the block map has its checksum. The word is written
//!    after the bytes. Any subset of these writes may survive a crash.
//! 4. *Read*: [`CacheFile::read`] checks every block that it reads from the disk.
//!    A corrupt block is evicted and downloaded again.
//! 5. *Evicted* for space: closed files that are not pinned completely, least recently
//!    used first, then the oldest blocks of the file that needs space. The word keeps
//!    the checksum, so that a block that is downloaded again must be the same.
//! 6. *Verified*: `content` compares the hash of all bytes of an [`Epoch`] with the
//!    object's id and calls [`CacheFile::mark_verified`].
//! 7. *Sealed*: [`CacheFile::seal`] syncs the file, renames it to its complete
//!    name and removes the permission to write. Sealed files are found by later
//!    processes and by the Python library.
//! 8. *Read directly* by the kernel, once all blocks were compared with their
//!    checksums in this process ([`CacheFile::direct_file`]).
//!
//! An epoch is one data file and one block map, with a random seed that is part of
//! every checksum. When bytes of an epoch turn out to be corrupt, its files are
//! removed and the next epoch begins with new ones, so that late writes to the old
//! ones cannot count.
//!
//! Files that can only be appended to, because their length is not known before
//! their end, begin as an [`AppendedFile`].
//!
//! # Folders on disk
//!
//! | path | content |
//! |---|---|
//! | `dataAppStorage/<format>/<name>` | sealed originals and tables, where the portal's Python library looks for them |
//! | `documents/`, `csv/`, `views/` | sealed documents, CSV from the portal, files rendered here |
//! | `sums/<folder>~<name>.map` | block maps of sealed files |
//! | `partial/<folder>~<name>`, `.map`, `.new` | partial files, their block maps, temporary files |
//! | `lengths` | known file sizes |
//! | `pins` | objects whose files are never evicted |
//! | `locks` | its bytes are locked for files that are being made |
//!
//! # Invariants
//!
//! 1. Bytes from the disk are returned only if they match their checksum. Blocks
//!    in the memory tier are not checked again. What the kernel reads directly was
//!    checked once within a day, and is not checked when it is read.
//! 2. Within an epoch the checksum of a block never changes. A write that
//!    contradicts a checksum is rejected and, unless the epoch is verified, ends
//!    the epoch.
//! 3. Only complete files get a complete name, and originals only once they are
//!    verified. Sealed files are never written to, and a file loses its complete
//!    name before it loses a block.
//! 4. Once all checksums of a file are known ([`CacheFile::has_all_checksums`]),
//!    `content` can delay reads until the file is verified.
//! 5. If bytes of an epoch are corrupt, all its blocks are evicted at once. The
//!    caller counts the corruption before another reader can see the empty file
//!    ([`CacheFile::discard`]).
//! 6. Space used is what the disk gives up: whole pages, block maps included. Open
//!    files are never removed, in this process or another one: an open block map is
//!    locked.
//! 7. No lock is held over network work or across an `await`. Locks held over disk
//!    work: the disk budget's eviction lock, the slot of a file while it is opened, the
//!    file of known sizes (one record), and the names of a file while it is renamed,
//!    created or removed. Disk work on blocks is serialized by claims, which readers do
//!    not need. Async workers take none of these locks: work on the disk runs in the
//!    [`DiskPool`], except for reads of what is in the page cache.
//! 8. The folder is one that only this user and root can write to. It is held open,
//!    and files of other users in it are removed (`cache_root`).
//! 9. If the disk cannot be written, blocks are stored in memory and reads
//!    continue.
//!
//! # Lock order
//!
//! 1. A claim of blocks, then the names of the file.
//! 2. The disk budget's eviction lock.
//! 3. The slot of an open file, then the table of open files.
//!
//! A file's state is taken after these or alone. While a state is held, none of them
//! is taken. Memory tier, error reports and known sizes are taken last, and no other
//! lock is taken under them.
//!
//! The cache knows neither the portal nor inodes. What to download, when to verify
//! and how long readers wait is decided in [`crate::content`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod appended;
mod block_map;
mod cache_root;
mod disk_budget;
mod disk_pool;
mod error_reports;
mod file;
mod file_lock;
mod folder;
mod grid;
mod layout;
mod legacy_journal;
mod map_file;
mod memory_tier;
#[cfg(test)]
mod model;
mod open_files;
mod path_lock;
mod pins;
#[cfg(test)]
mod races;
mod sizes;
mod verified_files;

pub use appended::AppendedFile;
pub use disk_budget::{DiskUsage, default_limit};
pub use disk_pool::DiskPool;
pub use file::{BackingFile, CacheFile, CacheRead, DirectFile, DownloadClaim, DownloadLock, Epoch};
pub use folder::{CacheFolder, FileCheck, FolderFile};
pub use grid::Grid;
pub use layout::CachePath;
pub(crate) use map_file::check_map_file;
pub use path_lock::PathLock;
pub use pins::Pins;
pub use sizes::KnownSizes;

use cache_root::{CacheRoot, create_private_dir, display_path, open_own};
use disk_budget::{ClaimResult, DiskBudget};
use error_reports::ErrorReports;
use file::MAX_VERIFICATIONS;
pub(crate) use grid::MAX_BLOCK;
use layout::{FileKind, LENGTHS};
use map_file::MapFile;
use memory_tier::MemoryTier;
use open_files::OpenCacheFiles;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use verified_files::VerifiedFiles;

use crate::memory::{MemoryBudget, NoMemory};

/// Why the cache did not store or return bytes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system reported an error.
    #[error("the cache file {path} cannot be used: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
        /// Its error number, if there is one.
        errno: Option<i32>,
    },
    /// The file system has too little free space.
    #[error(
        "the disk of the cache {path} is nearly full; free some space, or name another folder with --cache-dir"
    )]
    DiskFull {
        /// The cache folder.
        path: PathBuf,
    },
    /// The disk does not answer.
    #[error(
        "the disk of the cache {path} did not answer within {seconds} s; check the disk or the network file system, or name another folder with --cache-dir"
    )]
    DiskHangs {
        /// The cache folder.
        path: PathBuf,
        /// How long the caller waited, in seconds.
        seconds: u64,
    },
    /// No memory for buffers became free in time.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// Bytes that are needed together do not fit into the cache.
    #[error(
        "neither the disk nor the memory of the cache can hold all bytes that are needed at once; raise --cache-size or --memory, or name another folder with --cache-dir"
    )]
    TooSmall,
    /// Downloaded bytes differ from the bytes of the same blocks downloaded before.
    #[error(
        "downloaded bytes of {path} differ from those downloaded before; they were discarded, read again to download them"
    )]
    ChecksumMismatch {
        /// The complete name of the file.
        path: PathBuf,
    },
    /// A name that is not one safe path component.
    #[error("expected a plain file name for the cache, found {0:?}")]
    UnsafeName(String),
}

impl CacheError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: display_path(path),
            reason: error.to_string(),
            errno: error.raw_os_error(),
        }
    }
}

/// How much disk and memory the cache may use.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Bytes on the disk.
    pub disk: u64,
    /// Bytes of memory for all buffers.
    pub memory: u64,
}

/// The cache of one repository. Cheap to clone: clones share one cache.
#[derive(Clone, Debug)]
pub struct Store(Arc<StoreState>);

#[derive(Debug)]
struct StoreState {
    root: CacheRoot,
    disk_budget: DiskBudget,
    memory: MemoryBudget,
    memory_tier: MemoryTier,
    errors: ErrorReports,
    sizes: KnownSizes,
    disk_pool: DiskPool,
    open_files: OpenCacheFiles,
    seal_permits: Arc<Semaphore>,
    verified_files: VerifiedFiles,
    verify_permits: Arc<Semaphore>,
}

/// How many files are sealed at once.
const MAX_SEALS: u32 = 8;

impl Store {
    /// Opens or creates the cache in `root`, accessible to its owner only. Without
    /// a usable disk the cache stores blocks in memory.
    #[must_use]
    pub fn open(root: PathBuf, limits: CacheLimits) -> Self {
        let memory = MemoryBudget::new(limits.memory);
        let (root, folders) = CacheRoot::open(root);
        let state = StoreState {
            sizes: KnownSizes::open(&root.path().join(LENGTHS)),
            disk_budget: DiskBudget::new(root.path().to_owned(), limits.disk),
            disk_pool: DiskPool::new(root.path()),
            root,
            memory_tier: MemoryTier::new(memory.block_limit()),
            memory,
            errors: ErrorReports::default(),
            open_files: OpenCacheFiles::default(),
            seal_permits: Arc::new(Semaphore::new(MAX_SEALS as usize)),
            verified_files: VerifiedFiles::default(),
            verify_permits: Arc::new(Semaphore::new(MAX_VERIFICATIONS)),
        };
        if let Err(error) = folders {
            state.errors.report(error);
        }
        Self(Arc::new(state))
    }

    /// Waits until all files that are being sealed are sealed.
    pub async fn wait_for_seals(&self) {
        // Never fails, because the semaphore is never closed.
        let _ = self.0.seal_permits.acquire_many(MAX_SEALS).await;
    }

    /// The memory budget for buffers of the cache and of its readers.
    #[must_use]
    pub fn memory(&self) -> &MemoryBudget {
        &self.0.memory
    }

    /// Calls `handler` with the errors that keep the cache from storing bytes, once
    /// for each cause, those before this call included.
    pub fn on_error(&self, handler: impl Fn(&CacheError) + Send + Sync + 'static) {
        self.0.errors.set_handler(Box::new(handler));
    }

    /// The path of the open folder of the cache, valid in this process as long as the
    /// store exists.
    fn root(&self) -> &Path {
        self.0.root.path()
    }

    /// How much of the disk is used, and may be used. Blocks on the disk: the first
    /// call looks at every file.
    #[must_use]
    pub fn usage(&self) -> DiskUsage {
        self.0.disk_budget.usage()
    }

    /// Sizes of files that are known only after rendering or downloading the
    /// complete file, by keys that the callers choose.
    #[must_use]
    pub fn sizes(&self) -> &KnownSizes {
        &self.0.sizes
    }

    /// Threads for work on the disk of the cache.
    #[must_use]
    pub fn disk(&self) -> &DiskPool {
        &self.0.disk_pool
    }

    /// Opens the file at `path`, whose blocks are those of `grid`; a length stands for
    /// the grid of an original. A file of another grid that an earlier process left
    /// there is removed. Blocks on the disk.
    #[must_use]
    pub fn file(&self, path: &CachePath, grid: impl Into<Grid>) -> Arc<CacheFile> {
        let grid = Arc::new(grid.into());
        self.0.open_files.get_or_open(path, &grid, || {
            CacheFile::open(Arc::clone(&self.0), path, Arc::clone(&grid))
        })
    }

    /// As [`Store::file`], without blocking the caller's thread.
    ///
    /// # Errors
    ///
    /// [`CacheError::DiskHangs`].
    pub async fn open_file(
        &self,
        path: &CachePath,
        grid: impl Into<Grid>,
    ) -> Result<Arc<CacheFile>, CacheError> {
        let grid = grid.into();
        if let Some(file) = self.0.open_files.get(path, &grid) {
            return Ok(file);
        }
        let (store, path) = (self.clone(), path.clone());
        self.disk().run(move || store.file(&path, grid)).await
    }

    /// Opens the file at `path` if it is sealed, for callers that know neither its
    /// length nor its grid. Blocks on the disk.
    #[must_use]
    pub fn open_sealed(&self, path: &CachePath) -> Option<Arc<CacheFile>> {
        let root = self.0.root.path();
        let len = fs::metadata(path.complete_in(root)).ok()?.len();
        let map = path.beside_in(root, FileKind::Sums);
        // Without a grid, an earlier version may have sealed the file.
        let grid = MapFile::grid_of(&map, &path.flat_name()).unwrap_or_else(|| Grid::from(len));
        if grid.len() != len {
            return None;
        }
        let file = self.file(path, grid);
        file.is_sealed().then_some(file)
    }

    /// Makes the next [`Store::file`] at `path` open the file on disk again, which
    /// was replaced.
    fn forget(&self, path: &CachePath) {
        self.0.open_files.forget(path);
    }
}

impl StoreState {
    /// Claims `bytes` of the disk, and evicts closed files for them; false if
    /// there is not enough space.
    fn claim_disk(self: &Arc<Self>, bytes: u64) -> bool {
        match (self.disk_budget).claim(bytes, |path| self.open_files.is_open(path)) {
            ClaimResult::Granted => true,
            ClaimResult::GrantedCountDue => {
                let state = Arc::clone(self);
                let recount = move || {
                    let is_open = |path: &CachePath| state.open_files.is_open(path);
                    state.disk_budget.recount(is_open);
                };
                match Handle::try_current() {
                    Ok(runtime) => drop(runtime.spawn_blocking(recount)),
                    Err(_no_runtime) => recount(),
                }
                true
            }
            ClaimResult::LimitReached => false,
            ClaimResult::DiskFull => {
                self.errors.report(CacheError::DiskFull {
                    path: self.root.name().to_owned(),
                });
                false
            }
        }
    }
}

fn remove_if_present(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CacheError::io(path, &error)),
        _ => Ok(()),
    }
}
