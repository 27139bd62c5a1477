//! Verifies an original against its id, and decides which reads wait for that.
//!
//! Invariants:
//!
//! - Files up to [`DownloadOptions::whole_file_limit`]: once the cache has
//!   received all bytes, reads wait until the file is verified. If the file is
//!   complete, only reads of the block that was stored last wait: a reader without
//!   that block does not have the complete file. If it is unknown which block that
//!   is, all reads wait.
//! - Reads of a file above that limit wait if it is complete, or if its hash can be
//!   finished without downloading evicted blocks again; otherwise they never wait.
//! - Only a verified file is sealed; a corrupt one is discarded, and
//!   [`CorruptFiles`] counts it at the same moment.
//!
//! [`DownloadOptions::whole_file_limit`]: crate::content::DownloadOptions::whole_file_limit
//! [`CorruptFiles`]: super::CorruptFiles

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;

use super::ContentError;
use super::context::OriginalContext;
use super::downloads::Downloads;
use super::running_hash::HashCheck;
use crate::cache::{CacheError, Epoch};
use icos_sync::SingleFlight;

/// How often a verification downloads evicted bytes again before it fails.
const MAX_ROUNDS: u32 = 4;

/// Verifies one original.
#[derive(Debug)]
pub(super) struct Verifier {
    file: Arc<OriginalContext>,
    downloads: Arc<Downloads>,
    flights: SingleFlight<(), Result<(), ContentError>>,
    /// The epoch for which a verification was started before a read waited for
    /// it.
    started_for: Mutex<Option<Epoch>>,
}

impl Verifier {
    pub(super) fn new(file: Arc<OriginalContext>, downloads: Arc<Downloads>) -> Self {
        Self {
            file,
            downloads,
            flights: SingleFlight::default(),
            started_for: Mutex::default(),
        }
    }

    /// Whether a read of `range` must wait until the file is verified.
    pub(super) async fn must_wait(self: &Arc<Self>, range: &Range<u64>) -> bool {
        let cached = &self.file.cached;
        if cached.is_verified() || !cached.has_all_checksums() {
            return false;
        }
        if cached.len() <= self.file.options.whole_file_limit {
            return !(cached.is_complete() && self.may_pass(range));
        }
        // Readers may have got any part of a longer file before it was complete.
        if cached.is_complete() {
            return true;
        }
        // Evicted bytes would be downloaded again, unless they are hashed
        // already.
        let _recall = self.file.hash.recall().await;
        self.file.hash.can_finish(cached)
    }

    /// Whether a read of `range` may pass, because it is outside the block that
    /// was stored last. Starts the verification in that case.
    fn may_pass(self: &Arc<Self>, range: &Range<u64>) -> bool {
        let epoch = self.file.cached.epoch();
        let Some(withheld) = self.file.cached.last_new_block() else {
            return false;
        };
        let is_outside = range.end <= withheld.start || withheld.end <= range.start;
        if !is_outside || range.is_empty() {
            return false;
        }
        let started_for = {
            let mut started_for = (self.started_for.lock()).unwrap_or_else(PoisonError::into_inner);
            started_for.replace(epoch)
        };
        if started_for != Some(epoch) {
            // Continues in the background. Reads that wait get its error.
            let _ = self.verify().now_or_never();
        }
        true
    }

    /// Compares the file with its id, and downloads evicted bytes again for
    /// that. A verified file is sealed, a corrupt one discarded.
    pub(super) async fn verify(self: &Arc<Self>) -> Result<(), ContentError> {
        let verifier = Arc::clone(self);
        let flight = || async move {
            for _ in 0..MAX_ROUNDS {
                let recall = verifier.file.hash.recall().await;
                let check = verifier.check().await?;
                drop(recall);
                match check {
                    HashCheck::Match(epoch) => {
                        let cached = Arc::clone(&verifier.file.cached);
                        cached.seal_in_background(epoch).await;
                        return Ok(());
                    }
                    HashCheck::Missing(from) => verifier.downloads.fetch_rest(from).await?,
                    HashCheck::Mismatch(_) => {
                        let id = verifier.file.id;
                        return Err(ContentError::WrongHash { id });
                    }
                }
            }
            // Downloaded bytes are evicted before they can be hashed.
            Err(CacheError::TooSmall.into())
        };
        self.flights.join((), flight).await
    }

    /// Hashes what the cache has, and discards it if it is corrupt.
    async fn check(&self) -> Result<HashCheck, ContentError> {
        let file = Arc::clone(&self.file);
        let checking = tokio::task::spawn_blocking(move || {
            let check = file.hash.check(&file.cached, file.id)?;
            match check {
                HashCheck::Missing(_) => {}
                HashCheck::Mismatch(epoch) => {
                    tracing::warn!(id = %file.id, "an original does not match its id; its bytes are discarded");
                    // Counted under the cache file's lock: no reader continues
                    // with bytes of the next epoch, and no new reader finds
                    // bytes of this one.
                    let note = || file.corrupt_files.note(file.id);
                    file.cached.discard(epoch, note);
                }
                HashCheck::Match(epoch) => {
                    file.cached.mark_verified(epoch);
                }
            }
            Ok(check)
        });
        // A panic in the task is a bug: the file is not trusted.
        let id = self.file.id;
        checking
            .await
            .unwrap_or(Err(ContentError::WrongHash { id }))
    }

