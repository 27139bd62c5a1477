//! When an original must prove itself, and what follows from it.

use std::sync::Arc;

use super::proof::Checked;
use super::{ContentError, OriginalFile};
use crate::cache::CacheError;

/// How often a proof fetches again what is gone before it gives up.
const ROUNDS: u32 = 4;

impl OriginalFile {
    /// Whether all bytes came, and are not yet known to be the right ones.
    pub(super) async fn must_prove_itself(&self) -> bool {
        let entry = &self.entry;
        if entry.is_proved() || !entry.was_covered() {
            return false;
        }
        if entry.is_complete() || entry.len() <= self.how.whole_file_limit {
            return true;
        }
        // What is not there any more would have to be fetched again, unless it
        // is hashed already.
        let _recalled = self.proof.recall().await;
        self.proof.can_end(entry)
    }

    /// Checks the whole file against its id, fetching again what is gone, and
    /// gives it its name; a wrong one is dropped.
    pub(super) async fn prove(self: &Arc<Self>) -> Result<(), ContentError> {
        let file = Arc::clone(self);
        let proving = || async move {
            for _ in 0..ROUNDS {
                let recalled = file.proof.recall().await;
                let checked = file.check().await?;
                drop(recalled);
                match checked {
                    Checked::Right(life) => {
                        Arc::clone(&file.entry).seal_soon(life).await;
                        return Ok(());
                    }
                    Checked::Missing(from) => file.bring(from).await?,
                    Checked::Wrong(_) => return Err(ContentError::WrongHash { id: file.id }),
                }
            }
            // What is fetched does not stay long enough, not even to be hashed.
            Err(CacheError::TooSmall.into())
        };
        self.proofs.join((), proving).await
    }

    /// Fetches what is missing from `from` on.
    async fn bring(self: &Arc<Self>, from: u64) -> Result<(), ContentError> {
        let len = self.entry.len();
        while let Some(gap) = self.first_gap(from..len) {
            let Some((stream, review)) = self.stream_for(&gap, len) else {
                continue;
            };
            if let Ok(came) = tokio::time::timeout(review, stream.wait_for(len)).await {
                return came;
            }
        }
        Ok(())
    }

    /// Checks what is there, and drops it if it is wrong.
    async fn check(&self) -> Result<Checked, ContentError> {
        let (entry, id, proof) = (Arc::clone(&self.entry), self.id, Arc::clone(&self.proof));
        let spoiled = Arc::clone(&self.spoiled);
        let checked = tokio::task::spawn_blocking(move || {
            let checked = proof.check(&entry, id)?;
            match checked {
                Checked::Missing(_) => {}
                Checked::Wrong(life) => {
                    spoiled.note(id);
                    entry.discard(life);
                }
                Checked::Right(life) => {
                    entry.prove(life);
                }
            }
            Ok(checked)
        });
        // A panic in there is a bug, and no reason to trust the file.
        checked.await.unwrap_or(Err(ContentError::WrongHash { id }))
    }
}
