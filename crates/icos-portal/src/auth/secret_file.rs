//! A small file with a secret in it, which other programs read and replace at
//! any moment.
//!
//! We replace it by rename, under an advisory lock on a file beside it, so
//! that no two of us lose each other's words. The portal's Python library
//! knows no lock and writes in place: what cannot be parsed is read again for
//! a moment before it is called damaged. Only its owner may read what we
//! write. Waiting for the lock has a deadline: on a network file system whoever
//! holds it may never come back.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use secrecy::zeroize::Zeroizing;

/// How long a file that does not parse is given to become whole: whoever
/// writes in place needs far less.
const HALF_WRITTEN: Duration = Duration::from_millis(if cfg!(test) { 60 } else { 300 });
/// How often it, and the lock, is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// How long to wait for the lock. Its holder at worst waits for a login.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// No login needs more.
const LONGEST: usize = 64 << 10;
/// For the owner alone.
const PRIVATE: u32 = 0o600;

/// Why a file with a login cannot be used. Shows nothing of its content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{path} cannot be {action}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was to be done, e.g. `read`.
        action: &'static str,
        /// The operating system's words.
        reason: String,
    },
    /// Its content is not what it should be. The file is left as it is.
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
    /// Someone else holds its lock, or its disk does not answer.
    #[error("{path} is in use by another program, or its disk does not answer; try again")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A file that was named is not there.
    #[error("{path} is not there; name another, or make it")]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with a file's content, and where.
#[derive(Debug)]
pub(super) struct LineError {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Tells one state of a file from the next.
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

/// Where the file is, if it is.
#[derive(Clone, Debug)]
pub(super) struct SecretFile {
    path: PathBuf,
}

/// The right to replace a file, until it is dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    _held: File,
}

impl SecretFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's present state; `None` if there is no file.
    pub(super) fn stamp(&self) -> Result<Option<FileVersion>, FileError> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(FileVersion::of(&metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", &error)),
        }
    }

    /// What `parse` makes of the content, and the state it was in; `None` if
    /// there is no file. Blocks while the file is half written.
    pub(super) fn read<T>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T, LineError>,
    ) -> Result<Option<(T, FileVersion)>, FileError> {
        let deadline = Instant::now() + HALF_WRITTEN;
        loop {
            let (content, stamp) = match self.content() {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failed("read", &error)),
            };
            match parse(&content) {
                Ok(value) => return Ok(Some((value, stamp))),
                Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
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
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > LONGEST as u64 {
            return Err(io::Error::other("expected a small file"));
        }
        // Roomy from the start: growing would leave copies behind.
        let mut content = Zeroizing::new(Vec::with_capacity(LONGEST));
        file.take(LONGEST as u64).read_to_end(&mut content)?;
        Ok((content, FileVersion::of(&metadata)))
    }

    /// Takes the file away from the eyes of others, if it is open to them.
    pub(super) fn tighten(&self) {
        let Ok(metadata) = fs::metadata(&self.path) else {
            return;
        };
        let mode = metadata.mode() & 0o7777;
        if !metadata.is_file() || mode & !PRIVATE == 0 {
            return;
        }
        let path = self.path.display();
        match fs::set_permissions(&self.path, Permissions::from_mode(PRIVATE)) {
            Ok(()) => tracing::warn!(
                "{path} with a password in it had mode {mode:04o}; it is 0600 now, for its owner alone"
            ),
            Err(error) => tracing::warn!(
                "{path} with a password in it has mode {mode:04o}, and cannot be made 0600: {error}"
            ),
        }
    }

    /// The right to replace the file: to be had before it is read, so that
    /// what is written builds on what was there.
    pub(super) async fn lock(&self) -> Result<FileLock, FileError> {
        let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
        loop {
            let file = self.clone();
            let attempt = tokio::task::spawn_blocking(move || file.try_lock());
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(Ok(Some(lock)))) => return Ok(lock),
                Ok(Ok(Err(error))) => return Err(error),
                Ok(Ok(Ok(None))) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Ok(Ok(None)) | Err(_)) | Err(_) => {
                    return Err(FileError::Busy {
                        path: self.path.clone(),
                    });
                }
            }
        }
    }

    fn try_lock(&self) -> Result<Option<FileLock>, FileError> {
        let failed = |error| self.failed("locked", &error);
        self.create_folder()?;
        // Never removed: whoever waits for it would hold another one's place.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(self.beside("", ".lock"))
            .map_err(failed)?;
        self.hand_over(&file).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FileLock { _held: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Puts `content` in the place of what is there, at one stroke.
    pub(super) fn replace(&self, _lock: &FileLock, content: &[u8]) -> Result<(), FileError> {
        let failed = |error| self.failed("written", &error);
        self.create_folder()?;
        // One name: what a crash left of an earlier attempt goes now.
        let new = self.beside(".", ".new");
        let write = || {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(PRIVATE)
                .open(&new)?;
            self.hand_over(&file)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, self.target())
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&new);
            failed(error)
        })
    }

    /// Removes the file; false if there was none. Whoever is replacing it
    /// finishes before.
    pub(super) async fn remove(&self) -> Result<bool, FileError> {
        if self.stamp()?.is_none() {
            return Ok(false);
        }
        let _lock = self.lock().await?;
        match fs::remove_file(self.target()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("removed", &error)),
        }
    }

    /// The file itself, where its name is a symbolic link to it.
    fn target(&self) -> PathBuf {
        self.path.canonicalize().unwrap_or(self.path.clone())
    }

    /// A name in the same folder.
    fn beside(&self, before: &str, after: &str) -> PathBuf {
        let target = self.target();
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        target.with_file_name(format!("{before}{name}{after}"))
    }

    fn create_folder(&self) -> Result<(), FileError> {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => {
                create(folder).map_err(|error| self.failed("written", &error))
            }
            _ => Ok(()),
        }
    }

    /// Root may be at work for another, by sudo: what it writes belongs to
    /// whom the file did, or else to the folder's owner, who could not use it
    /// otherwise.
    fn hand_over(&self, file: &File) -> io::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let target = self.target();
        let folder = target.parent().unwrap_or(Path::new("/"));
        let before = fs::metadata(&target).or_else(|_| fs::metadata(folder))?;
        fchown(file, Some(before.uid()), Some(before.gid()))
    }

    fn failed(&self, action: &'static str, error: &io::Error) -> FileError {
        FileError::Io {
            path: self.path.clone(),
            action,
            reason: error.to_string(),
        }
    }
}

