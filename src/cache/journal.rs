//! The journal of a partial file: which blocks are there, in a file that only
//! grows.
//!
//! Layout: a head (8 bytes magic, 8 bytes length of the file it speaks of),
//! then records of 28 bytes: offset (8), length (4), checksum of the block (8),
//! checksum of the record so far (8); integers little-endian. A record with
//! length 0 takes the block at its offset back. A torn or damaged record ends
//! the journal: what follows counts as absent. No order of writes matters, for
//! a block counts only if its bytes match the checksum.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::blocks::{Block, Blocks};

const MAGIC: [u8; 8] = *b"icosfs\x01\n";
const HEAD: usize = 16;
const RECORD: usize = 28;

/// An open journal, to be appended to.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    /// Opens the journal at `path` of a file of `len` bytes and reads it; a
    /// journal of another file, or none, begins anew.
    pub(super) fn open(path: &Path, len: u64) -> io::Result<(Self, Blocks)> {
        let mut file = OpenOptions::new()
            .read(true)
            // Several processes may share a cache: each record lands whole at
            // the end, whoever writes it.
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[8..].copy_from_slice(&len.to_le_bytes());
        let mut blocks = Blocks::default();
        let mut good = HEAD;
        if bytes.starts_with(&head) {
            good += read_records(&bytes[HEAD..], len, &mut blocks);
        } else {
            file.set_len(0)?;
            file.write_all(&head)?;
        }
        // What is torn or damaged would hide all that comes after it.
        if good < bytes.len() {
            file.set_len(good as u64)?;
        }
        Ok((Self(file), blocks))
    }

    pub(super) fn add(&mut self, block: Block) -> io::Result<()> {
        self.append(block)
    }

    pub(super) fn take_back(&mut self, offset: u64) -> io::Result<()> {
        self.append(Block {
            offset,
            len: 0,
            sum: 0,
        })
    }

    fn append(&mut self, block: Block) -> io::Result<()> {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&block.offset.to_le_bytes());
        record[8..12].copy_from_slice(&block.len.to_le_bytes());
        record[12..20].copy_from_slice(&block.sum.to_le_bytes());
        let check = xxh3_64(&record[..20]);
        record[20..].copy_from_slice(&check.to_le_bytes());
        self.0.write_all(&record)
    }
}

/// Applies the good records at the front of `bytes`; returns their length.
fn read_records(bytes: &[u8], len: u64, blocks: &mut Blocks) -> usize {
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
        let fits = block
            .offset
            .checked_add(u64::from(block.len))
            .is_some_and(|end| end <= len);
        if word(20) != xxh3_64(&record[..20]) || !fits {
            break;
        }
        if block.len == 0 {
            blocks.remove(block.offset);
        } else {
            blocks.insert(block);
        }
        good += RECORD;
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_and_all_behind_it_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        {
            let (mut journal, _) = Journal::open(&path, 100).unwrap();
            for offset in [0, 10, 20, 30] {
                journal.add(Block::of(offset, b"0123456789")).unwrap();
            }
            journal.take_back(10).unwrap();
        }
        let reopened = |len| {
            let (_, blocks) = Journal::open(&path, len).unwrap();
            blocks
                .touching(0..len)
                .map(|b| b.offset)
                .collect::<Vec<_>>()
        };
        assert_eq!(reopened(100), [0, 20, 30]);

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEAD + RECORD + 3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(reopened(100), [0]);
        assert_eq!(reopened(101), [] as [u64; 0], "a file of another length");
    }
}
