//! Files with secrets: owned by the user or root, and closed to all others.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use icos_files::{SafeFolder, SafePath};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// Maximum length of such a file, in bytes.
const MAX_FILE: u64 = 4096;

/// A file with a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The file cannot be read or created.
    #[error("{0}")]
    File(#[from] io::Error),
    /// Other users can read the file.
    #[error(
        "expected a file that its owner alone can access (chmod 600), found one with mode {0:o}"
    )]
    NotPrivate(u32),
    /// The file belongs to another user.
    #[error("expected a file of this user or of root, found one of user {0}")]
    OtherOwner(u32),
    /// It has other content than a line of text.
    #[error("expected a line of text, found something else")]
    NotText,
}

/// Returns the content of the file at `path`.
///
/// # Errors
///
/// [`PrivateFileError`] if other users can read the file, or if it cannot be read.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    read_if(path, |_| true)
}

/// The same of a file that others may read if its content is not secret; they may not
/// write it.
pub(super) fn read_if(
    path: &Path,
    is_secret: impl Fn(&[u8]) -> bool,
) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    // What is checked is what is read, whatever takes its path meanwhile.
    let file = icos_files::open_file(path)?;
    let found = file.metadata()?;
    let own = nix::unistd::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        return Err(PrivateFileError::OtherOwner(found.uid()));
    }
    let mode = found.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(PrivateFileError::NotPrivate(mode));
    }
    let content = Zeroizing::new(icos_files::read_at_most(file, MAX_FILE)?);
    if mode & 0o077 != 0 && is_secret(&content) {
        return Err(PrivateFileError::NotPrivate(mode));
    }
    Ok(content)
}

/// Returns the password in the file at `path`, without the end of its line.
///
/// # Errors
///
/// [`PrivateFileError`] if other users can read the file, if it cannot be read, or if it
/// has no line of text.
pub fn read_password(path: &Path) -> Result<SecretString, PrivateFileError> {
    let content = read(path)?;
    let text = std::str::from_utf8(&content).map_err(|_| PrivateFileError::NotText)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(char::is_control) {
        return Err(PrivateFileError::NotText);
    }
    Ok(SecretString::from(text.to_owned()))
}

/// Writes `content` to a new file at `path` with `mode`.
///
/// # Errors
///
/// [`io::Error`] if there is a file already, if it cannot be written, or if another user
/// may have put a link on the way there.
pub(super) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<NewPrivateFile> {
    let SafePath { folder, name } = SafePath::resolve(path)?;
    let mut file = folder.create_new(&name, mode)?;
    let new = NewPrivateFile { folder, name };
    let written = file.write_all(content).and_then(|()| file.sync_all());
    match written {
        Ok(()) => Ok(new),
        Err(error) => {
            new.remove();
            Err(error)
        }
    }
}

/// A file that was just created.
#[derive(Debug)]
pub(super) struct NewPrivateFile {
    folder: SafeFolder,
    name: OsString,
}

impl NewPrivateFile {
    pub(super) fn remove(self) {
        // If it fails, the file stays, which no other one depends on.
        let _ = self.folder.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn password_is_the_line_of_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        create(&path, b"a b\n", 0o600).unwrap();
        assert_eq!(read_password(&path).unwrap().expose_secret(), "a b");
        for bad in [&b""[..], b"\n", b"a\nb\n", b"\xff\n"] {
            std::fs::write(&path, bad).unwrap();
            let error = read_password(&path).unwrap_err();
            assert!(matches!(error, PrivateFileError::NotText), "{bad:?}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_password(&path).unwrap_err();
        assert!(matches!(error, PrivateFileError::NotPrivate(0o644)));
    }

    /// Regression: owner and mode were those of the path, and the content that of whatever
    /// took it meanwhile.
    #[test]
    fn private_file_that_takes_the_place_of_the_checked_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (path, open) = (dir.path().join("password"), dir.path().join("open"));
        create(&path, b"private", 0o600).unwrap();
        create(&open, b"open", 0o600).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
        let stops = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let exchange = || {
                while !stops.load(Ordering::Relaxed) {
                    renameat_with(CWD, &path, CWD, &open, RenameFlags::EXCHANGE).unwrap();
                }
            };
            let thread = std::thread::Builder::new();
            thread.spawn_scoped(scope, exchange).unwrap();
            for _ in 0..5000 {
                if let Ok(password) = read_password(&path) {
                    assert_eq!(password.expose_secret(), "private");
                }
            }
            stops.store(true, Ordering::Relaxed);
        });
    }
}
