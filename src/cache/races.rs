//! What threads do to a cache at once, in any order; see [`icos_sync`].

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::blocks::{Block, LONGEST};
use super::sizes::KnownSizes;
use super::trouble::Troubles;
use super::{
    AppendedFile, CacheError, CacheFile, CacheFolder, CacheLimits, CachePath, CacheRead, Epoch,
    Store,
};
use icos_sync::{Mutex, check, thread};

/// What is right.
const RIGHT: &[u8; 8] = b"rightone";
/// Wrong in its second half.
const WRONG: &[u8; 8] = b"righ____";

/// A cache, and the folder that it is gone with.
struct Scene {
    store: Store,
    dir: tempfile::TempDir,
    /// What is said to grow in memory.
    growing: u64,
}

impl Scene {
    fn new(disk: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bounds = CacheLimits {
            disk,
            memory: 1 << 20,
        };
        let store = Store::open(dir.path().to_owned(), bounds);
        Self {
            store,
            dir,
            growing: 0,
        }
    }

    /// All is in memory.
    fn diskless() -> Self {
        let scene = Self::new(0);
        let file = scene.dir.path().join("not a folder");
        fs::write(&file, "").unwrap();
        let bounds = CacheLimits {
            disk: 1 << 40,
            memory: 1 << 20,
        };
        let store = Store::open(file, bounds);
        Self { store, ..scene }
    }

    /// What is counted of the memory is what `entries`, which are all, hold.
    fn assert_counted(&self, entries: &[Arc<CacheFile>]) {
        let held: Vec<u64> = entries.iter().map(|entry| entry.memory_used()).collect();
        let holders = held.iter().filter(|&&held| held > 0).count();
        let (used, growing, counted) = self.store.0.spill.counted();
        assert_eq!((used, counted), (held.iter().sum(), holders as u64));
        assert_eq!(growing, self.growing);
    }
}

