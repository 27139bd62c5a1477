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
        if entry.is_verified() || !entry.has_all_checksums() {
            return false;
        }
        if entry.len() <= self.how.whole_file_limit {
            return !(entry.is_complete() && self.pass_by(range));
        }
        // Those of a longer file may have gone out before all came.
        if entry.is_complete() {
            return true;
        }
        // What is not there any more would have to be fetched again, unless it
        // is hashed already.
        let _recalled = self.proof.recall().await;
        self.proof.can_end(entry)
    }

    /// Whether who reads `range` need not wait, since nobody reads a wrong file
    /// to its end as long as what came last is withheld from all.
    fn pass_by(self: &Arc<Self>, range: &Range<u64>) -> bool {
        let epoch = self.entry.epoch();
        let Some(withheld) = self.entry.last_new_block() else {
            return false;
        };
        let apart = range.end <= withheld.start || withheld.end <= range.start;
        if !apart || range.is_empty() {
            return false;
        }
        // What fails then, fails for who waits as well.
        if self.fetching().proving.replace(epoch) != Some(epoch) {
            // It goes on though nobody waits for it yet.
            let _ = self.prove().now_or_never();
        }
        true
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
                    Checked::Right(epoch) => {
                        Arc::clone(&file.entry).seal_in_background(epoch).await;
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
        let corrupt_files = Arc::clone(&self.corrupt_files);
        let checked = tokio::task::spawn_blocking(move || {
            let checked = proof.check(&entry, id)?;
            match checked {
                Checked::Missing(_) => {}
                Checked::Wrong(epoch) => {
                    tracing::warn!(%id, "an original's bytes are not those of its id, and go");
                    // So that no reader goes on with those of another epoch, nor
                    // does one who begins meanwhile find any of this one.
                    entry.discard(epoch, || corrupt_files.note(id));
                }
                Checked::Right(epoch) => {
                    entry.mark_verified(epoch);
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
    use std::num::NonZeroU32;
    use std::pin::pin;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};
    use crate::content::DownloadOptions;
    use crate::memory::MemoryBudget;
    use crate::test_portal::client_services;
    use icos_demo::{DemoOptions, DemoPortal, Repository};
    use icos_portal::Bootstrap;

    const LEN: u64 = 2 << 20;
    const SOON: Duration = Duration::from_secs(15);

    /// A file that is all there, and the first of its proofs, which takes until
    /// it is told to end.
    struct Hashing {
        file: Arc<OriginalFile>,
        ends: oneshot::Sender<()>,
        _kept: (DemoPortal, tempfile::TempDir),
    }

    impl Hashing {
        /// Of a file that is fetched whole up to `whole_file_limit`.
        async fn begin(whole_file_limit: u64) -> Self {
            let mut repository = Repository::builtin(1);
            let id = repository.add_original("x.bin", LEN);
            let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
            let bootstrap = Bootstrap::with_services(client_services(&portal)).unwrap();
            let data = bootstrap.from_cookie_token(&portal.token()).unwrap().data;
            let dir = tempfile::tempdir().unwrap();
            let (disk, memory) = (1 << 30, 64 << 20);
            let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
            let entry = store.file(&CachePath::new("bin", "x").unwrap(), LEN);
            let (memory, connections) = (MemoryBudget::new(memory), NonZeroU32::MIN);
            let how = DownloadOptions {
                connections,
                whole_file_limit,
            };
            let (corrupt_files, request_stats) = (Arc::default(), Arc::default());
            let file =
                OriginalFile::new(id, entry, data, memory, how, corrupt_files, request_stats);
            let file = Arc::new(file);
            let (ends, end) = oneshot::channel::<()>();
            let proof = file.proofs.join((), || async {
                let _ = end.await;
                Ok(())
            });
            assert!(proof.now_or_never().is_none());
            let all = file.bring(0);
            timeout(SOON, all).await.expect("it comes").unwrap();
            assert!(file.entry.is_complete());
            Self {
                file,
                ends,
                _kept: (portal, dir),
            }
        }

        /// Reads some bytes of it in a task of its own.
        fn read(&self, at: u64) -> JoinHandle<Result<Bytes, ContentError>> {
            tokio::spawn(Arc::clone(&self.file).read(0, at, 1000))
        }

        /// Whether they are read before the proof has ended.
        async fn is_read(&self, at: u64) -> bool {
            let (mut reading, a_while) = (self.read(at), Duration::from_millis(200));
            timeout(a_while, &mut reading).await.is_ok()
        }
    }

    async fn comes(reading: JoinHandle<Result<Bytes, ContentError>>) {
        let read = timeout(SOON, reading).await.expect("it comes").unwrap();
        assert_eq!(read.unwrap().len(), 1000);
    }

    /// All of it waited: a second for a GiB that several connections brought.
    #[tokio::test]
    async fn while_a_file_is_hashed_only_what_came_last_waits_for_it() {
        let hashing = Hashing::begin(LEN).await;
        comes(hashing.read(0)).await;
        assert!(!hashing.is_read(LEN - 1000).await);
        let end = hashing.read(LEN - 1000);
        hashing.ends.send(()).unwrap();
        comes(end).await;
        assert!(hashing.file.entry.is_verified());
    }

    /// What came last may have been read before some of the rest came again.
    #[tokio::test]
    async fn while_a_file_is_hashed_that_is_never_fetched_whole_all_of_it_waits() {
        let hashing = Hashing::begin(LEN - 1).await;
        assert!(!hashing.is_read(0).await);
        let start = hashing.read(0);
        hashing.ends.send(()).unwrap();
        comes(start).await;
    }

    /// It fetched the next content, which others then got, right or wrong.
    #[tokio::test]
    async fn who_read_a_file_that_turns_out_wrong_does_not_fetch_the_next() {
        let hashing = Hashing::begin(LEN).await;
        let file = &hashing.file;
        let requests = || file.fetching().asked.requests;
        let before = requests();
        // All there is: a read has looked for everything by when it waits.
        let all = file.memory.reserve_reply(u64::MAX).await.unwrap();
        let mut reading = pin!(Arc::clone(file).read(0, 0, 1000));
        assert!((&mut reading).now_or_never().is_none());

        let turned = || file.corrupt_files.note(file.id);
        file.entry.discard(file.entry.epoch(), turned);
        drop(all);

        let read = timeout(SOON, reading).await.expect("it ends");
        assert!(matches!(read, Err(ContentError::WrongHash { .. })));
        assert_eq!(requests(), before);
    }
}
