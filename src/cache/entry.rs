//! One file of the cache: what is there of it, checked on every read.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};

use super::blocks::{Block, LONGEST};
use super::gone::Gone;
use super::held::Held;
use super::journal::Told;
use super::paths::{Paths, State};
use super::spill::LEAST;
use super::{CacheError, CachePath, Shared};
use icos_sync::{Locked, Mutex};

mod naming;
mod offering;
mod writing;

/// Tells this process's entries apart.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file of the cache, whole or in part.
///
/// Calls block on the disk, briefly: a read or write is at most a few blocks,
/// and mostly served by the page cache. Where the disk does not take bytes,
/// the latest are held in memory.
#[derive(Debug)]
pub struct CacheFile {
    len: u64,
    place: CachePath,
    cache: Arc<Shared>,
    /// Itself, as the list of what is in memory knows it.
    me: Weak<CacheFile>,
    paths: Paths,
    /// None if the disk does not let us.
    file: Option<File>,
    /// Unlike any other entry's.
    number: u64,
    /// Taken, before `held`, by whoever changes the file: what is written and
    /// what is noted of it must not come apart.
    disk: Mutex<()>,
    /// Taken for moments only.
    held: Mutex<Held>,
}

/// Bytes of one epoch are of one content: a block's checksum outlives its
/// bytes, and what comes in its place must be the same. So all that was ever
/// read in one epoch proves itself together, whether or not it was ever there
/// at the same time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Epoch {
    entry: u64,
    turns: u64,
}

/// What a read found.
#[derive(Debug, Eq, PartialEq)]
pub enum CacheRead {
    /// The bytes asked for.
    Bytes(Vec<u8>),
    /// The first stretch of them that is not there.
    Missing(Range<u64>),
}

impl CacheFile {
    /// How much more memory a read takes than the bytes it finds: blocks are
    /// read whole.
    pub const READ_OVERHEAD: u64 = LONGEST as u64;

