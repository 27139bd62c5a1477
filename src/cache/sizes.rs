//! Numbers that are remembered for ever, by keys that say what they are of:
//! lengths that took a whole file to find out.
//!
//! A file of records of 24 bytes: key, number, and a checksum of both;
//! integers little-endian. It only grows, a record at a time, whichever
//! process adds it; of records for one key the last holds. A torn or damaged
//! record is passed over. Once there are too many, the oldest go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use lru::LruCache;
use twox_hash::XxHash3_64;

use icos_sync::{Locked, Mutex};

const RECORD: usize = 24;
/// What stands for a number that was taken back.
const NONE: u64 = u64::MAX;
/// Sets these checksums apart from others: a file of something else is no file
/// of numbers.
const SEED: u64 = u64::from_le_bytes(*b"icosfs1\n");
/// How many numbers are remembered: five megabytes on the disk.
const BOUND: NonZeroUsize = NonZeroUsize::new(200_000).expect("not zero");

/// Numbers by key.
#[derive(Debug)]
pub struct KnownSizes(Mutex<State>);

#[derive(Debug)]
struct State {
    numbers: LruCache<u64, u64>,
    /// None if the disk does not let us.
    file: Option<File>,
}

impl KnownSizes {
    /// The numbers that are kept in the file at `path`; those that are noted
    /// without a disk are forgotten when the process ends.
    pub(super) fn open(path: &Path) -> Self {
        let mut numbers = LruCache::new(BOUND);
        let file = read(path, &mut numbers).and_then(|records| {
            if records > 2 * BOUND.get() {
                rewrite(path, &numbers)?;
            }
            append_to(path)
        });
        if let Err(error) = &file {
            tracing::debug!(path = %path.display(), %error, "lengths are not remembered");
        }
        Self(Mutex::new(State {
            numbers,
            file: file.ok(),
        }))
    }

    /// The number noted for `key`.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<u64> {
        let noted = self.state().numbers.get(&key).copied();
        noted.filter(|&number| number != NONE)
    }

    /// Forgets what was noted for `key`.
    pub fn remove(&self, key: u64) {
        self.set(key, NONE);
    }

    /// KnownSizes `number` for `key`. (The largest number of all means none.)
    pub fn set(&self, key: u64, number: u64) {
        let mut state = self.state();
        if state.numbers.put(key, number) == Some(number) {
            return;
        }
        // Without a disk, or on one that is full, it is found out again.
        if let Some(file) = &mut state.file
            && let Err(error) = file.write_all(&record(key, number))
        {
            tracing::debug!(%error, "a length is not remembered");
            state.file = None;
        }
    }

    fn state(&self) -> Locked<'_, State> {
        self.0.lock()
    }
}

fn record(key: u64, number: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&key.to_le_bytes());
    record[8..16].copy_from_slice(&number.to_le_bytes());
    let sum = XxHash3_64::oneshot_with_seed(SEED, &record[..16]);
    record[16..].copy_from_slice(&sum.to_le_bytes());
    record
}

/// Reads the good records at `path` into `numbers`; returns how many records
/// there are.
fn read(path: &Path, numbers: &mut LruCache<u64, u64>) -> io::Result<usize> {
    let mut bytes = Vec::new();
    match File::open(path) {
        // Whoever made it larger than anyone of us would: its end is newest,
        // but not worth the memory.
        Ok(file) => file.take(4 * LIMIT).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let records = bytes.as_chunks::<RECORD>().0;
    for record in records {
        let [key, number, sum] = [0, 8, 16].map(|at| {
            let word = record[at..at + 8].try_into();
            u64::from_le_bytes(word.expect("eight bytes of a record"))
        });
        if sum == XxHash3_64::oneshot_with_seed(SEED, &record[..16]) {
            numbers.put(key, number);
        }
    }
    // What is torn at the end would shift all that follows.
    let torn = bytes.len() % RECORD != 0;
    Ok(if torn { usize::MAX } else { records.len() })
}

/// The most that is read of a file.
const LIMIT: u64 = (2 * BOUND.get() * RECORD) as u64;

/// Writes `numbers` anew, oldest first. What another process adds meanwhile is
/// forgotten, as if it had never been found out.
fn rewrite(path: &Path, numbers: &LruCache<u64, u64>) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (&key, &number) in numbers.iter().rev() {
        bytes.extend_from_slice(&record(key, number));
    }
    let new = own_name(path);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn own_name(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.new", std::process::id()))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outlive_the_process_and_the_last_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        let notes = KnownSizes::open(&path);
        assert_eq!(notes.get(1), None);
        for number in [10, 11, 11] {
            notes.set(1, number);
        }
        notes.set(2, 20);
        notes.set(3, 30);
        notes.remove(2);
        drop(notes);
        assert_eq!(fs::metadata(&path).unwrap().len(), 5 * 24);
        let notes = KnownSizes::open(&path);
        assert_eq!(
            [1, 2, 3].map(|key| notes.get(key)),
            [Some(11), None, Some(30)]
        );
    }

    #[test]
    fn a_damaged_number_is_forgotten_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        let notes = KnownSizes::open(&path);
        for key in 1..=3 {
            notes.set(key, 100 * key);
        }
        drop(notes);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let notes = KnownSizes::open(&path);
            let struck = at as u64 / 24 + 1;
            for key in 1..=3 {
                let expected = (key != struck).then_some(100 * key);
                assert_eq!(notes.get(key), expected, "byte {at}");
            }
        }
    }

    #[test]
    fn a_torn_record_does_not_hide_what_is_noted_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        KnownSizes::open(&path).set(1, 10);
        let mut torn = fs::read(&path).unwrap();
        torn.extend_from_within(..7);
        fs::write(&path, torn).unwrap();
        KnownSizes::open(&path).set(2, 20);
        let notes = KnownSizes::open(&path);
        assert_eq!((notes.get(1), notes.get(2)), (Some(10), Some(20)));
    }

    #[test]
    fn a_file_of_anything_else_is_a_file_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        fs::write(&path, vec![0; 10 * 24]).unwrap();
        assert_eq!(KnownSizes::open(&path).get(0), None);
    }
}
