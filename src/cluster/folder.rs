//! A folder as a store: a network filesystem (NFS, Lustre, GPFS) that all machines mount.
//!
//! - Objects appear complete, by rename or hard link. There are no locks, no mapped
//!   files and no syncs: what a crash leaves incomplete fails its proof.
//! - Others can write to the folder. No symbolic link in it is followed, only regular
//!   files are read, and new files are created under new names.
//! - A filesystem may hang. Work runs on a bounded number of threads; a caller gives up
//!   if no job of the store makes progress, and its job may go on.
//!
//! [`FolderStore::replace`] compares and swaps: one of several writers creates a claim
//! with the name of the expected version, checks the version, renames, and removes the
//! claim. A claim of a writer that died is removed after a while.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use icos_sync::spawn_blocking;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::store::{StoreError, StoreVersion, StoredObject};

mod files;

use files::{Create, FolderFiles};

/// The number of jobs that run at once.
const MAX_JOBS: usize = 32;
/// How long an operation may take, even if others make progress.
const MAX_JOB: Duration = Duration::from_secs(30);
/// How often progress is looked at within the timeout.
const LOOKS: u32 = 4;

/// The store in a folder.
#[derive(Debug)]
pub(super) struct FolderStore {
    path: Arc<PathBuf>,
    timeout: Duration,
    jobs: Arc<Semaphore>,
    progress: Arc<AtomicU64>,
}

impl FolderStore {
    pub(super) fn new(path: PathBuf, timeout: Duration) -> Self {
        Self {
            path: Arc::new(path),
            timeout,
            jobs: Arc::new(Semaphore::new(MAX_JOBS)),
            progress: Arc::default(),
        }
    }

    pub(super) async fn get(
        &self,
        key: &str,
        max: usize,
    ) -> Result<Option<StoredObject>, StoreError> {
        let key = key.to_owned();
        self.run(move |files| files.read(&key, max)).await
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.run(move |files| files.write(&key, &bytes, Create::OrReplace))
            .await
            .map(drop)
    }

    pub(super) async fn create(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        let key = key.to_owned();
        self.run(move |files| files.write(&key, &bytes, Create::New))
            .await
    }

    pub(super) async fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        let (key, expected) = (key.to_owned(), expected.clone());
        self.run(move |files| files.replace(&key, &expected, &bytes))
            .await
    }

    /// Runs `work` on another thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&FolderFiles) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, progress) = (Arc::clone(&self.path), Arc::clone(&self.progress));
        let jobs = Arc::clone(&self.jobs);
        let job = async move {
            // Never fails: the semaphore is never closed.
            let permit = jobs.acquire_owned().await;
            let job = spawn_blocking(move || {
                let opened: io::Result<OwnedFd> = files::open_root(&path);
                let result = opened.and_then(|root| {
                    let files = FolderFiles::new(root, &progress);
                    work(&files)
                });
                progress.fetch_add(1, Ordering::Relaxed);
                drop(permit);
                result
            });
            job.await
        };
        tokio::pin!(job);
        let started = Instant::now();
        let mut last = self.progress.load(Ordering::Relaxed);
        let mut looks = 0;
        loop {
            tokio::select! {
                biased;
                result = &mut job => return match result {
                    Ok(result) => result.map_err(|error| store_error(&error)),
                    Err(_) => Err(StoreError::Failed("its thread ended".to_owned())),
                },
                () = tokio::time::sleep(self.timeout / LOOKS) => {}
            }
            let now = self.progress.load(Ordering::Relaxed);
            looks = if now == last { looks + 1 } else { 0 };
            last = now;
            if looks >= LOOKS || started.elapsed() >= MAX_JOB {
                return Err(StoreError::Stalled(self.timeout));
            }
        }
    }
}

