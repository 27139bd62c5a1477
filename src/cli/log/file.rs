//! A log file of bounded size. A full file is renamed to `FILE.1`, which replaces
//! the previous `FILE.1`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

/// Maximum size in bytes.
const MAX_SIZE: u64 = 8 << 20;

/// The open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the file for appending.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        // A background process changes its working directory.
        let path = std::path::absolute(path)?;
        let file = File::options().create(true).append(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            written,
            limit: MAX_SIZE,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut rotated = self.path.clone().into_os_string();
        rotated.push(".1");
        fs::rename(&self.path, rotated)?;
        self.file = File::options().create(true).append(true).open(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
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
    use super::*;

    #[test]
    fn full_file_is_rotated_and_replaces_the_previous_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let mut log = LogFile::open(path.clone()).unwrap();
        log.limit = 16;
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "six\n");
        let rotated = fs::read_to_string(folder.path().join("log.1")).unwrap();
        assert_eq!(rotated, "three\nfour\nfive\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
