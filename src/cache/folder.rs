//! The cache from outside: what lies there, whether it is sound, and taking it
//! away. Works beside live mounts: what any process has open stays.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::blocks::Block;
use super::journal::{Journal, Told};
use super::place::Kind;
use super::space::{Candidate, Space};
use super::{CacheError, CachePath};

/// The folder of one repository's cache.
#[derive(Debug)]
pub struct CacheFolder {
    root: PathBuf,
    space: Space,
}

/// A file of the cache.
#[derive(Debug)]
pub struct FolderFile {
    /// Where it lies, or will once it is complete.
    pub place: CachePath,
    /// Whether all of it is there.
    pub complete: bool,
    /// Bytes it takes on the disk.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
    /// Whether a mount has it open.
    pub in_use: bool,
}

/// What a look at a file's bytes found.
#[derive(Debug, Default)]
pub struct FileCheck {
    /// Bytes whose checksums were right.
    pub right: u64,
    /// Bytes that are not what was written.
    pub damaged: u64,
    /// Whether all bytes of the file are there, and right.
    pub whole: bool,
}

impl CacheFolder {
    /// The cache in `root`, which need not exist.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self {
            space: Space::new(root.clone(), u64::MAX),
            root,
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// All files, the one not used for longest first.
    #[must_use]
    pub fn files(&self) -> Vec<FolderFile> {
        let mut files: Vec<FolderFile> = (self.space.files().into_iter())
            .map(|file| {
                let Candidate {
                    place,
                    map,
                    used,
                    bytes,
                } = file;
                FolderFile {
                    complete: map == place.beside_in(&self.root, Kind::Sums),
                    in_use: File::open(&map).is_ok_and(|map| map.try_lock().is_err()),
                    place,
                    bytes,
                    used,
                }
            })
            .collect();
        files.sort_by_key(|file| file.used);
        files
    }

