//! The cache as the `icosfs cache` commands see it: lists, checks and removes
//! files. Works beside live mounts: a file that any process has open stays.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::block_map::Word;
use super::disk_budget::{DiskBudget, StoredFile};
use super::file_lock::is_locked;
use super::layout::{FileKind, MAP, NEW, PARTIAL};
use super::map_file::{MapContents, MapFile};
use super::{CacheError, CachePath, Pins, open_own};

/// The folder of one repository's cache.
#[derive(Debug)]
pub struct CacheFolder {
    root: PathBuf,
    disk_budget: DiskBudget,
}

/// A file in the folder.
#[derive(Debug)]
pub struct FolderFile {
    /// Its path when it is complete.
    pub path: CachePath,
    /// Whether it is sealed.
    pub complete: bool,
    /// Bytes on the disk, of the file and its block map.
    pub bytes: u64,
    /// When it was opened last.
    pub last_used: SystemTime,
    /// Whether a process has it open.
    pub in_use: bool,
    /// Whether it is never evicted.
    pub pinned: bool,
}

/// The result of checking the bytes of a file.
#[derive(Debug, Default)]
pub struct FileCheck {
    /// Bytes that match their checksums.
    pub intact: u64,
    /// Bytes that do not, and bytes that a sealed file lacks.
    pub damaged: u64,
    /// Whether all bytes of the file are present and match.
    pub complete: bool,
}

