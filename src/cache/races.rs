//! Tests of concurrent operations on a cache, in many thread schedules; see
//! [`icos_sync`].

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error_reports::ErrorReports;
use super::{
    AppendedFile, CacheError, CacheFile, CacheFolder, CacheLimits, CachePath, CacheRead,
    DirectFile, Epoch, Grid, KnownSizes, MAX_BLOCK, Store,
};
use icos_sync::{Mutex, check, thread};

/// The right content of a file.
const RIGHT: &[u8; 8] = b"rightone";
/// Content whose second half is wrong.
const WRONG: &[u8; 8] = b"righ____";

/// A cache in a temporary folder.
struct Scene {
    store: Store,
    dir: tempfile::TempDir,
    /// Bytes that the test adds to the memory tier as an appended file.
    appended: u64,
}

impl Scene {
    fn new(disk: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = CacheLimits {
            disk,
            memory: 1 << 20,
        };
        let store = Store::open(dir.path().to_owned(), limits);
        Self {
            store,
            dir,
            appended: 0,
        }
    }

    /// A cache without a usable disk.
    fn diskless() -> Self {
        let scene = Self::new(0);
        let file = scene.dir.path().join("not a folder");
        fs::write(&file, "").unwrap();
        let limits = CacheLimits {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        let store = Store::open(file, limits);
        Self { store, ..scene }
    }

    /// The memory tier counts the bytes of `files`, which are all open files.
    fn assert_counted(&self, files: &[Arc<CacheFile>]) {
        let in_files: Vec<u64> = files.iter().map(|file| file.memory_used()).collect();
        let holders = in_files.iter().filter(|&&bytes| bytes > 0).count();
        let (used, appended, counted) = self.store.0.memory_tier.counted();
        assert_eq!((used, counted), (in_files.iter().sum(), holders as u64));
        assert_eq!(appended, self.appended);
    }
}

/// A file of two blocks of four bytes.
fn halves() -> Grid {
    Grid::in_steps(4, 8)
}

fn path(name: &str) -> CachePath {
    CachePath::new("netcdf", name).unwrap()
}

fn together(work: impl IntoIterator<Item = Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = work.into_iter().map(thread::spawn).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Runs closures as threads and waits for them.
macro_rules! together {
    ($($work:expr),+ $(,)?) => {
        together([$(Box::new($work) as Box<dyn FnOnce() + Send>),+])
    };
}

/// Regression: a block that was evicted after it was stored and before it was
/// counted stayed counted for ever.
#[test]
fn memory_tier_counts_each_block_while_it_is_in_memory() {
    check(|| {
        let scene = Scene::diskless();
        let files = ["one", "other"].map(|name| scene.store.file(&path(name), halves()));
        let [one, other] = &files;
        together![
            {
                let one = one.clone();
                move || one.write(0, &RIGHT[..4]).unwrap()
            },
            {
                let one = one.clone();
                move || one.discard(one.epoch(), || ())
            },
            {
                let other = other.clone();
                move || {
                    let _ = other.write(0, RIGHT);
                    other.discard(other.epoch(), || ());
                }
            },
            {
                let other = other.clone();
                move || drop(other.write(0, WRONG))
            },
        ];
        scene.assert_counted(&files);
    });
}

#[test]
fn full_memory_tier_evicts_the_oldest_blocks_for_any_writer() {
    check(|| {
        let mut scene = Scene::diskless();
        let len = 40 * MAX_BLOCK as u64;
        let files = ["one", "other"].map(|name| scene.store.file(&path(name), len));
        let piece = vec![7; MAX_BLOCK];
        // Half of it is used by appended files.
        scene.appended = 2 << 20;
        assert!(scene.store.0.memory_tier.add_appended(scene.appended));
        let full = (2 << 20) / MAX_BLOCK as u64 - 1;
        (0..full).for_each(|n| files[0].write(n * MAX_BLOCK as u64, &piece).unwrap());
        let add = |file: &Arc<CacheFile>, at: u64| {
            let (file, piece) = (file.clone(), piece.clone());
            move || {
                let at = at * MAX_BLOCK as u64;
                file.write(at, &piece).unwrap();
                let found = file.read(at..at + 3).unwrap();
                assert_eq!(
                    found,
                    CacheRead::Bytes(vec![7; 3]),
                    "the latest bytes are present"
                );
            }
        };
        together![add(&files[0], 30), add(&files[1], 0), add(&files[1], 1)];
        scene.assert_counted(&files);
        let (used, ..) = scene.store.0.memory_tier.counted();
        // Two writers that exceed the limit each evict a block.
        let limit = 2 << 20;
        assert!(
            (limit - 3 * MAX_BLOCK as u64..=limit).contains(&used),
            "{used}"
        );
    });
}

/// Reads `file` and compares the bytes with those that other threads have read in
/// the same epoch.
fn read_again(file: &CacheFile, seen: &Mutex<HashMap<(Epoch, usize), u8>>) {
    for range in [0..8, 4..8] {
        let epoch = file.epoch();
        let CacheRead::Bytes(bytes) = file.read(range.clone()).unwrap() else {
            continue;
        };
        if file.epoch() != epoch {
            continue;
        }
        let mut seen = seen.lock();
        for (at, byte) in (usize::try_from(range.start).unwrap()..).zip(bytes) {
            let first = *seen.entry((epoch, at)).or_insert(byte);
            assert_eq!(first, byte, "byte {at} in {epoch:?}");
        }
    }
}

#[test]
fn bytes_of_one_epoch_have_one_content_under_writes_and_evictions() {
    for disk in [true, false] {
        check(move || {
            let scene = if disk {
                Scene::new(1 << 40)
            } else {
                Scene::diskless()
            };
            let file = scene.store.file(&path("x"), halves());
            let seen = Arc::new(Mutex::default());
            let write = |bytes: &'static [u8; 8]| {
                let file = file.clone();
                move || {
                    let _ = file.write(0, &bytes[..4]);
                    let _ = file.write(4, &bytes[4..]);
                }
            };
            let read = || {
                let (file, seen) = (file.clone(), Arc::clone(&seen));
                move || (0..2).for_each(|_| read_again(&file, &seen))
            };
            let evict = {
                let file = file.clone();
                move || file.evict(4)
            };
            together![write(RIGHT), write(WRONG), evict, read(), read()];
            scene.assert_counted(&[file]);
        });
    }
}

/// Regression: the number of files with blocks in memory was queried after the last
/// block had left, and the division by the number of sharing files was by zero.
#[test]
fn capacity_is_positive_while_blocks_leave_the_memory_tier() {
    check(|| {
        let scene = Scene::diskless();
        let file = scene.store.file(&path("x"), halves());
        file.write(0, RIGHT).unwrap();
        let (querying, discarding) = (file.clone(), file.clone());
        together![move || assert!(querying.capacity() > 0), move || discarding
            .discard(discarding.epoch(), || ()),];
    });
}

/// Regression: the reader took the block for corrupt, and evicted the one that was
/// downloaded in its place.
#[test]
fn block_evicted_while_it_is_read_is_not_taken_for_corrupt() {
    check(|| {
        let scene = Scene::new(1 << 20);
        let file = scene.store.file(&path("x"), Grid::in_steps(8, 16));
        file.write(0, RIGHT).unwrap();
        let (reading, replacing) = (file.clone(), file.clone());
        together![move || assert_right_or_missing(&reading), move || {
            replacing.evict(0);
            replacing.write(0, RIGHT).unwrap();
        },];
        assert_eq!(file.missing(0..8), [], "the new block stays");
    });
}

#[test]
fn sealed_file_contains_the_verified_bytes() {
    check(|| {
        let scene = Scene::new(1 << 40);
        let file = scene.store.file(&path("x"), halves());
        let prove = || {
            let file = file.clone();
            move || {
                let _ = file.write(0, &RIGHT[..4]);
                let _ = file.write(4, &RIGHT[4..]);
                let epoch = file.epoch();
                let found = file.read(0..8).unwrap();
                if found == CacheRead::Bytes(RIGHT.to_vec()) && file.mark_verified(epoch) {
                    file.seal(epoch).unwrap();
                }
            }
        };
        let wrong = {
            let file = file.clone();
            move || {
                drop(file.write(4, &WRONG[4..]));
                drop(file.write_in_memory(4, &WRONG[4..]));
            }
        };
        // As for a corrupt block that is downloaded again while the disk is full.
        let in_memory = {
            let file = file.clone();
            move || {
                file.evict(4);
                drop(file.write_in_memory(4, &RIGHT[4..]));
                file.move_to_disk();
            }
        };
        together![prove(), prove(), wrong, in_memory];
        if file.is_sealed() {
            let name = path("x").complete_in(scene.dir.path());
            assert_eq!(fs::read(name).unwrap(), RIGHT);
        }
    });
}

#[test]
fn concurrent_opens_share_one_cache_file() {
    check(|| {
        let scene = Scene::new(1 << 40);
        let opened = Arc::new(Mutex::new(Vec::new()));
        let open = || {
            let (store, opened) = (scene.store.clone(), Arc::clone(&opened));
            move || {
                // Closing a file without blocks may remove it.
                drop(store.file(&path("x"), halves()));
                let file = store.file(&path("x"), halves());
                opened.lock().push(file);
            }
        };
        together![open(), open(), open()];
        let opened = opened.lock();
        assert!(opened.iter().all(|file| Arc::ptr_eq(file, &opened[0])));
        opened[0].write(0, RIGHT).unwrap();
        drop(scene.store.file(&path("y"), halves()));
        let partial = fs::read(scene.dir.path().join("partial/netcdf~x")).unwrap();
        assert_eq!(partial, RIGHT, "the open file was not removed");
    });
}

/// Regression: a process that opened the file before its block map could get a file
/// that was removed in between.
#[test]
fn file_removed_while_it_is_opened_is_created_again() {
    check(|| {
        let scene = Scene::new(1 << 40);
        drop(scene.store.file(&path("x"), halves()).write(4, &RIGHT[4..]));
        let folder = CacheFolder::at(scene.dir.path().to_owned());
        let file = folder.files().pop().unwrap();
        let store = scene.store.clone();
        let open = move || {
            let file = store.file(&path("x"), halves());
            file.write(0, RIGHT).unwrap();
            file.seal(file.epoch()).unwrap();
            assert!(file.is_sealed());
        };
        let remove = move || {
            let _ = folder.remove(&file);
        };
        together![open, remove];
        let name = path("x").complete_in(scene.dir.path());
        assert_eq!(fs::read(name).unwrap(), RIGHT);
    });
}

#[test]
fn eviction_respects_the_bound_and_open_files_for_any_writer() {
    check(|| {
        const BLOCK: u64 = 16 << 10;
        let scene = Scene::new(4 * BLOCK);
        let piece = vec![7; usize::try_from(BLOCK).unwrap()];
        for name in ["old", "older"] {
            scene
                .store
                .file(&path(name), BLOCK)
                .write(0, &piece)
                .unwrap();
        }
        let open = Arc::new(Mutex::new(Vec::new()));
        let write = |name: &'static str| {
            let (store, piece, open) = (scene.store.clone(), piece.clone(), Arc::clone(&open));
            move || {
                let file = store.file(&path(name), Grid::in_steps(BLOCK, 2 * BLOCK));
                open.lock().push(Arc::clone(&file));
                for at in [0, BLOCK] {
                    file.write(at, &piece).unwrap();
                    let found = file.read(at..at + 3).unwrap();
                    assert_eq!(found, CacheRead::Bytes(vec![7; 3]), "bytes in use stay");
                }
            }
        };
        together![write("one"), write("other")];
        let partial = fs::read_dir(scene.dir.path().join("partial")).unwrap();
        let files = partial.map(|file| file.unwrap());
        let of_bytes = files.filter(|file| !file.file_name().to_string_lossy().ends_with(".map"));
        let on_disk: u64 = of_bytes
            .map(|file| file.metadata().unwrap().blocks() * 512)
            .sum();
        // A claim during another thread's count may be missing in both counts.
        assert!(on_disk <= 5 * BLOCK, "{on_disk}");
        let open: Vec<_> = open.lock().drain(..).collect();
        scene.assert_counted(&open);
    });
}

