//! How much the cache may hold: a bound that is kept by removing the files
//! that were not used for longest, never one that is in use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use super::place::{CachePath, Kind, MAP, NEW, PARTIAL, SUMS};
use icos_sync::{AtomicU64, Mutex, schedule_point};

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
    /// Taken by whoever makes room; says until when it is not worth trying
    /// again, and why.
    making_room: Mutex<Option<(Instant, Claim)>>,
}

/// How much a cache holds, and may hold.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiskUsage {
    /// Bytes on the disk, of complete and incomplete files.
    #[serde(rename = "held")]
    pub used: u64,
    /// As many as it may hold.
    pub limit: u64,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Claim {
    Granted,
    /// All that is held is in use, and takes all there is.
    BoundReached,
    /// The file system has no room, whoever has taken it.
    DiskFull,
}

/// For so long it is remembered that there is no room to be made: to find out
/// takes a look at every file.
const NO_ROOM_FOR: Duration = Duration::from_secs(5);

/// A file that could be removed.
pub(super) struct Candidate {
    pub(super) place: CachePath,
    /// Its journal, by whose time of change it was used last.
    pub(super) map: PathBuf,
    pub(super) used: SystemTime,
    pub(super) bytes: u64,
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
            making_room: Mutex::default(),
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// What is held, counted unless a claim has counted it.
    pub(super) fn usage(&self) -> DiskUsage {
        let counted = self.recount_at.load(Ordering::Relaxed) > 0;
        let held = if counted {
            self.held()
        } else {
            self.files().iter().map(|file| file.bytes).sum()
        };
        let limit = self.limit;
        DiskUsage { used: held, limit }
    }

    /// Takes `bytes` of the space, making room if need be.
    pub(super) fn claim(&self, bytes: u64, in_use: impl Fn(&CachePath) -> bool) -> Claim {
        if self.take_known(bytes) {
            return Claim::Granted;
        }
        let mut no_room = self.making_room.lock();
        // Another may have made room meanwhile.
        if self.take_known(bytes) {
            return Claim::Granted;
        }
        if let Some((until, why)) = *no_room
            && Instant::now() < until
        {
            return why;
        }
        let held = self.count_and_make_room(bytes, in_use);
        let allowed = self.allowed(held);
        if held + bytes > allowed {
            self.held.store(held, Ordering::Relaxed);
            self.recount_at.store(allowed, Ordering::Relaxed);
            let why = if allowed < self.limit {
                Claim::DiskFull
            } else {
                Claim::BoundReached
            };
            *no_room = Some((Instant::now() + NO_ROOM_FOR, why));
            return why;
        }
        *no_room = None;
        self.held.store(held + bytes, Ordering::Relaxed);
        let next = allowed.min(held + bytes + RECOUNT);
        self.recount_at.store(next, Ordering::Relaxed);
        Claim::Granted
    }

    /// Takes `bytes` if they fit into what is known to be free.
    fn take_known(&self, bytes: u64) -> bool {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = held <= self.recount_at.load(Ordering::Relaxed);
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// Gives `bytes` back.
    pub(super) fn release(&self, bytes: u64) {
        let _ = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                Some(held.saturating_sub(bytes))
            });
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

    fn count_and_make_room(&self, bytes: u64, in_use: impl Fn(&CachePath) -> bool) -> u64 {
        let mut files = self.files();
        let mut held: u64 = files.iter().map(|file| file.bytes).sum();
        held += self.sweep_growing();
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
    pub(super) fn remove(&self, place: &CachePath, map: &Path) -> bool {
        let Ok(journal) = File::open(map) else {
            return false;
        };
        if journal.try_lock().is_err() {
            return false;
        }
        schedule_point();
        // The file before its journal: bytes without one are dropped when they
        // are met, a journal without bytes only finds them missing.
        let removed = remove(&place.complete_in(&self.root))
            .and_then(|()| remove(&place.beside_in(&self.root, Kind::Partial)))
            .and_then(|()| remove(map));
        removed.is_ok()
    }

    /// Removes files that grew when their process ended, since nobody can go
    /// on with them; returns the bytes of those that still grow.
    pub(super) fn sweep_growing(&self) -> u64 {
        let mut bytes = 0;
        let entries = fs::read_dir(self.root.join(PARTIAL));
        for entry in entries.into_iter().flatten().flatten() {
            if !entry
                .file_name()
                .as_encoded_bytes()
                .ends_with(NEW.as_bytes())
            {
                continue;
            }
            let path = entry.path();
            match File::open(&path) {
                // It may have got its own name meanwhile.
                Ok(file) if file.try_lock().is_ok() => drop(fs::remove_file(&path)),
                Ok(file) => bytes += file.metadata().map_or(0, |found| found.blocks() * 512),
                Err(_gone) => {}
            }
        }
        bytes
    }

    /// Every file of the cache that has a journal.
    pub(super) fn files(&self) -> Vec<Candidate> {
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
                    .and_then(CachePath::of_beside);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_there_is_no_room_is_remembered_until_some_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path().to_owned(), 10 << 20);
        let partial = dir.path().join(PARTIAL);
        fs::create_dir(&partial).unwrap();
        let place = CachePath::new("netcdf", "x").unwrap();
        fs::write(place.beside_in(dir.path(), Kind::Partial), vec![1; 9 << 20]).unwrap();
        fs::write(place.beside_in(dir.path(), Kind::Journal), "").unwrap();
        let claim = |bytes| space.claim(bytes, |_| true);

        assert_eq!(claim(2 << 20), Claim::BoundReached);
        // Nobody looks again for a while.
        fs::remove_dir_all(&partial).unwrap();
        assert_eq!(claim(2 << 20), Claim::BoundReached);
        assert_eq!(claim(1 << 19), Claim::Granted, "this fits");
        space.release(2 << 20);
        assert_eq!(claim(2 << 20), Claim::Granted);
    }
}
