//! The journal of a file: the blocks that are present, in an append-only file.
//!
//! Layout: a header (8 bytes magic, 8 bytes length of the data file), then
//! records of 28 bytes: offset (8), length (4), checksum of the block (8),
//! checksum of the record up to here (8); integers little-endian. A record of
//! length 0 removes the block at its offset; a record at offset 2^64-1 stores the
//! stamp of the complete file. The input is untrusted: a torn or damaged record
//! ends the journal, and the rest is ignored. Data and journal may reach the disk
//! in any order, because a block counts only if its bytes match its checksum.
//!
//! An open journal holds a shared lock, which tells other processes that the file
//! is in use.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use twox_hash::XxHash3_64;

use super::blocks::{Block, BlockSet};
use super::open_own;
use icos_sync::sleep;

const MAGIC: [u8; 8] = *b"icosfs\x02\n";
const HEADER: usize = 16;
const RECORD: usize = 28;
/// The offset of a record that stores a stamp.
const STAMP: u64 = u64::MAX;
/// How long to wait for another process that holds the exclusive lock: it needs
/// that only to remove files.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// An open journal, to be appended to.
#[derive(Debug)]
pub(super) struct Journal(File);

/// The content of a journal at the time when it was read.
#[derive(Debug, Default)]
pub(super) struct JournalContents {
    pub(super) blocks: BlockSet,
    /// The stamp of the complete file, if the file was ever sealed.
    pub(super) stamp: Option<u64>,
}

impl Journal {
    /// Opens and reads the journal at `path` of a file of `len` bytes. If there is
    /// none, or one of a file of another length, starts an empty journal.
    pub(super) fn open(path: &Path, len: u64) -> io::Result<(Self, JournalContents)> {
        let mut file = open_locked(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..].copy_from_slice(&len.to_le_bytes());
        let mut contents = JournalContents::default();
        let mut good = HEADER;
        if bytes.starts_with(&header) {
            good += read_records(&bytes[HEADER..], len, &mut contents);
        } else {
            file.set_len(0)?;
            file.write_all(&header)?;
        }
        // A torn or damaged record would hide all records appended after it.
        if good < bytes.len() {
            file.set_len(good as u64)?;
        }
        // The journal's modification time is the time of the file's last use.
        file.set_modified(SystemTime::now())?;
        Ok((Self(file), contents))
    }

    /// Reads the journal at `path` without a lock and without changing the time of
    /// last use; also returns the length of the data file.
    pub(super) fn peek(path: &Path) -> io::Result<(u64, JournalContents)> {
        let mut bytes = Vec::new();
        open_own(OpenOptions::new().read(true), path)?.read_to_end(&mut bytes)?;
        let mut contents = JournalContents::default();
        let Some((header, records)) = bytes.split_at_checked(HEADER) else {
            return Ok((0, contents));
        };
        let len = header[8..].try_into().map_or(0, u64::from_le_bytes);
        if header[..8] == MAGIC {
            read_records(records, len, &mut contents);
        }
        Ok((len, contents))
    }

    /// Appends records of blocks that are present now.
    pub(super) fn add(&mut self, blocks: &[Block]) -> io::Result<()> {
        let records = blocks.iter().flat_map(|&block| record(block));
        self.0.write_all(&records.collect::<Vec<_>>())
    }

    /// Appends a record that the block at `offset` is missing.
    pub(super) fn remove(&mut self, offset: u64) -> io::Result<()> {
        self.append(Block {
            offset,
            len: 0,
            sum: 0,
        })
    }

    /// Appends the stamp of the complete file.
    pub(super) fn set_stamp(&mut self, stamp: u64) -> io::Result<()> {
        self.append(Block {
            offset: STAMP,
            len: 0,
            sum: stamp,
        })
    }

    /// Whether no other process has the journal open. The lock is exclusive
    /// afterwards, so only a caller that removes the journal may use this.
    pub(super) fn lock_exclusively(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// Runs `work` under an exclusive lock; `None` if another process has the
    /// journal open.
    pub(super) fn with_exclusive_lock<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        let result = self.0.try_lock().is_ok().then(|| work(self));
        // Back to the shared lock. This waits at most for another process that is
        // about to fail to get the exclusive lock.
        if let Err(error) = self.0.lock_shared() {
            tracing::debug!(%error, "a journal has no shared lock; another process may evict its file");
        }
        result
    }

