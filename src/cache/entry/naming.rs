//! A file's own name: given once it is whole and checked, lost with a block.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::super::journal::Journal;
use super::super::paths::{State, mark_of};
use super::super::{CacheError, create_private_dir};
use super::{CacheFile, Epoch};

/// How long a reader waits for the turn of a file that it completed.
const PATIENCE: Duration = Duration::from_secs(5);

impl CacheFile {
    /// The journal to note changes in, if there is one; a sealed file loses its
    /// own name, which promised a whole file, and is partial again.
    pub(super) fn unsealed<'a>(&self, state: &'a mut State) -> io::Result<Option<&'a mut Journal>> {
        if let State::Sealed(_) = state
            // Whatever goes wrong: it is not whole any more, and if another
            // took its names away, new bytes are best kept in memory.
            && let State::Sealed(journal) = std::mem::replace(state, State::Diskless)
        {
            fs::rename(&self.paths.complete, &self.paths.partial)?;
            fs::rename(&self.paths.sums, &self.paths.journal)?;
            *state = State::Partial(journal);
        }
        Ok(match state {
            State::Partial(journal) => Some(journal),
            State::Sealed(_) | State::Diskless => None,
        })
    }

    /// Gives a complete file its own name, once its bytes are on the disk, if
    /// they are still of `epoch` by then. Whoever calls this has checked of that
    /// epoch what can be checked.
    pub fn seal(&self, epoch: Epoch) -> Result<(), CacheError> {
        let failed = |error: io::Error| CacheError::io(&self.paths.complete, &error);
        let Some(file) = &self.file else {
            return Ok(());
        };
        if self.is_sealed() {
            return Ok(());
        }
        file.sync_data().map_err(failed)?;
        if let Some(folder) = self.paths.complete.parent() {
            create_private_dir(folder)?;
        }
        let mut held = self.held();
        // Another reader may have sealed it, or found a damaged block, which came
        // again and is in memory.
        let same = self.number == epoch.entry && held.turns == epoch.turns;
        if !same || held.blocks.present() != self.len || !held.in_memory.is_empty() {
            return Ok(());
        }
        let State::Partial(journal) = &mut held.state else {
            return Ok(());
        };
        // Another process that has the file open, too, may yet give up blocks
        // of it; whoever opens it next, alone, checks and seals it.
        let sealed = journal.alone(|journal| self.give_name(file, journal));
        if let Some(sealed) = sealed {
            sealed.map_err(failed)?;
        } else {
            return Ok(());
        }
        if let State::Partial(journal) = std::mem::replace(&mut held.state, State::Diskless) {
            held.state = State::Sealed(journal);
        }
        Ok(())
    }

    /// Has [`CacheFile::seal`] done in a while: the disk may take seconds to take
    /// all of a file, for which no reader should wait, unless many files are
    /// waiting for it already.
    pub async fn seal_in_background(self: Arc<Self>, epoch: Epoch) {
        let turn = Arc::clone(&self.cache.sealing).acquire_owned();
        // A disk that hangs keeps nothing, and holds up nobody for ever.
        let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, turn).await else {
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = self.seal(epoch) {
                // Right all the same; it is only not kept under its own name.
                tracing::warn!(%error, "a complete file could not be given its name");
            }
            drop(turn);
        });
    }

    fn give_name(&self, file: &File, journal: &mut Journal) -> io::Result<()> {
        // The checksums first: a file under its own name without them is
        // taken for a stranger and dropped.
        let renamed = fs::rename(&self.paths.journal, &self.paths.sums)
            .and_then(|()| fs::rename(&self.paths.partial, &self.paths.complete));
        // Another process that shares the cache may have been first.
        let done_already = || fs::metadata(&self.paths.complete).is_ok_and(|f| f.len() == self.len);
        renamed
            .or_else(|error| match error.kind() {
                ErrorKind::NotFound if done_already() => Ok(()),
                _ => Err(error),
            })
            .and_then(|()| mark_of(file))
            .and_then(|mark| journal.mark(mark))
    }

    /// The file itself, for the kernel to read directly: only if it is sealed
    /// and nobody has touched it since.
    #[must_use]
    pub fn sealed_file(&self) -> Option<File> {
        let file = self.file.as_ref().filter(|_| self.is_sealed())?;
        let named = fs::metadata(&self.paths.complete).ok()?;
        let own = file.metadata().ok()?;
        (named.ino() == own.ino() && named.dev() == own.dev())
            .then(|| file.try_clone().ok())
            .flatten()
    }
}
