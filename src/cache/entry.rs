//! One file of the cache: what is there of it, checked on every read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::blocks::{Block, Blocks, LONGEST};
use super::journal::Journal;
use super::{CacheError, Place, create_private_dir, remove_if_there};

/// A file of the cache, whole or in part.
///
/// Calls block on the disk, briefly: a read or write is at most a few blocks,
/// and mostly served by the page cache.
#[derive(Debug)]
pub struct Entry {
    len: u64,
    complete_path: PathBuf,
    partial_path: PathBuf,
    journal_path: PathBuf,
    sums_path: PathBuf,
    file: File,
    /// Taken for moments only, and before `journal` where both are.
    blocks: RwLock<Blocks>,
    journal: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Grows; the journal says by what.
    Partial(Journal),
    /// Complete, checked, and under its own name.
    Sealed,
}

/// What a read found.
#[derive(Debug, Eq, PartialEq)]
pub enum Found {
    /// The bytes asked for.
    Bytes(Vec<u8>),
    /// The first stretch of them that is not there.
    Missing(Range<u64>),
}

impl Entry {
    pub(super) fn open(root: &Path, place: &Place, len: u64) -> Result<Self, CacheError> {
        let complete_path = place.complete_in(root);
        let partial_path = place.beside_in(root, "partial", "");
        let journal_path = place.beside_in(root, "partial", ".map");
        let sums_path = place.beside_in(root, "sums", ".map");
        // Writable, for a block that turns out damaged is written again.
        let sealed = match OpenOptions::new()
            .read(true)
            .write(true)
            .open(&complete_path)
        {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(CacheError::io(&complete_path, &error)),
        };
        if let Some(file) = sealed {
            let is_whole = file.metadata().is_ok_and(|found| found.len() == len);
            if is_whole && sums_path.exists() {
                let (_, blocks) = Journal::open(&sums_path, len)
                    .map_err(|error| CacheError::io(&sums_path, &error))?;
                if blocks.present() == len {
                    return Ok(Self {
                        len,
                        complete_path,
                        partial_path,
                        journal_path,
                        sums_path,
                        file,
                        blocks: RwLock::new(blocks),
                        journal: Mutex::new(State::Sealed),
                    });
                }
            }
            // Not what was sealed: nobody may take it for whole.
            remove_if_there(&complete_path)?;
            remove_if_there(&sums_path)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&partial_path)
            .and_then(|file| file.set_len(len).map(|()| file))
            .map_err(|error| CacheError::io(&partial_path, &error))?;
        let (journal, blocks) = Journal::open(&journal_path, len)
            .map_err(|error| CacheError::io(&journal_path, &error))?;
        Ok(Self {
            len,
            complete_path,
            partial_path,
            journal_path,
            sums_path,
            file,
            blocks: RwLock::new(blocks),
            journal: Mutex::new(State::Partial(journal)),
        })
    }