impl CacheFolder {
    /// The cache in `root`, which need not exist.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self {
            disk_budget: DiskBudget::new(root.clone(), u64::MAX),
            root,
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The pins: the ids of objects whose files are never evicted.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins::in_folder(&self.root)
    }

    /// Pins `ids`, and returns how many were not pinned before.
    ///
    /// # Errors
    ///
    /// If the pins cannot be stored.
    pub fn pin(&self, ids: impl IntoIterator<Item = String>) -> io::Result<usize> {
        let add = |pins: &mut BTreeSet<String>| {
            ids.into_iter().filter(|id| pins.insert(id.clone())).count()
        };
        Pins::change(&self.root, add)
    }

    /// Removes the pins of `ids`, and returns how many were pinned.
    ///
    /// # Errors
    ///
    /// If the pins cannot be stored.
    pub fn unpin(&self, ids: impl IntoIterator<Item = String>) -> io::Result<usize> {
        let remove =
            |pins: &mut BTreeSet<String>| ids.into_iter().filter(|id| pins.remove(id)).count();
        Pins::change(&self.root, remove)
    }

    /// All files, least recently used first.
    #[must_use]
    pub fn files(&self) -> Vec<FolderFile> {
        let pins = self.pins();
        let mut files: Vec<FolderFile> = (self.disk_budget.files().into_iter())
            .map(|file| {
                let StoredFile {
                    path,
                    map,
                    last_used,
                    bytes,
                } = file;
                FolderFile {
                    complete: map == path.beside_in(&self.root, FileKind::Sums),
                    pinned: pins.include(&path),
                    in_use: open_to_read(&map).is_ok_and(|file| is_locked(&file).unwrap_or(true)),
                    path,
                    bytes,
                    last_used,
                }
            })
            .collect();
        files.sort_by_key(|file| file.last_used);
        files
    }

    /// Reads the present blocks of `file` in order, compares them with their
    /// checksums, and passes the intact ones to `visit`. Does not count as use.
    /// Blocks that a mount evicts meanwhile are neither intact nor damaged.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the block map or the file cannot be opened.
    pub fn check(
        &self,
        file: &FolderFile,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<FileCheck, CacheError> {
        let beside = |kind| file.path.beside_in(&self.root, kind);
        let maps = [beside(FileKind::Sums), beside(FileKind::Map)];
        let paths = [file.path.complete_in(&self.root), beside(FileKind::Partial)];
        let first = usize::from(!file.complete);
        let failed = |error: io::Error| CacheError::io(&paths[first], &error);
        let name = file.path.flat_name();
        let read_map =
            || open_either(&maps, first, |path| MapFile::peek(path, &name)).map_err(failed);
        let (map_at, Some(contents)) = read_map()? else {
            // Written by an earlier version, or damaged: the next mount that opens the
            // file converts or removes it.
            return Ok(FileCheck::default());
        };
        let MapContents {
            grid, seed, map, ..
        } = contents;
        let (data_at, data) = match open_either(&paths, first, open_to_read) {
            Ok(found) => found,
            // A power failure can lose the file and leave its map.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(FileCheck {
                    damaged: map.present(),
                    ..FileCheck::default()
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let (mut check, mut mismatches) = (FileCheck::default(), Vec::new());
        let mut buffer = Vec::new();
        for block in 0..grid.blocks() {
            let word = map.get(block);
            if !word.is_present() {
                continue;
            }
            let bytes = grid.bytes(block);
            let len = bytes.end - bytes.start;
            buffer.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
            let read = data.read_exact_at(&mut buffer, bytes.start);
            if read.is_ok() && Word::of(&buffer, seed).same_bytes(word) {
                check.intact += len;
                visit(&buffer);
            } else {
                mismatches.push((block, word, len));
            }
        }
        if !mismatches.is_empty() {
            // A mount may have evicted some of them: only those that the map still
            // lists are damaged.
            let (_, now) = read_map()?;
            let is_listed = |block: u64, word: Word| {
                now.as_ref()
                    .is_some_and(|now| now.seed == seed && now.map.get(block) == word)
            };
            for (block, word, len) in mismatches {
                check.damaged += if is_listed(block, word) { len } else { 0 };
            }
        }
        if (map_at, data_at) == (0, 0) {
            check.damaged += grid.len() - map.present();
        }
        check.complete = check.intact == grid.len();
        Ok(check)
    }

    /// Makes mounts that have the complete file `file` open check its blocks, when it
    /// is opened again: changes its stamp.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the file cannot be changed.
    pub fn distrust(&self, file: &FolderFile) -> Result<(), CacheError> {
        let path = file.path.complete_in(&self.root);
        let changed = open_to_read(&path).and_then(|data| data.set_modified(SystemTime::now()));
        changed.map_err(|error| CacheError::io(&path, &error))
    }

    /// Removes `file`, unless a process has it open; returns whether it was
    /// removed.
    #[must_use]
    pub fn remove(&self, file: &FolderFile) -> bool {
        let kind = if file.complete {
            FileKind::Sums
        } else {
            FileKind::Map
        };
        let map = file.path.beside_in(&self.root, kind);
        self.disk_budget.remove(&file.path, &map)
    }

    /// Removes partial files without a block map, which power failures and crashed
    /// processes leave behind, and temporary files of processes that have ended.
    pub fn remove_strays(&self) {
        self.disk_budget.sweep_temporary_files();
        let partial = self.root.join(PARTIAL);
        for entry in fs::read_dir(partial).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let stray = CachePath::from_flat_name(name)
                .is_some_and(|path| !path.beside_in(&self.root, FileKind::Map).exists());
            if stray && !name.ends_with(MAP) && !name.ends_with(NEW) {
                // Another process may have removed it before.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn open_to_read(path: &Path) -> io::Result<File> {
    open_own(OpenOptions::new().read(true), path)
}

/// Opens the first of two names of a file that exists, beginning with index
/// `first`, and returns its index as well. A mount may rename the file from one
/// name to the other meanwhile, so the first name is tried twice.
fn open_either<T>(
    names: &[PathBuf; 2],
    first: usize,
    open: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(usize, T)> {
    let mut found = Err(ErrorKind::NotFound.into());
    for at in [first, 1 - first, first] {
        found = open(&names[at]).map(|opened| (at, opened));
        if !matches!(&found, Err(error) if error.kind() == ErrorKind::NotFound) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::MAX_BLOCK;
    use super::*;
    use crate::cache::{CacheLimits, Grid, Store};

    /// Once, such a file was reported as damaged.
    #[test]
    fn check_beside_a_mount_that_seals_or_evicts_reports_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 40, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let path = CachePath::new("netcdf", "x").unwrap();
        let (block, bytes) = (MAX_BLOCK as u64, vec![7; 2 * MAX_BLOCK]);
        let opened = store.file(&path, 2 * block);
        opened.write(0, &bytes).unwrap();
        let folder = CacheFolder::at(dir.path().to_owned());
        let found = |file: &FolderFile, visit: &mut dyn FnMut()| {
            let check = folder.check(file, |_| visit()).unwrap();
            (check.intact, check.damaged)
        };
        let partial = folder.files().remove(0);
        // As during sealing, which renames the map first.
        let (map, sums) = (FileKind::Map, FileKind::Sums);
        let [map, sums] = [map, sums].map(|kind| path.beside_in(dir.path(), kind));
        fs::rename(&map, &sums).unwrap();
        let between = folder.files().remove(0);
        assert_eq!(found(&between, &mut || ()), (2 * block, 0));
        fs::rename(&sums, &map).unwrap();
        opened.seal(opened.epoch()).unwrap();
        assert_eq!(found(&partial, &mut || ()), (2 * block, 0));
        let complete = folder.files().remove(0);
        let evicted = found(&complete, &mut || opened.evict(block));
        assert_eq!(evicted, (block, 0));
        assert_eq!(found(&complete, &mut || ()), (block, 0));
    }

    #[test]
    fn files_are_checked_and_removed_except_those_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let limits = CacheLimits {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        let path = |name| CachePath::new("netcdf", name).unwrap();
        let store = Store::open(dir.path().to_owned(), limits);
        let half = store.file(&path("half"), Grid::in_steps(10, 20));
        half.write(0, b"0123456789").unwrap();
        {
            let whole = store.file(&path("whole"), 10);
            whole.write(0, b"0123456789").unwrap();
            whole.seal(whole.epoch()).unwrap();
        }
        let folder = CacheFolder::at(dir.path().to_owned());
        let files = folder.files();
        assert_eq!(files.len(), 2);
        let named = |name| files.iter().find(|f| f.path == path(name)).unwrap();
        assert!(named("half").in_use && !named("whole").in_use);
        assert!(named("whole").complete && !named("half").complete);

        let mut seen = Vec::new();
        let check = folder.check(named("whole"), |bytes| seen.extend_from_slice(bytes));
        assert_eq!((check.unwrap().damaged, &*seen), (0, &b"0123456789"[..]));
        fs::write(dir.path().join("dataAppStorage/netcdf/whole"), "0123x56789").unwrap();
        assert_eq!(folder.check(named("whole"), |_| {}).unwrap().damaged, 10);
        let check = folder.check(named("half"), |_| {}).unwrap();
        assert_eq!((check.intact, check.damaged), (10, 0));
        // As after a power failure that loses the file but not its map.
        fs::remove_file(dir.path().join("partial/netcdf~half")).unwrap();
        let check = folder.check(named("half"), |_| {}).unwrap();
        assert_eq!((check.intact, check.damaged), (0, 10));

        assert!(folder.remove(named("whole")) && !folder.remove(named("half")));
        assert!(half.missing(0..10).is_empty());
        drop((half, store));
        assert!(folder.remove(named("half")));
        assert!(folder.files().is_empty());

        let stray = dir.path().join("partial/netcdf~stray");
        fs::write(&stray, "without a map").unwrap();
        folder.remove_strays();
        assert!(!stray.exists());
    }
}