    pub(super) fn open(cache: Arc<Shared>, place: &CachePath, len: u64) -> Arc<Self> {
        let paths = Paths::of(place, &cache.root);
        let open = || {
            let sealed = paths.open_sealed(len).transpose();
            sealed.unwrap_or_else(|| paths.open_partial(len))
        };
        let failed = |error: io::Error| CacheError::io(&paths.partial, &error);
        let opened = match open() {
            // Someone took the whole folder away, or it never was.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                cache.create_folders().and_then(|()| open().map_err(failed))
            }
            opened => opened.map_err(failed),
        };
        let (file, told, state) = match opened {
            Ok((file, told, state)) => (Some(file), told, state),
            Err(error) => {
                cache.troubles.note(error);
                (None, Told::default(), State::Diskless)
            }
        };
        Arc::new_cyclic(|me| Self {
            number: LAST_NUMBER.fetch_add(1, Ordering::Relaxed),
            len,
            place: place.clone(),
            cache,
            me: me.clone(),
            paths,
            file,
            disk: Mutex::default(),
            held: Mutex::new(Held {
                blocks: told.blocks,
                in_memory: HashMap::new(),
                memory_used: 0,
                written: VecDeque::new(),
                gone: Gone::default(),
                last_new_block: None,
                proved: false,
                turns: 0,
                state,
            }),
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
        self.held().blocks.present() == self.len
    }

    /// Whether every byte is there, or was and is known by its checksum.
    #[must_use]
    pub fn has_all_checksums(&self) -> bool {
        let held = self.held();
        held.blocks.present() + held.gone.len() == self.len
    }

    /// The block that came last of those that were never there before: nobody
    /// can have read it when the file came to be covered. None if none has come
    /// since the file was opened, or if its bytes were not always of one epoch.
    #[must_use]
    pub fn last_new_block(&self) -> Option<Range<u64>> {
        self.held().last_new_block.clone()
    }

    /// What content the bytes are of.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch {
            entry: self.number,
            turns: self.held().turns,
        }
    }

    /// KnownSizes that all bytes of `epoch`, which cover the file, are right: from
    /// now on, one that comes again must be what it was. False if it is over.
    pub fn mark_verified(&self, epoch: Epoch) -> bool {
        let mut held = self.held();
        let same = self.number == epoch.entry && held.turns == epoch.turns;
        held.proved |= same;
        same
    }

    /// Whether all bytes that are there, or were, are known to be right.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.held().proved
    }

    /// Whether some of the bytes are in memory only: they go with the entry.
    #[must_use]
    pub fn has_memory_blocks(&self) -> bool {
        self.held().memory_used > 0
    }

    /// Whether the file is complete, checked and under its own name.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(self.held().state, State::Sealed(_))
    }

    /// How many bytes can be counted on to stay until they are read, if they
    /// are written together.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let in_memory = self.held().memory_used > 0;
        let share = self.cache.spill.share(in_memory).max(LEAST);
        let space = &self.cache.space;
        if self.file.is_none() {
            return share;
        }
        // What other open files hold cannot be removed.
        (space.limit() / 2)
            .max(space.limit().saturating_sub(space.held()))
            .max(share)
    }

    /// The parts of `range` that are not there, in order.
    #[must_use]
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.held().blocks.gaps(range).collect()
    }

    /// Makes the block at `offset` missing, if it is in memory only.
    pub(super) fn drop_from_memory(&self, offset: u64) {
        let mut held = self.held();
        if held.in_memory.contains_key(&offset) {
            self.drop_block(&mut held, offset);
        }
    }

    fn note(&self, error: &io::Error) {
        let error = CacheError::io(&self.paths.partial, error);
        self.cache.troubles.note(error);
    }

    /// Makes the block at `offset` missing, and frees what it takes. The caller
    /// has the disk, too, unless the block is in memory.
    fn drop_block(&self, held: &mut Held, offset: u64) -> u64 {
        let Some(block) = held.blocks.remove(offset) else {
            return 0;
        };
        if !held.gone.add(block) {
            held.turn();
        }
        let len = u64::from(block.len);
        if held.in_memory.remove(&offset).is_some() {
            held.memory_used -= len;
            self.cache.spill.remove(len, held.memory_used == 0);
            return len;
        }
        if let Err(error) = self
            .unsealed(&mut held.state)
            .and_then(|journal| journal.map_or(Ok(()), |journal| journal.take_back(offset)))
        {
            self.note(&error);
        }
        if let Some(file) = &self.file {
            let (at, size) = (i64::try_from(offset), i64::try_from(len));
            if let (Ok(at), Ok(size)) = (at, size) {
                // Where holes cannot be made, the bytes stay until the file goes.
                let hole =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let _ = fallocate(file, hole, at, size);
            }
        }
        self.cache.space.release(len);
        len
    }

    /// The bytes of `range`, every block they touch checked. A block that
    /// does not match its checksum is dropped, and missing from then on.
    pub fn read(&self, range: Range<u64>) -> Result<CacheRead, CacheError> {
        let range = range.start.min(self.len)..range.end.min(self.len);
        let touching: Vec<(Block, Option<Bytes>)> = {
            let held = self.held();
            if let Some(gap) = held.blocks.gaps(range.clone()).next() {
                tracing::debug!(?gap, "not in the cache: the portal is asked");
                return Ok(CacheRead::Missing(gap));
            }
            let in_memory = |block: Block| (block, held.in_memory.get(&block.offset).cloned());
            held.blocks.touching(range.clone()).map(in_memory).collect()
        };
        let wanted = usize::try_from(range.end.saturating_sub(range.start))
            .expect("a read fits into memory");
        let mut out = Vec::with_capacity(wanted + LONGEST);
        for (block, in_memory) in touching {
            let before = out.len();
            match in_memory {
                Some(bytes) => out.extend_from_slice(&bytes),
                None if self.read_block(block, &mut out)? => {}
                None => {
                    tracing::warn!(path = %self.paths.complete.display(), offset = block.offset,
                        "a cached block is damaged and will be fetched again");
                    let _disk = self.disk.lock();
                    self.drop_block(&mut self.held(), block.offset);
                    return Ok(CacheRead::Missing(block.range()));
                }
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
        Ok(CacheRead::Bytes(out))
    }

    /// Adds the block's bytes to `out`; false if they are not what they were.
    fn read_block(&self, block: Block, out: &mut Vec<u8>) -> Result<bool, CacheError> {
        let before = out.len();
        out.resize(before + block.len as usize, 0);
        let read = match &self.file {
            Some(file) => file.read_exact_at(&mut out[before..], block.offset),
            None => return Ok(false),
        };
        match read {
            Ok(()) => Ok(block.matches(&out[before..])),
            // Cut short, or a bad sector: it can be had again.
            Err(error)
                if error.kind() == ErrorKind::UnexpectedEof
                    || error.raw_os_error() == Some(libc::EIO) =>
            {
                Ok(false)
            }
            Err(error) => Err(CacheError::io(&self.paths.partial, &error)),
        }
    }

    /// Forgets all bytes of `epoch`, which turned out to be wrong as a whole.
    /// Unless others have forgotten them before, `told` is called first, while
    /// nobody else sees what is there.
    pub fn discard(&self, epoch: Epoch, told: impl FnOnce()) {
        let _disk = self.disk.lock();
        let mut held = self.held();
        if self.number == epoch.entry && held.turns == epoch.turns {
            told();
            self.drop_all(&mut held);
        }
    }

    fn drop_all(&self, held: &mut Held) {
        let touching = held.blocks.touching(0..self.len);
        let offsets: Vec<u64> = touching.map(|block| block.offset).collect();
        for offset in offsets {
            self.drop_block(held, offset);
        }
        held.written.clear();
        held.turn();
    }

    #[cfg(test)]
    pub(super) fn memory_used(&self) -> u64 {
        self.held().memory_used
    }

    /// Makes the block at `offset` missing, as whoever makes room does.
    #[cfg(test)]
    pub(super) fn give_up(&self, offset: u64) {
        let _disk = self.disk.lock();
        self.drop_block(&mut self.held(), offset);
    }

    fn held(&self) -> Locked<'_, Held> {
        self.held.lock()
    }
}

