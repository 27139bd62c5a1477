//! A file whose length only its end will tell, as it arrives.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::{Block, LONGEST};
use super::journal::Journal;
use super::place::Kind;
use super::{CacheError, Entry, Place, Store, remove_if_there};

/// Tells this process's growing files apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file that grows at its end; nobody reads it before it is whole.
#[derive(Debug)]
pub struct Growing {
    store: Store,
    place: Place,
    /// A name that is this process's own.
    path: PathBuf,
    file: File,
    piece: Vec<u8>,
    blocks: Vec<Block>,
    len: u64,
}

impl Growing {
    /// Begins the file that will lie at `place`.
    pub fn new(store: Store, place: Place) -> Result<Self, CacheError> {
        // Names that differ by their endings must not meet here.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut path = place
            .beside_in(store.root(), Kind::Partial)
            .into_os_string();
        path.push(format!(".{}-{number}.new", std::process::id()));
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| CacheError::io(&path, &error))?;
        Ok(Self {
            store,
            place,
            path,
            file,
            piece: Vec::with_capacity(LONGEST),
            blocks: Vec::new(),
            len: 0,
        })
    }

    /// Adds `bytes` at the end.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), CacheError> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(LONGEST - self.piece.len());
            self.piece.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.piece.len() == LONGEST {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CacheError> {
        if self.piece.is_empty() {
            return Ok(());
        }
        if !self.store.0.claim(self.piece.len() as u64) {
            return Err(CacheError::TooSmall);
        }
        self.file
            .write_all(&self.piece)
            .map_err(|error| CacheError::io(&self.path, &error))?;
        self.blocks.push(Block::of(self.len, &self.piece));
        self.len += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Ends the file, which is whole now, and gives it its name.
    pub fn finish(mut self) -> Result<Arc<Entry>, CacheError> {
        self.flush()?;
        let partial = self.place.beside_in(self.store.root(), Kind::Partial);
        let map = self.place.beside_in(self.store.root(), Kind::Journal);
        remove_if_there(&map)?;
        let journal = |path: &PathBuf| {
            let (mut journal, _) = Journal::open(path, self.len)?;
            self.blocks
                .iter()
                .try_for_each(|&block| journal.add(block))?;
            fs::rename(&self.path, &partial)
        };
        journal(&map).map_err(|error| CacheError::io(&map, &error))?;
        // An entry of an earlier file of this name has had its day.
        self.store.forget(&self.place);
        let entry = self.store.entry(&self.place, self.len);
        entry.seal()?;
        Ok(entry)
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        // Gone already if it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Bounds, Found};

    fn store(dir: &tempfile::TempDir) -> Store {
        let bounds = Bounds {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        Store::open(dir.path().to_owned(), bounds)
    }

    #[test]
    fn a_file_that_grew_is_found_by_its_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new("csv", "x.csv").unwrap();
        let text: Vec<u8> = (0..=255).cycle().take(300_001).collect();
        {
            let store = store(&dir);
            let mut growing = Growing::new(store.clone(), place.clone()).unwrap();
            assert!(store.sealed(&place).is_none());
            text.chunks(7777)
                .for_each(|chunk| growing.append(chunk).unwrap());
            growing.finish().unwrap();
        }
        let store = store(&dir);
        let entry = store.sealed(&place).unwrap();
        assert_eq!(entry.read(0..entry.len()).unwrap(), Found::Bytes(text));
        assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    }

    /// `x.parquet` and `x.rows` once grew in one file, and the first to be
    /// whole took the other's bytes along.
    #[test]
    fn files_of_one_stem_grow_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let place = |name| Place::new(Place::VIEWS, name).unwrap();
        let grow = |name| Growing::new(store.clone(), place(name)).unwrap();
        let (mut one, mut other) = (grow("x.parquet"), grow("x.rows"));
        one.append(b"one").unwrap();
        other.append(b"other").unwrap();
        for (file, bytes) in [(one, "one"), (other, "other")] {
            let entry = file.finish().unwrap();
            assert_eq!(entry.read(0..9).unwrap(), Found::Bytes(bytes.into()));
        }
    }

    #[test]
    fn a_file_that_was_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new("csv", "x.csv").unwrap();
        let mut growing = Growing::new(store(&dir), place).unwrap();
        growing.append(b"half").unwrap();
        drop(growing);
        assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    }
}
