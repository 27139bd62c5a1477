//! The cache from outside: what lies there, whether it is sound, and taking it
//! away. Works beside live mounts: what any process has open stays.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::journal::{Journal, Told};
use super::place::Kind;
use super::space::{Candidate, Space};
use super::{CacheError, Place};

/// The folder of one repository's cache.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    space: Space,
}

/// A file of the cache.
#[derive(Debug)]
pub struct Kept {
    /// Where it lies, or will once it is complete.
    pub place: Place,
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
pub struct Checked {
    /// Bytes whose checksums were right.
    pub right: u64,
    /// Bytes that are not what was written.
    pub damaged: u64,
}

impl Folder {
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
    pub fn files(&self) -> Vec<Kept> {
        let mut files: Vec<Kept> = (self.space.files().into_iter())
            .map(|file| {
                let Candidate {
                    place,
                    map,
                    used,
                    bytes,
                } = file;
                Kept {
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
    /// to `visit`, in order. Does not count as use.
    pub fn check(&self, file: &Kept, mut visit: impl FnMut(&[u8])) -> Result<Checked, CacheError> {
        let map = self.map_of(file);
        let path = if file.complete {
            file.place.complete_in(&self.root)
        } else {
            file.place.beside_in(&self.root, Kind::Partial)
        };
        let failed = |error: std::io::Error| CacheError::io(&path, &error);
        let (len, Told { blocks, .. }) = Journal::peek(&map).map_err(failed)?;
        let bytes = match File::open(&path) {
            Ok(bytes) => bytes,
            // Journals outlive their files where power fails.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Checked {
                    right: 0,
                    damaged: blocks.present(),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let mut checked = Checked::default();
        let mut buffer = Vec::new();
        for block in blocks.touching(0..len) {
            buffer.resize(block.len as usize, 0);
            let read = bytes.read_exact_at(&mut buffer, block.offset);
            if read.is_ok() && block.matches(&buffer) {
                checked.right += u64::from(block.len);
                visit(&buffer);
            } else {
                checked.damaged += u64::from(block.len);
            }
        }
        if file.complete {
            // What a sealed file lacks is as bad as what is wrong in it.
            checked.damaged += len - blocks.present();
        }
        Ok(checked)
    }

    /// Removes `file`, unless a mount has it open; whether it is gone.
    #[must_use]
    pub fn remove(&self, file: &Kept) -> bool {
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
            let stray = Place::of_beside(name)
                .is_some_and(|place| !place.beside_in(&self.root, Kind::Journal).exists());
            if stray && !name.ends_with(super::place::MAP) && !name.ends_with(super::place::NEW) {
                // Another may have been first.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn map_of(&self, file: &Kept) -> PathBuf {
        let kind = if file.complete {
            Kind::Sums
        } else {
            Kind::Journal
        };
        file.place.beside_in(&self.root, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Bounds, Store};

    #[test]
    fn files_are_checked_and_taken_away_but_for_those_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        let place = |name| Place::new("netcdf", name).unwrap();
        let store = Store::open(dir.path().to_owned(), bounds);
        let half = store.entry(&place("half"), 20);
        half.write(0, b"0123456789").unwrap();
        {
            let whole = store.entry(&place("whole"), 10);
            whole.write(0, b"0123456789").unwrap();
            whole.seal(whole.life()).unwrap();
        }
        let folder = Folder::at(dir.path().to_owned());
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
