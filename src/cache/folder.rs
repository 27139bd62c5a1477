//! The cache as the `icosfs cache` commands see it: lists, checks and removes
//! files. Works beside live mounts: a file that any process has open stays.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::blocks::Block;
use super::disk_budget::{DiskBudget, StoredFile};
use super::journal::Journal;
use super::layout::{FileKind, MAP, NEW, PARTIAL};
use super::{CacheError, CachePath, open_own};

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
    /// Bytes on the disk, of the file and its journal.
    pub bytes: u64,
    /// When it was opened last.
    pub last_used: SystemTime,
    /// Whether a process has it open.
    pub in_use: bool,
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

    /// All files, least recently used first.
    #[must_use]
    pub fn files(&self) -> Vec<FolderFile> {
        let mut files: Vec<FolderFile> = (self.disk_budget.files().into_iter())
            .map(|file| {
                let StoredFile {
                    path,
                    journal,
                    last_used,
                    bytes,
                } = file;
                FolderFile {
                    complete: journal == path.beside_in(&self.root, FileKind::Sums),
                    in_use: open_to_read(&journal).is_ok_and(|lock| lock.try_lock().is_err()),
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
    /// [`CacheError::Io`] if the journal or the file cannot be opened.
    pub fn check(
        &self,
        file: &FolderFile,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<FileCheck, CacheError> {
        let beside = |kind| file.path.beside_in(&self.root, kind);
        let journals = [beside(FileKind::Sums), beside(FileKind::Journal)];
        let paths = [file.path.complete_in(&self.root), beside(FileKind::Partial)];
        let first = usize::from(!file.complete);
        let failed = |error: io::Error| CacheError::io(&paths[first], &error);
        let read_journal = || open_either(&journals, first, Journal::peek).map_err(failed);
        let (journal_at, (len, contents)) = read_journal()?;
        let blocks = contents.blocks;
        let (data_at, data) = match open_either(&paths, first, open_to_read) {
            Ok(found) => found,
            // A power failure can lose the file and leave its journal.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(FileCheck {
                    damaged: blocks.present(),
                    ..FileCheck::default()
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let (mut check, mut mismatches) = (FileCheck::default(), Vec::new());
        let mut buffer = Vec::new();
        for block in blocks.touching(0..len) {
            buffer.resize(block.len as usize, 0);
            let read = data.read_exact_at(&mut buffer, block.offset);
            if read.is_ok() && block.matches(&buffer) {
                check.intact += u64::from(block.len);
                visit(&buffer);
            } else {
                mismatches.push(block);
            }
        }
        if !mismatches.is_empty() {
            // A mount may have evicted some of them: only those that the journal
            // still lists are damaged.
            let (_, (_, now)) = read_journal()?;
            let listed =
                |block: &Block| now.blocks.touching(block.range()).any(|now| now == *block);
            let damaged = mismatches.iter().filter(|block| listed(block));
            check.damaged += damaged.map(|block| u64::from(block.len)).sum::<u64>();
        }
        if (journal_at, data_at) == (0, 0) {
            check.damaged += len - blocks.present();
        }
        check.complete = check.intact == len;
        Ok(check)
    }

    /// Removes `file`, unless a process has it open; returns whether it was
    /// removed.
    #[must_use]
    pub fn remove(&self, file: &FolderFile) -> bool {
        let kind = if file.complete {
            FileKind::Sums
        } else {
            FileKind::Journal
        };
        let journal = file.path.beside_in(&self.root, kind);
        self.disk_budget.remove(&file.path, &journal)
    }

    /// Removes partial files without a journal, which power failures and crashed
    /// processes leave behind, and temporary files of processes that have ended.
    pub fn remove_strays(&self) {
        self.disk_budget.sweep_temporary_files();
        let partial = self.root.join(PARTIAL);
        for entry in fs::read_dir(partial).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let stray = CachePath::from_flat_name(name)
                .is_some_and(|path| !path.beside_in(&self.root, FileKind::Journal).exists());
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
    use super::super::blocks::MAX_BLOCK;
    use super::*;
    use crate::cache::{CacheLimits, Store};

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
        // As during sealing, which renames the journal first.
        let (journal, sums) = (FileKind::Journal, FileKind::Sums);
        let [journal, sums] = [journal, sums].map(|kind| path.beside_in(dir.path(), kind));
        fs::rename(&journal, &sums).unwrap();
        let between = folder.files().remove(0);
        assert_eq!(found(&between, &mut || ()), (2 * block, 0));
        fs::rename(&sums, &journal).unwrap();
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
        let half = store.file(&path("half"), 20);
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
        // As after a power failure that loses the file but not its journal.
        fs::remove_file(dir.path().join("partial/netcdf~half")).unwrap();
        let check = folder.check(named("half"), |_| {}).unwrap();
        assert_eq!((check.intact, check.damaged), (0, 10));

        assert!(folder.remove(named("whole")) && !folder.remove(named("half")));
        assert!(half.missing(0..10).is_empty());
        drop((half, store));
        assert!(folder.remove(named("half")));
        assert!(folder.files().is_empty());

        let stray = dir.path().join("partial/netcdf~stray");
        fs::write(&stray, "without a journal").unwrap();
        folder.remove_strays();
        assert!(!stray.exists());
    }
}
