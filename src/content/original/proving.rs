//! When an original must prove itself, and what follows from it.

use std::ops::Range;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::proof::Checked;
use super::{ContentError, OriginalFile};
use crate::cache::CacheError;

/// How often a proof fetches again what is gone before it gives up.
const ROUNDS: u32 = 4;

impl OriginalFile {
    /// Whether all bytes came, are not yet known to be the right ones, and who
    /// reads `range` must wait until they are.
    pub(super) async fn must_prove_itself(self: &Arc<Self>, range: &Range<u64>) -> bool {
        let entry = &self.entry;
        if entry.is_proved() || !entry.was_covered() {
            return false;
        }
        if entry.is_complete() {
            // Nobody reads a wrong file to its end as long as there are bytes
            // that none of its readers gets.
            let withheld = entry.came_last().unwrap_or(0..entry.len());
            let passes_by = range.end <= withheld.start || withheld.end <= range.start;
            if passes_by && !range.is_empty() {
                // It goes on though nobody waits for it yet.
                let _ = self.prove().now_or_never();
                return false;
            }
            return true;
        }
        if entry.len() <= self.how.whole_file_limit {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};

    use super::super::Fetch;
    use super::*;
    use crate::cache::{Bounds, Place, Store};
    use crate::demo::{DemoOptions, DemoPortal, Repository};
    use crate::memory::Memory;
    use crate::portal::Bootstrap;

    /// All of it waited: a second for a GiB that several connections brought.
    #[tokio::test]
    async fn while_a_file_is_hashed_only_what_came_last_waits_for_it() {
        const LEN: u64 = 2 << 20;
        const SOON: Duration = Duration::from_secs(15);
        let mut repository = Repository::builtin(1);
        let id = repository.add_original("x.bin", LEN);
        let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
        let bootstrap = Bootstrap::with_services(portal.services()).unwrap();
        let clients = bootstrap.from_cookie_token(&portal.token()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 64 << 20);
        let store = Store::open(dir.path().to_owned(), Bounds { disk, memory });
        let entry = store.entry(&Place::new("bin", "x").unwrap(), LEN);
        let (memory, how) = (Memory::new(memory), Fetch::default());
        let (spoiled, manners) = (Arc::default(), Arc::default());
        let file = OriginalFile::new(id, entry, clients.data, memory, how, spoiled, manners);
        let file = Arc::new(file);
        // The hash takes its time.
        let (hashed, hashing) = oneshot::channel::<()>();
        let proof = file.proofs.join((), || async {
            let _ = hashing.await;
            Ok(())
        });
        assert!(proof.now_or_never().is_none());

        let end = tokio::spawn(Arc::clone(&file).read(0, LEN - 1000, 1000));
        while !file.entry.is_complete() {
            sleep(Duration::from_millis(1)).await;
        }
        let read = |at| timeout(SOON, Arc::clone(&file).read(0, at, 1000));
        let start: Result<Bytes, _> = read(0).await.expect("it does not wait");
        assert_eq!(start.unwrap().len(), 1000);
        assert!(!end.is_finished() && !file.entry.is_proved());

        hashed.send(()).unwrap();
        let end = timeout(SOON, end).await.expect("it is over").unwrap();
        assert_eq!(end.unwrap().len(), 1000);
        assert!(file.entry.is_proved());
    }
}