    /// Length of the whole file in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // A length, not a count of items.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether every byte is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.blocks().present() == self.len
    }

    /// Whether the file is complete, checked and under its own name.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(*self.state(), State::Sealed)
    }

    /// The parts of `range` that are not there, in order.
    #[must_use]
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.blocks().gaps(range).collect()
    }

    /// Keeps `bytes`, which lie at `offset`; what is there already is left.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), CacheError> {
        let range = offset..offset + bytes.len() as u64;
        assert!(range.end <= self.len, "writes end within the file");
        for gap in self.missing(range) {
            let from = usize::try_from(gap.start - offset).expect("within bytes");
            let to = usize::try_from(gap.end - offset).expect("within bytes");
            let mut at = gap.start;
            for piece in bytes[from..to].chunks(LONGEST) {
                self.write_block(Block::of(at, piece), piece)?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    fn write_block(&self, block: Block, bytes: &[u8]) -> Result<(), CacheError> {
        self.file
            .write_all_at(bytes, block.offset)
            .map_err(|error| CacheError::io(&self.partial_path, &error))?;
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        if let State::Partial(journal) = &mut *state
            && blocks.insert(block)
        {
            journal
                .add(block)
                .map_err(|error| CacheError::io(&self.journal_path, &error))?;
        }
        Ok(())
    }

    /// The bytes of `range`, every block they touch checked. A block that
    /// does not match its checksum is dropped, and missing from then on.
    pub fn read(&self, range: Range<u64>) -> Result<Found, CacheError> {
        let range = range.start.min(self.len)..range.end.min(self.len);
        let touching: Vec<Block> = {
            let blocks = self.blocks();
            if let Some(gap) = blocks.gaps(range.clone()).next() {
                return Ok(Found::Missing(gap));
            }
            blocks.touching(range.clone()).collect()
        };
        let wanted = usize::try_from(range.end.saturating_sub(range.start))
            .expect("a read fits into memory");
        let mut out = Vec::with_capacity(wanted);
        for block in touching {
            let before = out.len();
            out.resize(before + block.len as usize, 0);
            let read = self.file.read_exact_at(&mut out[before..], block.offset);
            let intact = match read {
                Ok(()) => block.matches(&out[before..]),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(CacheError::io(&self.partial_path, &error)),
            };
            if !intact {
                tracing::warn!(path = %self.complete_path.display(), offset = block.offset,
                    "a cached block is damaged and will be fetched again");
                self.drop_block(block)?;
                return Ok(Found::Missing(block.range()));
            }
            // Of the first and the last block only a part may be wanted.
            let end = block.range().end;
            if end > range.end {
                let surplus = usize::try_from(end - range.end).expect("within a block");
                out.truncate(out.len() - surplus);
            }
            if block.offset < range.start {
                let surplus = usize::try_from(range.start - block.offset).expect("within a block");
                out.drain(before..before + surplus);
            }
        }
        Ok(Found::Bytes(out))
    }

    fn drop_block(&self, block: Block) -> Result<(), CacheError> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        blocks.remove(block.offset);
        self.unsealed(&mut state)?
            .take_back(block.offset)
            .map_err(|error| CacheError::io(&self.journal_path, &error))
    }

    /// Forgets all bytes: they turned out to be wrong as a whole.
    pub fn discard(&self) -> Result<(), CacheError> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let journal = self.unsealed(&mut state)?;
        *blocks = Blocks::default();
        remove_if_there(&self.journal_path)?;
        (*journal, _) = Journal::open(&self.journal_path, self.len)
            .map_err(|error| CacheError::io(&self.journal_path, &error))?;
        Ok(())
    }

    /// The journal; a sealed file loses its own name, which promised a whole
    /// file, and is partial again.
    fn unsealed<'a>(&self, state: &'a mut State) -> Result<&'a mut Journal, CacheError> {
        if matches!(state, State::Sealed) {
            let reopened = fs::rename(&self.complete_path, &self.partial_path)
                .and_then(|()| fs::rename(&self.sums_path, &self.journal_path))
                .and_then(|()| Journal::open(&self.journal_path, self.len))
                .map_err(|error| CacheError::io(&self.complete_path, &error));
            *state = State::Partial(reopened?.0);
        }
        match state {
            State::Partial(journal) => Ok(journal),
            State::Sealed => unreachable!("replaced above"),
        }
    }

    /// Gives a complete file its own name, once its bytes are on the disk.
    /// Whoever calls this has checked what can be checked.
    pub fn seal(&self) -> Result<(), CacheError> {
        let failed = |error: io::Error| CacheError::io(&self.complete_path, &error);
        if self.is_sealed() {
            return Ok(());
        }
        self.file.sync_data().map_err(failed)?;
        if let Some(folder) = self.complete_path.parent() {
            create_private_dir(folder)?;
        }
        let mut state = self.state();
        if matches!(*state, State::Sealed) {
            return Ok(());
        }
        // The checksums first: a file under its own name without them is
        // taken for a stranger and dropped.
        let renamed = fs::rename(&self.journal_path, &self.sums_path)
            .and_then(|()| fs::rename(&self.partial_path, &self.complete_path));
        // Another process that shares the cache may have been first.
        let done_already = || fs::metadata(&self.complete_path).is_ok_and(|f| f.len() == self.len);
        renamed.or_else(|error| match error.kind() {
            ErrorKind::NotFound if done_already() => Ok(()),
            _ => Err(failed(error)),
        })?;
        *state = State::Sealed;
        Ok(())
    }

    fn blocks(&self) -> RwLockReadGuard<'_, Blocks> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn place() -> Place {
        Place::new("netcdf", "x").unwrap()
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        {
            let store = Store::open(dir.path().join("c")).unwrap();
            let entry = store.entry(&place(), 300_000).unwrap();
            entry.write(1000, &bytes[1000..200_000]).unwrap();
            assert_eq!(entry.read(0..10).unwrap(), Found::Missing(0..10));
        }
        let store = Store::open(dir.path().join("c")).unwrap();
        let entry = store.entry(&place(), 300_000).unwrap();
        assert_eq!(entry.missing(0..300_000), [0..1000, 200_000..300_000]);
        for (from, to) in [
            (1000, 1001),
            (1001, 199_999),
            (131_000, 133_000),
            (5000, 5000),
        ] {
            let found = entry.read(from..to).unwrap();
            assert_eq!(
                found,
                Found::Bytes(
                    bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].to_vec()
                )
            );
        }
    }

    #[test]
    fn a_damaged_block_is_missing_and_can_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        let entry = store.entry(&place(), 10).unwrap();
        entry.write(0, b"0123456789").unwrap();
        entry.seal().unwrap();
        let complete = dir.path().join("dataAppStorage/netcdf/x");
        assert_eq!(fs::read(&complete).unwrap(), b"0123456789");

        fs::write(&complete, "0123x56789").unwrap();
        assert_eq!(entry.read(0..10).unwrap(), Found::Missing(0..10));
        assert!(!complete.exists(), "a damaged file keeps no good name");

        entry.write(0, b"0123456789").unwrap();
        entry.seal().unwrap();
        assert_eq!(fs::read(&complete).unwrap(), b"0123456789");
    }

    #[test]
    fn a_discarded_file_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        let entry = store.entry(&place(), 4).unwrap();
        entry.write(0, b"evil").unwrap();
        entry.discard().unwrap();
        assert_eq!(entry.missing(0..4), vec![0..4]);
        entry.write(0, b"good").unwrap();
        assert_eq!(entry.read(0..4).unwrap(), Found::Bytes(b"good".to_vec()));
    }

    #[test]
    fn a_sealed_file_is_found_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        {
            let entry = store.entry(&place(), 4).unwrap();
            entry.write(0, b"good").unwrap();
            assert!(entry.is_complete() && !entry.is_sealed());
            entry.seal().unwrap();
        }
        let entry = store.entry(&place(), 4).unwrap();
        assert!(entry.is_sealed());
        assert_eq!(entry.read(0..4).unwrap(), Found::Bytes(b"good".to_vec()));
        drop(entry);
        assert!(
            !store.entry(&place(), 5).unwrap().is_sealed(),
            "another length"
        );
    }
}