/// A missing file is rendered again by its readers.
fn assert_right_or_missing(file: &CacheFile) {
    let found = file.read(0..8).unwrap();
    if found != CacheRead::Missing(0..8) {
        assert_eq!(found, CacheRead::Bytes(RIGHT.to_vec()));
    }
    file.verify_blocks().unwrap();
    if let DirectFile::Verified(backing) = file.direct_file() {
        let mut bytes = [0; 8];
        backing.file().read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, RIGHT, "bytes that the kernel reads directly");
    }
}

#[test]
fn file_appended_by_two_threads_is_never_wrong() {
    for disk in [true, false] {
        check(move || {
            let scene = if disk {
                Scene::new(1 << 40)
            } else {
                Scene::diskless()
            };
            let ends = Arc::new(Mutex::new(Vec::new()));
            let grow = || {
                let (store, ends) = (scene.store.clone(), Arc::clone(&ends));
                move || {
                    let mut appended = AppendedFile::new(store, path("x"));
                    appended.append(RIGHT).unwrap();
                    let file = appended.finish().unwrap();
                    assert_right_or_missing(&file);
                    ends.lock().push(file);
                }
            };
            let store = scene.store.clone();
            let look = move || {
                store
                    .open_sealed(&path("x"))
                    .as_deref()
                    .map(assert_right_or_missing);
            };
            together![grow(), grow(), look];
            assert_right_or_missing(&scene.store.file(&path("x"), 8));
            let mut ends: Vec<_> = ends.lock().drain(..).collect();
            ends.dedup_by(|one, other| Arc::ptr_eq(one, other));
            scene.assert_counted(&ends);
        });
    }
}

