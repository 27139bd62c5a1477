//! Journals of sealed files, which versions before the block map wrote: they are
//! converted to block maps when such a file is opened first.
//!
//! Layout: a header (8 bytes magic, 8 bytes length of the data file), then records of
//! 28 bytes: offset (8), length (4), checksum of the block (8), checksum of the record
//! up to here (8); integers little-endian. A record of length 0 removes the block at
//! its offset; a record at offset 2^64-1 stores the stamp of the sealed file. A
//! damaged record ends the journal.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::block_map::Word;
use super::file::Stamp;
use super::layout::NEW;
use super::map_file::{MapFile, new_seed};
use super::{Grid, MAX_BLOCK, open_own, remove_if_present};

const MAGIC: [u8; 8] = *b"icosfs\x02\n";
const HEADER: usize = 16;
const RECORD: usize = 28;
const STAMP: u64 = u64::MAX;

/// The blocks of a journal: length and checksum by offset.
type Blocks = BTreeMap<u64, (u32, u64)>;

/// Converts the journal at `path` of the sealed file `data` to a block map, if it is
/// one. A journal whose blocks do not match the file is left as it is: the file is
/// then removed, as any without a block map.
pub(super) fn convert_journal(
    path: &Path,
    name: &str,
    grid: &Arc<Grid>,
    data: &File,
) -> io::Result<()> {
    let mut file = match open_own(OpenOptions::new().read(true), path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut start = [0; HEADER];
    match file.read_exact(&mut start) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
        read => read?,
    }
    let is_journal = start[..8] == MAGIC && start[8..] == grid.len().to_le_bytes();
    if !is_journal {
        return Ok(());
    }
    // An earlier version may have it open.
    file.try_lock()?;
    let mut records = Vec::new();
    file.read_to_end(&mut records)?;
    let (blocks, stamp) = read_records(&records);
    let seed = new_seed();
    let Some(words) = words_of(data, &blocks, grid, seed)? else {
        return Ok(());
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(NEW);
    let temporary = Path::new(&temporary);
    remove_if_present(temporary).map_err(io::Error::other)?;
    let map = MapFile::create(temporary, name, grid, seed)?;
    map.write(0, &words)?;
    if let Some(stamp) = stamp {
        map.set_stamp(stamp)?;
    }
    fs::rename(temporary, path)
}

fn read_records(records: &[u8]) -> (Blocks, Option<Stamp>) {
    let (mut blocks, mut stamp) = (Blocks::new(), None);
    for record in records.chunks_exact(RECORD) {
        let word = |at: usize| {
            u64::from_le_bytes(record[at..at + 8].try_into().expect("8 bytes of a record"))
        };
        if word(20) != XxHash3_64::oneshot(&record[..20]) {
            break;
        }
        let len = u32::from_le_bytes(record[8..12].try_into().expect("4 bytes of a record"));
        match (word(0), len) {
            (STAMP, _) => stamp = Some(Stamp(word(12))),
            (offset, 0) => drop(blocks.remove(&offset)),
            (offset, _) => drop(blocks.insert(offset, (len, word(12)))),
        }
    }
    (blocks, stamp)
}

/// The words of all blocks of `grid`, if `blocks` cover the file and match its bytes.
fn words_of(data: &File, blocks: &Blocks, grid: &Grid, seed: u64) -> io::Result<Option<Vec<Word>>> {
    let (mut words, mut pending, mut at) = (Vec::new(), Vec::new(), 0);
    for (&offset, &(len, sum)) in blocks {
        let is_next =
            offset == at && len as usize <= MAX_BLOCK && at + u64::from(len) <= grid.len();
        if !is_next {
            return Ok(None);
        }
        let before = pending.len();
        pending.resize(before + len as usize, 0);
        data.read_exact_at(&mut pending[before..], offset)?;
        if XxHash3_64::oneshot(&pending[before..]) != sum {
            return Ok(None);
        }
        at += u64::from(len);
        let mut done = 0;
        loop {
            let bytes = grid.bytes(words.len() as u64);
            let len = usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?;
            let Some(block) = pending
                .get(done..done + len)
                .filter(|block| !block.is_empty())
            else {
                break;
            };
            words.push(Word::of(block, seed));
            done += len;
        }
        pending.drain(..done);
    }
    Ok((words.len() as u64 == grid.blocks()).then_some(words))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::{CacheLimits, CachePath, CacheRead, Store};
    use super::*;

    fn record(offset: u64, len: u32, sum: u64) -> Vec<u8> {
        let mut record = offset.to_le_bytes().to_vec();
        record.extend_from_slice(&len.to_le_bytes());
        record.extend_from_slice(&sum.to_le_bytes());
        record.extend_from_slice(&XxHash3_64::oneshot(&record).to_le_bytes());
        record
    }

    /// A sealed file of two blocks, as earlier versions left it.
    fn sealed_by_an_earlier_version(root: &Path, bytes: &[u8]) {
        let complete = root.join("dataAppStorage/netcdf/x");
        fs::create_dir_all(complete.parent().unwrap()).unwrap();
        fs::create_dir_all(root.join("sums")).unwrap();
        fs::write(&complete, bytes).unwrap();
        let stamp = Stamp::of(&File::open(complete).unwrap()).unwrap().0;
        let mut journal = File::create(root.join("sums/netcdf~x.map")).unwrap();
        journal.write_all(&MAGIC).unwrap();
        journal
            .write_all(&(bytes.len() as u64).to_le_bytes())
            .unwrap();
        let (first, second) = bytes.split_at(100_000);
        for record in [
            record(0, 5, 0),
            record(0, 0, 0),
            record(0, 100_000, XxHash3_64::oneshot(first)),
            record(100_000, 100_000, XxHash3_64::oneshot(second)),
            record(STAMP, 0, stamp),
        ] {
            journal.write_all(&record).unwrap();
        }
    }

    fn open(root: &Path) -> Arc<super::super::CacheFile> {
        let (disk, memory) = (1 << 40, 1 << 20);
        let store = Store::open(root.to_owned(), CacheLimits { disk, memory });
        store.file(&CachePath::new("netcdf", "x").unwrap(), 200_000)
    }

    #[test]
    fn file_sealed_by_an_earlier_version_is_read_and_stays_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        sealed_by_an_earlier_version(dir.path(), &bytes);
        for _ in 0..2 {
            let file = open(dir.path());
            assert!(file.is_sealed());
            assert!(file.read(0..200_000).unwrap() == CacheRead::Bytes(bytes.clone()));
        }
    }

    #[test]
    fn damaged_file_of_an_earlier_version_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7; 200_000];
        sealed_by_an_earlier_version(dir.path(), &bytes);
        let complete = dir.path().join("dataAppStorage/netcdf/x");
        fs::write(complete, vec![8; 200_000]).unwrap();
        let file = open(dir.path());
        assert!(!file.is_sealed());
        assert_eq!(file.first_missing(&(0..200_000)), Some(0..200_000));
    }
}
