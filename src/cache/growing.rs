//! A file whose length only its end will tell, as it arrives.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::blocks::{Block, LONGEST};
use super::journal::Journal;
use super::place::{Kind, NEW};
use super::{CacheError, CacheFile, CachePath, Store, remove_if_there};

/// Tells this process's growing files apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);
/// How long others may look at a file that is just being made.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file that grows at its end; nobody reads it before it is whole.
///
/// Where the disk does not take its bytes, they are held in memory.
#[derive(Debug)]
pub struct AppendedFile {
    store: Store,
    place: CachePath,
    /// None if the disk does not let us.
    file: Option<NewFile>,
    piece: Vec<u8>,
    /// What the disk took.
    blocks: Vec<Block>,
    /// What it did not take, by where it lies.
    in_memory: VecDeque<(u64, Vec<u8>)>,
    len: u64,
}

/// A file under a name of its own, and locked: one that nobody holds was left
/// behind by a process that has ended.
#[derive(Debug)]
struct NewFile {
    path: PathBuf,
    file: File,
    /// Bytes of the cache's space that it takes.
    claimed: u64,
}

impl AppendedFile {
    /// Begins the file that will lie at `place`.
    #[must_use]
    pub fn new(store: Store, place: CachePath) -> Self {
        let stem = place.beside_in(store.root(), Kind::Partial);
        let made = match NewFile::create(&stem) {
            // Someone took the whole folder away, or it never was.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let failed = |error: io::Error| CacheError::io(&stem, &error);
                let folders = store.0.create_folders();
                folders.and_then(|()| NewFile::create(&stem).map_err(failed))
            }
            made => made.map_err(|error| CacheError::io(&stem, &error)),
        };
        let file = made.map_err(|error| store.0.troubles.note(error)).ok();
        Self {
            store,
            place,
            file,
            piece: Vec::with_capacity(LONGEST),
            blocks: Vec::new(),
            in_memory: VecDeque::new(),
            len: 0,
        }
    }

    /// Adds `bytes` at the end.
    ///
    /// # Errors
    ///
    /// [`CacheError::TooSmall`] if there is room for them neither on the disk
    /// nor in memory.
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
        let block = Block::of(self.len, &self.piece);
        if self.write_to_disk(block) {
            self.blocks.push(block);
            self.piece.clear();
        } else {
            if !self.store.0.spill.hold(block.len.into()) {
                return Err(CacheError::TooSmall);
            }
            let next = Vec::with_capacity(LONGEST);
            let piece = std::mem::replace(&mut self.piece, next);
            self.in_memory.push_back((block.offset, piece));
        }
        self.len += u64::from(block.len);
        Ok(())
    }

    /// Whether the disk took the piece.
    fn write_to_disk(&mut self, block: Block) -> bool {
        let Some(new) = &mut self.file else {
            return false;
        };
        let wanted = u64::from(block.len);
        if !self.store.0.claim(wanted) {
            return false;
        }
        match new.file.write_all_at(&self.piece, block.offset) {
            Ok(()) => {
                new.claimed += wanted;
                true
            }
            Err(error) => {
                self.store.0.space.release(wanted);
                let error = CacheError::io(&new.path, &error);
                self.store.0.troubles.note(error);
                false
            }
        }
    }

    /// Ends the file, which is whole now, and gives it its name.
    pub fn finish(mut self) -> Result<Arc<CacheFile>, CacheError> {
        self.flush()?;
        let on_disk = !self.blocks.is_empty() || self.len == 0;
        let handed_over = match self.file.take_if(|_| on_disk) {
            Some(new) => {
                self.hand_over(&new)?;
                true
            }
            None => false,
        };
        // An entry of an earlier file of this name has had its day.
        self.store.forget(&self.place);
        let entry = self.store.file(&self.place, self.len);
        if !handed_over && !entry.is_sealed() {
            entry.discard(entry.epoch(), || ());
        }
        while let Some((offset, bytes)) = self.in_memory.pop_front() {
            self.store.0.spill.let_go(bytes.len() as u64);
            // Not to the disk, where it would be in the place of what is there.
            entry.keep_in_memory(Block::of(offset, &bytes), &bytes)?;
        }
        entry.seal(entry.epoch())?;
        Ok(entry)
    }

    /// Makes what the disk took the partial file at this place.
    fn hand_over(&self, new: &NewFile) -> Result<(), CacheError> {
        let partial = self.place.beside_in(self.store.root(), Kind::Partial);
        let map = self.place.beside_in(self.store.root(), Kind::Journal);
        remove_if_there(&map)?;
        let journal = || {
            let (mut journal, _) = Journal::open(&map, self.len)?;
            journal.add(&self.blocks)?;
            fs::rename(&new.path, &partial)
        };
        journal().map_err(|error| {
            // Not handed over: it goes as if it had been given up.
            let _ = fs::remove_file(&new.path);
            self.store.0.space.release(new.claimed);
            CacheError::io(&map, &error)
        })
    }
}

