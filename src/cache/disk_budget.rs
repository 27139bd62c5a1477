//! The disk budget of the cache: a limit on the bytes on the disk, and eviction of
//! files that are not open, least recently used first.
//!
//! Space used is what the files occupy on the disk, block maps included. It is
//! counted at the first claim and again after every 64 MiB of claims, or later if that
//! would take too much of the time, because other processes may share the folder and the
//! disk; between two counts it is estimated from the pages of blocks. Counting takes a look at every file, so it
//! runs in the background while there is room, and takes a small part of the time
//! at most. In a large cache, files are evicted in the background as well, before the
//! limit is reached.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use super::file_lock::{LockKind, try_lock};
use super::layout::{CachePath, FileKind, MAP, NEW, PARTIAL, SUMS};
use super::pins::Pins;
use super::{open_own, remove_if_present};
use icos_sync::{AtomicU64, Mutex, schedule_point};

/// Eviction frees one part in this many of the limit, so that it is not needed
/// again at once.
const EVICTED_PART: u64 = 10;
/// One part in this many of the file system stays free.
const FREE_PART: u64 = 20;
/// The bytes of claims after which the files are counted again.
const RECOUNT: u64 = 64 << 20;
/// Background counts take one part in this many of the time, at most.
const COUNTING_PART: u32 = 20;
/// A background count that takes longer than this has failed.
const MAX_COUNT_TIME: Duration = Duration::from_mins(1);
/// A cache of this many bytes is kept from being full, so that no claim waits for
/// eviction.
const LARGE: u64 = 1 << 30;
/// How long to remember that nothing can be evicted: finding that out takes a
/// look at every file.
const FULL_FOR: Duration = Duration::from_secs(5);

/// The limit, and the bytes used.
#[derive(Debug)]
pub(super) struct DiskBudget {
    root: PathBuf,
    limit: u64,
    /// Bytes used, as far as is known.
    used: AtomicU64,
    /// How much may be used, at the last count.
    allowed: AtomicU64,
    /// The value of `used` beyond which the files are counted again; 0 before
    /// the first count.
    recount_at: AtomicU64,
    /// When the files may be counted again in the background.
    next_count: Mutex<Option<Instant>>,
    /// Held during eviction. After a failed one: until when not to try again,
    /// and the result of claims until then.
    evicting: Mutex<Option<(Instant, ClaimResult)>>,
}

/// How much of the disk the cache uses, and may use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiskUsage {
    /// Bytes on the disk, of complete and incomplete files and their block maps.
    #[serde(rename = "held")]
    pub used: u64,
    /// The limit, in bytes.
    pub limit: u64,
}

/// The result of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClaimResult {
    Granted,
    /// Granted, and the caller should start [`DiskBudget::recount`] in the background.
    GrantedCountDue,
    /// The limit is reached, and every file left is open.
    LimitReached,
    /// The file system has too little free space.
    DiskFull,
}

/// A file on the disk that has a block map.
pub(super) struct StoredFile {
    pub(super) path: CachePath,
    pub(super) map: PathBuf,
    /// When it was opened last: the modification time of its block map.
    pub(super) last_used: SystemTime,
    /// Bytes on the disk, of the file and its block map.
    pub(super) bytes: u64,
}

impl DiskBudget {
    /// A budget of at most `limit` bytes for the files in `root`.
    pub(super) fn new(root: PathBuf, limit: u64) -> Self {
        Self {
            allowed: AtomicU64::new(limit.min(spare(&root))),
            root,
            limit,
            used: AtomicU64::new(0),
            // The first claim counts the files.
            recount_at: AtomicU64::new(0),
            next_count: Mutex::default(),
            evicting: Mutex::default(),
        }
    }

