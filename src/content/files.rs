//! The state of files that are read: what was drawn, counted or is under way.
//!
//! It is kept while a file is open, and for a while after. Then it is let go,
//! for it takes descriptors, and what it has in the cache cannot be removed:
//! whoever comes next has it made again from what the disk holds. What nothing
//! but memory holds stays, as long as others leave it room.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit};

use super::columns::Columns;
use super::csv::CsvFile;
use super::direct::DirectFile;
use super::idle_lru::{IdleDecision, IdleLru};
use super::original::OriginalFile;
use super::parquet::ParquetFile;
use super::portal_csv::PortalCsv;
use super::{ContentError, Epoch};
use crate::catalog::{FileId, Representation};
use icos_portal::ObjectId;

/// How many files' state is kept at most, the least recently read go first:
/// each holds two descriptors.
const REMEMBERED: usize = 256;

/// The state of one file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Original(Arc<OriginalFile>),
    Direct(Arc<DirectFile>),
    Csv(Csv),
    Parquet(Arc<ParquetFile>),
    Cpb(Arc<Columns>),
}

/// A table's text: drawn here, or by the portal.
#[derive(Clone, Debug)]
pub(super) enum Csv {
    Drawn(Arc<CsvFile>),
    Portal(Arc<PortalCsv>),
}

impl Csv {
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Csv::Drawn(file) => file.size(),
            Csv::Portal(file) => file.size(),
        }
    }

    pub(super) async fn exact_size(self) -> Result<u64, ContentError> {
        match self {
            Csv::Drawn(file) => file.exact_size().await,
            Csv::Portal(file) => file.exact_size().await,
        }
    }

    pub(super) async fn read(self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        match self {
            Csv::Drawn(file) => file.read(offset, len).await,
            Csv::Portal(file) => file.read(offset, len).await,
        }
    }
}

impl Content {
    /// Whether nobody has it in hand, nor is anything under way.
    fn is_at_rest(&self) -> bool {
        1 == match self {
            Content::Original(file) => return file.is_idle(),
            Content::Direct(file) => Arc::strong_count(file),
            Content::Csv(Csv::Drawn(file)) => Arc::strong_count(file),
            Content::Csv(Csv::Portal(file)) => Arc::strong_count(file),
            Content::Parquet(file) => Arc::strong_count(file),
            Content::Cpb(columns) => Arc::strong_count(columns),
        }
    }

    /// Whether the disk has all that it would take requests, or long work, to
    /// have again.
    fn can_be_had_again(&self) -> bool {
        match self {
            Content::Original(file) => !file.cached_file().has_memory_blocks(),
            Content::Direct(_) => true,
            Content::Csv(Csv::Drawn(file)) => !file.columns().has_memory_blocks(),
            Content::Csv(Csv::Portal(file)) => file.is_on_disk(),
            Content::Parquet(file) => file.is_on_disk(),
            Content::Cpb(columns) => !columns.has_memory_blocks(),
        }
    }

    /// Offers the disk what only memory has. Blocks on the disk.
    fn move_to_disk(&self) -> bool {
        match self {
            Content::Original(file) => file.move_to_disk(),
            Content::Direct(_) => false,
            Content::Csv(Csv::Drawn(file)) => file.columns().move_to_disk(),
            Content::Csv(Csv::Portal(file)) => file.move_to_disk(),
            Content::Parquet(file) => file.move_to_disk(),
            Content::Cpb(columns) => columns.move_to_disk(),
        }
    }

    /// Of an original whose bytes have proved themselves, their epoch.
    fn proved(&self) -> Option<Epoch> {
        match self {
            Content::Original(file) if file.cached_file().is_verified() => {
                Some(file.cached_file().epoch())
            }
            _ => None,
        }
    }
}

/// What came of letting go of files that nobody reads.
#[derive(Debug, Default)]
pub struct ReleasedFiles {
    /// Originals let go whose bytes had proved themselves, all of this epoch.
    pub proved: Vec<(FileId, Epoch)>,
    /// Whether there are others that will have rested long enough in a while.
    pub more: bool,
}

/// Files' state, by file.
#[derive(Debug)]
pub(super) struct Files(IdleLru<FileId, Content>);

impl Default for Files {
    fn default() -> Self {
        Self(IdleLru::new(remembered()))
    }
}

impl Files {
    pub(super) fn get(&self, object: ObjectId, representation: Representation) -> Option<Content> {
        let id = FileId {
            object,
            representation,
        };
        self.0.get(&id)
    }

    /// Keeps `content`, unless another reader was first: then theirs is the
    /// one.
    pub(super) fn keep(
        &self,
        object: ObjectId,
        representation: Representation,
        content: Content,
    ) -> Content {
        let id = FileId {
            object,
            representation,
        };
        self.0.get_or_insert(id, content)
    }

    /// Keeps `content` in the place of what was there.
    pub(super) fn replace(
        &self,
        object: ObjectId,
        representation: Representation,
        content: Content,
    ) {
        let id = FileId {
            object,
            representation,
        };
        self.0.replace(id, content);
    }

    /// Lets go of what nobody has used for `idle`, unless `in_use` says that
    /// it is open: then it is asked again once it is closed.
    pub(super) fn rest(&self, idle: Duration, in_use: impl Fn(FileId) -> bool) -> ReleasedFiles {
        let (files, more) = self.0.release_idle(idle, |&id, content| {
            if in_use(id) || !content.can_be_had_again() {
                IdleDecision::Keep
            } else if content.is_at_rest() {
                IdleDecision::Release
            } else {
                IdleDecision::ReleaseLater
            }
        });
        let proved = (files.iter()).filter_map(|(id, content)| Some((*id, content.proved()?)));
        let mut rested = ReleasedFiles {
            proved: proved.collect(),
            more,
        };
        // Closed, they can make room for others; that there was none is
        // remembered for a while.
        let made_room = !files.is_empty();
        drop(files);
        for (id, content) in self.0.idle_for(idle) {
            if !in_use(id) && !content.can_be_had_again() {
                rested.more |= content.move_to_disk() || made_room;
            }
        }
        rested
    }
}

/// As many files as leave most descriptors to others.
fn remembered() -> NonZeroUsize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft / 8);
    let files = usize::try_from(descriptors).map_or(REMEMBERED, |files| files.min(REMEMBERED));
    NonZeroUsize::new(files.max(4)).unwrap_or(NonZeroUsize::MIN)
}
