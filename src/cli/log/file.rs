//! A log file of bounded size. A full file is renamed to `FILE.1`, which replaces
//! the previous `FILE.1`.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use icos_files::{SafePath, open_for_append};

/// Maximum size in bytes.
const MAX_SIZE: u64 = 8 << 20;

/// The open log file. Its folder may be one that other users can write to.
#[derive(Debug)]
pub(super) struct LogFile {
    /// `None` for a device or a pipe, which is not rotated.
    place: Option<SafePath>,
    file: File,
    written: u64,
    limit: u64,
    reopen: Arc<AtomicBool>,
}

impl LogFile {
    /// Opens the file for appending.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, place) = open_for_append(path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            place,
            file,
            written,
            limit: MAX_SIZE,
            reopen: Arc::default(),
        })
    }

    /// A flag; once it is set, the file is opened again before the next line.
    pub(super) fn reopen_request(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.reopen)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(place) = &self.place {
            (self.file, _) = place.folder.append(&place.name, 0o600)?;
            self.written = self.file.metadata()?.len();
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Some(place) = &self.place else {
            return Ok(());
        };
        match place.folder.rename(&place.name, &place.name_with("", ".1")) {
            // Another program has moved it away.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        (self.file, _) = place.folder.append(&place.name, 0o600)?;
        self.written = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.reopen.swap(false, Ordering::Relaxed) {
            // If that fails, the open file is still a log.
            let _ = self.reopen();
        }
        if self.written + line.len() as u64 > self.limit && self.written > 0 {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// In a folder that other users can write to, links appear at any moment.
    #[test]
    fn rotation_does_not_follow_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path("other"), "other").unwrap();
        let mut log = LogFile::open(&path("log")).unwrap();
        log.limit = 4;
        log.write_all(b"one\n").unwrap();
        fs::remove_file(path("log")).unwrap();
        symlink(path("other"), path("log")).unwrap();
        symlink(path("other"), path("log.1")).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(path("other")).unwrap(), "other");
        assert_eq!(fs::read_to_string(path("log")).unwrap(), "two\n");
        symlink(path("other"), path("log2")).unwrap();
        let other = Some(nix::unistd::Uid::from_raw(12_345));
        nix::unistd::chown(folder.path(), other, None).expect("these tests run as root");
        assert!(LogFile::open(&path("log2")).is_err());
    }

    /// Regression: a mount by root renamed `/dev/null`.
    #[test]
    fn device_is_not_rotated() {
        let mut log = LogFile::open(Path::new("/dev/null")).unwrap();
        log.limit = 1;
        log.write_all(b"one").unwrap();
        log.write_all(b"two").unwrap();
        assert!(!Path::new("/dev/null.1").exists());
    }

    #[test]
    fn full_file_is_rotated_and_replaces_the_previous_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        log.limit = 16;
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "six\n");
        let rotated = fs::read_to_string(folder.path().join("log.1")).unwrap();
        assert_eq!(rotated, "three\nfour\nfive\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn renamed_file_is_created_anew_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let (path, renamed) = (folder.path().join("log"), folder.path().join("renamed"));
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, &renamed).unwrap();
        log.write_all(b"two\n").unwrap();
        log.reopen_request().store(true, Ordering::Relaxed);
        log.write_all(b"three\n").unwrap();
        log.write_all(b"four\n").unwrap();
        assert_eq!(fs::read_to_string(&renamed).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\nfour\n");
    }
}
