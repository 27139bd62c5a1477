//! How much the cache may hold: a bound that is kept by removing the files
//! that were not used for longest, never one that is in use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use nix::sys::statvfs::statvfs;

use super::place::{Kind, MAP, PARTIAL, Place, SUMS};

/// Room is made down to this share of the bound, so that it lasts a while.
const AFTER: u64 = 9;
const OF: u64 = 10;
/// The file system is left this share free.
const FREE: u64 = 20;
/// After claiming so much, what lies there is counted anew: other processes
/// may share the folder, and the disk.
const RECOUNT: u64 = 64 << 20;

/// The bound, and what is held.
#[derive(Debug)]
pub(super) struct Space {
    root: PathBuf,
    limit: u64,
    /// Bytes held, as far as is known.
    held: AtomicU64,
    /// Bytes that may be held before the next count.
    recount_at: AtomicU64,
    /// Taken by whoever makes room.
    making_room: Mutex<()>,
    warned: AtomicBool,
}

/// A file that could be removed.
struct Candidate {
    place: Place,
    /// Its journal, by whose time of change it was used last.
    map: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl Space {
    /// At most `limit` bytes below `root`.
    pub(super) fn new(root: PathBuf, limit: u64) -> Self {
        Self {
            root,
            limit,
            held: AtomicU64::new(0),
            // The first claim counts.
            recount_at: AtomicU64::new(0),
            making_room: Mutex::new(()),
            warned: AtomicBool::new(false),
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes `bytes` of the space, making room if need be; false if there is
    /// none to be made.
    pub(super) fn claim(&self, bytes: u64, in_use: impl Fn(&Place) -> bool) -> bool {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= self.recount_at.load(Ordering::Relaxed) {
            return true;
        }
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        let _turn = self
            .making_room
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let held = self.count_and_make_room(bytes, in_use);
        let allowed = self.allowed(held);
        if held + bytes > allowed {
            return false;
        }
        self.held.store(held + bytes, Ordering::Relaxed);
        let next = allowed.min(held + bytes + RECOUNT);
        self.recount_at.store(next, Ordering::Relaxed);
        true
    }

    /// Gives `bytes` back.
    pub(super) fn release(&self, bytes: u64) {
        let _ = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                Some(held.saturating_sub(bytes))
            });
    }

    /// Says once why nothing is kept on the disk.
    pub(super) fn warn_once(&self, reason: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(cache = %self.root.display(), reason,
                "the cache cannot be written to; reads go on without it");
        }
    }

    /// How much may be held: the bound, or less if the disk is nearly full.
    fn allowed(&self, held: u64) -> u64 {
        let Ok(disk) = statvfs(&self.root) else {
            return self.limit;
        };
        let unit = disk.fragment_size();
        let spare = (disk.blocks_available() * unit).saturating_sub(disk.blocks() * unit / FREE);
        self.limit.min(held.saturating_add(spare))
    }

    fn count_and_make_room(&self, bytes: u64, in_use: impl Fn(&Place) -> bool) -> u64 {
        let mut files = self.files();
        let mut held: u64 = files.iter().map(|file| file.bytes).sum();
        let allowed = self.allowed(held);
        if held + bytes <= allowed {
            return held;
        }
        files.sort_by_key(|file| file.used);
        let goal = (allowed / OF * AFTER).saturating_sub(bytes);
        for file in files {
            if held <= goal {
                break;
            }
            if !in_use(&file.place) && self.remove(&file.place, &file.map) {
                tracing::debug!(place = ?file.place, bytes = file.bytes, "removed to make room");
                held -= file.bytes;
            }
        }
        held
    }

    /// Removes the file at `place`, unless a process uses it.
    pub(super) fn remove(&self, place: &Place, map: &Path) -> bool {
        let Ok(journal) = File::open(map) else {
            return false;
        };
        if journal.try_lock().is_err() {
            return false;
        }
        // The file before its journal: bytes without one are dropped when they
        // are met, a journal without bytes only finds them missing.
        let removed = remove(&place.complete_in(&self.root))
            .and_then(|()| remove(&place.beside_in(&self.root, Kind::Partial)))
            .and_then(|()| remove(map));
        removed.is_ok()
    }

    /// Every file of the cache that has a journal.
    fn files(&self) -> Vec<Candidate> {
        let mut files = Vec::new();
        for dir in [PARTIAL, SUMS] {
            let Ok(entries) = fs::read_dir(self.root.join(dir)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let place = name
                    .to_str()
                    .and_then(|name| name.strip_suffix(MAP))
                    .and_then(Place::of_beside);
                let (Some(place), Ok(found)) = (place, entry.metadata()) else {
                    continue;
                };
                let file = if dir == PARTIAL {
                    place.beside_in(&self.root, Kind::Partial)
                } else {
                    place.complete_in(&self.root)
                };
                // Sparse files hold less than they are long.
                let bytes = fs::metadata(file).map_or(0, |found| found.blocks() * 512);
                files.push(Candidate {
                    place,
                    map: entry.path(),
                    used: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    bytes: bytes + found.blocks() * 512,
                });
            }
        }
        files
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A bound for whoever names none: a tenth of the file system, a gigabyte at
/// least.
#[must_use]
pub fn default_limit(root: &Path) -> u64 {
    let mut existing = root;
    let disk = loop {
        match (statvfs(existing), existing.parent()) {
            (Ok(disk), _) => break Some(disk),
            (Err(_), Some(parent)) => existing = parent,
            (Err(_), None) => break None,
        }
    };
    let tenth = disk.map_or(0, |disk| disk.blocks() * disk.fragment_size() / 10);
    tenth.max(1 << 30)
}
