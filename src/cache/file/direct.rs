//! Direct reads: the kernel reads a sealed file itself (passthrough), without a check
//! of what it reads. So each time that such a file is opened, its stamp is compared,
//! and before the first time, all its blocks are compared with their checksums.
//!
//! The verification runs in the background; until it has ended, reads go through
//! [`CacheFile::read`], which checks every block. It begins once readers have read a
//! part of the file in that way, so that it reads at most a few times as much from the
//! disk as they do.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::CacheFile;
use super::data::{ChangeStamp, Stamp};
use super::files::DiskFiles;
use super::read::CacheRead;
use super::state::FileStage;
use crate::cache::{CacheError, MAX_BLOCK, display_path};

/// A verification begins once this part of the file, one in so many bytes, was read.
const READ_PART: u64 = 4;
/// How many files are verified at once.
pub(in crate::cache) const MAX_VERIFICATIONS: usize = 2;
/// A verification reads so many bytes at once, then checks that the file is still sealed.
const STEP: u64 = MAX_BLOCK as u64;

/// A verified file that the kernel reads directly.
#[derive(Debug)]
pub struct BackingFile {
    file: File,
    stamp: ChangeStamp,
}

impl BackingFile {
    fn new(file: File) -> io::Result<Self> {
        let stamp = ChangeStamp::of(&file)?;
        Ok(Self { file, stamp })
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file still has the bytes that were verified, as far as its size and
    /// times tell. It has them when it is removed, unless because it was damaged.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        (ChangeStamp::of(&self.file)).is_ok_and(|now| now.has_bytes_of(&self.stamp))
    }
}

/// Whether the kernel may read a file directly.
#[derive(Debug)]
pub enum DirectFile {
    /// It may.
    Verified(Arc<BackingFile>),
    /// The file is sealed, but was not verified in this process, or too long ago.
    Unverified,
    /// The file is not sealed, or others have changed it.
    NotSealed,
}

impl CacheFile {
    /// The data file, for the kernel to read directly. If others have changed it since
    /// it was sealed, it becomes partial: then reads check every block.
    #[must_use]
    pub fn direct_file(&self) -> DirectFile {
        let (epoch, stamp) = {
            let state = self.state();
            let FileStage::Sealed(stamp) = state.stage else {
                return DirectFile::NotSealed;
            };
            (Arc::clone(&state.epoch), stamp)
        };
        let Some(DiskFiles { data, .. }) = &epoch.disk else {
            return DirectFile::NotSealed;
        };
        if !data.is_at(&self.paths.complete) {
            // Another process has found it damaged, or someone has removed it.
            return DirectFile::NotSealed;
        }
        if data.stamp().ok() != Some(stamp) {
            tracing::warn!(path = %display_path(&self.paths.complete).display(),
                "a complete file of the cache was changed; its blocks will be verified when they are read");
            self.lose_complete_name(stamp);
            return DirectFile::NotSealed;
        }
        if !self.store.verified_files.contains(&self.path, stamp) {
            return DirectFile::Unverified;
        }
        let backing = data.try_clone().and_then(BackingFile::new);
        match backing {
            // Changed before it was looked at: as above, at the next open.
            Ok(backing) if backing.stamp.stamp() == stamp => {
                DirectFile::Verified(Arc::new(backing))
            }
            _ => DirectFile::NotSealed,
        }
    }

    /// Verifies a sealed file in the background, unless too little of it was read so far or
    /// other files are being verified. Must be called in the runtime.
    pub fn verify_in_background(self: &Arc<Self>) {
        if self.read_sealed.load(Ordering::Relaxed) < self.len().div_ceil(READ_PART) {
            return;
        }
        let permits = Arc::clone(&self.store.verify_permits);
        let Ok(permit) = permits.try_acquire_owned() else {
            return;
        };
        if self.is_verifying.swap(true, Ordering::Relaxed) {
            return;
        }
        let file = Arc::clone(self);
        icos_sync::spawn_blocking(move || {
            if let Err(error) = file.verify_blocks() {
                tracing::warn!(%error, "a complete file of the cache cannot be verified");
            }
            file.is_verifying.store(false, Ordering::Relaxed);
            drop(permit);
        });
    }

    /// Compares all blocks of a sealed file with their checksums. A corrupt one is
    /// evicted, as by any read.
    pub(in crate::cache) fn verify_blocks(&self) -> Result<(), CacheError> {
        let started = Instant::now();
        let Some(stamp) = self.sealed_stamp() else {
            return Ok(());
        };
        let mut next = 0;
        while next < self.grid.blocks() {
            let start = self.grid.bytes(next).start;
            let step = start..(start + STEP).min(self.len());
            let blocks = next..self.grid.within(&step).end.max(next + 1);
            let is_present = matches!(self.read(self.grid.bytes_of(&blocks))?, CacheRead::Bytes(_));
            if !is_present || self.sealed_stamp() != Some(stamp) {
                return Ok(());
            }
            next = blocks.end;
        }
        if self.has_stamp(stamp) {
            self.store.verified_files.add(self.path.clone(), stamp);
            tracing::debug!(path = %display_path(&self.paths.complete).display(), bytes = self.len(),
                elapsed = ?started.elapsed(), "verified a file for direct reads");
        }
        Ok(())
    }

