//! The files of an epoch on the disk, their names, and how they are opened, created
//! and removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Epoch;
use super::data::{DataFile, Stamp};
use super::state::FileStage;
use crate::cache::block_map::BlockMap;
use crate::cache::layout::{CachePath, FileKind};
use crate::cache::legacy_journal::convert_journal;
use crate::cache::map_file::{MapFile, new_seed};
use crate::cache::{Grid, display_path, remove_if_present};
use icos_sync::schedule_point;

/// One epoch: its number, and its files. Bytes that are written to the files of an
/// epoch that has ended can never be taken for those of the next one.
#[derive(Debug)]
pub(super) struct EpochFiles {
    pub(super) number: Epoch,
    /// Part of every checksum.
    pub(super) seed: u64,
    /// `None` if the disk cannot be used.
    pub(super) disk: Option<DiskFiles>,
}

/// The data file and the block map.
#[derive(Debug)]
pub(super) struct DiskFiles {
    pub(super) data: DataFile,
    pub(super) map: MapFile,
}

/// The absolute paths of a file and its block map, complete and partial.
#[derive(Debug)]
pub(super) struct FilePaths {
    pub(super) complete: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) map: PathBuf,
    pub(super) sums: PathBuf,
    /// The name in the header of the block map.
    name: String,
}

/// An open file and its blocks.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) epoch: EpochFiles,
    pub(super) map: BlockMap,
    pub(super) stage: FileStage,
}

impl EpochFiles {
    /// A new epoch without files.
    pub(super) fn in_memory() -> Self {
        Self {
            number: Epoch::next(),
            seed: new_seed(),
            disk: None,
        }
    }

    fn on_disk(seed: u64, disk: DiskFiles) -> Self {
        Self {
            number: Epoch::next(),
            seed,
            disk: Some(disk),
        }
    }
}

impl EpochFiles {
    /// Fills `buffer` with the bytes at `offset` of the data file, if all of them are in the
    /// page cache; otherwise returns false.
    pub(super) fn read_at_once(&self, offset: u64, buffer: &mut [u8]) -> bool {
        (self.disk.as_ref()).is_some_and(|disk| disk.data.read_at_once(buffer, offset))
    }
}

impl FilePaths {
    pub(super) fn new(path: &CachePath, root: &Path) -> Self {
        Self {
            complete: path.complete_in(root),
            partial: path.beside_in(root, FileKind::Partial),
            map: path.beside_in(root, FileKind::Map),
            sums: path.beside_in(root, FileKind::Sums),
            name: path.flat_name(),
        }
    }

    /// Opens the file: under its complete name if it is sealed, else under its
    /// partial name, created if necessary.
    pub(super) fn open(&self, grid: &Arc<Grid>) -> io::Result<OpenedFile> {
        match self.open_complete(grid)? {
            Some(opened) => Ok(opened),
            None => self.open_partial(grid),
        }
    }

