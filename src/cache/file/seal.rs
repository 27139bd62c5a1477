//! Sealing: a complete file is renamed to its complete name. Before one of its
//! blocks is evicted, it is renamed back.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::open::{FileStage, stamp_of};
use super::{CacheFile, Epoch};
use crate::cache::journal::Journal;
use crate::cache::{CacheError, create_private_dir};

/// How long a reader that completed a file waits until other files are sealed.
const SEAL_TIMEOUT: Duration = Duration::from_secs(5);

impl CacheFile {
    /// Syncs a complete file and renames it to its complete name, if its bytes are
    /// still of `epoch` by then. The caller has verified an original; other files
    /// have no checksum to verify.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the disk fails. An incomplete file is no error and
    /// stays partial, as does one that another process has open.
    pub fn seal(&self, epoch: Epoch) -> Result<(), CacheError> {
        let failed = |error: io::Error| CacheError::io(&self.paths.complete, &error);
        let Some(data) = &self.data else {
            return Ok(());
        };
        if self.is_sealed() {
            return Ok(());
        }
        data.sync_data().map_err(failed)?;
        if let Some(folder) = self.paths.complete.parent() {
            create_private_dir(folder)?;
        }
        let mut state = self.state();
        // Another reader may have sealed the file, or found a corrupt block, which
        // was downloaded again and is in memory.
        let complete = state.blocks.present() == self.len && state.in_memory.is_empty();
        if state.epoch != epoch || !complete {
            return Ok(());
        }
        let FileStage::Partial(journal) = &mut state.stage else {
            return Ok(());
        };
        // Another process that has the file open may still evict blocks. Then the
        // next process that opens the file alone verifies and seals it.
        let Some(renamed) = journal.with_exclusive_lock(|journal| self.rename(data, journal))
        else {
            return Ok(());
        };
        renamed.map_err(failed)?;
        if let FileStage::Partial(journal) =
            std::mem::replace(&mut state.stage, FileStage::MemoryOnly)
        {
            state.stage = FileStage::Sealed(journal);
        }
        Ok(())
    }

    /// Seals the file in the background: a sync may take seconds, and no reader
    /// should wait for it. Waits only while many files are being sealed already.
    pub async fn seal_in_background(self: Arc<Self>, epoch: Epoch) {
        let permit = Arc::clone(&self.store.seal_permits).acquire_owned();
        // A disk that hangs must not stop readers: the file stays partial then.
        let Ok(Ok(permit)) = tokio::time::timeout(SEAL_TIMEOUT, permit).await else {
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = self.seal(epoch) {
                // The bytes are right and stay readable under the partial name.
                tracing::warn!(%error, "a complete file could not be renamed to its complete name");
            }
            drop(permit);
        });
    }

    fn rename(&self, data: &File, journal: &mut Journal) -> io::Result<()> {
        // The checksums first: a file under its complete name without checksums
        // is removed when it is opened.
        let renamed = fs::rename(&self.paths.journal, &self.paths.sums)
            .and_then(|()| fs::rename(&self.paths.partial, &self.paths.complete));
        // Another process that shares the cache may have renamed it before.
        let is_renamed = || fs::metadata(&self.paths.complete).is_ok_and(|f| f.len() == self.len);
        renamed
            .or_else(|error| match error.kind() {
                ErrorKind::NotFound if is_renamed() => Ok(()),
                _ => Err(error),
            })
            .and_then(|()| stamp_of(data))
            .and_then(|stamp| journal.set_stamp(stamp))
    }

    /// The journal to record changes in, if there is one. A sealed file loses its
    /// complete name first and becomes partial.
    pub(super) fn unseal<'a>(
        &self,
        stage: &'a mut FileStage,
    ) -> io::Result<Option<&'a mut Journal>> {
        if let FileStage::Sealed(_) = stage
            // If a rename fails, the file is not complete any more in any case;
            // it continues in memory, where new blocks are safe.
            && let FileStage::Sealed(journal) = std::mem::replace(stage, FileStage::MemoryOnly)
        {
            fs::rename(&self.paths.complete, &self.paths.partial)?;
            fs::rename(&self.paths.sums, &self.paths.journal)?;
            *stage = FileStage::Partial(journal);
        }
        Ok(match stage {
            FileStage::Partial(journal) => Some(journal),
            FileStage::Sealed(_) | FileStage::MemoryOnly => None,
        })
    }

    /// The data file, for the kernel to read directly, if it is sealed and still
    /// has its complete name.
    #[must_use]
    pub fn sealed_file(&self) -> Option<File> {
        let data = self.data.as_ref().filter(|_| self.is_sealed())?;
        let named = fs::metadata(&self.paths.complete).ok()?;
        let own = data.metadata().ok()?;
        (named.ino() == own.ino() && named.dev() == own.dev())
            .then(|| data.try_clone().ok())
            .flatten()
    }
}
