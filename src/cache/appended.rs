//! Files whose length is known only at their end, such as rendered tables and CSV
//! from the portal: appended to a temporary file, which becomes a [`CacheFile`]
//! when it is complete.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::block_map::Word;
use super::layout::{FileKind, NEW};
use super::map_file::{MapFile, new_seed};
use super::{CacheError, CacheFile, CachePath, Grid, MAX_BLOCK, Store, remove_if_present};

/// How long to retry creating a temporary file that other processes lock or
/// remove.
const CREATE_TIMEOUT: Duration = Duration::from_secs(2);

/// A file that is appended to and cannot be read before it is complete. Bytes
/// that the disk does not accept are in memory. Dropping it removes the file.
#[derive(Debug)]
pub struct AppendedFile {
    store: Store,
    path: CachePath,
    /// `None` if the disk cannot be used.
    temporary: Option<TemporaryFile>,
    /// Part of the checksums of its blocks.
    seed: u64,
    /// Bytes of the next block.
    buffer: Vec<u8>,
    /// The words of the blocks on the disk; of those in memory, words of absent
    /// blocks.
    words: Vec<Word>,
    /// The blocks in memory, with their offsets.
    in_memory: VecDeque<(u64, Vec<u8>)>,
    /// Bytes in both kinds of blocks.
    len: u64,
}

/// A file with a unique name and an exclusive lock. If a process crashes, its
/// temporary files lose their locks, and eviction removes them.
#[derive(Debug)]
struct TemporaryFile {
    path: PathBuf,
    file: File,
    /// Bytes of the disk budget that were claimed for it.
    claimed: u64,
}

impl AppendedFile {
    /// Creates the file that will get the name `path`.
    #[must_use]
    pub fn new(store: Store, path: CachePath) -> Self {
        let stem = path.beside_in(store.root(), FileKind::Partial);
        let failed = |error: io::Error| CacheError::io(&stem, &error);
        let created = match TemporaryFile::create(&stem) {
            // The cache folder was removed, or was never created.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                (store.0.root.create_folders())
                    .and_then(|()| TemporaryFile::create(&stem).map_err(failed))
            }
            created => created.map_err(failed),
        };
        let temporary = created.map_err(|error| store.0.errors.report(error)).ok();
        Self {
            store,
            path,
            temporary,
            seed: new_seed(),
            buffer: Vec::with_capacity(MAX_BLOCK),
            words: Vec::new(),
            in_memory: VecDeque::new(),
            len: 0,
        }
    }

    /// Adds `bytes` at the end.
    ///
    /// # Errors
    ///
    /// [`CacheError::TooSmall`] if neither the disk nor memory has room for them.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), CacheError> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(MAX_BLOCK - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.buffer.len() == MAX_BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CacheError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let len = self.buffer.len() as u64;
        if self.write_to_disk() {
            self.words.push(Word::of(&self.buffer, self.seed));
            self.buffer.clear();
        } else {
            if !self.store.0.memory_tier.add_appended(len) {
                return Err(CacheError::TooSmall);
            }
            let next = Vec::with_capacity(MAX_BLOCK);
            let bytes = std::mem::replace(&mut self.buffer, next);
            self.words.push(Word::default());
            self.in_memory.push_back((self.len, bytes));
        }
        self.len += len;
        Ok(())
    }

    /// Writes the buffer, which is the next block; false if the disk does not accept
    /// it.
    fn write_to_disk(&mut self) -> bool {
        let Some(temporary) = &mut self.temporary else {
            return false;
        };
        let wanted = (self.buffer.len() as u64).next_multiple_of(4096);
        if !self.store.0.claim_disk(wanted) {
            return false;
        }
        match temporary.file.write_all_at(&self.buffer, self.len) {
            Ok(()) => {
                temporary.claimed += wanted;
                true
            }
            Err(error) => {
                self.store.0.disk_budget.release(wanted);
                let error = CacheError::io(&temporary.path, &error);
                self.store.0.errors.report(error);
                false
            }
        }
    }

    /// Completes the file and seals it, if all of it is on the disk.
    ///
    /// # Errors
    ///
    /// [`CacheError::TooSmall`] as for [`AppendedFile::append`], and
    /// [`CacheError::Io`] if the file cannot be renamed.
    pub fn finish(mut self) -> Result<Arc<CacheFile>, CacheError> {
        self.flush()?;
        let on_disk = self.words.iter().any(|&word| word != Word::default()) || self.len == 0;
        let handed_over = match self.temporary.take_if(|_| on_disk) {
            Some(temporary) => {
                self.hand_over(&temporary)?;
                true
            }
            None => false,
        };
        // An open file of this name is an earlier version.
        self.store.forget(&self.path);
        let file = self.store.file(&self.path, self.len);
        if !handed_over && !file.is_sealed() {
            file.discard(file.epoch(), || ());
        }
        while let Some((offset, bytes)) = self.in_memory.pop_front() {
            self.store.0.memory_tier.remove_appended(bytes.len() as u64);
            file.write_in_memory(offset, &bytes)?;
        }
        file.seal(file.epoch())?;
        Ok(file)
    }

    /// Renames the temporary file to the partial file and writes its block map.
    fn hand_over(&self, temporary: &TemporaryFile) -> Result<(), CacheError> {
        let beside = |kind| self.path.beside_in(self.store.root(), kind);
        let (partial, map_path) = (beside(FileKind::Partial), beside(FileKind::Map));
        remove_if_present(&map_path)?;
        let (name, grid) = (self.path.flat_name(), Grid::from(self.len));
        let rename = || {
            let map = MapFile::create(&map_path, &name, &grid, self.seed)?;
            map.write(0, &self.words)?;
            fs::rename(&temporary.path, &partial)
        };
        rename().map_err(|error| {
            temporary.remove(&self.store);
            CacheError::io(&map_path, &error)
        })
    }
}

