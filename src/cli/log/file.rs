//! A log file that never grows past a bound: full, it is put aside, in place of
//! the one that was put aside before.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

/// Longer, and it is put aside.
const LIMIT: u64 = 8 << 20;

/// The file, open.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the file, to write behind what it holds.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        // The process may change its folder.
        let path = std::path::absolute(path)?;
        let file = File::options().create(true).append(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            written,
            limit: LIMIT,
        })
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        fs::rename(&self.path, aside)?;
        self.file = File::options().create(true).append(true).open(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.written + line.len() as u64 > self.limit && self.written > 0 {
            self.put_aside()?;
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
    fn a_full_file_is_put_aside_and_the_one_before_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let mut log = LogFile::open(path.clone()).unwrap();
        log.limit = 16;
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "six\n");
        let aside = fs::read_to_string(folder.path().join("log.1")).unwrap();
        assert_eq!(aside, "three\nfour\nfive\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
