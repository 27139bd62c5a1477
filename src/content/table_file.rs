//! A table's `.cpb` file: the portal's own on its disk, or else the one in the
//! cache, which is created when it is first needed.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::ByteSource;
use super::portal_files::PortalFile;
use crate::cache::{CacheError, CacheFile, CachePath, CacheRead, Grid, Store};
use crate::memory::MemoryBudget;

/// Where a table's bytes are read, and where downloaded bytes are written.
#[derive(Debug)]
pub(super) struct TableFile {
    portal_file: Option<Arc<PortalFile>>,
    store: Store,
    path: CachePath,
    grid: Grid,
    cached: OnceLock<Arc<CacheFile>>,
}

impl TableFile {
    pub(super) fn new(
        portal_file: Option<Arc<PortalFile>>,
        store: Store,
        path: CachePath,
        grid: Grid,
    ) -> Self {
        Self {
            portal_file,
            store,
            path,
            grid,
            cached: OnceLock::new(),
        }
    }

    /// The first part of `range` that must be downloaded.
    pub(super) fn first_missing(&self, range: Range<u64>) -> Option<Range<u64>> {
        match &self.portal_file {
            Some(portal_file) if portal_file.is_readable() => None,
            _ => self.cached().first_missing(&range),
        }
    }

    /// The number of bytes of `range` that must be downloaded.
    pub(super) fn missing_bytes(&self, range: Range<u64>) -> u64 {
        match &self.portal_file {
            Some(portal_file) if portal_file.is_readable() => 0,
            _ => self.cached().missing_bytes(range),
        }
    }

    /// Reads `range`. Blocks on disk I/O.
    pub(super) fn read(&self, range: Range<u64>) -> Result<CacheRead, CacheError> {
        let portal_file = self.portal_file.as_ref();
        match portal_file.and_then(|file| file.read_blocking(range.clone())) {
            Some(bytes) => Ok(CacheRead::Bytes(bytes)),
            None => self.cached().read(range),
        }
    }

    /// As [`TableFile::read`], without blocking the caller's thread.
    pub(super) async fn read_in_pool(&self, range: Range<u64>) -> Result<CacheRead, CacheError> {
        if let Some(portal_file) = self.portal_file.clone() {
            let part = range.clone();
            let read = move || portal_file.read_blocking(part);
            if let Some(bytes) = self.store.disk().run(read).await? {
                return Ok(CacheRead::Bytes(bytes));
            }
        }
        self.open().await?;
        self.cached().read_in_pool(range).await
    }

    /// Opens the file in the cache, unless the portal's own is read. After this, queries do
    /// not wait for the disk.
    pub(super) async fn open(&self) -> Result<(), CacheError> {
        let portal_file = self.portal_file.as_ref();
        let is_needed = portal_file.is_none_or(|file| !file.is_readable());
        if is_needed && self.cached.get().is_none() {
            let cached = self.store.open_file(&self.path, self.grid.clone()).await?;
            // Another reader may have been first: it has the same file.
            let _ = self.cached.set(cached);
        }
        Ok(())
    }

    /// Where bytes that are present are read from.
    pub(super) fn source(&self) -> ByteSource {
        match &self.portal_file {
            Some(portal_file) if portal_file.is_readable() => ByteSource::PortalDisk,
            _ => ByteSource::Cache,
        }
    }

    /// Whether the cache has all bytes.
    pub(super) fn is_complete(&self) -> bool {
        self.cached.get().is_some_and(|cached| cached.is_complete())
    }

    /// Whether some blocks are in memory only.
    pub(super) fn has_memory_blocks(&self) -> bool {
        self.cached
            .get()
            .is_some_and(|cached| cached.has_memory_blocks())
    }

    /// Tries to move blocks that are in memory only to the disk; whether it has room
    /// for all of them.
    pub(super) fn move_to_disk(&self) -> bool {
        self.cached
            .get()
            .is_some_and(|cached| cached.move_to_disk())
    }

    /// The memory budget for buffers.
    pub(super) fn memory(&self) -> &MemoryBudget {
        self.store.memory()
    }

    /// Where the blocks of the columns begin and end.
    pub(super) fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The file in the cache.
    pub(super) fn cached(&self) -> &Arc<CacheFile> {
        self.cached
            .get_or_init(|| self.store.file(&self.path, self.grid.clone()))
    }
}
