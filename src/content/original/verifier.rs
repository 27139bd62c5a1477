//! Verifies an original against its id, and decides which reads wait for that.
//!
//! Invariants:
//!
//! - Files up to [`DownloadOptions::whole_file_limit`]: once the cache has
//!   received all bytes, reads wait until the file is verified.
//! - Reads of a file above that limit wait if it is complete, or if its hash can be
//!   finished without downloading evicted blocks again; otherwise they never wait.
//! - Only a verified file is sealed; a corrupt one is discarded, and
//!   [`CorruptFiles`] counts it at the same moment.
//!
//! [`DownloadOptions::whole_file_limit`]: crate::content::DownloadOptions::whole_file_limit
//! [`CorruptFiles`]: super::CorruptFiles

use std::sync::Arc;

use super::ContentError;
use super::context::OriginalContext;
use super::downloads::Downloads;
use super::running_hash::HashCheck;
use crate::cache::CacheError;
use icos_sync::SingleFlight;

/// How often a verification downloads evicted bytes again before it fails.
const MAX_ROUNDS: u32 = 4;

/// Verifies one original.
#[derive(Debug)]
pub(super) struct Verifier {
    file: Arc<OriginalContext>,
    downloads: Arc<Downloads>,
    flights: SingleFlight<(), Result<(), ContentError>>,
}

impl Verifier {
    pub(super) fn new(file: Arc<OriginalContext>, downloads: Arc<Downloads>) -> Self {
        Self {
            file,
            downloads,
            flights: SingleFlight::default(),
        }
    }

    /// Whether reads must wait until the file is verified.
    pub(super) fn must_wait(&self) -> bool {
        let cached = &self.file.cached;
        if cached.is_verified() || !cached.has_all_checksums() {
            return false;
        }
        cached.len() <= self.file.options.whole_file_limit
            || cached.is_complete()
            // Evicted bytes would be downloaded again, unless they are hashed already.
            || self.file.hash.can_finish(cached)
    }

    /// Compares the file with its id, and downloads evicted bytes again for
    /// that. A verified file is sealed, a corrupt one discarded.
    pub(super) async fn verify(self: &Arc<Self>) -> Result<(), ContentError> {
        let verifier = Arc::clone(self);
        let flight = || async move {
            let mut rounds = 0;
            while rounds < MAX_ROUNDS {
                match verifier.check().await? {
                    HashCheck::Unfinished => {}
                    HashCheck::Match(epoch) => {
                        let cached = Arc::clone(&verifier.file.cached);
                        cached.seal_in_background(epoch).await;
                        return Ok(());
                    }
                    HashCheck::Missing(from) => {
                        rounds += 1;
                        verifier.downloads.fetch_rest(from).await?;
                    }
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
        let checking = self.file.cached.disk().run(move || {
            let check = file.hash.check(&file.cached, file.id)?;
            match check {
                HashCheck::Missing(_) | HashCheck::Unfinished => {}
                HashCheck::Mismatch(epoch) => {
                    tracing::warn!(id = %file.id, "an original does not match its id; its bytes are discarded");
                    // Counted under the cache file's lock: no reader continues
                    // with bytes of the next epoch, and no new reader finds
                    // bytes of this one.
                    let note = || file.corrupt_files.note(file.id);
                    file.cached.discard(epoch, note);
                    file.data.distrust(file.id);
                }
                HashCheck::Match(epoch) => {
                    file.cached.mark_verified(epoch);
                }
            }
            Ok(check)
        });
        checking.await?
    }

    /// Has the next verification wait for `flight`.
    #[cfg(test)]
    pub(super) fn join_first(
        &self,
        flight: impl Future<Output = Result<(), ContentError>> + Send + 'static,
    ) {
        use futures_util::FutureExt as _;
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
    use futures_util::FutureExt as _;
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
                data.into(),
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

    #[tokio::test]
    async fn all_reads_of_a_complete_file_wait_during_verification() {
        for whole_file_limit in [LEN, LEN - 1] {
            let verifying = Verifying::begin(whole_file_limit).await;
            assert!(!verifying.is_read(0).await);
            let reads = [verifying.read(0), verifying.read(LEN - 1000)];
            verifying.end.send(()).unwrap();
            for read in reads {
                assert_read(read).await;
            }
        }
    }

    /// Such a reader downloaded the file again, and others then got its bytes, valid
    /// or not.
    #[tokio::test]
    async fn a_reader_that_saw_corrupt_data_triggers_no_download() {
        let verifying = Verifying::begin(LEN).await;
        let file = &verifying.file;
        let before = file.downloads.requests();
        let mut reading = pin!(Arc::clone(file).read(0, 0, 1000));
        assert!((&mut reading).now_or_never().is_none());

        let cached = file.cached_file();
        let note = || file.context.corrupt_files.note(file.context.id);
        cached.discard(cached.epoch(), note);
        verifying.end.send(()).unwrap();

        let read = timeout(SOON, reading).await.expect("it returns");
        assert!(matches!(read, Err(ContentError::WrongHash { .. })));
        assert_eq!(file.downloads.requests(), before);
    }
}