    /// Reads all that is there of `file`, checks it, and hands what is right
    /// to `visit`, in order. Does not count as use. What a mount gives up
    /// meanwhile is neither right nor damaged.
    pub fn check(
        &self,
        file: &FolderFile,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<FileCheck, CacheError> {
        let beside = |kind| file.place.beside_in(&self.root, kind);
        let maps = [beside(Kind::Sums), beside(Kind::Journal)];
        let paths = [file.place.complete_in(&self.root), beside(Kind::Partial)];
        let named = usize::from(!file.complete);
        let failed = |error: io::Error| CacheError::io(&paths[named], &error);
        let told = || under_either(&maps, named, Journal::peek);
        let (map, (len, Told { blocks, .. })) = told().map_err(failed)?;
        let (name, bytes) = match under_either(&paths, named, |path| File::open(path)) {
            Ok(found) => found,
            // Journals outlive their files where power fails.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(FileCheck {
                    damaged: blocks.present(),
                    ..FileCheck::default()
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let (mut checked, mut doubtful) = (FileCheck::default(), Vec::new());
        let mut buffer = Vec::new();
        for block in blocks.touching(0..len) {
            buffer.resize(block.len as usize, 0);
            let read = bytes.read_exact_at(&mut buffer, block.offset);
            if read.is_ok() && block.matches(&buffer) {
                checked.right += u64::from(block.len);
                visit(&buffer);
            } else {
                doubtful.push(block);
            }
        }
        if !doubtful.is_empty() {
            let (_, (_, now)) = told().map_err(failed)?;
            let there = |block: &Block| now.blocks.touching(block.range()).any(|now| now == *block);
            let damaged = doubtful.iter().filter(|block| there(block));
            checked.damaged += damaged.map(|block| u64::from(block.len)).sum::<u64>();
        }
        if (map, name) == (0, 0) {
            // What a sealed file lacks is as bad as what is wrong in it.
            checked.damaged += len - blocks.present();
        }
        checked.whole = checked.right == len;
        Ok(checked)
    }

    /// Removes `file`, unless a mount has it open; whether it is gone.
    #[must_use]
    pub fn remove(&self, file: &FolderFile) -> bool {
        self.space.remove(&file.place, &self.map_of(file))
    }

    /// Removes what no journal speaks of: left behind by power cuts and by
    /// processes that crashed, or not ours.
    pub fn remove_strays(&self) {
        self.space.sweep_growing();
        let partial = self.root.join(super::place::PARTIAL);
        for entry in fs::read_dir(partial).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let stray = CachePath::of_beside(name)
                .is_some_and(|place| !place.beside_in(&self.root, Kind::Journal).exists());
            if stray && !name.ends_with(super::place::MAP) && !name.ends_with(super::place::NEW) {
                // Another may have been first.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn map_of(&self, file: &FolderFile) -> PathBuf {
        let kind = if file.complete {
            Kind::Sums
        } else {
            Kind::Journal
        };
        file.place.beside_in(&self.root, kind)
    }
}

/// What `open` makes of the first of two names of a file that there is, and
/// which: a mount may give it the other one meanwhile.
fn under_either<T>(
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
    use super::super::blocks::LONGEST;
    use super::*;
    use crate::cache::{CacheLimits, Store};

    /// It was said to be damaged.
    #[test]
    fn a_file_that_a_mount_names_or_gives_up_in_part_meanwhile_is_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 40, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let place = CachePath::new("netcdf", "x").unwrap();
        let (block, bytes) = (LONGEST as u64, vec![7; 2 * LONGEST]);
        let entry = store.file(&place, 2 * block);
        entry.write(0, &bytes).unwrap();
        let folder = CacheFolder::at(dir.path().to_owned());
        let found = |file: &FolderFile, visit: &mut dyn FnMut()| {
            let checked = folder.check(file, |_| visit()).unwrap();
            (checked.right, checked.damaged)
        };
        let partial = folder.files().remove(0);
        // As while it is given its name: what is known of it goes first.
        let (map, sums) = (Kind::Journal, Kind::Sums);
        let [map, sums] = [map, sums].map(|kind| place.beside_in(dir.path(), kind));
        fs::rename(&map, &sums).unwrap();
        let between = folder.files().remove(0);
        assert_eq!(found(&between, &mut || ()), (2 * block, 0));
        fs::rename(&sums, &map).unwrap();
        entry.seal(entry.epoch()).unwrap();
        assert_eq!(found(&partial, &mut || ()), (2 * block, 0));
        let complete = folder.files().remove(0);
        let given_up = found(&complete, &mut || entry.give_up(block));
        assert_eq!(given_up, (block, 0));
        assert_eq!(found(&complete, &mut || ()), (block, 0));
    }

    #[test]
    fn files_are_checked_and_taken_away_but_for_those_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = CacheLimits {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        let place = |name| CachePath::new("netcdf", name).unwrap();
        let store = Store::open(dir.path().to_owned(), bounds);
        let half = store.file(&place("half"), 20);
        half.write(0, b"0123456789").unwrap();
        {
            let whole = store.file(&place("whole"), 10);
            whole.write(0, b"0123456789").unwrap();
            whole.seal(whole.epoch()).unwrap();
        }
        let folder = CacheFolder::at(dir.path().to_owned());
        let files = folder.files();
        assert_eq!(files.len(), 2);
        let named = |name| files.iter().find(|f| f.place == place(name)).unwrap();
        assert!(named("half").in_use && !named("whole").in_use);
        assert!(named("whole").complete && !named("half").complete);

        let mut seen = Vec::new();
        let checked = folder.check(named("whole"), |bytes| seen.extend_from_slice(bytes));
        assert_eq!((checked.unwrap().damaged, &*seen), (0, &b"0123456789"[..]));
        fs::write(dir.path().join("dataAppStorage/netcdf/whole"), "0123x56789").unwrap();
        assert_eq!(folder.check(named("whole"), |_| {}).unwrap().damaged, 10);
        let checked = folder.check(named("half"), |_| {}).unwrap();
        assert_eq!((checked.right, checked.damaged), (10, 0));
        // As where power fails: the journal outlives the bytes.
        fs::remove_file(dir.path().join("partial/netcdf~half")).unwrap();
        let checked = folder.check(named("half"), |_| {}).unwrap();
        assert_eq!((checked.right, checked.damaged), (0, 10));

        assert!(folder.remove(named("whole")) && !folder.remove(named("half")));
        assert!(half.missing(0..10).is_empty());
        drop((half, store));
        assert!(folder.remove(named("half")));
        assert!(folder.files().is_empty());

        let stray = dir.path().join("partial/netcdf~stray");
        fs::write(&stray, "of which no journal speaks").unwrap();
        folder.remove_strays();
        assert!(!stray.exists());
    }
}