    /// Opens the file under its complete name. If others have modified it since it
    /// was sealed, it becomes partial; if it is not a sealed file of this grid, it is
    /// removed.
    fn open_complete(&self, grid: &Arc<Grid>) -> io::Result<Option<OpenedFile>> {
        let data = match DataFile::open_sealed(&self.complete) {
            Ok(data) => data,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if data.len()? == grid.len() {
            convert_journal(&self.sums, &self.name, grid, data.reader())?;
            if let Some((map, found)) = MapFile::open(&self.sums, &self.name, grid)?
                && found.map.present() == grid.len()
            {
                let stamp = data.stamp()?;
                let disk = DiskFiles { data, map };
                let stage = if found.stamp == Some(stamp) {
                    FileStage::Sealed(stamp)
                } else {
                    self.rename_to_partial(&disk)?;
                    FileStage::Partial
                };
                return Ok(Some(OpenedFile {
                    epoch: EpochFiles::on_disk(found.seed, disk),
                    map: found.map,
                    stage,
                }));
            }
        }
        remove_if_present(&self.complete).map_err(io::Error::other)?;
        remove_if_present(&self.sums).map_err(io::Error::other)?;
        Ok(None)
    }

    fn open_partial(&self, grid: &Arc<Grid>) -> io::Result<OpenedFile> {
        // The map first: its lock keeps other processes from removing the file,
        // which they do before they remove the map.
        let Some((map, found)) = MapFile::open(&self.map, &self.name, grid)? else {
            return self.create(grid, new_seed());
        };
        schedule_point();
        let data = self.open_data(grid)?;
        Ok(OpenedFile {
            epoch: EpochFiles::on_disk(found.seed, DiskFiles { data, map }),
            map: found.map,
            stage: FileStage::Partial,
        })
    }

    /// Creates the files of an epoch of this seed, in place of those of another grid.
    /// Opens the files of another process that was faster.
    pub(super) fn create(&self, grid: &Arc<Grid>, seed: u64) -> io::Result<OpenedFile> {
        let create = || MapFile::create(&self.map, &self.name, grid, seed);
        let map = match create() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if let Some((map, found)) = MapFile::open(&self.map, &self.name, grid)? {
                    let data = self.open_data(grid)?;
                    return Ok(OpenedFile {
                        epoch: EpochFiles::on_disk(found.seed, DiskFiles { data, map }),
                        map: found.map,
                        stage: FileStage::Partial,
                    });
                }
                remove_if_present(&self.map).map_err(io::Error::other)?;
                create()?
            }
            map => map?,
        };
        // No other process opens the data file before the map is shared.
        remove_if_present(&self.partial).map_err(io::Error::other)?;
        let data = self.open_data(grid)?;
        map.share();
        Ok(OpenedFile {
            epoch: EpochFiles::on_disk(seed, DiskFiles { data, map }),
            map: BlockMap::new(Arc::clone(grid)),
            stage: FileStage::Partial,
        })
    }

    fn open_data(&self, grid: &Grid) -> io::Result<DataFile> {
        let data = DataFile::open_partial(&self.partial)?;
        if data.len()? != grid.len() {
            data.set_len(grid.len())?;
        }
        Ok(data)
    }

    /// Takes the complete name from `files`, and permits writes to them.
    pub(super) fn rename_to_partial(&self, files: &DiskFiles) -> io::Result<()> {
        files.data.allow_writes()?;
        fs::rename(&self.complete, &self.partial)?;
        fs::rename(&self.sums, &self.map)
    }

    /// Gives `files` the complete name, and forbids writes to them. `None` if others have
    /// taken their place.
    pub(super) fn rename_to_complete(&self, files: &DiskFiles) -> io::Result<Option<Stamp>> {
        let DiskFiles { data, map } = files;
        if !data.is_at(&self.partial) && !data.is_at(&self.complete) {
            return Ok(None);
        }
        // The words first: a file under its complete name without them is removed
        // when it is opened.
        let renamed = fs::rename(&self.map, &self.sums)
            .and_then(|()| fs::rename(&self.partial, &self.complete));
        match renamed {
            // Another process that shares the cache may have renamed it before.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        if !data.is_at(&self.complete) || !map.is_at(&self.sums) {
            return Ok(None);
        }
        data.forbid_writes();
        let stamp = data.stamp()?;
        map.set_stamp(stamp)?;
        Ok(Some(stamp))
    }

    /// Removes `files`, which are corrupt, whatever their name is.
    pub(super) fn remove(&self, files: &DiskFiles) -> io::Result<()> {
        let DiskFiles { data, map } = files;
        // For those that the kernel reads directly; see `BackingFile`.
        if let Err(error) = data.distrust() {
            tracing::warn!(%error, path = %display_path(&self.complete).display(),
                "programs that have a corrupt file open cannot be kept from opening it again");
        }
        for path in [&self.complete, &self.partial] {
            if data.is_at(path) {
                remove_if_present(path).map_err(io::Error::other)?;
            }
        }
        for path in [&self.sums, &self.map] {
            if map.is_at(path) {
                remove_if_present(path).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}