/// Makes `folder`, and those above it, for the owner of the one that is there.
fn create(folder: &Path) -> io::Result<()> {
    let above = match folder.parent() {
        _ if folder.exists() => return Ok(()),
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        // Another was first.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    if geteuid().is_root() {
        let owner = fs::metadata(above)?;
        lchown(folder, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
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
    async fn what_is_written_is_read_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("new folder/secret"));
        assert!(file.read(text).unwrap().is_none());
        assert_eq!(file.stamp().unwrap(), None);
        let lock = file.lock().await.unwrap();
        file.replace(&lock, b"one").unwrap();
        let (content, stamp) = file.read(text).unwrap().unwrap();
        assert_eq!(content, "one");
        assert_eq!(file.stamp().unwrap(), Some(stamp));
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);

        file.replace(&lock, b"two").unwrap();
        assert_ne!(file.stamp().unwrap(), Some(stamp));
        drop(lock);
        assert!(file.remove().await.unwrap() && !file.remove().await.unwrap());
        let left: Vec<_> = fs::read_dir(dir.path().join("new folder"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["secret.lock"]);
    }

    #[tokio::test]
    async fn what_is_no_small_file_in_a_folder_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("long");
        fs::write(&long, vec![b'x'; LONGEST + 1]).unwrap();
        for path in [dir.path().to_owned(), long.clone()] {
            let error = SecretFile::at(path.clone())
                .read(text)
                .unwrap_err()
                .to_string();
            let named = error.contains(&path.display().to_string());
            assert!(named && error.contains("expected a small file"), "{error}");
        }
        let below = SecretFile::at(long.join("secret"));
        let failures = [
            below.stamp().unwrap_err(),
            below.read(text).unwrap_err(),
            below.lock().await.unwrap_err(),
            below.remove().await.unwrap_err(),
        ];
        for error in failures {
            assert!(error.to_string().contains("long/secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_replaced_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        let lock = file.lock().await.unwrap();
        file.replace(&lock, b"old").unwrap();
        // In the place of what a crash may have left.
        fs::create_dir_all(dir.path().join(".secret.new/full")).unwrap();
        let error = file.replace(&lock, b"new").unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
        assert_eq!(file.read(text).unwrap().unwrap().0, "old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_another_replaces_for_too_long_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        let _held = file.lock().await.unwrap();
        let error = file.lock().await.unwrap_err();
        assert!(matches!(error, FileError::Busy { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_symbolic_link_stays_one() {
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
    fn a_file_being_written_is_waited_for_and_a_damaged_one_named() {
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
        assert_eq!(fs::read(file.path()).unwrap(), b"\xff", "left as it is");
    }

    #[tokio::test]
    async fn two_who_write_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretFile::at(dir.path().join("secret"));
        let first = file.lock().await.unwrap();
        assert!(file.try_lock().unwrap().is_none());
        let waiting = tokio::spawn({
            let file = file.clone();
            async move { file.lock().await }
        });
        tokio::time::sleep(PAUSE * 3).await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
    }
}
