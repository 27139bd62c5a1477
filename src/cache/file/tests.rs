//! Tests of [`CacheFile`]: reads, writes, epochs, sealing and eviction.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use super::*;
use crate::cache::{CacheLimits, MAX_BLOCK, Store};

fn store(dir: &tempfile::TempDir) -> Store {
    store_with_limit(dir, 1 << 40)
}

fn store_with_limit(dir: &tempfile::TempDir, disk: u64) -> Store {
    let memory = 64 << 20;
    Store::open(dir.path().to_owned(), CacheLimits { disk, memory })
}

fn path() -> CachePath {
    CachePath::new("netcdf", "x").unwrap()
}

#[test]
fn write_over_a_present_block_stores_the_bytes_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(8 * MAX_BLOCK).collect();
    {
        let store = store(&dir);
        let file = store.file(&path(), bytes.len() as u64);
        let part = 3 * MAX_BLOCK..4 * MAX_BLOCK;
        file.write(part.start as u64, &bytes[part]).unwrap();
        file.write(0, &bytes).unwrap();
        // The block map takes up little space.
        let map = store.usage().used - file.len();
        assert!(map <= 8192, "{map}");
    }
    let store = store(&dir);
    let file = store.file(&path(), bytes.len() as u64);
    let found = file.read(0..file.len()).unwrap();
    assert!(found == CacheRead::Bytes(bytes));
}

#[test]
fn write_longer_than_the_disk_budget_retains_its_last_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with_limit(&dir, 6 << 20);
    let bytes: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
    let file = store.file(&path(), bytes.len() as u64);
    file.write(0, &bytes).unwrap();
    let on_disk = store.usage().used;
    assert!((4 << 20..=6 << 20).contains(&on_disk), "{on_disk}");
    let end = file.len();
    let found = file.read(end - (4 << 20)..end).unwrap();
    assert!(found == CacheRead::Bytes(bytes[4 << 20..].to_vec()));
}

#[test]
fn blocks_that_are_to_be_evicted_last_outlive_newer_ones() {
    let dir = tempfile::tempdir().unwrap();
    // So little memory that new blocks go to the disk in place of old ones.
    let (disk, memory) = (6 << 20, 4 << 20);
    let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
    let bytes: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
    let file = store.file(&path(), bytes.len() as u64);
    let mib = |range: Range<u64>| range.start << 20..range.end << 20;
    file.write(0, &bytes[..5 << 20]).unwrap();
    file.evict_last(&[mib(0..1), mib(2..3)]);
    file.write(5 << 20, &bytes[5 << 20..7 << 20]).unwrap();
    let is_present = |range| file.first_missing(&mib(range)).is_none();
    assert!(is_present(0..1) && is_present(2..3) && is_present(5..7));
    assert!(!is_present(1..2), "the oldest of the others");
}

#[test]
fn written_bytes_are_present_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    {
        let store = store(&dir);
        let file = store.file(&path(), 300_000);
        // Only the complete block is stored.
        file.write(1000, &bytes[1000..280_000]).unwrap();
        assert_eq!(file.read(0..10).unwrap(), CacheRead::Missing(0..10));
    }
    let store = store(&dir);
    let file = store.file(&path(), 300_000);
    assert_eq!(file.missing(0..300_000), [0..131_072, 262_144..300_000]);
    for (from, to) in [
        (131_072, 131_073),
        (131_073, 262_143),
        (200_000, 202_000),
        (5000, 5000),
    ] {
        let found = file.read(from..to).unwrap();
        assert_eq!(
            found,
            CacheRead::Bytes(
                bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].to_vec()
            )
        );
    }
}

#[test]
fn corrupt_block_of_a_sealed_file_is_missing_and_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let file = store.file(&path(), 10);
    file.write(0, b"0123456789").unwrap();
    file.seal(file.epoch()).unwrap();
    let complete = dir.path().join("dataAppStorage/netcdf/x");
    assert_eq!(fs::read(&complete).unwrap(), b"0123456789");

    fs::write(&complete, "0123x56789").unwrap();
    assert_eq!(file.read(0..10).unwrap(), CacheRead::Missing(0..10));
    assert!(!complete.exists(), "a corrupt file loses its complete name");

    file.write(0, b"0123456789").unwrap();
    file.seal(file.epoch()).unwrap();
    assert_eq!(fs::read(&complete).unwrap(), b"0123456789");
}

/// Seconds may pass between the verification of a file and its rename.
#[test]
fn seal_of_an_ended_epoch_does_not_name_later_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let file = store(&dir).file(&path(), 8);
    file.write(0, b"the good").unwrap();
    let epoch = file.epoch();
    assert!(file.mark_verified(epoch));
    file.discard(epoch, || ());
    file.write(0, b"an other").unwrap();
    file.seal(epoch).unwrap();
    assert!(!file.is_sealed());
}

