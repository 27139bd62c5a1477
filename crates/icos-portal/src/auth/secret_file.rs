//! A small file with a secret, which other programs read and replace at any
//! time.
//!
//! It is replaced by rename, under an advisory lock on a separate lock file, so
//! that concurrent writers of this crate do not lose updates. The Python
//! library takes no lock and writes in place: content that does not parse is
//! read again for a moment before it is reported as damaged. The files are
//! readable by their owner only. Waiting for the lock has a deadline, because
//! on a network file system its holder may have disappeared.
//!
//! The folder may be of another user, who may put links there at any moment:
//! `icos_files` opens, creates and replaces all files.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use icos_files::{SafePath, check_regular};
use icos_sync::run_blocking;
use nix::sys::stat::{Mode, fchmod};
use secrecy::zeroize::Zeroizing;

/// How long a file that does not parse is read again: a writer in place needs
/// far less time.
const MAX_WRITE_TIME: Duration = Duration::from_millis(if cfg!(test) { 60 } else { 300 });
/// Interval of attempts to read such a file, or to take the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Timeout of the lock. Its holder may be waiting for a login.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum length of the file, in bytes.
const MAX_LEN: usize = 64 << 10;
/// Permissions: readable and writable by the owner only.
const PRIVATE_MODE: u32 = 0o600;

/// Why a login file cannot be used. Contains nothing of its content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    /// An operation of the operating system failed.
    #[error("{path} cannot be {action}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The failed operation, as a participle, e.g. `read`.
        action: &'static str,
        /// The reason that the operating system gives.
        reason: String,
    },
    /// Its content does not have the expected form. The file is not changed.
    #[error(
        "{path} is damaged in line {line}: {reason}; correct it, or remove it and run `icosfs login`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected.
        reason: String,
    },
    /// Another process holds its lock, or its disk does not respond.
    #[error("{path} is in use by another program, or its disk does not respond; try again")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The specified file does not exist.
    #[error("{path} does not exist; create it, or specify another file")]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with the content of a file, and in which line.
#[derive(Debug)]
pub(super) struct LineError {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Identifies a version of a file: it differs after each replacement or write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileVersion {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The path of a file that may or may not exist.
#[derive(Clone, Debug)]
pub(super) struct SecretFile {
    path: PathBuf,
    has_password: bool,
}

/// The lock of a file, held until it is dropped. Needed to replace the file.
#[derive(Debug)]
pub(super) struct FileLock {
    _held: File,
}

impl SecretFile {
    /// Names a file with a token.
    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            path,
            has_password: false,
        }
    }

