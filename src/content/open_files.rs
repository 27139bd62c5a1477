//! State of files that are being read: row indexes, request counts, downloads.
//!
//! State is kept while a file is open and for a while after, then released, since
//! it holds descriptors and the cache cannot evict a file that is in use. The next
//! reader rebuilds it from the disk. State whose bytes are in memory only is kept,
//! unless newer files need its place.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit};

use super::columns::Columns;
use super::complete_file::CompleteFile;
use super::csv::CsvFile;
use super::idle_lru::{IdleDecision, IdleLru};
use super::netcdf::NetCdfFile;
use super::original::OriginalFile;
use super::portal_files::PortalFile;
use super::{ContentError, Epoch};
use crate::catalog::FileId;

/// The largest number of files whose state is kept; the least recently read are
/// released first. Each holds two descriptors.
const MAX_OPEN_FILES: usize = 256;

/// The state of one file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum OpenFileState {
    Original(Arc<OriginalFile>),
    PortalFile(Arc<PortalFile>),
    Table(TableContent),
}

/// The state of one representation of a table. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum TableContent {
    /// CSV that is rendered here.
    Csv(Arc<CsvFile>),
    /// Parquet, or CSV that only the portal can write.
    Complete(Arc<CompleteFile>),
    /// A `.cpb` file.
    Cpb(Arc<Columns>),
    /// A NetCDF file, drawn from columns.
    NetCdf(Arc<NetCdfFile>),
}

impl TableContent {
    /// The exact length, if it is known.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Csv(file) => file.size(),
            Self::Complete(file) => file.size(),
            Self::Cpb(columns) => Some(columns.file_len()),
            Self::NetCdf(file) => Some(file.file_len()),
        }
    }

    /// The exact length. May download or render the complete file.
    pub(super) async fn exact_size(self) -> Result<u64, ContentError> {
        match self {
            Self::Csv(file) => file.exact_size().await,
            Self::Complete(file) => file.exact_size().await,
            Self::Cpb(columns) => Ok(columns.file_len()),
            Self::NetCdf(file) => Ok(file.file_len()),
        }
    }

    /// Reads at most `len` bytes from `offset`; fewer only at the end.
    pub(super) async fn read(self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        match self {
            Self::Csv(file) => file.read(offset, len).await,
            Self::Complete(file) => file.read(offset, len).await,
            Self::Cpb(columns) => {
                let end = offset.saturating_add(len as u64);
                columns.read(offset..end).await
            }
            Self::NetCdf(file) => file.read(offset, len).await,
        }
    }

    /// The columns that the bytes come from, unless they are cached as a file of their
    /// own.
    fn columns(&self) -> Result<&Columns, &CompleteFile> {
        match self {
            Self::Csv(file) => Ok(file.columns()),
            Self::Complete(file) => Err(file),
            Self::Cpb(columns) => Ok(columns),
            Self::NetCdf(file) => Ok(file.columns()),
        }
    }
}

impl OpenFileState {
    /// Whether there is no other reference: no reader and no task.
    fn is_unused(&self) -> bool {
        1 == match self {
            Self::Original(file) => return file.is_idle(),
            Self::PortalFile(file) => Arc::strong_count(file),
            Self::Table(TableContent::Csv(file)) => Arc::strong_count(file),
            Self::Table(TableContent::Complete(file)) => Arc::strong_count(file),
            Self::Table(TableContent::Cpb(columns)) => Arc::strong_count(columns),
            Self::Table(TableContent::NetCdf(file)) => Arc::strong_count(file),
        }
    }

    /// Whether the disk has all that would otherwise take requests or long computation
    /// to restore.
    fn is_on_disk(&self) -> bool {
        match self {
            Self::Original(file) => !file.cached_file().has_memory_blocks(),
            Self::PortalFile(_) => true,
            Self::Table(table) => match table.columns() {
                Ok(columns) => !columns.has_memory_blocks(),
                Err(file) => file.is_on_disk(),
            },
        }
    }

    /// Tries to move blocks that are in memory only to the disk; whether it has room
    /// for all of them. Blocks on disk I/O.
    fn move_to_disk(&self) -> bool {
        match self {
            Self::Original(file) => file.move_to_disk(),
            Self::PortalFile(_) => false,
            Self::Table(table) => match table.columns() {
                Ok(columns) => columns.move_to_disk(),
                Err(file) => file.move_to_disk(),
            },
        }
    }

    /// The epoch of the bytes, if this is a verified original.
    fn verified_epoch(&self) -> Option<Epoch> {
        match self {
            Self::Original(file) if file.cached_file().is_verified() => {
                Some(file.cached_file().epoch())
            }
            _ => None,
        }
    }
}

/// The result of releasing idle files.
#[derive(Debug, Default)]
pub struct ReleasedFiles {
    /// Verified originals that were released, with their epochs.
    pub verified: Vec<(FileId, Epoch)>,
    /// Whether a later call may release more.
    pub more: bool,
}

/// State of files, by file.
#[derive(Debug)]
pub(super) struct OpenFiles(IdleLru<FileId, OpenFileState>);

impl Default for OpenFiles {
    fn default() -> Self {
        Self(IdleLru::new(max_open_files()))
    }
}

impl OpenFiles {
    pub(super) fn get(&self, id: FileId) -> Option<OpenFileState> {
        self.0.get(&id)
    }

    /// Returns the state of a representation of a table.
    pub(super) fn table(&self, id: FileId) -> Option<TableContent> {
        match self.get(id)? {
            OpenFileState::Table(table) => Some(table),
            OpenFileState::Original(_) | OpenFileState::PortalFile(_) => None,
        }
    }

    /// Inserts `state` and returns it, unless another reader was first: then returns
    /// the present state.
    pub(super) fn get_or_insert(&self, id: FileId, state: OpenFileState) -> OpenFileState {
        self.0.get_or_insert(id, state)
    }

    /// Inserts `state` in place of the present one.
    pub(super) fn replace(&self, id: FileId, state: OpenFileState) {
        self.0.replace(id, state);
    }

    /// Releases files that have been idle for `idle`, except those for which `in_use`
    /// is true: they are considered again once they are closed.
    pub(super) fn release_idle(
        &self,
        idle: Duration,
        in_use: impl Fn(FileId) -> bool,
    ) -> ReleasedFiles {
        let (files, more) = self.0.release_idle(idle, |&id, state| {
            if in_use(id) || !state.is_on_disk() {
                IdleDecision::Keep
            } else if state.is_unused() {
                IdleDecision::Release
            } else {
                IdleDecision::ReleaseLater
            }
        });
        let verified =
            (files.iter()).filter_map(|(id, state)| Some((*id, state.verified_epoch()?)));
        let mut released = ReleasedFiles {
            verified: verified.collect(),
            more,
        };
        // The cache can evict closed files to make room for others, but it
        // remembers for a while that there was no room: call again later.
        let made_room = !files.is_empty();
        drop(files);
        for (id, state) in self.0.idle_for(idle) {
            if !in_use(id) && !state.is_on_disk() {
                released.more |= state.move_to_disk() || made_room;
            }
        }
        released
    }
}

/// A number of files that leaves most descriptors to the rest of the process.
fn max_open_files() -> NonZeroUsize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft / 8);
    let files =
        usize::try_from(descriptors).map_or(MAX_OPEN_FILES, |files| files.min(MAX_OPEN_FILES));
    NonZeroUsize::new(files.max(4)).unwrap_or(NonZeroUsize::MIN)
}