#[test]
fn bytes_cut_off_the_file_on_disk_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = store(&dir).file(&path(), Grid::in_steps(4, 8));
    file.write(0, b"0123").unwrap();
    file.write(4, b"4567").unwrap();
    let partial = dir.path().join("partial/netcdf~x");
    let on_disk = fs::OpenOptions::new().write(true).open(partial).unwrap();
    on_disk.set_len(6).unwrap();
    assert_eq!(file.read(0..8).unwrap(), CacheRead::Missing(4..8));
    assert_eq!(file.read(0..4).unwrap(), CacheRead::Bytes(b"0123".to_vec()));
}

/// The files on disk are missing, so no block map can list blocks: the file
/// continues in memory, and the error is reported.
#[test]
fn sealed_file_whose_folder_is_removed_continues_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let reported = Arc::new(Mutex::new(Vec::new()));
    let reports = Arc::clone(&reported);
    store.on_error(move |error| reports.lock().push(error.to_string()));
    let file = store.file(&path(), 4);
    file.write(0, b"good").unwrap();
    file.seal(file.epoch()).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    file.discard(file.epoch(), || ());
    assert!(!file.is_sealed());
    assert_eq!(reported.lock().len(), 1, "{:?}", reported.lock());
    file.write(0, b"good").unwrap();
    assert_eq!(file.read(0..4).unwrap(), CacheRead::Bytes(b"good".to_vec()));
    assert_eq!(file.memory_used(), 4);
}

/// A file longer than the cache is never present completely.
#[test]
fn restored_block_with_another_checksum_ends_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let file = store(&dir).file(&path(), Grid::in_steps(4, 8));
    let epoch = file.epoch();
    file.write(0, b"0123").unwrap();
    file.write(4, b"4567").unwrap();
    file.evict(0);
    assert!(file.has_all_checksums() && !file.is_complete());
    file.write(0, b"0123").unwrap();
    assert!(file.is_complete() && file.epoch() == epoch);

    file.evict(0);
    let refused = file.write(0, b"01x3").unwrap_err();
    assert!(
        matches!(refused, CacheError::ChecksumMismatch { .. }),
        "{refused}"
    );
    assert_ne!(file.epoch(), epoch);
    assert_eq!(
        file.missing(0..8),
        vec![0..8],
        "either block may be the wrong one"
    );
}

#[test]
fn verified_file_rejects_a_wrong_block_and_retains_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = store(&dir).file(&path(), Grid::in_steps(4, 8));
    file.write(0, b"0123").unwrap();
    file.write(4, b"4567").unwrap();
    assert!(file.mark_verified(file.epoch()));
    file.evict(0);
    file.write(0, b"01x3").unwrap_err();
    assert_eq!(file.missing(0..8), vec![0..4]);
    file.write(0, b"0123").unwrap();
    assert!(file.is_verified() && file.is_complete());
}

#[test]
fn write_that_contradicts_present_bytes_drops_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = store(&dir).file(&path(), Grid::in_steps(2, 8));
    file.write(2, b"23").unwrap();
    file.write(0, b"01234567").unwrap();
    assert_eq!(
        file.read(0..8).unwrap(),
        CacheRead::Bytes(b"01234567".to_vec())
    );
    file.write(0, b"01x34567").unwrap_err();
    assert_eq!(file.missing(0..8), vec![0..8]);
}

#[test]
fn discarded_file_accepts_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let file = store.file(&path(), 4);
    file.write(0, b"evil").unwrap();
    file.discard(file.epoch(), || ());
    assert_eq!(file.missing(0..4), vec![0..4]);
    file.write(0, b"good").unwrap();
    assert_eq!(file.read(0..4).unwrap(), CacheRead::Bytes(b"good".to_vec()));
}

#[test]
fn sealed_file_is_sealed_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    {
        let file = store.file(&path(), 4);
        file.write(0, b"good").unwrap();
        assert!(file.is_complete() && !file.is_sealed());
        file.seal(file.epoch()).unwrap();
    }
    let file = store.file(&path(), 4);
    assert!(file.is_sealed());
    assert_eq!(file.read(0..4).unwrap(), CacheRead::Bytes(b"good".to_vec()));
    drop(file);
    assert!(!store.file(&path(), 5).is_sealed(), "another length");
}

#[test]
fn sealed_file_modified_by_others_is_not_sealed_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let file = store(&dir).file(&path(), 4);
        file.write(0, b"good").unwrap();
        file.seal(file.epoch()).unwrap();
        assert!(file.is_sealed());
    }
    let complete = dir.path().join("dataAppStorage/netcdf/x");
    fs::write(&complete, b"evil").unwrap();
    let file = store(&dir).file(&path(), 4);
    assert!(!file.is_sealed());
    assert_eq!(file.read(0..4).unwrap(), CacheRead::Missing(0..4));
}