impl TemporaryFile {
    /// Creates a file whose name begins with `stem`.
    fn create(stem: &Path) -> io::Result<Self> {
        /// Unique in this process.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let deadline = Instant::now() + CREATE_TIMEOUT;
        loop {
            // Appended to the complete stem, so that stems that differ by their
            // endings yield different names. Processes in two containers may have
            // the same id, so the name can exist already.
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
            // Another process that evicts files may have removed it before it was
            // locked.
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

    fn remove(&self, store: &Store) {
        let _ = fs::remove_file(&self.path);
        store.0.disk_budget.release(self.claimed);
    }
}

impl Drop for AppendedFile {
    fn drop(&mut self) {
        // A finished file has neither blocks in memory nor a temporary file.
        let in_memory = self.in_memory.iter().map(|(_, bytes)| bytes.len() as u64);
        self.store.0.memory_tier.remove_appended(in_memory.sum());
        if let Some(temporary) = &self.temporary {
            temporary.remove(&self.store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CacheRead};

    fn store(dir: &tempfile::TempDir) -> Store {
        let limits = CacheLimits {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        Store::open(dir.path().to_owned(), limits)
    }

    #[test]
    fn finished_file_is_found_by_its_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = CachePath::new("csv", "x.csv").unwrap();
        let text: Vec<u8> = (0..=255).cycle().take(300_001).collect();
        {
            let store = store(&dir);
            let mut appended = AppendedFile::new(store.clone(), path.clone());
            assert!(store.open_sealed(&path).is_none());
            text.chunks(7777)
                .for_each(|chunk| appended.append(chunk).unwrap());
            appended.finish().unwrap();
        }
        let store = store(&dir);
        let file = store.open_sealed(&path).unwrap();
        assert_eq!(file.read(0..file.len()).unwrap(), CacheRead::Bytes(text));
        assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    }

    /// `x.parquet` and `x.rows` once shared one temporary file, and the first one
    /// to finish contained bytes of the other.
    #[test]
    fn files_with_the_same_stem_are_separate() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let path = |name| CachePath::new(CachePath::VIEWS, name).unwrap();
        let grow = |name| AppendedFile::new(store.clone(), path(name));
        let (mut one, mut other) = (grow("x.parquet"), grow("x.rows"));
        one.append(b"one").unwrap();
        other.append(b"other").unwrap();
        for (appended, bytes) in [(one, "one"), (other, "other")] {
            let file = appended.finish().unwrap();
            assert_eq!(file.read(0..9).unwrap(), CacheRead::Bytes(bytes.into()));
        }
    }

    #[test]
    fn finish_fails_and_releases_space_after_the_folder_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let path = CachePath::new("csv", "x.csv").unwrap();
        let mut appended = AppendedFile::new(store.clone(), path.clone());
        appended.append(&text(2 * MAX_BLOCK)).unwrap();
        assert_eq!(store.usage().used, 2 * MAX_BLOCK as u64);
        fs::remove_dir_all(dir.path().join("partial")).unwrap();
        let error = appended.finish().unwrap_err();
        assert!(matches!(error, CacheError::Io { .. }), "{error}");
        assert_eq!(store.usage().used, 0);
        assert!(store.open_sealed(&path).is_none());
    }

    #[test]
    fn dropped_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = CachePath::new("csv", "x.csv").unwrap();
        let mut appended = AppendedFile::new(store(&dir), path);
        appended.append(b"half").unwrap();
        drop(appended);
        assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    }

    /// A store whose folder cannot be created.
    fn diskless(dir: &tempfile::TempDir, memory: u64) -> Store {
        let not_a_folder = dir.path().join("not a folder");
        fs::write(&not_a_folder, "").unwrap();
        let disk = 1 << 40;
        Store::open(not_a_folder, CacheLimits { disk, memory })
    }

    fn text(len: usize) -> Vec<u8> {
        (0..=255).cycle().take(len).collect()
    }

    #[test]
    fn without_a_disk_a_file_is_appended_in_memory_up_to_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let store = diskless(&dir, 32 << 20);
        let path = |name| CachePath::new("views", name).unwrap();
        let bytes = text((8 << 20) - 7);
        // More files than fit at once: dropped ones free their memory.
        for _ in 0..3 {
            let mut appended = AppendedFile::new(store.clone(), path("half"));
            appended.append(&bytes).unwrap();
            drop(appended);
            let mut appended = AppendedFile::new(store.clone(), path("x"));
            appended.append(&bytes).unwrap();
            let file = appended.finish().unwrap();
            assert!(file.read(0..file.len()).unwrap() == CacheRead::Bytes(bytes.clone()));
        }
        let mut appended = AppendedFile::new(store.clone(), path("y"));
        let error = appended.append(&text(9 << 20)).unwrap_err().to_string();
        assert!(
            error.contains("--memory") && error.contains("--cache-dir"),
            "{error}"
        );
        drop(appended);

        // Appended bytes are not evicted for blocks that are read meanwhile.
        let mut appended = AppendedFile::new(store.clone(), path("z"));
        appended.append(&bytes).unwrap();
        let other = store.file(&path("other"), 64 << 20);
        (0..64).for_each(|n| other.write(n << 20, &text(1 << 20)).unwrap());
        // The other file's share is the rest; one block is not counted yet.
        let evicted = (56 << 20) - MAX_BLOCK as u64;
        assert_eq!(other.missing(0..64 << 20), vec![0..evicted]);
        let file = appended.finish().unwrap();
        assert!(file.read(0..file.len()).unwrap() == CacheRead::Bytes(bytes));
    }

