//! Whether the files that were read are in the cache: its disk may be full, or it may be
//! too small for all of them.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use crate::cache::{CacheFolder, DiskUsage};
use crate::catalog::Representation;
use crate::cli::mount_context::mount_of;
use crate::cli::object_argument::id_of_file;
use crate::cli::status::read_status;
use crate::cli::terminal::size;
use crate::daemon::report::DaemonStatus;
use crate::mount::absolute;
use crate::mount::mountinfo::{self, MountEntry};
use crate::tree::Inode;
use icos_portal::ObjectId;

/// How long a mount may take to complete the last files.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of the checks.
const INTERVAL: Duration = Duration::from_millis(200);

/// Files that are not in the cache.
#[derive(Debug)]
pub(super) struct Uncached {
    pub(super) count: usize,
    /// Why, and what to do about it.
    pub(super) reason: String,
}

/// What the cache stores of a file: the table that it is made of, or the original.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Source {
    id: ObjectId,
    is_table: bool,
}

/// The `files`, which were just read, that are not in the cache of their mount, if the mount
/// has a reason for it. Files that come from elsewhere, such as the portal's own folder, are
/// not counted; nor are those of mounts by other users, whose cache cannot be seen.
pub(super) fn uncached(files: &[&PathBuf]) -> Option<Uncached> {
    let mounts = mountinfo::mounts().ok()?;
    let mut by_mount: BTreeMap<PathBuf, (MountEntry, Vec<Source>)> = BTreeMap::new();
    for path in files {
        let Some(source) = source_of(path) else {
            continue;
        };
        let mount = absolute(path)
            .ok()
            .and_then(|path| mount_of(&mounts, &path));
        if let Some(mount) = mount.filter(|one| one.owner == Some(geteuid().as_raw())) {
            let of_mount = by_mount.entry(mount.mountpoint.clone());
            of_mount.or_insert((mount, Vec::new())).1.push(source);
        }
    }
    let mut found: Option<Uncached> = None;
    for (mount, sources) in by_mount.into_values() {
        if let Some(of_mount) = uncached_of(&mount, &sources) {
            let before = found.map_or(0, |found| found.count);
            found = Some(Uncached {
                count: before + of_mount.count,
                ..of_mount
            });
        }
    }
    found
}

fn uncached_of(mount: &MountEntry, sources: &[Source]) -> Option<Uncached> {
    let cache = read_status(mount).ok()?.info.cache;
    let folder = CacheFolder::at(cache);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let complete = complete_sources(&folder);
        let count = (sources.iter())
            .filter(|source| !complete.contains(source))
            .count();
        if count == 0 {
            return None;
        }
        // The last file may not be complete yet, even if earlier ones failed.
        if Instant::now() > deadline {
            let reason = reason(&read_status(mount).ok()?)?;
            return Some(Uncached { count, reason });
        }
        std::thread::sleep(INTERVAL);
    }
}

fn complete_sources(folder: &CacheFolder) -> HashSet<Source> {
    let complete = folder.files().into_iter().filter(|file| file.complete);
    let source = |name: &str| {
        Some(Source {
            id: name.split('.').next()?.parse().ok()?,
            is_table: name.contains('.'),
        })
    };
    complete
        .filter_map(|file| source(file.path.name()))
        .collect()
}

fn source_of(path: &Path) -> Option<Source> {
    let inode = Inode(path.metadata().ok()?.ino());
    let is_table = match inode.file().map(|file| file.2) {
        Some(Representation::Json) => return None,
        Some(Representation::Original) | None => false,
        Some(_) => true,
    };
    let id = id_of_file(path)?;
    Some(Source { id, is_table })
}

/// Why the mount does not cache.
fn reason(status: &DaemonStatus) -> Option<String> {
    let is_of_cache = |operation: &str, file: &str| operation == "keep" && file == "cache";
    let failure =
        (status.errors.iter()).find(|failure| is_of_cache(&failure.operation, &failure.file));
    let folder = status.info.cache.display();
    match (failure, status.state.cache_use) {
        (Some(failure), _) if failure.errno == "ENOSPC" => Some(format!(
            "its disk is full; free some space on {folder}, or name another folder with --cache-dir"
        )),
        (Some(failure), _) => Some(failure.reason.clone()),
        (None, Some(DiskUsage { used, limit })) if used >= limit - limit / 10 => Some(format!(
            "it holds at most {}; mount again with a greater --cache-size",
            size(limit)
        )),
        (None, _) => None,
    }
}
