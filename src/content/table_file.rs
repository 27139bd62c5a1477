//! A table's `.cpb` file: the portal's own, where there is one, or else the
//! one in the cache, which is made when it is first needed.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::ByteSource;
use super::direct::DirectFile;
use crate::cache::{CacheError, CacheFile, CachePath, CacheRead, Store};
use crate::memory::MemoryBudget;

/// Where a table's bytes are read, and written as they come.
#[derive(Debug)]
pub(super) struct TableFile {
    direct: Option<Arc<DirectFile>>,
    store: Store,
    place: CachePath,
    len: u64,
    entry: OnceLock<Arc<CacheFile>>,
}

impl TableFile {
    pub(super) fn new(
        direct: Option<Arc<DirectFile>>,
        store: Store,
        place: CachePath,
        len: u64,
    ) -> Self {
        Self {
            direct,
            store,
            place,
            len,
            entry: OnceLock::new(),
        }
    }

    /// The first part of `range` that is not there.
    pub(super) fn first_missing(&self, range: Range<u64>) -> Option<Range<u64>> {
        match &self.direct {
            Some(direct) if direct.is_readable() => None,
            _ => self.entry().missing(range).into_iter().next(),
        }
    }

    /// How many bytes of `range` are not there.
    pub(super) fn missing_bytes(&self, range: Range<u64>) -> u64 {
        match &self.direct {
            Some(direct) if direct.is_readable() => 0,
            _ => {
                let gaps = self.entry().missing(range);
                gaps.into_iter().map(|gap| gap.end - gap.start).sum()
            }
        }
    }

    /// The bytes of `range`. Blocks on the disk.
    pub(super) fn read(&self, range: Range<u64>) -> Result<CacheRead, CacheError> {
        let direct = self.direct.as_ref();
        match direct.and_then(|file| file.read_blocking(range.clone())) {
            Some(bytes) => Ok(CacheRead::Bytes(bytes)),
            None => self.entry().read(range),
        }
    }

    /// Where what is there is read from.
    pub(super) fn origin(&self) -> ByteSource {
        match &self.direct {
            Some(direct) if direct.is_readable() => ByteSource::PortalDisk,
            _ => ByteSource::Cache,
        }
    }

    /// Whether the cache has all of it.
    pub(super) fn is_complete(&self) -> bool {
        self.entry.get().is_some_and(|entry| entry.is_complete())
    }

    /// Whether some of it is in memory only.
    pub(super) fn has_memory_blocks(&self) -> bool {
        self.entry
            .get()
            .is_some_and(|entry| entry.has_memory_blocks())
    }

    /// Offers the disk what only memory has; whether it takes all of it.
    pub(super) fn move_to_disk(&self) -> bool {
        self.entry.get().is_some_and(|entry| entry.move_to_disk())
    }

    /// The memory for buffers.
    pub(super) fn memory(&self) -> &MemoryBudget {
        self.store.memory()
    }

    /// The file in the cache.
    pub(super) fn entry(&self) -> &Arc<CacheFile> {
        self.entry
            .get_or_init(|| self.store.file(&self.place, self.len))
    }
}