    #[test]
    fn blocks_beyond_the_disk_budget_are_in_memory_and_the_file_is_not_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let limits = CacheLimits {
            disk: 6 << 20,
            memory: 32 << 20,
        };
        let store = Store::open(dir.path().to_owned(), limits);
        let path = CachePath::new("views", "x").unwrap();
        let bytes = text(9 << 20);
        let mut appended = AppendedFile::new(store.clone(), path.clone());
        appended.append(&bytes).unwrap();
        let file = appended.finish().unwrap();
        assert!(file.read(0..file.len()).unwrap() == CacheRead::Bytes(bytes));
        assert!(!file.is_sealed());
        drop(file);
        // The next process renders it again.
        assert!(store.open_sealed(&path).is_none());
    }

    #[test]
    fn temporary_files_of_crashed_processes_are_removed_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| CachePath::new("views", name).unwrap();
        let appended = AppendedFile::new(store(&dir), path("x"));
        let partial = dir.path().join(super::super::layout::PARTIAL);
        // A process with id 1 always exists, here or in another container.
        let left = partial.join("views~y.parquet.1-0.new");
        fs::write(&left, "half").unwrap();
        let names = || fs::read_dir(&partial).unwrap().count();
        assert_eq!(names(), 2);
        // Another mount counts the files.
        let mut other = AppendedFile::new(store(&dir), path("z"));
        other.append(&text(MAX_BLOCK)).unwrap();
        assert!(!left.exists());
        assert_eq!(names(), 2);
        fs::write(&left, "half").unwrap();
        crate::cache::CacheFolder::at(dir.path().to_owned()).remove_strays();
        assert_eq!(names(), 2);
        drop((appended, other));
        assert_eq!(names(), 0);
    }
}
