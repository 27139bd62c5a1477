//! The journal of a file: which blocks are there, in a file that only grows.
//!
//! Layout: a head (8 bytes magic, 8 bytes length of the file it speaks of),
//! then records of 28 bytes: offset (8), length (4), checksum of the block (8),
//! checksum of the record so far (8); integers little-endian. A record with
//! length 0 takes the block at its offset back; one at offset 2^64-1 notes the
//! mark of the complete file. A torn or damaged record ends the journal: what
//! follows counts as absent. No order of writes matters, for a block counts
//! only if its bytes match the checksum.
//!
//! Whoever has a journal open holds a shared lock on it, so that no other
//! process takes the file for unused.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use twox_hash::XxHash3_64;

use super::blocks::{Block, Blocks};
use icos_sync::sleep;

const MAGIC: [u8; 8] = *b"icosfs\x02\n";
const HEAD: usize = 16;
const RECORD: usize = 28;
/// The offset of a record that notes a mark.
const MARK: u64 = u64::MAX;
/// How long another process may hold a journal for itself: it only removes
/// files meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// An open journal, to be appended to.
#[derive(Debug)]
pub(super) struct Journal(File);

/// What a journal told when it was opened.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) blocks: Blocks,
    /// The mark of the complete file, if it was ever complete.
    pub(super) mark: Option<u64>,
}

impl Journal {
    /// Opens the journal at `path` of a file of `len` bytes and reads it; a
    /// journal of another file, or none, begins anew.
    pub(super) fn open(path: &Path, len: u64) -> io::Result<(Self, Told)> {
        let mut file = open_locked(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[8..].copy_from_slice(&len.to_le_bytes());
        let mut told = Told::default();
        let mut good = HEAD;
        if bytes.starts_with(&head) {
            good += read_records(&bytes[HEAD..], len, &mut told);
        } else {
            file.set_len(0)?;
            file.write_all(&head)?;
        }
        // What is torn or damaged would hide all that comes after it.
        if good < bytes.len() {
            file.set_len(good as u64)?;
        }
        // Its time of change is the file's time of use.
        file.set_modified(SystemTime::now())?;
        Ok((Self(file), told))
    }

    /// Reads the journal at `path` without using it; returns the length of the
    /// file that it speaks of as well.
    pub(super) fn peek(path: &Path) -> io::Result<(u64, Told)> {
        let bytes = std::fs::read(path)?;
        let mut told = Told::default();
        let Some((head, records)) = bytes.split_at_checked(HEAD) else {
            return Ok((0, told));
        };
        let len = head[8..].try_into().map_or(0, u64::from_le_bytes);
        if head[..8] == MAGIC {
            read_records(records, len, &mut told);
        }
        Ok((len, told))
    }

    /// KnownSizes blocks that are there now.
    pub(super) fn add(&mut self, blocks: &[Block]) -> io::Result<()> {
        let records = blocks.iter().flat_map(|&block| record(block));
        self.0.write_all(&records.collect::<Vec<_>>())
    }

    pub(super) fn take_back(&mut self, offset: u64) -> io::Result<()> {
        self.append(Block {
            offset,
            len: 0,
            sum: 0,
        })
    }

    /// KnownSizes the mark of the complete file.
    pub(super) fn mark(&mut self, mark: u64) -> io::Result<()> {
        self.append(Block {
            offset: MARK,
            len: 0,
            sum: mark,
        })
    }

    /// Whether no other process has it open. Only for whoever is about to
    /// remove it: the lock is no longer shared.
    pub(super) fn is_ours_alone(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// Runs `work` while no other process has it open; none if one does.
    pub(super) fn alone<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let result = self.0.try_lock().is_ok().then(|| work(self));
        // Shared again, as it was; to convert a lock of one's own does not wait
        // but for whoever is about to find out that it is not alone either.
        if let Err(error) = self.0.lock_shared() {
            tracing::debug!(%error, "a journal is open without a lock");
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

/// The file at `path`, created if need be, with a shared lock on it.
fn open_locked(path: &Path) -> io::Result<File> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = OpenOptions::new()
            .read(true)
            // Several processes may share a cache: each record lands whole at
            // the end, whoever writes it.
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        match file.try_lock_shared() {
            // Gone meanwhile if another process made room.
            Ok(()) if file.metadata()?.nlink() > 0 => return Ok(file),
            Ok(()) => {}
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_held) => sleep(Duration::from_millis(2)),
        }
    }
}

/// Applies the good records at the front of `bytes`; returns their length.
fn read_records(bytes: &[u8], len: u64, told: &mut Told) -> usize {
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
            Block { offset: MARK, .. } => told.mark = Some(block.sum),
            Block { len: 0, .. } => {
                told.blocks.remove(block.offset);
            }
            _ if block.end().is_some_and(|end| end <= len) => {
                told.blocks.insert(block);
            }
            _ => break,
        }
        good += RECORD;
    }
    good
}

/// Reads a journal of these records, for [`crate::fuzzing`]: its blocks lie in
/// the file, one behind another.
pub(crate) fn read_journal_of(len: u64, records: &[(u64, u32, u64)], behind: &[u8]) {
    let mut bytes: Vec<u8> = records
        .iter()
        .flat_map(|&(offset, len, sum)| record(Block { offset, len, sum }))
        .collect();
    bytes.extend_from_slice(behind);
    let mut told = Told::default();
    let good = read_records(&bytes, len, &mut told);
    assert!(good <= bytes.len());
    let mut end = 0;
    for block in told.blocks.touching(0..len) {
        assert!(
            block.len > 0 && block.offset >= end,
            "{block:?} after {end}"
        );
        end = block.range().end;
    }
    assert!(end <= len && told.blocks.present() <= len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_journal_tells_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        std::fs::write(&path, "short").unwrap();
        let (len, told) = Journal::peek(&path).unwrap();
        assert_eq!((len, told.blocks.present(), told.mark), (0, 0, None));

        let beyond = record(Block::of(95, b"0123456789"));
        Journal::open(&path, 100)
            .unwrap()
            .0
            .0
            .write_all(&beyond)
            .unwrap();
        let (_, told) = Journal::peek(&path).unwrap();
        assert_eq!(
            told.blocks.present(),
            0,
            "a block that ends behind the file"
        );
    }

    #[test]
    fn a_torn_record_and_all_behind_it_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        {
            let (mut journal, _) = Journal::open(&path, 100).unwrap();
            for offset in [0, 10, 20, 30] {
                journal.add(&[Block::of(offset, b"0123456789")]).unwrap();
            }
            journal.take_back(10).unwrap();
            journal.mark(7).unwrap();
        }
        let reopened = |len| {
            let (_, told) = Journal::open(&path, len).unwrap();
            let offsets: Vec<u64> = told.blocks.touching(0..len).map(|b| b.offset).collect();
            (offsets, told.mark)
        };
        assert_eq!(reopened(100), (vec![0, 20, 30], Some(7)));

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEAD + RECORD + 3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(reopened(100), (vec![0], None));
        assert_eq!(reopened(101), (vec![], None), "a file of another length");
    }
}
