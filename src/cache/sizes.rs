//! Sizes of files that are known only after rendering or downloading the complete
//! file. They are stored permanently, by keys that the callers choose.
//!
//! Format: records of 24 bytes: key, size, and a checksum of both; integers
//! little-endian. The file is append-only, one write for one or several records, from several
//! processes at once; the last record of a key counts. The input is untrusted:
//! damaged records are skipped. If there are too many records, the oldest are
//! removed when the file is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::mem;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use lru::LruCache;
use twox_hash::XxHash3_64;

use super::open_own;
use icos_sync::Mutex;

const RECORD: usize = 24;
/// The size in a record that removes a key.
const REMOVED: u64 = u64::MAX;
/// The seed of the checksums, so that a file of another format has no valid
/// records.
const SEED: u64 = u64::from_le_bytes(*b"icosfs1\n");
/// How many sizes are stored: 5 MB on the disk.
const MAX_COUNT: NonZeroUsize = NonZeroUsize::new(200_000).expect("not zero");

/// Known file sizes by key.
#[derive(Debug)]
pub struct KnownSizes {
    table: Mutex<SizeTable>,
    /// `None` if the disk cannot be used. Locked before the table, and over disk work:
    /// queries do not need it.
    file: Mutex<Option<File>>,
}

#[derive(Debug)]
struct SizeTable {
    sizes: LruCache<u64, u64>,
    /// Records that are not written yet.
    pending: Vec<u8>,
    /// Whether sizes were stored since [`KnownSizes::take_changed`] was called.
    is_changed: bool,
}

impl KnownSizes {
    /// Reads the sizes in the file at `path`. Without a usable disk, sizes are
    /// known until the process ends.
    pub(super) fn open(path: &Path) -> Self {
        let mut sizes = LruCache::new(MAX_COUNT);
        let file = read(path, &mut sizes).and_then(|records| {
            if records > 2 * MAX_COUNT.get() {
                rewrite(path, &sizes)?;
            }
            append_to(path)
        });
        if let Err(error) = &file {
            tracing::debug!(path = %path.display(), %error, "file sizes are not stored");
        }
        Self {
            table: Mutex::new(SizeTable {
                sizes,
                pending: Vec::new(),
                is_changed: false,
            }),
            file: Mutex::new(file.ok()),
        }
    }

    /// The size of the file of `key`.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<u64> {
        let size = self.table.lock().sizes.get(&key).copied();
        size.filter(|&size| size != REMOVED)
    }

    /// Removes the size of the file of `key`. See [`KnownSizes::write`].
    pub fn remove(&self, key: u64) {
        self.set(key, REMOVED);
    }

    /// Stores the size of the file of `key`; `u64::MAX` means that it is unknown. Later
    /// processes know it after the next [`KnownSizes::write`], or once this is dropped.
    pub fn set(&self, key: u64, size: u64) {
        let mut table = self.table.lock();
        if table.sizes.put(key, size) != Some(size) {
            table.pending.extend_from_slice(&record(key, size));
            table.is_changed = true;
        }
    }

    /// Whether sizes were stored since the last call, other than merged ones.
    #[must_use]
    pub fn take_changed(&self) -> bool {
        mem::take(&mut self.table.lock().is_changed)
    }

    /// The `limit` sizes that were stored last, as records, for [`KnownSizes::merge`] of
    /// another machine.
    #[must_use]
    pub fn records(&self, limit: usize) -> Vec<u8> {
        let table = self.table.lock();
        let mut records = Vec::with_capacity(RECORD * limit.min(table.sizes.len()));
        for (&key, &size) in table.sizes.iter().take(limit) {
            if size != REMOVED {
                records.extend_from_slice(&record(key, size));
            }
        }
        records
    }

    /// Adds the sizes in `records` whose keys are unknown here. Damaged records are left
    /// out.
    pub fn merge(&self, records: &[u8]) {
        let mut table = self.table.lock();
        // The latest ones come first in `records`, and last in the table.
        for record in records.as_chunks::<RECORD>().0.iter().rev() {
            if let Some((key, size)) = parse(record)
                && size != REMOVED
                && !table.sizes.contains(&key)
            {
                table.sizes.put(key, size);
                table.pending.extend_from_slice(record);
            }
        }
    }

    /// Writes the sizes that were stored since the last call. Blocks on the disk.
    pub fn write(&self) {
        let mut opened = self.file.lock();
        let records = mem::take(&mut self.table.lock().pending);
        // Without a disk, or on a full one, later processes determine them again.
        if let Some(file) = &mut *opened
            && !records.is_empty()
            // A longer file would not be read completely.
            && file.metadata().is_ok_and(|found| found.len() < READ_LEN)
            && let Err(error) = file.write_all(&records)
        {
            tracing::debug!(%error, "file sizes are not stored");
            *opened = None;
        }
    }
}

impl Drop for KnownSizes {
    fn drop(&mut self) {
        self.write();
    }
}

fn record(key: u64, size: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&key.to_le_bytes());
    record[8..16].copy_from_slice(&size.to_le_bytes());
    let sum = XxHash3_64::oneshot_with_seed(SEED, &record[..16]);
    record[16..].copy_from_slice(&sum.to_le_bytes());
    record
}