fn store_error(error: &io::Error) -> StoreError {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full(text)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Denied(text)
        }
        _ => StoreError::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FolderStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = FolderStore::new(dir.path().to_owned(), Duration::from_secs(30));
        (dir, store)
    }

    const KEY: &str = "v1/host/original/id/lease";

    /// Regression: the folder of another user, to which the path of the store leads, became
    /// a link, and objects were written wherever it led.
    #[tokio::test]
    async fn store_in_a_folder_of_another_user_is_not_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, target) = (dir.path().join("theirs"), dir.path().join("target"));
        std::fs::create_dir(&theirs).unwrap();
        std::fs::create_dir(&target).unwrap();
        let other = Some(nix::unistd::Uid::from_raw(12_345));
        let anyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), anyone).unwrap();
        let path = theirs.join("cache");
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let store = FolderStore::new(path.clone(), Duration::from_secs(10));
        store.put(KEY, "mine".into()).await.unwrap();
        std::fs::remove_dir_all(target.join("v1")).unwrap();
        nix::unistd::chown(&theirs, other, None).expect("these tests run as root");
        let error = store.put(KEY, "mine".into()).await.unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn object_is_created_once_and_replaced_only_in_the_expected_version() {
        let (_dir, store) = store();
        assert!(store.get(KEY, 10).await.unwrap().is_none());
        let first = store.create(KEY, "one".into()).await.unwrap().unwrap();
        assert_eq!(store.create(KEY, "two".into()).await.unwrap(), None);
        let found = store.get(KEY, 10).await.unwrap().unwrap();
        assert_eq!((&found.bytes[..], &found.version), (&b"one"[..], &first));

        let second = store.replace(KEY, &first, "two".into()).await.unwrap();
        let second = second.unwrap();
        assert_eq!(
            store.replace(KEY, &first, "six".into()).await.unwrap(),
            None
        );
        let found = store.get(KEY, 10).await.unwrap().unwrap();
        assert_eq!((&found.bytes[..], &found.version), (&b"two"[..], &second));

        store.put(KEY, "three".into()).await.unwrap();
        assert_eq!(
            store.replace(KEY, &second, "no".into()).await.unwrap(),
            None
        );
        assert_eq!(
            &store.get(KEY, 10).await.unwrap().unwrap().bytes[..],
            b"three"
        );
        let long = store.get(KEY, 2).await.unwrap().unwrap();
        assert_eq!(
            long.bytes.len(),
            3,
            "one byte more tells that it is too long"
        );
    }

    #[tokio::test]
    async fn one_of_many_racing_writers_creates_or_replaces() {
        let (dir, store) = store();
        let store = Arc::new(store);
        let race = async |expected: Option<StoreVersion>| {
            let racers: Vec<_> = (0..24)
                .map(|n| {
                    let (store, expected) = (Arc::clone(&store), expected.clone());
                    tokio::spawn(async move {
                        let bytes = Bytes::from(format!("writer {n}"));
                        match expected {
                            None => store.create(KEY, bytes).await.unwrap(),
                            Some(expected) => store.replace(KEY, &expected, bytes).await.unwrap(),
                        }
                    })
                })
                .collect();
            let mut winners = Vec::new();
            for racer in racers {
                winners.extend(racer.await.unwrap());
            }
            assert_eq!(winners.len(), 1, "{winners:?}");
            winners.remove(0)
        };
        let mut version = race(None).await;
        for _ in 0..20 {
            version = race(Some(version)).await;
        }
        let found = store.get(KEY, 100).await.unwrap().unwrap();
        assert_eq!(found.version, version);
        let folder = dir.path().join("v1/host/original/id");
        let names: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().collect();
        assert_eq!(
            names.len(),
            1,
            "no temporary file and no claim is left: {names:?}"
        );
    }

    #[tokio::test]
    async fn links_pipes_and_folders_in_place_of_objects_are_not_followed() {
        let (dir, store) = store();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let folder = dir.path().join("v1/host");
        std::fs::create_dir_all(folder.join("directory")).unwrap();
        std::os::unix::fs::symlink(&secret, folder.join("link")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.join("linked")).unwrap();
        nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "pipe", "directory", "linked/x", "absent", "link/x"] {
            let got = store.get(&format!("v1/host/{name}"), 100).await;
            assert!(matches!(got, Ok(None)), "{name}: {got:?}");
        }
        store.put("v1/host/link", "new".into()).await.unwrap();
        assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
        assert!(store.put("v1/host/linked/x", "new".into()).await.is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn folder_that_is_missing_is_an_error() {
        let store = FolderStore::new("/nowhere/at/all".into(), Duration::from_secs(30));
        let error = store.get(KEY, 10).await.unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn operation_ends_at_the_timeout_if_no_job_makes_progress() {
        let (_dir, store) = store();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hanging = store.run(move |_| {
            let _ = held.recv();
            Ok(())
        });
        // Time is paused while a blocking task runs, unless it is advanced.
        let ended = async {
            for _ in 0..=LOOKS {
                tokio::time::advance(store.timeout / LOOKS).await;
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = hanging => assert_eq!(result, Err(StoreError::Stalled(store.timeout))),
            () = ended => {}
        }
        drop(release);
    }
}