    /// Has the next verification wait for `flight`.
    #[cfg(test)]
    pub(super) fn join_first(
        &self,
        flight: impl Future<Output = Result<(), ContentError>> + Send + 'static,
    ) {
        let joined = self.flights.join((), || flight);
        assert!(joined.now_or_never().is_none());
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

    use super::super::OriginalFile;
    use super::*;
    use crate::cache::{CacheLimits, CachePath, Store};
    use crate::content::DownloadOptions;
    use crate::demo_portal::client_services;
    use crate::memory::MemoryBudget;
    use icos_demo::{DemoOptions, DemoPortal, DemoRepository};
    use icos_portal::Bootstrap;

    const LEN: u64 = 2 << 20;
    const SOON: Duration = Duration::from_secs(15);

    /// A complete file whose first verification lasts until the test ends it.
    struct Verifying {
        file: Arc<OriginalFile>,
        end: oneshot::Sender<()>,
        _resources: (DemoPortal, tempfile::TempDir),
    }

    impl Verifying {
        /// Starts with a file that is downloaded completely up to
        /// `whole_file_limit`.
        async fn begin(whole_file_limit: u64) -> Self {
            let mut repository = DemoRepository::builtin(1);
            let id = repository.add_original("x.bin", LEN);
            let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
            let bootstrap = Bootstrap::with_services(client_services(&portal)).unwrap();
            let data = bootstrap.from_cookie_token(&portal.token()).unwrap().data;
            let dir = tempfile::tempdir().unwrap();
            let (disk, memory) = (1 << 30, 64 << 20);
            let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
            let cached = store.file(&CachePath::new("bin", "x").unwrap(), LEN);
            let (memory, connections) = (MemoryBudget::new(memory), NonZeroU32::MIN);
            let options = DownloadOptions {
                connections,
                whole_file_limit,
            };
            let (corrupt_files, request_stats) = (Arc::default(), Arc::default());
            let file = OriginalFile::new(
                id,
                cached,
                data,
                memory,
                options,
                corrupt_files,
                request_stats,
            );
            let file = Arc::new(file);
            let (end, ended) = oneshot::channel::<()>();
            file.verifier.join_first(async {
                let _ = ended.await;
                Ok(())
            });
            let rest = file.downloads.fetch_rest(0);
            timeout(SOON, rest).await.expect("it arrives").unwrap();
            assert!(file.cached_file().is_complete());
            Self {
                file,
                end,
                _resources: (portal, dir),
            }
        }

        /// Reads some bytes in a task of its own.
        fn read(&self, offset: u64) -> JoinHandle<Result<Bytes, ContentError>> {
            tokio::spawn(Arc::clone(&self.file).read(0, offset, 1000))
        }

        /// Whether a read returns before the verification has ended.
        async fn is_read(&self, offset: u64) -> bool {
            let (mut reading, a_while) = (self.read(offset), Duration::from_millis(200));
            timeout(a_while, &mut reading).await.is_ok()
        }
    }

    async fn assert_read(reading: JoinHandle<Result<Bytes, ContentError>>) {
        let read = timeout(SOON, reading).await.expect("it returns").unwrap();
        assert_eq!(read.unwrap().len(), 1000);
    }

    /// All reads waited: a second for a GiB that several connections
    /// downloaded.
    #[tokio::test]
    async fn reads_outside_the_last_new_block_pass_during_verification() {
        let verifying = Verifying::begin(LEN).await;
        assert_read(verifying.read(0)).await;
        assert!(!verifying.is_read(LEN - 1000).await);
        let last = verifying.read(LEN - 1000);
        verifying.end.send(()).unwrap();
        assert_read(last).await;
        assert!(verifying.file.cached_file().is_verified());
    }

    /// The last new block may have been read before other blocks were evicted
    /// and downloaded again.
    #[tokio::test]
    async fn all_reads_of_a_file_over_the_limit_wait_during_verification() {
        let verifying = Verifying::begin(LEN - 1).await;
        assert!(!verifying.is_read(0).await);
        let first = verifying.read(0);
        verifying.end.send(()).unwrap();
        assert_read(first).await;
    }

    /// Such a reader downloaded the file again, and others then got its bytes, valid
    /// or not.
    #[tokio::test]
    async fn a_reader_that_saw_corrupt_data_triggers_no_download() {
        let verifying = Verifying::begin(LEN).await;
        let file = &verifying.file;
        let before = file.downloads.requests();
        // Without memory, a read waits after it has looked for its bytes.
        let all = file.context.memory.reserve_reply(u64::MAX).await.unwrap();
        let mut reading = pin!(Arc::clone(file).read(0, 0, 1000));
        assert!((&mut reading).now_or_never().is_none());

        let cached = file.cached_file();
        let note = || file.context.corrupt_files.note(file.context.id);
        cached.discard(cached.epoch(), note);
        drop(all);

        let read = timeout(SOON, reading).await.expect("it returns");
        assert!(matches!(read, Err(ContentError::WrongHash { .. })));
        assert_eq!(file.downloads.requests(), before);
    }
}