    /// Names a file with a password.
    pub(super) fn with_password(path: PathBuf) -> Self {
        Self {
            has_password: true,
            ..Self::at(path)
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the present version; `None` if there is no file.
    pub(super) fn version(&self) -> Result<Option<FileVersion>, FileError> {
        let found = SafePath::resolve(&self.path).and_then(|place| place.metadata());
        match found {
            Ok(metadata) => Ok(Some(FileVersion::of(&metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", &error)),
        }
    }

    /// Returns the content, parsed by `parse`, and its version; `None` if there
    /// is no file. Blocks while another program is writing the file.
    pub(super) fn read<T>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T, LineError>,
    ) -> Result<Option<(T, FileVersion)>, FileError> {
        let deadline = Instant::now() + MAX_WRITE_TIME;
        loop {
            let (content, version) = match self.content() {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failed("read", &error)),
            };
            match parse(&content) {
                Ok(value) => return Ok(Some((value, version))),
                Err(_) if Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
                Err(LineError { line, reason }) => {
                    return Err(FileError::Damaged {
                        path: self.path.clone(),
                        line,
                        reason,
                    });
                }
            }
        }
    }

    fn content(&self) -> io::Result<(Zeroizing<Vec<u8>>, FileVersion)> {
        let place = SafePath::resolve(&self.path)?;
        let file = place.folder.read(&place.name)?;
        let metadata = file.metadata()?;
        // With the full capacity from the start, growing leaves no copies in
        // memory.
        let mut content = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
        file.take(MAX_LEN as u64 + 1).read_to_end(&mut content)?;
        if content.len() > MAX_LEN {
            return Err(too_large("found more"));
        }
        Ok((content, FileVersion::of(&metadata)))
    }

    /// Removes the permissions of other users from a file with a password.
    pub(super) fn restrict_permissions(&self) {
        if !self.has_password {
            return;
        }
        let opened = SafePath::resolve(&self.path).and_then(|place| {
            let file = place.folder.read(&place.name)?;
            Ok((place.folder, file))
        });
        // The error is reported when the content is read.
        let Ok((folder, file)) = opened else {
            return;
        };
        let Ok(metadata) = check_regular(&file) else {
            return;
        };
        let mode = metadata.mode() & 0o7777;
        if mode & !PRIVATE_MODE == 0 {
            return;
        }
        let path = self.path.display();
        let restricted = (folder.check_writable(&file))
            .and_then(|()| Ok(fchmod(&file, Mode::from_bits_truncate(PRIVATE_MODE))?));
        match restricted {
            Ok(()) => tracing::warn!(
                "{path} contains a password but had mode {mode:04o}; changed it to 0600"
            ),
            Err(error) => tracing::warn!(
                "{path} contains a password but has mode {mode:04o}; cannot change it to 0600: {error}"
            ),
        }
    }

    /// Takes the lock. It must be held from reading the old content to writing
    /// the new one, so that no update is lost.
    pub(super) async fn lock(&self) -> Result<FileLock, FileError> {
        let deadline = tokio::time::Instant::now() + LOCK_TIMEOUT;
        loop {
            let file = self.clone();
            let attempt = run_blocking(move || file.try_lock());
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(Some(lock))) => return Ok(lock),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(None)) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                Ok(Ok(None)) | Err(_) => return Err(self.busy()),
            }
        }
    }

    fn try_lock(&self) -> Result<Option<FileLock>, FileError> {
        let failed = |error| self.failed("locked", &error);
        let open = || -> io::Result<File> {
            let place = SafePath::resolve_or_create(&self.path)?;
            // The lock file is never removed: a waiter would then lock a file that
            // later callers do not see.
            let name = place.name_with("", ".lock");
            let (file, created) = place.folder.append(&name, PRIVATE_MODE)?;
            if created {
                let of = place.metadata().ok();
                place.folder.give_to_owner(&file, of.as_ref())?;
            }
            Ok(file)
        };
        let file = open().map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FileLock { _held: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Replaces the content atomically.
    pub(super) fn replace(&self, _lock: &FileLock, content: &[u8]) -> Result<(), FileError> {
        let write = || {
            if content.len() > MAX_LEN {
                return Err(too_large(&format!("found {}", content.len())));
            }
            let place = SafePath::resolve_or_create(&self.path)?;
            // A fixed name, so that the remains of a crash are removed here.
            let new = place.name_with(".", ".new");
            place
                .folder
                .replace(&place.name, &new, PRIVATE_MODE, content)
        };
        write().map_err(|error| self.failed("written", &error))
    }

    /// Removes the file. Returns false if there was none. Waits for the holder
    /// of the lock.
    pub(super) async fn remove(&self) -> Result<bool, FileError> {
        if self.version()?.is_none() {
            return Ok(false);
        }
        let _lock = self.lock().await?;
        SafePath::resolve(&self.path)
            .and_then(|place| place.folder.remove(&place.name))
            .map_err(|error| self.failed("removed", &error))
    }

    pub(super) fn busy(&self) -> FileError {
        let path = self.path.clone();
        FileError::Busy { path }
    }

    pub(super) fn failed(&self, action: &'static str, error: &io::Error) -> FileError {
        FileError::Io {
            path: self.path.clone(),
            action,
            reason: error.to_string(),
        }
    }
}

/// The error for a content that does not fit into the file.
fn too_large(found: &str) -> io::Error {
    io::Error::other(format!("expected at most {MAX_LEN} bytes, {found}"))
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests may fail if no thread starts"
)]
mod tests {
    use super::*;