/// The key and the size of a valid record.
fn parse(record: &[u8; RECORD]) -> Option<(u64, u64)> {
    let [key, size, sum] = [0, 8, 16].map(|at| {
        let word = record[at..at + 8].try_into();
        u64::from_le_bytes(word.expect("eight bytes of a record"))
    });
    (sum == XxHash3_64::oneshot_with_seed(SEED, &record[..16])).then_some((key, size))
}

/// Reads the valid records at `path` into `sizes`; returns how many records there
/// are, `usize::MAX` if the last one is torn.
fn read(path: &Path, sizes: &mut LruCache<u64, u64>) -> io::Result<usize> {
    let mut bytes = Vec::new();
    match open_own(OpenOptions::new().read(true), path) {
        // icosfs writes no longer files, but for a few records of other processes.
        Ok(file) => file.take(READ_LEN).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let records = bytes.as_chunks::<RECORD>().0;
    for record in records {
        if let Some((key, size)) = parse(record) {
            sizes.put(key, size);
        }
    }
    // A torn record at the end would shift all records appended after it.
    let torn = bytes.len() % RECORD != 0;
    Ok(if torn { usize::MAX } else { records.len() })
}

/// The length beyond which the file is rewritten.
const MAX_LEN: u64 = (2 * MAX_COUNT.get() * RECORD) as u64;

/// How much of the file is read, and the length up to which it is appended to.
const READ_LEN: u64 = 4 * MAX_LEN;

/// Writes `sizes` to a new file, oldest first. Sizes that another process appends
/// meanwhile are lost and determined again.
fn rewrite(path: &Path, sizes: &LruCache<u64, u64>) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (&key, &size) in sizes.iter().rev() {
        bytes.extend_from_slice(&record(key, size));
    }
    let new = temporary_path(path);
    // Of a process that had the same number.
    let _ = fs::remove_file(&new);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn temporary_path(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.new", std::process::id()))
}

fn append_to(path: &Path) -> io::Result<File> {
    open_own(
        OpenOptions::new().append(true).create(true).mode(0o600),
        path,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_survive_reopening_and_the_last_record_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        let sizes = KnownSizes::open(&path);
        assert_eq!(sizes.get(1), None);
        for size in [10, 11, 11] {
            sizes.set(1, size);
        }
        sizes.set(2, 20);
        sizes.set(3, 30);
        sizes.remove(2);
        drop(sizes);
        assert_eq!(fs::metadata(&path).unwrap().len(), 5 * 24);
        let sizes = KnownSizes::open(&path);
        assert_eq!(
            [1, 2, 3].map(|key| sizes.get(key)),
            [Some(11), None, Some(30)]
        );
    }

    #[test]
    fn damaged_record_is_skipped_and_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        let sizes = KnownSizes::open(&path);
        for key in 1..=3 {
            sizes.set(key, 100 * key);
        }
        drop(sizes);
        let intact = fs::read(&path).unwrap();
        for at in 0..intact.len() {
            let mut damaged = intact.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let sizes = KnownSizes::open(&path);
            let damaged_key = at as u64 / 24 + 1;
            for key in 1..=3 {
                let expected = (key != damaged_key).then_some(100 * key);
                assert_eq!(sizes.get(key), expected, "byte {at}");
            }
        }
    }

    #[test]
    fn record_appended_after_a_torn_one_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        KnownSizes::open(&path).set(1, 10);
        let mut torn = fs::read(&path).unwrap();
        torn.extend_from_within(..7);
        fs::write(&path, torn).unwrap();
        KnownSizes::open(&path).set(2, 20);
        let sizes = KnownSizes::open(&path);
        assert_eq!((sizes.get(1), sizes.get(2)), (Some(10), Some(20)));
    }

    #[test]
    fn file_of_another_format_has_no_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        fs::write(&path, vec![0; 10 * 24]).unwrap();
        assert_eq!(KnownSizes::open(&path).get(0), None);
    }

    #[test]
    fn merged_sizes_are_those_of_unknown_keys_from_intact_records() {
        let dir = tempfile::tempdir().unwrap();
        let sizes = |name: &str| KnownSizes::open(&dir.path().join(name));
        let (one, other) = (sizes("one"), sizes("other"));
        for (key, size) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
            one.set(key, size);
        }
        one.remove(4);
        other.set(2, 22);
        other.remove(3);
        assert!(one.take_changed() && !one.take_changed() && other.take_changed());
        let mut records = one.records(100);
        let damaged = records.len() - 9;
        assert_eq!(records.len(), 3 * RECORD, "{records:?}");
        other.merge(&records[1..]);
        assert_eq!(other.get(1), None);
        // Key 1 is the oldest one.
        records[damaged] ^= 1;
        other.merge(&records);
        assert_eq!(other.get(1), None);
        other.merge(&one.records(100));
        let found = [1, 2, 3, 4].map(|key| other.get(key));
        assert_eq!(found, [Some(10), Some(22), None, None]);
        assert!(
            !other.take_changed(),
            "what was merged is not published again"
        );
        assert_eq!(
            one.records(2).len(),
            RECORD,
            "key 4, which is removed, and key 3"
        );
        drop(other);
        assert_eq!(sizes("other").get(1), Some(10));
    }
}