#[test]
fn sizes_stored_concurrently_are_the_same_on_disk_and_in_memory() {
    check(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        let sizes = Arc::new(KnownSizes::open(&path));
        let report = |number| {
            let sizes = Arc::clone(&sizes);
            move || {
                sizes.set(1, number);
                sizes.set(number, 1);
                sizes.write();
            }
        };
        together![report(10), report(11), report(12)];
        let again = KnownSizes::open(&path);
        for key in [1, 10, 11, 12] {
            assert_eq!(again.get(key), sizes.get(key));
            assert!(again.get(key).is_some());
        }
    });
}

#[test]
fn error_is_reported_once_whenever_the_handler_is_set() {
    check(|| {
        let reports = Arc::new(ErrorReports::default());
        let reported = Arc::new(AtomicUsize::new(0));
        let report = |errno| {
            let reports = Arc::clone(&reports);
            move || {
                reports.report(CacheError::Io {
                    path: "x".into(),
                    reason: String::new(),
                    errno: Some(errno),
                });
            }
        };
        let watch = {
            let (reports, reported) = (Arc::clone(&reports), Arc::clone(&reported));
            move || {
                reports.set_handler(Box::new(move |_| {
                    reported.fetch_add(1, Ordering::Relaxed);
                }));
            }
        };
        together![report(5), report(5), report(28), watch];
        assert_eq!(reported.load(Ordering::Relaxed), 2);
    });
}