    fn text(content: &[u8]) -> Result<String, LineError> {
        match std::str::from_utf8(content) {
            Ok(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(LineError {
                line: 1,
                reason: "expected a text".to_owned(),
            }),
        }
    }

    #[tokio::test]
    async fn replaced_file_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("new folder/secret"));
        assert!(file.read(text).unwrap().is_none());
        assert_eq!(file.version().unwrap(), None);
        let lock = file.lock().await.unwrap();
        file.replace(&lock, b"one").unwrap();
        let (content, version) = file.read(text).unwrap().unwrap();
        assert_eq!(content, "one");
        assert_eq!(file.version().unwrap(), Some(version));
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);

        file.replace(&lock, b"two").unwrap();
        assert_ne!(file.version().unwrap(), Some(version));
        drop(lock);
        assert!(file.remove().await.unwrap() && !file.remove().await.unwrap());
        let left: Vec<_> = fs::read_dir(dir.path().join("new folder"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["secret.lock"]);
    }

    #[tokio::test]
    async fn read_fails_with_path_and_reason_on_anything_but_a_small_file() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("long");
        fs::write(&long, vec![b'x'; MAX_LEN + 1]).unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for (path, reason) in [
            (
                dir.path().to_owned(),
                "expected a regular file, found a folder",
            ),
            (pipe, "expected a regular file, found a named pipe"),
            (long.clone(), "expected at most 65536 bytes"),
        ] {
            let error = SecretFile::at(path.clone())
                .read(text)
                .unwrap_err()
                .to_string();
            let named = error.contains(&path.display().to_string());
            assert!(named && error.contains(reason), "{error}");
        }
        let below = SecretFile::at(long.join("secret"));
        let failures = [
            below.version().unwrap_err(),
            below.read(text).unwrap_err(),
            below.lock().await.unwrap_err(),
            below.remove().await.unwrap_err(),
        ];
        for error in failures {
            assert!(error.to_string().contains("long/secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn content_that_is_too_large_to_be_read_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        let lock = file.lock().await.unwrap();
        file.replace(&lock, &vec![b'x'; MAX_LEN]).unwrap();
        assert_eq!(file.read(text).unwrap().unwrap().0.len(), MAX_LEN);
        let error = file.replace(&lock, &vec![b'y'; MAX_LEN + 1]).unwrap_err();
        assert!(error.to_string().contains("found 65537"), "{error}");
        assert!(file.read(text).unwrap().unwrap().0.starts_with('x'));
    }

    #[tokio::test]
    async fn failed_replace_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        let lock = file.lock().await.unwrap();
        file.replace(&lock, b"old").unwrap();
        // A folder at the path of the new file.
        fs::create_dir_all(dir.path().join(".secret.new/full")).unwrap();
        let error = file.replace(&lock, b"new").unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
        assert_eq!(file.read(text).unwrap().unwrap().0, "old");
    }

    #[tokio::test(start_paused = true)]
    async fn lock_fails_as_busy_after_its_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        let _held = file.lock().await.unwrap();
        let error = file.lock().await.unwrap_err();
        assert!(matches!(error, FileError::Busy { .. }), "{error}");
    }

    #[tokio::test]
    async fn replace_keeps_a_symbolic_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let file = SecretFile::at(link.clone());
        file.replace(&file.lock().await.unwrap(), b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn read_waits_for_a_writer_and_reports_a_damaged_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        fs::write(file.path(), "").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                fs::write(file.path(), "whole").unwrap();
            });
            assert_eq!(file.read(text).unwrap().unwrap().0, "whole");
        });
        fs::write(file.path(), b"\xff").unwrap();
        let message = file.read(text).unwrap_err().to_string();
        let path = file.path().display().to_string();
        assert!(message.contains(&path) && message.contains("line 1"));
        assert_eq!(
            fs::read(file.path()).unwrap(),
            b"\xff",
            "the file is not changed"
        );
    }

    #[tokio::test]
    async fn lock_waits_for_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        let first = file.lock().await.unwrap();
        assert!(file.try_lock().unwrap().is_none());
        let waiting = tokio::spawn({
            let file = file.clone();
            async move { file.lock().await }
        });
        tokio::time::sleep(POLL_INTERVAL * 3).await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
    }
}