    /// A number for the data file that this one was sealed as. No other data file has it.
    #[must_use]
    pub fn stamp_number(&self) -> Option<u64> {
        self.sealed_stamp().map(|Stamp(number)| number)
    }

    /// The stamp of the file, if it is sealed.
    pub(super) fn sealed_stamp(&self) -> Option<Stamp> {
        match self.state().stage {
            FileStage::Sealed(stamp) => Some(stamp),
            FileStage::Partial | FileStage::MemoryOnly => None,
        }
    }

    /// Whether the file is sealed, and the disk still has it with this stamp.
    fn has_stamp(&self, stamp: Stamp) -> bool {
        let epoch = {
            let state = self.state();
            if state.stage != FileStage::Sealed(stamp) {
                return false;
            }
            Arc::clone(&state.epoch)
        };
        let disk = epoch.disk.as_ref();
        disk.is_some_and(|disk| disk.data.stamp().is_ok_and(|found| found == stamp))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};

    fn store(dir: &tempfile::TempDir) -> Store {
        let (disk, memory) = (1 << 40, 1 << 20);
        Store::open(dir.path().to_owned(), CacheLimits { disk, memory })
    }

    fn sealed(store: &Store) -> Arc<CacheFile> {
        let file = store.file(&CachePath::new("netcdf", "x").unwrap(), 8);
        if !file.is_sealed() {
            file.write(0, b"01234567").unwrap();
            file.seal(file.epoch()).unwrap();
        }
        file
    }

    #[test]
    fn sealed_file_is_read_directly_only_after_its_verification_in_this_process() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let store = store(&dir);
            let file = sealed(&store);
            assert!(matches!(file.direct_file(), DirectFile::Unverified));
            file.verify_blocks().unwrap();
            assert!(matches!(file.direct_file(), DirectFile::Verified(_)));
            drop(file);
            let reopened = sealed(&store);
            assert!(matches!(reopened.direct_file(), DirectFile::Verified(_)));
        }
    }

    #[test]
    fn sealed_file_with_another_stamp_becomes_partial() {
        let dir = tempfile::tempdir().unwrap();
        let file = sealed(&store(&dir));
        file.verify_blocks().unwrap();
        let complete = dir.path().join("dataAppStorage/netcdf/x");
        let found = fs::File::open(&complete).unwrap();
        found.set_modified(SystemTime::UNIX_EPOCH).unwrap();

        assert!(matches!(file.direct_file(), DirectFile::NotSealed));
        assert!(!complete.exists() && !file.is_sealed());
        let bytes = CacheRead::Bytes(b"01234567".to_vec());
        assert_eq!(file.read(0..8).unwrap(), bytes);
        file.seal(file.epoch()).unwrap();
        assert!(matches!(file.direct_file(), DirectFile::Unverified));
    }

    #[test]
    fn removed_file_is_unchanged_unless_it_was_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let complete = dir.path().join("dataAppStorage/netcdf/x");
        let backing = |file: &Arc<CacheFile>| {
            file.verify_blocks().unwrap();
            let DirectFile::Verified(backing) = file.direct_file() else {
                panic!("verified");
            };
            assert!(backing.is_unchanged());
            backing
        };
        let file = sealed(&store(&dir));
        let removed = backing(&file);
        fs::remove_file(&complete).unwrap();
        assert!(removed.is_unchanged());
        drop(file);

        let file = sealed(&store(&dir));
        let damaged = backing(&file);
        file.discard(file.epoch(), || ());
        assert!(!complete.exists() && !damaged.is_unchanged());
    }

    #[test]
    fn verification_evicts_corrupt_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let file = sealed(&store(&dir));
        let complete = dir.path().join("dataAppStorage/netcdf/x");
        let damage = fs::OpenOptions::new().write(true).open(&complete).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&damage, b"x", 3).unwrap();
        file.verify_blocks().unwrap();
        assert!(matches!(file.direct_file(), DirectFile::NotSealed));
        assert_eq!(file.missing(0..8), vec![0..8]);
        file.write(0, b"01234567").unwrap();
        file.seal(file.epoch()).unwrap();
        file.verify_blocks().unwrap();
        assert!(matches!(file.direct_file(), DirectFile::Verified(_)));
    }
}
