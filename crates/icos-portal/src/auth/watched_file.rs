//! A cache of the content of a login file, which other programs may replace at
//! any time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::secret_file::{FileError, FileVersion};
use icos_sync::SingleFlight;

/// Timeout of the disk.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The content of a file; `None` if there is no file.
pub(super) type ReadResult<T> = Result<Option<T>, FileError>;

/// A file whose content other programs may replace.
pub(super) trait ReloadableFile: Clone + Send + Sync + 'static {
    /// The parsed content.
    type Content: Clone + Send + Sync + 'static;

    /// Returns the present version of the file. Blocks on disk I/O.
    fn version(&self) -> Result<Option<FileVersion>, FileError>;

    /// Reads the content, and the version that it belongs to. Blocks on disk
    /// I/O.
    fn load(&self) -> Result<Option<(Self::Content, FileVersion)>, FileError>;

    /// Returns the error for a disk that does not respond.
    fn busy(&self) -> FileError;
}

/// A file and its content when it was last read. Concurrent callers cause one
/// access to the disk.
#[derive(Debug)]
pub(super) struct WatchedFile<F: ReloadableFile> {
    file: F,
    last: Arc<Mutex<LastRead<F::Content>>>,
    reloads: SingleFlight<(), ReadResult<F::Content>>,
}

#[derive(Debug)]
struct LastRead<T> {
    result: ReadResult<T>,
    /// The version of the file at that time.
    version: Option<FileVersion>,
    checked: Option<Instant>,
    /// The last valid content, even if the file has been damaged since.
    last_valid: Option<T>,
}

impl<F: ReloadableFile> WatchedFile<F> {
    pub(super) fn new(file: F) -> Self {
        Self {
            file,
            last: Arc::new(Mutex::new(LastRead {
                result: Ok(None),
                version: None,
                checked: None,
                last_valid: None,
            })),
            reloads: SingleFlight::default(),
        }
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// Returns the content, at most `max_age` old. That there is no file, and
    /// errors, are not cached.
    pub(super) async fn get(&self, max_age: Duration) -> ReadResult<F::Content> {
        {
            let last = lock(&self.last);
            if let Ok(Some(value)) = &last.result
                && last.checked.is_some_and(|at| at.elapsed() < max_age)
            {
                return Ok(Some(value.clone()));
            }
        }
        let (file, last) = (self.file.clone(), Arc::clone(&self.last));
        let reload = self.reloads.join((), || async move {
            let reload = tokio::task::spawn_blocking(move || reload(&file, &last));
            // Propagates a panic of the task, which is a bug.
            reload
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        });
        match tokio::time::timeout(TIMEOUT, reload).await {
            Ok(result) => result,
            Err(_elapsed) => Err(self.file.busy()),
        }
    }

    /// As [`WatchedFile::get`], but returns the last valid content while the
    /// file is damaged or its disk does not respond.
    pub(super) async fn get_last_valid(&self, max_age: Duration) -> ReadResult<F::Content> {
        let result = self.get(max_age).await;
        let last_valid = lock(&self.last).last_valid.clone();
        match (result, last_valid) {
            (Err(error), Some(last_valid)) => {
                tracing::debug!(%error, "using the last valid login");
                Ok(Some(last_valid))
            }
            (result, _) => result,
        }
    }
}

fn reload<F: ReloadableFile>(
    file: &F,
    last: &Mutex<LastRead<F::Content>>,
) -> ReadResult<F::Content> {
    let checked = Some(Instant::now());
    let version = file.version();
    {
        let mut last = lock(last);
        if last.checked.is_some() && matches!(&version, Ok(now) if *now == last.version) {
            last.checked = checked;
            return last.result.clone();
        }
    }
    let (result, version) = match version {
        Ok(before) => match file.load() {
            Ok(Some((value, version))) => (Ok(Some(value)), Some(version)),
            Ok(None) => (Ok(None), None),
            // The error stays the same until the file changes.
            Err(error) => (Err(error), before),
        },
        Err(error) => (Err(error), None),
    };
    let mut last = lock(last);
    let last_valid = match &result {
        Ok(value) => value.clone(),
        Err(error) => {
            tracing::warn!(%error, "cannot read a login file");
            last.last_valid.clone()
        }
    };
    *last = LastRead {
        result: result.clone(),
        version,
        checked,
        last_valid,
    };
    result
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