fn place(name: &str) -> CachePath {
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

/// Bytes dropped between their being held and their being counted were counted
/// for ever: found by this scene.
#[test]
fn what_is_held_in_memory_is_counted_once_and_no_longer() {
    check(|| {
        let scene = Scene::diskless();
        let entries = ["one", "other"].map(|name| scene.store.file(&place(name), 8));
        let [one, other] = &entries;
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
        scene.assert_counted(&entries);
    });
}

#[test]
fn memory_that_is_full_lets_the_oldest_go_whoever_adds() {
    check(|| {
        let mut scene = Scene::diskless();
        let len = 40 * LONGEST as u64;
        let entries = ["one", "other"].map(|name| scene.store.file(&place(name), len));
        let piece = vec![7; LONGEST];
        // Half of it is for files that grow.
        scene.growing = 2 << 20;
        assert!(scene.store.0.spill.hold(scene.growing));
        let full = (2 << 20) / LONGEST as u64 - 1;
        (0..full).for_each(|n| entries[0].write(n * LONGEST as u64, &piece).unwrap());
        let add = |entry: &Arc<CacheFile>, at: u64| {
            let (entry, piece) = (entry.clone(), piece.clone());
            move || {
                let at = at * LONGEST as u64;
                entry.write(at, &piece).unwrap();
                let found = entry.read(at..at + 3).unwrap();
                assert_eq!(found, CacheRead::Bytes(vec![7; 3]), "the latest are there");
            }
        };
        together![
            add(&entries[0], 30),
            add(&entries[1], 0),
            add(&entries[1], 1)
        ];
        scene.assert_counted(&entries);
        let (used, ..) = scene.store.0.spill.counted();
        // Two that see that there is too much each let one go.
        let bound = 2 << 20;
        assert!(
            (bound - 3 * LONGEST as u64..=bound).contains(&used),
            "{used}"
        );
    });
}

/// Reads `entry`, and holds what it finds against what others found in the
/// same epoch.
fn read_again(entry: &CacheFile, seen: &Mutex<HashMap<(Epoch, usize), u8>>) {
    for range in [0..8, 4..8] {
        let epoch = entry.epoch();
        let CacheRead::Bytes(bytes) = entry.read(range.clone()).unwrap() else {
            continue;
        };
        if entry.epoch() != epoch {
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
fn bytes_of_one_life_are_of_one_content_whatever_comes_and_goes() {
    for disk in [true, false] {
        check(move || {
            let scene = if disk {
                Scene::new(1 << 40)
            } else {
                Scene::diskless()
            };
            let entry = scene.store.file(&place("x"), 8);
            let seen = Arc::new(Mutex::default());
            let write = |bytes: &'static [u8; 8]| {
                let entry = entry.clone();
                move || {
                    let _ = entry.write(0, &bytes[..4]);
                    let _ = entry.write(4, &bytes[4..]);
                }
            };
            let read = || {
                let (entry, seen) = (entry.clone(), Arc::clone(&seen));
                move || (0..2).for_each(|_| read_again(&entry, &seen))
            };
            let evict = {
                let entry = entry.clone();
                move || entry.give_up(4)
            };
            together![write(RIGHT), write(WRONG), evict, read(), read()];
            scene.assert_counted(&[entry]);
        });
    }
}

#[test]
fn a_file_under_its_own_name_is_what_was_proved() {
    check(|| {
        let scene = Scene::new(1 << 40);
        let entry = scene.store.file(&place("x"), 8);
        let prove = || {
            let entry = entry.clone();
            move || {
                let _ = entry.write(0, &RIGHT[..4]);
                let _ = entry.write(4, &RIGHT[4..]);
                let epoch = entry.epoch();
                let found = entry.read(0..8).unwrap();
                if found == CacheRead::Bytes(RIGHT.to_vec()) && entry.mark_verified(epoch) {
                    entry.seal(epoch).unwrap();
                }
            }
        };
        let wrong = {
            let entry = entry.clone();
            move || {
                drop(entry.write(4, &WRONG[4..]));
                drop(entry.keep_in_memory(Block::of(4, &WRONG[4..]), &WRONG[4..]));
            }
        };
        // As where a block is damaged, and the disk full when it comes again.
        let in_memory = {
            let entry = entry.clone();
            move || {
                entry.give_up(4);
                drop(entry.keep_in_memory(Block::of(4, &RIGHT[4..]), &RIGHT[4..]));
                entry.move_to_disk();
            }
        };
        together![prove(), prove(), wrong, in_memory];
        if entry.is_sealed() {
            let name = place("x").complete_in(scene.dir.path());
            assert_eq!(fs::read(name).unwrap(), RIGHT);
        }
    });
}

#[test]
fn a_file_has_one_entry_however_many_open_it() {
    check(|| {
        let scene = Scene::new(1 << 40);
        let opened = Arc::new(Mutex::new(Vec::new()));
        let open = || {
            let (store, opened) = (scene.store.clone(), Arc::clone(&opened));
            move || {
                // One that goes at once may take the file away.
                drop(store.file(&place("x"), 8));
                let entry = store.file(&place("x"), 8);
                opened.lock().push(entry);
            }
        };
        together![open(), open(), open()];
        let opened = opened.lock();
        assert!(opened.iter().all(|entry| Arc::ptr_eq(entry, &opened[0])));
        opened[0].write(0, RIGHT).unwrap();
        drop(scene.store.file(&place("y"), 8));
        let partial = fs::read(scene.dir.path().join("partial/netcdf~x")).unwrap();
        assert_eq!(partial, RIGHT, "nobody took it away");
    });
}

/// Whoever opened the file before its journal could be left with one that was
/// taken away in between.
#[test]
fn a_file_that_goes_as_it_is_opened_begins_anew() {
    check(|| {
        let scene = Scene::new(1 << 40);
        drop(scene.store.file(&place("x"), 8).write(4, &RIGHT[4..]));
        let folder = CacheFolder::at(scene.dir.path().to_owned());
        let file = folder.files().pop().unwrap();
        let store = scene.store.clone();
        let open = move || {
            let entry = store.file(&place("x"), 8);
            entry.write(0, RIGHT).unwrap();
            entry.seal(entry.epoch()).unwrap();
            assert!(entry.is_sealed());
        };
        let remove = move || {
            let _ = folder.remove(&file);
        };
        together![open, remove];
        let name = place("x").complete_in(scene.dir.path());
        assert_eq!(fs::read(name).unwrap(), RIGHT);
    });
}

#[test]
fn the_bound_is_kept_and_what_is_in_use_stays_whoever_makes_room() {
    check(|| {
        const BLOCK: u64 = 16 << 10;
        let scene = Scene::new(4 * BLOCK);
        let piece = vec![7; usize::try_from(BLOCK).unwrap()];
        for name in ["old", "older"] {
            scene
                .store
                .file(&place(name), BLOCK)
                .write(0, &piece)
                .unwrap();
        }
        let used = Arc::new(Mutex::new(Vec::new()));
        let write = |name: &'static str| {
            let (store, piece, used) = (scene.store.clone(), piece.clone(), Arc::clone(&used));
            move || {
                let entry = store.file(&place(name), 2 * BLOCK);
                used.lock().push(Arc::clone(&entry));
                for at in [0, BLOCK] {
                    entry.write(at, &piece).unwrap();
                    let found = entry.read(at..at + 3).unwrap();
                    assert_eq!(found, CacheRead::Bytes(vec![7; 3]), "what is in use stays");
                }
            }
        };
        together![write("one"), write("other")];
        let partial = fs::read_dir(scene.dir.path().join("partial")).unwrap();
        let files = partial.map(|file| file.unwrap());
        let of_bytes = files.filter(|file| !file.file_name().to_string_lossy().ends_with(".map"));
        let held: u64 = of_bytes
            .map(|file| file.metadata().unwrap().blocks() * 512)
            .sum();
        // What was claimed when another counted is in neither's count.
        assert!(held <= 5 * BLOCK, "{held}");
        let used: Vec<_> = used.lock().drain(..).collect();
        scene.assert_counted(&used);
    });
}

/// What is not there is made again by whoever misses it.
fn assert_right_or_missing(entry: &CacheFile) {
    let found = entry.read(0..8).unwrap();
    if found != CacheRead::Missing(0..8) {
        assert_eq!(found, CacheRead::Bytes(RIGHT.to_vec()));
    }
    if let Some(file) = entry.sealed_file() {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, RIGHT, "what the kernel reads by itself");
    }
}

#[test]
fn a_file_that_two_let_grow_at_once_is_never_wrong() {
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
                    let mut growing = AppendedFile::new(store, place("x"));
                    growing.append(RIGHT).unwrap();
                    let entry = growing.finish().unwrap();
                    assert_right_or_missing(&entry);
                    ends.lock().push(entry);
                }
            };
            let store = scene.store.clone();
            let look = move || {
                store
                    .open_sealed(&place("x"))
                    .as_deref()
                    .map(assert_right_or_missing);
            };
            together![grow(), grow(), look];
            assert_right_or_missing(&scene.store.file(&place("x"), 8));
            let mut ends: Vec<_> = ends.lock().drain(..).collect();
            ends.dedup_by(|one, other| Arc::ptr_eq(one, other));
            scene.assert_counted(&ends);
        });
    }
}

