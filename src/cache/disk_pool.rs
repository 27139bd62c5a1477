//! The disk pool: threads for work that waits for the disk, a bounded number of them.
//!
//! An async worker that waits for a disk delays every other task, and a disk may
//! hang: a network file system, a failing device. So work on the disk runs here. A
//! caller stops waiting at the deadline, or when it is dropped; its job then still
//! runs to its end, and counts until then.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use icos_sync::spawn_blocking;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::timeout;

use super::{CacheError, display_path};

/// The number of jobs that run at once. A disk that hangs takes no more threads.
const MAX_JOBS: usize = 64;
/// How long a caller waits for its job, the time before it begins included. Longer than
/// any disk that works takes.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Threads for disk work. Cheap to clone: clones share the bound.
#[derive(Clone, Debug)]
pub struct DiskPool {
    jobs: Arc<Semaphore>,
    root: Arc<Path>,
}

impl DiskPool {
    /// A pool for the disk of the cache in `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            jobs: Arc::new(Semaphore::new(MAX_JOBS)),
            root: root.into(),
        }
    }

    /// Runs `work` on a thread of the pool, and returns its result. A panic of `work`
    /// continues in the caller.
    ///
    /// # Errors
    ///
    /// [`CacheError::DiskHangs`] if that takes too long.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CacheError> {
        let job = async {
            // Never fails, because the semaphore is never closed.
            let permit = Arc::clone(&self.jobs).acquire_owned().await;
            let job = spawn_blocking(move || {
                let result = work();
                drop(permit);
                result
            });
            match job.await.map_err(JoinError::try_into_panic) {
                Ok(result) => Some(result),
                Err(Ok(panic)) => resume_unwind(panic),
                // The runtime ends.
                Err(Err(_cancelled)) => None,
            }
        };
        let result = timeout(TIMEOUT, job).await;
        result.ok().flatten().ok_or_else(|| CacheError::DiskHangs {
            path: display_path(&self.root),
            seconds: TIMEOUT.as_secs(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn caller_gives_up_at_the_deadline_while_jobs_hang() {
        let pool = DiskPool::new(Path::new("/cache"));
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let mut callers: Vec<_> = (0..=MAX_JOBS)
            .map(|_| {
                let held = Arc::clone(&held);
                Box::pin(pool.run(move || held.lock().unwrap().recv().is_err()))
            })
            .collect();
        assert!(
            callers
                .iter_mut()
                .all(|caller| caller.now_or_never().is_none())
        );
        // The last one waits for a thread.
        tokio::time::advance(TIMEOUT).await;
        for caller in callers {
            let given_up = caller.now_or_never();
            assert!(matches!(given_up, Some(Err(CacheError::DiskHangs { .. }))));
        }
        drop(release);
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
    }
}
