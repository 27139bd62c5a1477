//! A secret file as others have it now: read again when it was replaced.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::secret_file::{FileError, FileVersion};
use icos_sync::SingleFlight;

/// How long a disk may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a file said; `None` if there is none.
pub(super) type Said<T> = Result<Option<T>, FileError>;

/// Something in a file that others may replace.
pub(super) trait Source: Clone + Send + Sync + 'static {
    /// What the file holds.
    type Value: Clone + Send + Sync + 'static;

    /// The file's present state. Blocks on the disk.
    fn stamp(&self) -> Result<Option<FileVersion>, FileError>;

    /// What it holds in which state. Blocks on the disk.
    fn load(&self) -> Result<Option<(Self::Value, FileVersion)>, FileError>;

    /// The error for a disk that does not answer.
    fn busy(&self) -> FileError;
}

/// A [`Source`] and what it last said. However many ask at once, the disk is
/// asked once.
#[derive(Debug)]
pub(super) struct WatchedFile<S: Source> {
    source: S,
    last: Arc<Mutex<Last<S::Value>>>,
    looks: SingleFlight<(), Said<S::Value>>,
}

#[derive(Debug)]
struct Last<T> {
    said: Said<T>,
    /// The state it was in when it said so.
    stamp: Option<FileVersion>,
    looked: Option<Instant>,
    /// The last value there was, though the file was spoilt since.
    good: Option<T>,
}

impl<S: Source> WatchedFile<S> {
    pub(super) fn new(source: S) -> Self {
        Self {
            source,
            last: Arc::new(Mutex::new(Last {
                said: Ok(None),
                stamp: None,
                looked: None,
                good: None,
            })),
            looks: SingleFlight::default(),
        }
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }

    /// What it says, as of no longer than `believed` ago. That there is
    /// nothing, or nothing good, is not believed at all.
    pub(super) async fn get(&self, believed: Duration) -> Said<S::Value> {
        {
            let last = lock(&self.last);
            if let Ok(Some(value)) = &last.said
                && last.looked.is_some_and(|at| at.elapsed() < believed)
            {
                return Ok(Some(value.clone()));
            }
        }
        let (source, last) = (self.source.clone(), Arc::clone(&self.last));
        let look = self.looks.join((), || async move {
            let looking = tokio::task::spawn_blocking(move || look(&source, &last));
            // A panic in there is a bug; the next reader may meet it as well.
            looking
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        });
        match tokio::time::timeout(TIMEOUT, look).await {
            Ok(said) => said,
            Err(_late) => Err(self.source.busy()),
        }
    }

    /// As [`WatchedFile::get`]; while the file is spoilt or its disk does not
    /// answer, what was there before.
    pub(super) async fn get_good(&self, believed: Duration) -> Said<S::Value> {
        let said = self.get(believed).await;
        let good = lock(&self.last).good.clone();
        match (said, good) {
            (Err(error), Some(good)) => {
                tracing::debug!(%error, "using what was there before");
                Ok(Some(good))
            }
            (said, _) => said,
        }
    }
}

fn look<S: Source>(source: &S, last: &Mutex<Last<S::Value>>) -> Said<S::Value> {
    let looked = Some(Instant::now());
    let stamp = source.stamp();
    {
        let mut last = lock(last);
        if last.looked.is_some() && matches!(&stamp, Ok(now) if *now == last.stamp) {
            last.looked = looked;
            return last.said.clone();
        }
    }
    let (said, stamp) = match stamp {
        Ok(before) => match source.load() {
            Ok(Some((value, stamp))) => (Ok(Some(value)), Some(stamp)),
            Ok(None) => (Ok(None), None),
            // As long as it stays as it was, there is nothing new to say.
            Err(error) => (Err(error), before),
        },
        Err(error) => (Err(error), None),
    };
    let mut last = lock(last);
    let good = match &said {
        Ok(value) => value.clone(),
        Err(error) => {
            tracing::warn!(%error, "a login cannot be read");
            last.good.clone()
        }
    };
    *last = Last {
        said: said.clone(),
        stamp,
        looked,
        good,
    };
    said
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
