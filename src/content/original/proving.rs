//! When an original must prove itself, and what follows from it.

use std::sync::Arc;

use super::proof::Checked;
use super::{ContentError, OriginalFile};
use crate::cache::{CacheError, Entry};
use crate::portal::ObjectId;

/// How often a proof fetches again what is gone before it gives up.
const ROUNDS: u32 = 4;

impl OriginalFile {
    /// Whether all bytes came, and are not yet known to be the right ones.
    pub(super) fn must_prove_itself(&self) -> bool {
        let entry = &self.entry;
        !entry.is_proved()
            && entry.was_covered()
            // What is not there any more may have to be fetched again.
            && (entry.is_complete()
                || entry.len() <= self.how.whole_file_limit
                || self.proof.can_end(entry))
    }

    /// Checks the whole file against its id, fetching again what is gone, and
    /// gives it its name; a wrong one is dropped.
    pub(super) async fn prove(self: &Arc<Self>) -> Result<(), ContentError> {
        let file = Arc::clone(self);
        let proving = || async move {
            for _ in 0..ROUNDS {
                file.proof.recall().await;
                let Some(from) = file.check().await? else {
                    return Ok(());
                };
                let len = file.entry.len();
                file.stream_for(&(from..len), len).wait_for(len).await?;
            }
            // What is fetched does not stay long enough, not even to be hashed.
            Err(CacheError::TooSmall.into())
        };
        self.proofs.join((), proving).await
    }

    /// Checks what is there; where it must be fetched again from, if some of
    /// it is gone.
    async fn check(&self) -> Result<Option<u64>, ContentError> {
        let (entry, id, proof) = (Arc::clone(&self.entry), self.id, Arc::clone(&self.proof));
        let spoiled = Arc::clone(&self.spoiled);
        let checked = tokio::task::spawn_blocking(move || match proof.check(&entry, id)? {
            Checked::Missing(from) => Ok(Some(from)),
            Checked::Wrong(life) => {
                spoiled.note(id);
                entry.discard(life);
                Err(ContentError::WrongHash { id })
            }
            Checked::Right(life) => {
                if entry.prove(life) {
                    seal_soon(entry, id);
                }
                Ok(None)
            }
        });
        // A panic in there is a bug, and no reason to trust the file.
        checked.await.unwrap_or(Err(ContentError::WrongHash { id }))
    }
}

/// Gives a proved file its name, if it is there as a whole. Nobody waits for
/// that: the disk may take seconds to take all of it.
pub(super) fn seal_soon(entry: Arc<Entry>, id: ObjectId) {
    tokio::task::spawn_blocking(move || {
        if entry.is_complete()
            && let Err(error) = entry.seal()
        {
            // Right all the same; it is only not kept under its own name.
            tracing::warn!(%error, %id, "a complete object could not be sealed");
        }
    });
}