#[test]
fn closed_files_are_evicted_first_then_the_oldest_bytes_of_the_open_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with_limit(&dir, 20 << 20);
    let bytes = vec![7; 1 << 20];
    let write = |file: &CacheFile, count: u64| {
        (0..count).for_each(|n| file.write(n << 20, &bytes).unwrap());
    };
    let old = CachePath::new("netcdf", "old").unwrap();
    write(&store.file(&old, 12 << 20), 12);
    let used = CachePath::new("netcdf", "used").unwrap();
    let file = store.file(&used, 64 << 20);
    write(&file, 64);
    assert_eq!(
        store.file(&old, 12 << 20).missing(0..12 << 20),
        vec![0..12 << 20]
    );
    let present: u64 = (64 << 20)
        - file
            .missing(0..64 << 20)
            .iter()
            .map(|g| g.end - g.start)
            .sum::<u64>();
    // The memory tier retains more of it than the disk, so the disk is not recycled.
    assert!(((4 << 20)..=(52 << 20)).contains(&present), "{present}");
    let last = (64 << 20) - 100..64 << 20;
    assert_eq!(file.read(last).unwrap(), CacheRead::Bytes(vec![7; 100]));
    let on_disk: u64 = fs::read_dir(dir.path().join("partial"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
        .sum();
    assert!(on_disk <= 21 << 20, "{on_disk}");
}

#[test]
fn without_a_disk_the_latest_bytes_are_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let not_a_folder = dir.path().join("not a folder");
    fs::write(&not_a_folder, "").unwrap();
    let memory = 8 << 20;
    let store = Store::open(
        not_a_folder,
        CacheLimits {
            disk: 1 << 40,
            memory,
        },
    );
    let file = store.file(&path(), 64 << 20);
    let bytes = vec![7; 1 << 20];
    (0..64).for_each(|n| file.write(n << 20, &bytes).unwrap());
    let last = (64 << 20) - 100..64 << 20;
    assert_eq!(file.read(last).unwrap(), CacheRead::Bytes(vec![7; 100]));
    // Half of the memory budget is for blocks.
    assert_eq!(file.missing(0..64 << 20), vec![0..60 << 20]);
}

/// Many readers without a disk: the memory of all files together is limited,
/// and the latest bytes of each of them are present.
#[test]
fn without_a_disk_all_files_share_one_memory_bound() {
    let dir = tempfile::tempdir().unwrap();
    let not_a_folder = dir.path().join("not a folder");
    fs::write(&not_a_folder, "").unwrap();
    let store = Store::open(
        not_a_folder,
        CacheLimits {
            disk: 1 << 40,
            memory: 32 << 20,
        },
    );
    let files: Vec<_> = (0..64)
        .map(|n| store.file(&CachePath::new("netcdf", &n.to_string()).unwrap(), 1 << 20))
        .collect();
    for file in &files {
        file.write(0, &vec![7; 1 << 20]).unwrap();
    }
    let complete = files.iter().filter(|file| file.is_complete()).count();
    assert_eq!(complete, 16);
    assert!(files[63].is_complete());
    // Closed files free their memory.
    drop(files);
    let next = store.file(&path(), 16 << 20);
    next.write(0, &vec![7; 16 << 20]).unwrap();
    assert!(next.is_complete());
}

#[test]
fn removed_cache_folder_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    fs::remove_dir_all(dir.path()).unwrap();
    let file = store.file(&path(), 4);
    file.write(0, b"good").unwrap();
    file.seal(file.epoch()).unwrap();
    assert!(file.is_sealed() && dir.path().join("dataAppStorage/netcdf/x").exists());
}

#[test]
fn file_without_blocks_is_removed_when_closed() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(&dir).file(&path(), 100));
    assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
}

/// A query whether a table is complete removed it: an original of its length has other
/// blocks.
#[test]
fn sealed_table_is_found_without_its_grid_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let grid = || Grid::of_table(&[8, 4], 5000, 10);
    let bytes = vec![7; 60_010];
    {
        let file = store(&dir).file(&path(), grid());
        file.write(0, &bytes).unwrap();
        file.seal(file.epoch()).unwrap();
    }
    let store = store(&dir);
    assert!(store.open_sealed(&path()).is_some());
    let file = store.file(&path(), grid());
    assert!(file.is_sealed() && file.read(0..60_010).unwrap() == CacheRead::Bytes(bytes));
}

#[test]
fn discard_of_an_epoch_that_has_ended_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let file = store.file(&path(), 4);
    file.write(0, b"0123").unwrap();
    let (epoch, mut reported) = (file.epoch(), 0);
    file.discard(epoch, || reported += 1);
    file.write(0, b"4567").unwrap();
    file.discard(epoch, || reported += 1);
    assert_eq!((reported, file.missing(0..4)), (1, vec![]));
}