    /// How much may be used, as far as is known: the limit, or less if the disk is
    /// nearly full.
    pub(super) fn allowed(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    /// The bytes used, as far as is known.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The bytes used and the limit. Counts the files, unless a claim has.
    pub(super) fn usage(&self) -> DiskUsage {
        let counted = self.recount_at.load(Ordering::Relaxed) > 0;
        let used = if counted {
            self.used()
        } else {
            self.files().iter().map(|file| file.bytes).sum()
        };
        let limit = self.limit;
        DiskUsage { used, limit }
    }

    /// Claims `bytes`, and evicts files that are not `in_use` if necessary.
    pub(super) fn claim(&self, bytes: u64, in_use: impl Fn(&CachePath) -> bool) -> ClaimResult {
        if let Some(granted) = self.claim_without_counting(bytes) {
            return granted;
        }
        let mut full = self.evicting.lock();
        // Another thread may have evicted files meanwhile.
        if let Some(granted) = self.claim_without_counting(bytes) {
            return granted;
        }
        if let Some((until, why)) = *full
            && Instant::now() < until
        {
            return why;
        }
        let used = self.count_and_evict(bytes, in_use);
        let allowed = self.update_allowed(used);
        if used + bytes > allowed {
            self.recount_at.store(allowed, Ordering::Relaxed);
            let why = if allowed < self.limit {
                ClaimResult::DiskFull
            } else {
                ClaimResult::LimitReached
            };
            *full = Some((Instant::now() + FULL_FOR, why));
            return why;
        }
        *full = None;
        self.used.fetch_add(bytes, Ordering::Relaxed);
        let next = allowed.min(used + bytes + RECOUNT);
        self.recount_at.store(next, Ordering::Relaxed);
        ClaimResult::Granted
    }

    /// Claims `bytes` if they fit, as far as is known without a look at the files.
    fn claim_without_counting(&self, bytes: u64) -> Option<ClaimResult> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let recount_at = self.recount_at.load(Ordering::Relaxed);
        if used <= recount_at {
            return Some(ClaimResult::Granted);
        }
        let has_counted = recount_at > 0;
        if has_counted && used <= self.update_allowed(used - bytes) {
            let next = self.allowed().min(used + RECOUNT);
            self.recount_at.store(next, Ordering::Relaxed);
            let mut next_count = self.next_count.lock();
            let is_due = next_count.is_none_or(|next| next <= Instant::now());
            // A background count sets the time of the next one.
            *next_count = is_due
                .then(|| Instant::now() + MAX_COUNT_TIME)
                .or(*next_count);
            return Some(if is_due {
                ClaimResult::GrantedCountDue
            } else {
                ClaimResult::Granted
            });
        }
        self.release(bytes);
        None
    }

    /// Counts the files, and evicts some of a large cache that is nearly full; for the
    /// background.
    pub(super) fn recount(&self, in_use: impl Fn(&CachePath) -> bool) {
        // A claim that waits for space does the same.
        if let Some(_evicting) = self.evicting.try_lock() {
            let ahead = if self.allowed() >= LARGE { RECOUNT } else { 0 };
            let used = self.count_and_evict(ahead, in_use);
            let next = self.allowed().min(used + RECOUNT);
            self.recount_at.store(next, Ordering::Relaxed);
        }
    }

