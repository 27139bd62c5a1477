//! The names of a file on disk, and how it is opened under either of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use crate::cache::blocks::BlockSet;
use crate::cache::journal::Journal;
use crate::cache::layout::{CachePath, FileKind};
use crate::cache::{open_own, remove_if_present};
use icos_sync::schedule_point;

/// The absolute paths of a file and its journal, complete and partial.
#[derive(Debug)]
pub(super) struct FilePaths {
    pub(super) complete: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) sums: PathBuf,
}

/// The stages of a file on disk.
#[derive(Debug)]
pub(super) enum FileStage {
    /// Under its partial name; the journal records the present blocks.
    Partial(Journal),
    /// Complete, and under its complete name. The journal contains the checksums.
    Sealed(Journal),
    /// The disk cannot be used: all blocks are in memory.
    MemoryOnly,
}

/// An open file and the blocks that its journal lists.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) data: File,
    pub(super) blocks: BlockSet,
    pub(super) stage: FileStage,
}

impl FilePaths {
    pub(super) fn new(path: &CachePath, root: &Path) -> Self {
        Self {
            complete: path.complete_in(root),
            partial: path.beside_in(root, FileKind::Partial),
            journal: path.beside_in(root, FileKind::Journal),
            sums: path.beside_in(root, FileKind::Sums),
        }
    }

    /// Opens the file of `len` bytes: under its complete name if it is sealed,
    /// else under its partial name, created if necessary.
    pub(super) fn open(&self, len: u64) -> io::Result<OpenedFile> {
        match self.open_complete(len)? {
            Some(opened) => Ok(opened),
            None => self.open_partial(len),
        }
    }

    /// Opens the file under its complete name. If others have modified it since
    /// it was sealed, it becomes partial; if it is not a sealed file of this
    /// length, it is removed.
    fn open_complete(&self, len: u64) -> io::Result<Option<OpenedFile>> {
        // Writable, because a corrupt block makes the file partial again.
        let data = match open_own(OpenOptions::new().read(true).write(true), &self.complete) {
            Ok(data) => data,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if data.metadata()?.len() == len && self.sums.exists() {
            let (journal, contents) = Journal::open(&self.sums, len)?;
            if contents.blocks.present() == len {
                let stage = if contents.stamp == Some(stamp_of(&data)?) {
                    FileStage::Sealed(journal)
                } else {
                    fs::rename(&self.complete, &self.partial)?;
                    fs::rename(&self.sums, &self.journal)?;
                    FileStage::Partial(journal)
                };
                return Ok(Some(OpenedFile {
                    data,
                    blocks: contents.blocks,
                    stage,
                }));
            }
        }
        remove_if_present(&self.complete).map_err(io::Error::other)?;
        remove_if_present(&self.sums).map_err(io::Error::other)?;
        Ok(None)
    }

    fn open_partial(&self, len: u64) -> io::Result<OpenedFile> {
        // The journal first: its lock keeps other processes from removing the
        // file, which they do before they remove the journal.
        let (journal, contents) = Journal::open(&self.journal, len)?;
        schedule_point();
        let mut options = OpenOptions::new();
        (options.read(true).write(true))
            .create(true)
            .truncate(false)
            .mode(0o600);
        let data = open_own(&options, &self.partial)?;
        if data.metadata()?.len() != len {
            data.set_len(len)?;
        }
        Ok(OpenedFile {
            data,
            blocks: contents.blocks,
            stage: FileStage::Partial(journal),
        })
    }
}

/// The stamp of a sealed file: a hash of its size and times of change, which
/// differs after others have modified the file.
pub(super) fn stamp_of(file: &File) -> io::Result<u64> {
    let found = file.metadata()?;
    let mut bytes = Vec::with_capacity(40);
    for number in [
        found.size().cast_signed(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    Ok(XxHash3_64::oneshot(&bytes))
}
