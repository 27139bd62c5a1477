//! Sealing: a complete file is renamed to its complete name.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::files::DiskFiles;
use super::state::FileStage;
use super::{CacheFile, Epoch};
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
    /// [`CacheError::Io`] if the disk fails. An incomplete file is no error and stays
    /// partial, as does one that another process has open.
    pub fn seal(&self, epoch: Epoch) -> Result<(), CacheError> {
        let failed = |error: io::Error| CacheError::io(&self.paths.complete, &error);
        let files = Arc::clone(&self.state().epoch);
        let Some(DiskFiles { data, map }) = &files.disk else {
            return Ok(());
        };
        if self.is_sealed() {
            return Ok(());
        }
        data.sync().and_then(|()| map.sync()).map_err(failed)?;
        if let Some(folder) = self.paths.complete.parent() {
            create_private_dir(folder)?;
        }
        // No block is evicted and no epoch ends while the file is renamed.
        let all = 0..self.grid.blocks().max(1);
        let _claim = self.claim(&all);
        let _names = self.names.lock();
        let is_ready = || {
            // Another reader may have sealed the file, or found a corrupt block, which
            // was downloaded again and is in memory.
            let state = self.state();
            let is_partial = state.stage == FileStage::Partial;
            is_partial && state.epoch.number == epoch && state.is_complete_on_disk()
        };
        if files.number != epoch || !is_ready() {
            return Ok(());
        }
        let disk = files.disk.as_ref();
        let rename = || disk.map_or(Ok(None), |disk| self.paths.rename_to_complete(disk));
        // Another process that has the file open may still evict blocks. Then the next
        // process that opens the file alone verifies and seals it.
        let Some(renamed) = map.with_exclusive_lock(rename) else {
            return Ok(());
        };
        let stamp = renamed.map_err(failed)?;
        // If the epoch has ended meanwhile, its files are removed after this.
        if let Some(stamp) = stamp.filter(|_| is_ready()) {
            self.state().stage = FileStage::Sealed(stamp);
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
        icos_sync::spawn_blocking(move || {
            if let Err(error) = self.seal(epoch) {
                // The bytes are right and stay readable under the partial name.
                tracing::warn!(%error, "a complete file could not be renamed to its complete name");
            }
            drop(permit);
        });
    }
}
