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
use std::sync::{Arc, Mutex, PoisonError, Weak};

mod blocks;
mod entry;
mod growing;
mod journal;

pub use entry::{Entry, Found};
pub use growing::Growing;

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

/// Where a file lies once it is complete: `<folder>/<name>`, each one safe
/// path component.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Place {
    folder: String,
    name: String,
}

impl Place {
    /// The folder for documents.
    pub const DOCUMENTS: &'static str = "documents";
    /// The folder for CSV that the portal itself wrote. All other folders are
    /// named after a file format.
    pub const CSV: &'static str = "csv";

    /// A place for `name` in `folder`.
    ///
    /// # Errors
    ///
    /// [`CacheError::UnsafeName`] if either could lead elsewhere: both may
    /// come from strangers.
    pub fn new(folder: &str, name: &str) -> Result<Self, CacheError> {
        for part in [folder, name] {
            let safe = part.len() <= 200
                && !part.starts_with('.')
                && !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !safe {
                return Err(CacheError::UnsafeName(part.chars().take(80).collect()));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
        })
    }

    /// `<folder>/<name>`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(&self.folder).join(&self.name)
    }

    fn complete_in(&self, root: &Path) -> PathBuf {
        if [Self::DOCUMENTS, Self::CSV].contains(&&*self.folder) {
            root.join(&self.folder).join(&self.name)
        } else {
            root.join("dataAppStorage")
                .join(&self.folder)
                .join(&self.name)
        }
    }

    /// The same place among files of another kind (`partial`, `sums`).
    fn beside_in(&self, root: &Path, kind: &str, ending: &str) -> PathBuf {
        root.join(kind)
            .join(format!("{}~{}{ending}", self.folder, self.name))
    }
}

/// The cache of one repository.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Entries in use: each file has one, however many read it.
    open: Mutex<HashMap<Place, Weak<Entry>>>,
}

impl Store {
    /// Opens, or creates, the cache in `root`, for its owner alone.
    pub fn open(root: PathBuf) -> Result<Self, CacheError> {
        for dir in [root.clone(), root.join("partial"), root.join("sums")] {
            create_private_dir(&dir)?;
        }
        Ok(Self {
            root,
            open: Mutex::default(),
        })
    }

    /// Where the cache lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry at `place` of a file that is `len` bytes long. What an
    /// earlier run left of a file with another length is dropped.
    pub fn entry(&self, place: &Place, len: u64) -> Result<Arc<Entry>, CacheError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = open.get(place).and_then(Weak::upgrade)
            && entry.len() == len
        {
            return Ok(entry);
        }
        open.retain(|_, entry| entry.strong_count() > 0);
        let entry = Arc::new(Entry::open(&self.root, place, len)?);
        open.insert(place.clone(), Arc::downgrade(&entry));
        Ok(entry)
    }
}

impl Store {
    /// The entry at `place`, if it is complete: for files whose length nothing
    /// else tells.
    pub fn sealed(&self, place: &Place) -> Result<Option<Arc<Entry>>, CacheError> {
        let path = place.complete_in(&self.root);
        let len = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CacheError::io(&path, &error)),
        };
        let entry = self.entry(place, len)?;
        Ok(entry.is_sealed().then_some(entry))
    }

    /// Makes the next [`Store::entry`] at `place` open the file anew.
    fn forget(&self, place: &Place) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(place);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_plain_names() {
        assert!(Place::new("asciiAtcProductTimeSer", "UNhY4JhezH9gQYqvDMWrWH9C.cpb").is_ok());
        for bad in ["", ".", "..", "a/b", "a\0", "~x", ".hidden"] {
            assert!(Place::new(bad, "x").is_err(), "{bad:?}");
            assert!(Place::new("x", bad).is_err(), "{bad:?}");
        }
    }
}
