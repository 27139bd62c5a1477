//! The open files of the cache, by path: all readers of a file share one
//! [`CacheFile`].
//!
//! The table is locked for moments. Opening a file waits for the disk, under the lock
//! of the file's own slot only: other files are not delayed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::{CacheFile, CachePath, Grid};
use icos_sync::Mutex;

/// The open files.
#[derive(Debug, Default)]
pub(super) struct OpenCacheFiles(Mutex<HashMap<CachePath, Arc<Slot>>>);

/// The place of one file in the table. Locked while the file is opened or removed.
type Slot = Mutex<Weak<CacheFile>>;

impl OpenCacheFiles {
    /// Returns the file at `path` with the blocks of `grid`, which `open` opens if it is
    /// not open.
    pub(super) fn get_or_open(
        &self,
        path: &CachePath,
        grid: &Grid,
        open: impl FnOnce() -> Arc<CacheFile>,
    ) -> Arc<CacheFile> {
        loop {
            let slot = self.slot(path);
            let mut locked = slot.lock();
            // It may have been forgotten meanwhile: then the file has another slot.
            if !self.is_current(path, &slot) {
                continue;
            }
            if let Some(file) = locked.upgrade().filter(|file| file.grid() == grid) {
                return file;
            }
            let file = open();
            *locked = Arc::downgrade(&file);
            return file;
        }
    }

    fn is_current(&self, path: &CachePath, slot: &Arc<Slot>) -> bool {
        (self.0.lock().get(path)).is_some_and(|current| Arc::ptr_eq(current, slot))
    }

    /// Returns the file at `path` if it is open, without waiting.
    pub(super) fn get(&self, path: &CachePath, grid: &Grid) -> Option<Arc<CacheFile>> {
        let slot = self.0.lock().get(path).cloned()?;
        let file = slot.try_lock()?.upgrade()?;
        (file.grid() == grid).then_some(file)
    }

    /// Whether the file at `path` is open, or is being opened or removed.
    pub(super) fn is_open(&self, path: &CachePath) -> bool {
        let slot = self.0.lock().get(path).cloned();
        slot.is_some_and(|slot| slot.try_lock().is_none_or(|file| file.strong_count() > 0))
    }

    /// Makes the next call for `path` open the file again.
    pub(super) fn forget(&self, path: &CachePath) {
        self.0.lock().remove(path);
    }

    /// Calls `remove`, which removes the files at `path` from the disk, unless the file
    /// is open again.
    pub(super) fn remove_closed(&self, path: &CachePath, remove: impl FnOnce()) {
        let slot = self.slot(path);
        let Some(slot) = slot.try_lock() else {
            return;
        };
        if slot.strong_count() == 0 {
            remove();
        }
    }

    fn slot(&self, path: &CachePath) -> Arc<Slot> {
        let mut files = self.0.lock();
        if let Some(slot) = files.get(path) {
            return Arc::clone(slot);
        }
        files.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot.try_lock().is_none_or(|file| file.strong_count() > 0)
        });
        let slot = Arc::default();
        files.insert(path.clone(), Arc::clone(&slot));
        slot
    }
}