impl Drop for CacheFile {
    /// A file of which nothing came need not lie around.
    fn drop(&mut self) {
        let held = self.held.get_mut();
        if held.memory_used > 0 {
            self.cache.spill.remove(held.memory_used, true);
        }
        let State::Partial(journal) = &held.state else {
            return;
        };
        if held.blocks.present() > 0 || self.len == 0 {
            return;
        }
        // Nobody may be opening it anew: not here, and in no other process.
        let Some(open) = self.cache.open.try_lock() else {
            return;
        };
        let reopened = open.get(&self.place).is_some_and(|e| e.strong_count() > 0);
        if !reopened && journal.is_ours_alone() {
            let _ = fs::remove_file(&self.paths.partial);
            let _ = fs::remove_file(&self.paths.journal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::{CacheLimits, Store};
    use super::*;

    fn store(dir: &tempfile::TempDir) -> Store {
        bounded(dir, 1 << 40)
    }

    fn bounded(dir: &tempfile::TempDir, disk: u64) -> Store {
        let memory = 64 << 20;
        Store::open(dir.path().to_owned(), CacheLimits { disk, memory })
    }

    fn place() -> CachePath {
        CachePath::new("netcdf", "x").unwrap()
    }

    #[test]
    fn what_comes_around_a_block_that_is_there_is_kept_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(8 * LONGEST).collect();
        {
            let store = store(&dir);
            let entry = store.file(&place(), bytes.len() as u64);
            let part = 3 * LONGEST..4 * LONGEST;
            entry.write(part.start as u64, &bytes[part]).unwrap();
            entry.write(0, &bytes).unwrap();
            // And what is noted of it.
            let held = store.usage().used - entry.len();
            assert!(held <= 8192, "{held}");
        }
        let store = store(&dir);
        let entry = store.file(&place(), bytes.len() as u64);
        let found = entry.read(0..entry.len()).unwrap();
        assert!(found == CacheRead::Bytes(bytes));
    }

    #[test]
    fn what_comes_again_did_not_come_last_nor_did_anything_of_a_second_life() {
        let dir = tempfile::tempdir().unwrap();
        let block = LONGEST as u64;
        let bytes = [vec![1; LONGEST], vec![2; LONGEST], vec![3; LONGEST]];
        let store = store(&dir);
        let entry = store.file(&place(), 3 * block);
        assert_eq!(entry.last_new_block(), None);
        for at in [0, 2, 1] {
            entry.write(at as u64 * block, &bytes[at]).unwrap();
        }
        assert_eq!(entry.last_new_block(), Some(block..2 * block));
        entry.give_up(0);
        entry.write(0, &bytes[0]).unwrap();
        assert_eq!(entry.last_new_block(), Some(block..2 * block));
        let (epoch, mut told) = (entry.epoch(), 0);
        entry.discard(epoch, || told += 1);
        entry.write(0, &bytes[0]).unwrap();
        assert_eq!(entry.last_new_block(), None);
        // That epoch is over, and was told of.
        entry.discard(epoch, || told += 1);
        assert_eq!((told, entry.missing(0..block)), (1, vec![]));
    }

    #[test]
    fn a_run_that_is_longer_than_the_room_for_it_is_kept_as_far_as_that_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = bounded(&dir, 6 << 20);
        let bytes: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
        let entry = store.file(&place(), bytes.len() as u64);
        entry.write(0, &bytes).unwrap();
        let on_disk = store.usage().used;
        assert!((4 << 20..=6 << 20).contains(&on_disk), "{on_disk}");
        let end = entry.len();
        let found = entry.read(end - (4 << 20)..end).unwrap();
        assert!(found == CacheRead::Bytes(bytes[4 << 20..].to_vec()));
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        {
            let store = store(&dir);
            let entry = store.file(&place(), 300_000);
            entry.write(1000, &bytes[1000..200_000]).unwrap();
            assert_eq!(entry.read(0..10).unwrap(), CacheRead::Missing(0..10));
        }
        let store = store(&dir);
        let entry = store.file(&place(), 300_000);
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
                CacheRead::Bytes(
                    bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].to_vec()
                )
            );
        }
    }

    #[test]
    fn a_damaged_block_is_missing_and_can_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let entry = store.file(&place(), 10);
        entry.write(0, b"0123456789").unwrap();
        entry.seal(entry.epoch()).unwrap();
        let complete = dir.path().join("dataAppStorage/netcdf/x");
        assert_eq!(fs::read(&complete).unwrap(), b"0123456789");

        fs::write(&complete, "0123x56789").unwrap();
        assert_eq!(entry.read(0..10).unwrap(), CacheRead::Missing(0..10));
        assert!(!complete.exists(), "a damaged file keeps no good name");

        entry.write(0, b"0123456789").unwrap();
        entry.seal(entry.epoch()).unwrap();
        assert_eq!(fs::read(&complete).unwrap(), b"0123456789");
    }

    /// Seconds may lie between the proof of a file and its name.
    #[test]
    fn what_came_after_the_proof_gets_no_name_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let entry = store(&dir).file(&place(), 8);
        entry.write(0, b"the good").unwrap();
        let epoch = entry.epoch();
        assert!(entry.mark_verified(epoch));
        entry.discard(epoch, || ());
        entry.write(0, b"an other").unwrap();
        entry.seal(epoch).unwrap();
        assert!(!entry.is_sealed());
    }

    #[test]
    fn bytes_that_the_disk_lost_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        let entry = store(&dir).file(&place(), 8);
        entry.write(0, b"0123").unwrap();
        entry.write(4, b"4567").unwrap();
        let partial = dir.path().join("partial/netcdf~x");
        let file = fs::OpenOptions::new().write(true).open(partial).unwrap();
        file.set_len(6).unwrap();
        assert_eq!(entry.read(0..8).unwrap(), CacheRead::Missing(4..8));
        assert_eq!(
            entry.read(0..4).unwrap(),
            CacheRead::Bytes(b"0123".to_vec())
        );
    }

    /// Their names are gone, and nothing can be noted of them: they go on in
    /// memory, and the cause is told.
    #[test]
    fn a_sealed_file_that_lost_its_name_goes_on_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        store.on_error(move |error| tell.lock().push(error.to_string()));
        let entry = store.file(&place(), 4);
        entry.write(0, b"good").unwrap();
        entry.seal(entry.epoch()).unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        entry.discard(entry.epoch(), || ());
        assert!(!entry.is_sealed());
        assert_eq!(told.lock().len(), 1, "{:?}", told.lock());
        entry.write(0, b"good").unwrap();
        assert_eq!(
            entry.read(0..4).unwrap(),
            CacheRead::Bytes(b"good".to_vec())
        );
        assert_eq!(entry.memory_used(), 4);
    }

    /// A file longer than the cache is never there as a whole.
    #[test]
    fn a_block_that_comes_again_must_be_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let entry = store(&dir).file(&place(), 8);
        let epoch = entry.epoch();
        entry.write(0, b"0123").unwrap();
        entry.write(4, b"4567").unwrap();
        entry.drop_block(&mut entry.held(), 0);
        assert!(entry.has_all_checksums() && !entry.is_complete());
        entry.write(0, b"0123").unwrap();
        assert!(entry.is_complete() && entry.epoch() == epoch);

        entry.drop_block(&mut entry.held(), 0);
        let refused = entry.write(0, b"01x3").unwrap_err();
        assert!(matches!(refused, CacheError::Differs { .. }), "{refused}");
        assert_ne!(entry.epoch(), epoch);
        assert_eq!(entry.missing(0..8), vec![0..8], "either may be wrong");
    }

    #[test]
    fn a_proved_file_refuses_a_wrong_block_and_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let entry = store(&dir).file(&place(), 8);
        entry.write(0, b"0123").unwrap();
        entry.write(4, b"4567").unwrap();
        assert!(entry.mark_verified(entry.epoch()));
        entry.drop_block(&mut entry.held(), 0);
        entry.write(0, b"01x3").unwrap_err();
        assert_eq!(entry.missing(0..8), vec![0..4]);
        entry.write(0, b"0123").unwrap();
        assert!(entry.is_verified() && entry.is_complete());
    }

    #[test]
    fn bytes_offered_once_more_must_be_those_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let entry = store(&dir).file(&place(), 8);
        entry.write(2, b"23").unwrap();
        entry.write(0, b"01234567").unwrap();
        assert_eq!(
            entry.read(0..8).unwrap(),
            CacheRead::Bytes(b"01234567".to_vec())
        );
        entry.write(0, b"01x34567").unwrap_err();
        assert_eq!(entry.missing(0..8), vec![0..8]);
    }

    #[test]
    fn what_cannot_be_compared_with_what_was_there_is_of_another_life() {
        let dir = tempfile::tempdir().unwrap();
        let entry = store(&dir).file(&place(), 8);
        entry.write(0, b"0123").unwrap();
        let epoch = entry.epoch();
        entry.drop_block(&mut entry.held(), 0);
        entry.write(2, b"234567").unwrap();
        assert_ne!(entry.epoch(), epoch);
        assert!(!entry.mark_verified(epoch));
    }

    #[test]
    fn a_discarded_file_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let entry = store.file(&place(), 4);
        entry.write(0, b"evil").unwrap();
        entry.discard(entry.epoch(), || ());
        assert_eq!(entry.missing(0..4), vec![0..4]);
        entry.write(0, b"good").unwrap();
        assert_eq!(
            entry.read(0..4).unwrap(),
            CacheRead::Bytes(b"good".to_vec())
        );
    }

    #[test]
    fn a_sealed_file_is_found_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        {
            let entry = store.file(&place(), 4);
            entry.write(0, b"good").unwrap();
            assert!(entry.is_complete() && !entry.is_sealed());
            entry.seal(entry.epoch()).unwrap();
        }
        let entry = store.file(&place(), 4);
        assert!(entry.is_sealed());
        assert_eq!(
            entry.read(0..4).unwrap(),
            CacheRead::Bytes(b"good".to_vec())
        );
        drop(entry);
        assert!(!store.file(&place(), 5).is_sealed(), "another length");
    }

    #[test]
    fn a_sealed_file_that_was_touched_must_prove_itself_again() {
        let dir = tempfile::tempdir().unwrap();
        {
            let entry = store(&dir).file(&place(), 4);
            entry.write(0, b"good").unwrap();
            entry.seal(entry.epoch()).unwrap();
            assert!(entry.sealed_file().is_some());
        }
        let complete = dir.path().join("dataAppStorage/netcdf/x");
        fs::write(&complete, b"evil").unwrap();
        let entry = store(&dir).file(&place(), 4);
        assert!(!entry.is_sealed() && entry.sealed_file().is_none());
        assert_eq!(entry.read(0..4).unwrap(), CacheRead::Missing(0..4));
    }

    #[test]
    fn unused_files_make_room_and_used_ones_give_up_their_oldest_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let store = bounded(&dir, 20 << 20);
        let bytes = vec![7; 1 << 20];
        let fill = |entry: &CacheFile, count: u64| {
            (0..count).for_each(|n| entry.write(n << 20, &bytes).unwrap());
        };
        let old = CachePath::new("netcdf", "old").unwrap();
        fill(&store.file(&old, 12 << 20), 12);
        let used = CachePath::new("netcdf", "used").unwrap();
        let entry = store.file(&used, 64 << 20);
        fill(&entry, 64);
        assert_eq!(
            store.file(&old, 12 << 20).missing(0..12 << 20),
            vec![0..12 << 20]
        );
        let held: u64 = (64 << 20)
            - entry
                .missing(0..64 << 20)
                .iter()
                .map(|g| g.end - g.start)
                .sum::<u64>();
        assert!(((4 << 20)..=(21 << 20)).contains(&held), "{held}");
        let last = (64 << 20) - 100..64 << 20;
        assert_eq!(entry.read(last).unwrap(), CacheRead::Bytes(vec![7; 100]));
        let on_disk: u64 = fs::read_dir(dir.path().join("partial"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
            .sum();
        assert!(on_disk <= 21 << 20, "{on_disk}");
    }

    #[test]
    fn without_a_disk_the_latest_bytes_are_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("not a folder");
        fs::write(&file, "").unwrap();
        let memory = 8 << 20;
        let store = Store::open(
            file,
            CacheLimits {
                disk: 1 << 40,
                memory,
            },
        );
        let entry = store.file(&place(), 64 << 20);
        let bytes = vec![7; 1 << 20];
        (0..64).for_each(|n| entry.write(n << 20, &bytes).unwrap());
        let last = (64 << 20) - 100..64 << 20;
        assert_eq!(entry.read(last).unwrap(), CacheRead::Bytes(vec![7; 100]));
        // Half of the memory is for such bytes.
        assert_eq!(entry.missing(0..64 << 20), vec![0..60 << 20]);
    }

    /// Many readers without a disk: what they hold together is bounded, and
    /// the latest bytes of any of them are there.
    #[test]
    fn without_a_disk_all_files_share_one_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("not a folder");
        fs::write(&file, "").unwrap();
        let store = Store::open(
            file,
            CacheLimits {
                disk: 1 << 40,
                memory: 32 << 20,
            },
        );
        let entries: Vec<_> = (0..64)
            .map(|n| store.file(&CachePath::new("netcdf", &n.to_string()).unwrap(), 1 << 20))
            .collect();
        for entry in &entries {
            entry.write(0, &vec![7; 1 << 20]).unwrap();
        }
        let complete = entries.iter().filter(|entry| entry.is_complete()).count();
        assert_eq!(complete, 16);
        assert!(entries[63].is_complete());
        // What is closed makes room.
        drop(entries);
        let next = store.file(&place(), 16 << 20);
        next.write(0, &vec![7; 16 << 20]).unwrap();
        assert!(next.is_complete());
    }

    #[test]
    fn a_folder_that_was_taken_away_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        fs::remove_dir_all(dir.path()).unwrap();
        let entry = store.file(&place(), 4);
        entry.write(0, b"good").unwrap();
        entry.seal(entry.epoch()).unwrap();
        assert!(entry.is_sealed() && dir.path().join("dataAppStorage/netcdf/x").exists());
    }

    #[test]
    fn a_file_of_which_nothing_came_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        drop(store(&dir).file(&place(), 100));
        assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    }
}