    /// Gives back `bytes` that were claimed.
    pub(super) fn release(&self, bytes: u64) {
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used.saturating_sub(bytes))
            });
    }

    /// Determines how much may be used, if `used` bytes are.
    fn update_allowed(&self, used: u64) -> u64 {
        let allowed = self.limit.min(used.saturating_add(spare(&self.root)));
        self.allowed.store(allowed, Ordering::Relaxed);
        allowed
    }

    /// Counts the files, and evicts some if `bytes` more do not fit. Returns the
    /// bytes used afterwards.
    fn count_and_evict(&self, bytes: u64, in_use: impl Fn(&CachePath) -> bool) -> u64 {
        let (started, before) = (Instant::now(), self.used());
        let mut files = self.files();
        let mut used: u64 = files.iter().map(|file| file.bytes).sum();
        used += self.sweep_temporary_files();
        // What others claimed meanwhile was perhaps not counted.
        let claimed = |now: u64| now.saturating_sub(before);
        let meanwhile = claimed(self.used());
        used += meanwhile;
        let allowed = self.update_allowed(used);
        if used + bytes > allowed {
            let pins = Pins::in_folder(&self.root);
            files.retain(|file| !pins.include(&file.path));
            files.sort_by_key(|file| file.last_used);
            let goal = (allowed / EVICTED_PART * (EVICTED_PART - 1)).saturating_sub(bytes);
            for file in files {
                if used <= goal {
                    break;
                }
                if !in_use(&file.path) && self.remove(&file.path, &file.map) {
                    tracing::debug!(path = ?file.path, bytes = file.bytes, "evicted a file");
                    used -= file.bytes;
                }
            }
        }
        *self.next_count.lock() = Some(Instant::now() + COUNTING_PART * started.elapsed());
        let total = |now: u64| used + claimed(now).saturating_sub(meanwhile);
        let update = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(total(now)));
        total(update.unwrap_or(before))
    }

    /// Removes the file at `path`, whose block map is `map`, unless a process has
    /// it open. Returns whether it was removed.
    pub(super) fn remove(&self, path: &CachePath, map: &Path) -> bool {
        // An exclusive lock takes a file that is open for writing.
        let Ok(lock) = open_own(OpenOptions::new().read(true).write(true), map) else {
            return false;
        };
        if !matches!(try_lock(&lock, LockKind::Exclusive), Ok(true)) {
            return false;
        }
        schedule_point();
        // The file before its map: after a crash in between, the blocks do not match
        // their words. A file without a map would occupy space that nothing counts.
        let removed = remove_if_present(&path.complete_in(&self.root))
            .and_then(|()| remove_if_present(&path.beside_in(&self.root, FileKind::Partial)))
            .and_then(|()| remove_if_present(map));
        removed.is_ok()
    }

    /// Removes temporary files of processes that have ended. Returns the bytes of
    /// those that are still open.
    pub(super) fn sweep_temporary_files(&self) -> u64 {
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
            match open_own(OpenOptions::new().read(true), &path) {
                // It may have been renamed meanwhile.
                Ok(file) if file.try_lock().is_ok() => drop(fs::remove_file(&path)),
                Ok(file) => bytes += file.metadata().map_or(0, |found| found.blocks() * 512),
                Err(_removed) => {}
            }
        }
        bytes
    }

    /// Every file of the cache that has a block map.
    pub(super) fn files(&self) -> Vec<StoredFile> {
        let mut files = Vec::new();
        for dir in [PARTIAL, SUMS] {
            let Ok(entries) = fs::read_dir(self.root.join(dir)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let path = name
                    .to_str()
                    .and_then(|name| name.strip_suffix(MAP))
                    .and_then(CachePath::from_flat_name);
                let (Some(path), Ok(found)) = (path, entry.metadata()) else {
                    continue;
                };
                let file = if dir == PARTIAL {
                    path.beside_in(&self.root, FileKind::Partial)
                } else {
                    path.complete_in(&self.root)
                };
                // Sparse files occupy less than their length.
                let bytes = fs::metadata(file).map_or(0, |found| found.blocks() * 512);
                files.push(StoredFile {
                    path,
                    map: entry.path(),
                    last_used: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    bytes: bytes + found.blocks() * 512,
                });
            }
        }
        files
    }
}

/// The free bytes of the file system of `root`, without those that stay free.
fn spare(root: &Path) -> u64 {
    let Ok(disk) = statvfs(root) else {
        return u64::MAX;
    };
    if disk.blocks() == 0 {
        // Not a disk.
        return u64::MAX;
    }
    let unit = disk.fragment_size();
    (disk.blocks_available() * unit).saturating_sub(disk.blocks() * unit / FREE_PART)
}

/// The limit if the user sets none, in bytes: a tenth of the file system, 1 GiB
/// at least.
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
    fn failed_claim_is_remembered_until_space_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let budget = DiskBudget::new(dir.path().to_owned(), 10 << 20);
        let partial = dir.path().join(PARTIAL);
        fs::create_dir(&partial).unwrap();
        let path = CachePath::new("netcdf", "x").unwrap();
        let beside = |kind| path.beside_in(dir.path(), kind);
        fs::write(beside(FileKind::Partial), vec![1; 9 << 20]).unwrap();
        fs::write(beside(FileKind::Map), "").unwrap();
        let claim = |bytes| budget.claim(bytes, |_| true);

        assert_eq!(claim(2 << 20), ClaimResult::LimitReached);
        // The files are not counted again for a while.
        fs::remove_dir_all(&partial).unwrap();
        assert_eq!(claim(2 << 20), ClaimResult::LimitReached);
        assert_eq!(claim(1 << 19), ClaimResult::Granted, "this fits");
        budget.release(2 << 20);
        assert_eq!(claim(2 << 20), ClaimResult::Granted);
    }
}
