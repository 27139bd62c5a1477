//! Bytes kept: sparse files with a checksum for every block, renamed into a
//! Jupyter user's data folder once they are complete.
//!
//! Complete files lie at `<folder>/<name>` under `dataAppStorage` (`documents`
//! beside it), where the portal's Python library would look for them, so
//! nothing incomplete may ever bear such a name. Incomplete ones lie in
//! `partial`, each with a journal of the blocks that are there.
//!
//! Knows nothing of the portal or of inodes; whoever fills an [`Entry`] knows
//! where bytes come from.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

mod blocks;
mod entry;
mod growing;
mod journal;
mod notes;
mod paths;
mod place;
mod space;

pub use entry::{Entry, Found};
pub use growing::Growing;
pub use notes::Notes;
pub use place::Place;
pub use space::default_limit;

use place::{LENGTHS, PARTIAL, SUMS};
use space::Space;

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
    /// What must be there together does not stay.
    #[error("the cache cannot hold what is read at once; raise --cache-size or --memory")]
    TooSmall,
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
pub struct Bounds {
    /// Bytes on the disk.
    pub disk: u64,
    /// Bytes in memory, for what the disk does not take.
    pub memory: u64,
}

/// The cache of one repository. Cheap to clone: clones are the same cache.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    space: Space,
    memory: u64,
    notes: Notes,
    /// Entries in use: each file has one, however many read it.
    open: Mutex<HashMap<Place, Weak<Entry>>>,
}

impl Store {
    /// Opens, or creates, the cache in `root`, for its owner alone. Where the
    /// disk does not let it, nothing is kept but in memory.
    #[must_use]
    pub fn open(root: PathBuf, bounds: Bounds) -> Self {
        let space = Space::new(root.clone(), bounds.disk);
        for dir in [root.clone(), root.join(PARTIAL), root.join(SUMS)] {
            if let Err(error) = create_private_dir(&dir) {
                space.warn_once(&error.to_string());
            }
        }
        Self(Arc::new(Shared {
            notes: Notes::open(&root.join(LENGTHS)),
            root,
            space,
            memory: bounds.memory,
            open: Mutex::default(),
        }))
    }

    /// Where the cache lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Lengths of files that took all of their bytes to find out, by keys that
    /// say what they are of.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.0.notes
    }

    /// The entry at `place` of a file that is `len` bytes long. What an
    /// earlier run left of a file with another length is dropped.
    #[must_use]
    pub fn entry(&self, place: &Place, len: u64) -> Arc<Entry> {
        let mut open = self.0.open();
        if let Some(entry) = open.get(place).and_then(Weak::upgrade)
            && entry.len() == len
        {
            return entry;
        }
        open.retain(|_, entry| entry.strong_count() > 0);
        let entry = Arc::new(Entry::open(Arc::clone(&self.0), place, len));
        open.insert(place.clone(), Arc::downgrade(&entry));
        entry
    }

    /// The entry at `place`, if it is complete: for files whose length nothing
    /// else tells.
    #[must_use]
    pub fn sealed(&self, place: &Place) -> Option<Arc<Entry>> {
        let len = fs::metadata(place.complete_in(&self.0.root)).ok()?.len();
        let entry = self.entry(place, len);
        entry.is_sealed().then_some(entry)
    }

    /// Makes the next [`Store::entry`] at `place` open the file anew.
    fn forget(&self, place: &Place) {
        self.0.open().remove(place);
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<Place, Weak<Entry>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `bytes` of the disk; false if there is no room to be made.
    fn claim(&self, bytes: u64) -> bool {
        self.space.claim(bytes, |place| {
            let open = self.open();
            open.get(place).is_some_and(|e| e.strong_count() > 0)
        })
    }

    /// How much each open file may hold in memory.
    fn memory_share(&self) -> u64 {
        let open = self.open();
        let users = open.values().filter(|e| e.strong_count() > 0).count();
        (self.memory / (users.max(1) as u64)).max(1 << 20)
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