impl NewFile {
    /// A new file whose name begins with `stem`.
    fn create(stem: &Path) -> io::Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Names that differ by their endings must not meet here; nor may
            // processes that bear one number in two containers.
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let mut path = stem.as_os_str().to_owned();
            path.push(format!(".{}-{number}{NEW}", std::process::id()));
            let path = PathBuf::from(path);
            let file = match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Err(error)
                    if error.kind() == ErrorKind::AlreadyExists && Instant::now() < deadline =>
                {
                    continue;
                }
                file => file?,
            };
            let locked = file.try_lock();
            // Whoever makes room may have taken it for one left behind.
            if locked.is_ok() && file.metadata()?.nlink() > 0 {
                return Ok(Self {
                    path,
                    file,
                    claimed: 0,
                });
            }
            let _ = fs::remove_file(&path);
            if Instant::now() > deadline {
                return Err(locked.map_or_else(Into::into, |()| ErrorKind::NotFound.into()));
            }
        }
    }
}

impl Drop for AppendedFile {
    fn drop(&mut self) {
        // Nothing is left of it if it was finished.
        let held = self.in_memory.iter().map(|(_, bytes)| bytes.len() as u64);
        self.store.0.spill.let_go(held.sum());
        if let Some(new) = &self.file {
            let _ = fs::remove_file(&new.path);
            self.store.0.space.release(new.claimed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CacheRead};

    fn store(dir: &tempfile::TempDir) -> Store {
        let bounds = CacheLimits {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        Store::open(dir.path().to_owned(), bounds)
    }

    #[test]
    fn a_file_that_grew_is_found_by_its_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = CachePath::new("csv", "x.csv").unwrap();
        let text: Vec<u8> = (0..=255).cycle().take(300_001).collect();
        {
            let store = store(&dir);
            let mut growing = AppendedFile::new(store.clone(), place.clone());
            assert!(store.open_sealed(&place).is_none());
            text.chunks(7777)
                .for_each(|chunk| growing.append(chunk).unwrap());
            growing.finish().unwrap();
        }
        let store = store(&dir);
        let entry = store.open_sealed(&place).unwrap();
        assert_eq!(entry.read(0..entry.len()).unwrap(), CacheRead::Bytes(text));
        assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    }

    /// `x.parquet` and `x.rows` once grew in one file, and the first to be
    /// whole took the other's bytes along.
    #[test]
    fn files_of_one_stem_grow_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let place = |name| CachePath::new(CachePath::VIEWS, name).unwrap();
        let grow = |name| AppendedFile::new(store.clone(), place(name));
        let (mut one, mut other) = (grow("x.parquet"), grow("x.rows"));
        one.append(b"one").unwrap();
        other.append(b"other").unwrap();
        for (file, bytes) in [(one, "one"), (other, "other")] {
            let entry = file.finish().unwrap();
            assert_eq!(entry.read(0..9).unwrap(), CacheRead::Bytes(bytes.into()));
        }
    }

    #[test]
    fn a_file_whose_folder_goes_as_it_grows_is_given_up_with_its_space() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let place = CachePath::new("csv", "x.csv").unwrap();
        let mut growing = AppendedFile::new(store.clone(), place.clone());
        growing.append(&text(2 * LONGEST)).unwrap();
        assert_eq!(store.usage().used, 2 * LONGEST as u64);
        fs::remove_dir_all(dir.path().join("partial")).unwrap();
        let error = growing.finish().unwrap_err();
        assert!(matches!(error, CacheError::Io { .. }), "{error}");
        assert_eq!(store.usage().used, 0);
        assert!(store.open_sealed(&place).is_none());
    }