#[test]
fn numbers_noted_at_once_are_on_the_disk_as_they_are_in_memory() {
    check(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths");
        let notes = Arc::new(KnownSizes::open(&path));
        let note = |number| {
            let notes = Arc::clone(&notes);
            move || {
                notes.set(1, number);
                notes.set(number, 1);
            }
        };
        together![note(10), note(11), note(12)];
        let again = KnownSizes::open(&path);
        for key in [1, 10, 11, 12] {
            assert_eq!(again.get(key), notes.get(key));
            assert!(again.get(key).is_some());
        }
    });
}

#[test]
fn a_trouble_is_told_once_whenever_someone_begins_to_watch() {
    check(|| {
        let troubles = Arc::new(Troubles::default());
        let told = Arc::new(AtomicUsize::new(0));
        let note = |errno| {
            let troubles = Arc::clone(&troubles);
            move || {
                troubles.note(CacheError::Io {
                    path: "x".into(),
                    reason: String::new(),
                    errno: Some(errno),
                });
            }
        };
        let watch = {
            let (troubles, told) = (Arc::clone(&troubles), Arc::clone(&told));
            move || {
                troubles.watch(Box::new(move |_| {
                    told.fetch_add(1, Ordering::Relaxed);
                }));
            }
        };
        together![note(5), note(5), note(28), watch];
        assert_eq!(told.load(Ordering::Relaxed), 2);
    });
}