    fn append(&mut self, block: Block) -> io::Result<()> {
        self.0.write_all(&record(block))
    }
}

fn record(block: Block) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&block.offset.to_le_bytes());
    record[8..12].copy_from_slice(&block.len.to_le_bytes());
    record[12..20].copy_from_slice(&block.sum.to_le_bytes());
    let check = XxHash3_64::oneshot(&record[..20]);
    record[20..].copy_from_slice(&check.to_le_bytes());
    record
}

/// Opens the file at `path`, or creates it, with a shared lock.
fn open_locked(path: &Path) -> io::Result<File> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let mut options = OpenOptions::new();
        (options.read(true))
            // Several processes may share a cache: each record of any of them is
            // appended in one write.
            .append(true)
            .create(true)
            .mode(0o600);
        let file = open_own(&options, path)?;
        match file.try_lock_shared() {
            // Another process may have removed the file before the lock was taken.
            Ok(()) if file.metadata()?.nlink() > 0 => return Ok(file),
            Ok(()) => {}
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_locked) => sleep(Duration::from_millis(2)),
        }
    }
}

/// Applies the good records at the front of `bytes`; returns their length.
fn read_records(bytes: &[u8], len: u64, contents: &mut JournalContents) -> usize {
    let mut good = 0;
    for record in bytes.chunks_exact(RECORD) {
        let word = |at: usize| {
            u64::from_le_bytes(record[at..at + 8].try_into().expect("8 bytes of a record"))
        };
        let block = Block {
            offset: word(0),
            len: u32::from_le_bytes(record[8..12].try_into().expect("4 bytes of a record")),
            sum: word(12),
        };
        if word(20) != XxHash3_64::oneshot(&record[..20]) {
            break;
        }
        match block {
            Block { offset: STAMP, .. } => contents.stamp = Some(block.sum),
            Block { len: 0, .. } => {
                contents.blocks.remove(block.offset);
            }
            _ if block.end().is_some_and(|end| end <= len) => {
                contents.blocks.insert(block);
            }
            _ => break,
        }
        good += RECORD;
    }
    good
}

/// Checks that a journal of these records (offset, length, checksum) and of
/// `trailing` bytes yields blocks within the file that do not overlap; for
/// [`crate::fuzzing`].
pub(crate) fn check_journal(len: u64, records: &[(u64, u32, u64)], trailing: &[u8]) {
    let mut bytes: Vec<u8> = records
        .iter()
        .flat_map(|&(offset, len, sum)| record(Block { offset, len, sum }))
        .collect();
    bytes.extend_from_slice(trailing);
    let mut contents = JournalContents::default();
    let good = read_records(&bytes, len, &mut contents);
    assert!(good <= bytes.len());
    let mut end = 0;
    for block in contents.blocks.touching(0..len) {
        assert!(
            block.len > 0 && block.offset >= end,
            "{block:?} after {end}"
        );
        end = block.range().end;
    }
    assert!(end <= len && contents.blocks.present() <= len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_a_journal_header_yields_no_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        std::fs::write(&path, "short").unwrap();
        let (len, contents) = Journal::peek(&path).unwrap();
        assert_eq!(
            (len, contents.blocks.present(), contents.stamp),
            (0, 0, None)
        );

        let beyond = record(Block::of(95, b"0123456789"));
        Journal::open(&path, 100)
            .unwrap()
            .0
            .0
            .write_all(&beyond)
            .unwrap();
        let (_, contents) = Journal::peek(&path).unwrap();
        assert_eq!(
            contents.blocks.present(),
            0,
            "a block that ends past the end of the file"
        );
    }

    #[test]
    fn damaged_record_and_all_later_records_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        {
            let (mut journal, _) = Journal::open(&path, 100).unwrap();
            for offset in [0, 10, 20, 30] {
                journal.add(&[Block::of(offset, b"0123456789")]).unwrap();
            }
            journal.remove(10).unwrap();
            journal.set_stamp(7).unwrap();
        }
        let reopened = |len| {
            let (_, contents) = Journal::open(&path, len).unwrap();
            let offsets: Vec<u64> = contents.blocks.touching(0..len).map(|b| b.offset).collect();
            (offsets, contents.stamp)
        };
        assert_eq!(reopened(100), (vec![0, 20, 30], Some(7)));

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER + RECORD + 3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(reopened(100), (vec![0], None));
        assert_eq!(
            reopened(101),
            (vec![], None),
            "a data file of another length"
        );
    }
}