    #[test]
    fn a_file_that_was_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = CachePath::new("csv", "x.csv").unwrap();
        let mut growing = AppendedFile::new(store(&dir), place);
        growing.append(b"half").unwrap();
        drop(growing);
        assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    }

    /// A store whose folder cannot be made.
    fn diskless(dir: &tempfile::TempDir, memory: u64) -> Store {
        let file = dir.path().join("not a folder");
        fs::write(&file, "").unwrap();
        let disk = 1 << 40;
        Store::open(file, CacheLimits { disk, memory })
    }

    fn text(len: usize) -> Vec<u8> {
        (0..=255).cycle().take(len).collect()
    }

    #[test]
    fn without_a_disk_a_file_grows_in_memory_as_far_as_that_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = diskless(&dir, 32 << 20);
        let place = |name| CachePath::new("views", name).unwrap();
        let bytes = text((8 << 20) - 7);
        // More often than would fit together: what is given up is given back.
        for _ in 0..3 {
            let mut growing = AppendedFile::new(store.clone(), place("half"));
            growing.append(&bytes).unwrap();
            drop(growing);
            let mut growing = AppendedFile::new(store.clone(), place("x"));
            growing.append(&bytes).unwrap();
            let entry = growing.finish().unwrap();
            assert!(entry.read(0..entry.len()).unwrap() == CacheRead::Bytes(bytes.clone()));
        }
        let mut growing = AppendedFile::new(store.clone(), place("y"));
        let error = growing.append(&text(9 << 20)).unwrap_err().to_string();
        assert!(
            error.contains("--memory") && error.contains("--cache-dir"),
            "{error}"
        );
        drop(growing);

        // What grows is not pushed out by what is read meanwhile.
        let mut growing = AppendedFile::new(store.clone(), place("z"));
        growing.append(&bytes).unwrap();
        let other = store.file(&place("other"), 64 << 20);
        (0..64).for_each(|n| other.write(n << 20, &text(1 << 20)).unwrap());
        // The other's share is what is left; a piece is still to be counted.
        let gone = (56 << 20) - LONGEST as u64;
        assert_eq!(other.missing(0..64 << 20), vec![0..gone]);
        let entry = growing.finish().unwrap();
        assert!(entry.read(0..entry.len()).unwrap() == CacheRead::Bytes(bytes));
    }

    #[test]
    fn what_the_disk_has_no_room_for_grows_on_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = CacheLimits {
            disk: 6 << 20,
            memory: 32 << 20,
        };
        let store = Store::open(dir.path().to_owned(), bounds);
        let place = CachePath::new("views", "x").unwrap();
        let bytes = text(9 << 20);
        let mut growing = AppendedFile::new(store.clone(), place.clone());
        growing.append(&bytes).unwrap();
        let entry = growing.finish().unwrap();
        assert!(entry.read(0..entry.len()).unwrap() == CacheRead::Bytes(bytes));
        assert!(!entry.is_sealed());
        drop(entry);
        // The next run makes it anew, if there is room by then.
        assert!(store.open_sealed(&place).is_none());
    }

    #[test]
    fn what_a_crashed_process_let_grow_goes_and_what_grows_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name| CachePath::new("views", name).unwrap();
        let growing = AppendedFile::new(store(&dir), place("x"));
        let partial = dir.path().join(super::super::place::PARTIAL);
        // Process 1 is always alive, here or in another container.
        let left = partial.join("views~y.parquet.1-0.new");
        fs::write(&left, "half").unwrap();
        let names = || fs::read_dir(&partial).unwrap().count();
        assert_eq!(names(), 2);
        // Another mount counts what is there.
        let mut other = AppendedFile::new(store(&dir), place("z"));
        other.append(&text(LONGEST)).unwrap();
        assert!(!left.exists());
        assert_eq!(names(), 2);
        fs::write(&left, "half").unwrap();
        crate::cache::CacheFolder::at(dir.path().to_owned()).remove_strays();
        assert_eq!(names(), 2);
        drop((growing, other));
        assert_eq!(names(), 0);
    }
}
