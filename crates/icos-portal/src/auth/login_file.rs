//! Files with a login, which other programs may replace at any time, and the
//! sources from which providers take a login.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::secret_file::{FileError, FileLock, FileVersion, LineError, SecretFile};
use crate::Envri;
use icos_sync::{Mutex, SingleFlight, run_blocking};

/// Timeout of the disk.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Parses the content of a file.
type Parse<T> = fn(&[u8], Envri) -> Result<T, LineError>;

/// The login in a file; `None` if there is no file.
type ReadResult<T> = Result<Option<T>, FileError>;

/// A file with a login of one repository: [`TokenFile`](super::TokenFile) or
/// [`CredentialsFile`](super::CredentialsFile).
///
/// Clones share a cache of its content.
#[derive(Clone, Debug)]
pub struct LoginFile<T> {
    pub(super) file: SecretFile,
    pub(super) envri: Envri,
    parse: Parse<T>,
    last: Arc<Mutex<LastRead<T>>>,
    /// A single access to the disk for all concurrent callers.
    reloads: Arc<SingleFlight<(), ReadResult<T>>>,
}

/// The result of the last access to the disk.
#[derive(Debug)]
struct LastRead<T> {
    result: ReadResult<T>,
    /// The version of the file at that time.
    version: Option<FileVersion>,
    checked: Option<Instant>,
    /// The last valid login, even if the file has been damaged since.
    last_valid: Option<T>,
}

impl<T: Clone + Send + Sync + 'static> LoginFile<T> {
    pub(super) fn new(file: SecretFile, envri: Envri, parse: Parse<T>) -> Self {
        Self {
            file,
            envri,
            parse,
            last: Arc::new(Mutex::new(LastRead {
                result: Ok(None),
                version: None,
                checked: None,
                last_valid: None,
            })),
            reloads: Arc::default(),
        }
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the login; `None` if there is no such file. Blocks on disk I/O.
    ///
    /// # Errors
    ///
    /// [`FileError::Damaged`] if the file does not have the expected form.
    pub fn load(&self) -> Result<Option<T>, FileError> {
        Ok(self.read()?.map(|(login, _)| login))
    }

    /// Removes the file. Returns false if there was none.
    pub async fn remove(&self) -> Result<bool, FileError> {
        self.file.remove().await
    }

    pub(super) async fn lock(&self) -> Result<FileLock, FileError> {
        self.file.lock().await
    }

    /// Returns the error for a file that does not exist.
    pub(crate) fn missing(&self) -> FileError {
        let path = self.path().to_owned();
        FileError::Missing { path }
    }

    fn read(&self) -> Result<Option<(T, FileVersion)>, FileError> {
        self.file.restrict_permissions();
        self.file.read(|content| (self.parse)(content, self.envri))
    }

    /// Returns the login, at most `max_age` old. That there is no file, and errors,
    /// are not cached. While the file is damaged or its disk does not respond,
    /// returns the last valid login.
    async fn get(&self, max_age: Duration) -> ReadResult<T> {
        {
            let last = self.last.lock();
            if let Ok(Some(login)) = &last.result
                && last.checked.is_some_and(|at| at.elapsed() < max_age)
            {
                return Ok(Some(login.clone()));
            }
        }
        let file = self.clone();
        let reload = self
            .reloads
            .join((), || run_blocking(move || file.reload()));
        let result = match tokio::time::timeout(TIMEOUT, reload).await {
            Ok(result) => result,
            Err(_elapsed) => Err(self.file.busy()),
        };
        let last_valid = self.last.lock().last_valid.clone();
        match (result, last_valid) {
            (Err(error), Some(last_valid)) => {
                tracing::debug!(%error, "using the last valid login");
                Ok(Some(last_valid))
            }
            (result, _) => result,
        }
    }

    fn reload(&self) -> ReadResult<T> {
        let checked = Some(Instant::now());
        let version = self.file.version();
        {
            let mut last = self.last.lock();
            if last.checked.is_some() && matches!(&version, Ok(now) if *now == last.version) {
                last.checked = checked;
                return last.result.clone();
            }
        }
        let (result, version) = match version {
            Ok(before) => match self.read() {
                Ok(Some((login, version))) => (Ok(Some(login)), Some(version)),
                Ok(None) => (Ok(None), None),
                // The error stays the same until the file changes.
                Err(error) => (Err(error), before),
            },
            Err(error) => (Err(error), None),
        };
        let mut last = self.last.lock();
        match &result {
            Ok(login) => last.last_valid.clone_from(login),
            Err(error) => tracing::warn!(%error, "cannot read a login file"),
        }
        last.result.clone_from(&result);
        (last.version, last.checked) = (version, checked);
        result
    }
}

/// Where a provider takes the login from.
#[derive(Debug)]
pub(super) enum LoginSource<T> {
    /// From the caller, with a name for display.
    Fixed { login: T, name: String },
    /// From a file, which other programs may replace.
    File(LoginFile<T>),
}

impl<T: Clone + Send + Sync + 'static> LoginSource<T> {
    /// The source for display.
    pub(super) fn name(&self) -> String {
        match self {
            LoginSource::Fixed { name, .. } => name.clone(),
            LoginSource::File(file) => file.path().display().to_string(),
        }
    }

    /// Returns the login; that of a file is at most `max_age` old.
    ///
    /// # Errors
    ///
    /// [`FileError::Missing`] if there is no file.
    pub(super) async fn login(&self, max_age: Duration) -> Result<T, FileError> {
        match self {
            LoginSource::Fixed { login, .. } => Ok(login.clone()),
            LoginSource::File(file) => file.get(max_age).await?.ok_or_else(|| file.missing()),
        }
    }
}
