//! Reads the files of `icosfs prefetch`, several at a time, with progress and a summary
//! of failures by their reason.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::bail;

use super::cached::{Uncached, uncached};
use crate::cli::failure::Failure;
use crate::cli::mount_context::mount_of;
use crate::cli::object_argument::id_of_file;
use crate::cli::output::print_line;
use crate::cli::status::read_status;
use crate::cli::terminal::size;
use crate::cli::waiting::Progress;
use crate::mount::absolute;
use crate::mount::mountinfo::{self, MountEntry};
use icos_portal::ObjectId;

/// Files read concurrently; each is one stream from the portal.
const CONCURRENT_FILES: usize = 4;
/// Bytes per read call.
const READ_SIZE: usize = 1 << 20;

/// Files that failed, by the reason.
type FailuresByReason = BTreeMap<String, Vec<PathBuf>>;

/// Reads all `files`, and reports failures.
pub(super) fn download(files: &[PathBuf]) -> anyhow::Result<()> {
    let lengths = (files.iter()).filter_map(|path| Some(fs::metadata(path).ok()?.len()));
    let progress = Progress::of(Some(lengths.sum()));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed: Mutex<Vec<(PathBuf, io::Error)>> = Mutex::default();
    std::thread::scope(|scope| {
        let work = || {
            while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = read(path, &progress) {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.push((path.clone(), error));
                }
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                progress.say(format!("{done} of {} files", files.len()));
            }
        };
        // This thread is one of them, in case that no other can be started.
        for _ in 1..CONCURRENT_FILES {
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let bytes = progress.position();
    progress.clear();
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (count, failures) = (files.len(), failed.len());
    let has_failed: HashSet<&PathBuf> = failed.iter().map(|(path, _)| path).collect();
    let read: Vec<&PathBuf> = (files.iter())
        .filter(|path| !has_failed.contains(path))
        .collect();
    let uncached = uncached(&read);
    let missing = failures + uncached.as_ref().map_or(0, |uncached| uncached.count);
    let cached = match (count, missing) {
        (1, 0) => "1 file is cached".to_owned(),
        (1, _) => "the file is not cached".to_owned(),
        (count, missing) => format!("{} of {count} files are cached", count - missing),
    };
    print_line!("{cached}, {} read", size(bytes))?;
    if let Some(Uncached { count: not, reason }) = uncached {
        match read.len() {
            1 => bail!("the file was read, but is not in the cache: {reason}"),
            read => bail!(
                "{read} files were read, {} of them are in the cache: {reason}",
                read - not
            ),
        }
    }
    if failures == 0 {
        return Ok(());
    }
    for (reason, files) in by_reason(failed) {
        let (number, example) = (files.len(), files[0].display());
        let text = match number {
            1 => format!("{example}: {reason}"),
            _ => format!("{number} files, such as {example}: {reason}"),
        };
        Failure::of_text(&text).print();
    }
    if count == 1 {
        bail!("the file could not be downloaded; repeat the command to try again");
    }
    bail!("{failures} of {count} files could not be downloaded; repeat the command to continue")
}

/// Groups failures by the reason that the mount gives, or else by the error of the read.
fn by_reason(failed: Vec<(PathBuf, io::Error)>) -> FailuresByReason {
    let mounts = mountinfo::mounts().unwrap_or_default();
    let mut reasons: BTreeMap<PathBuf, BTreeMap<ObjectId, String>> = BTreeMap::new();
    let mut failures = FailuresByReason::new();
    for (path, error) in failed {
        let reason = absolute(&path).ok().and_then(|path| {
            let mount = mount_of(&mounts, &path)?;
            let reasons =
                (reasons.entry(mount.mountpoint.clone())).or_insert_with(|| reasons_of(&mount));
            reasons.get(&id_of_file(&path)?).cloned()
        });
        let reason = reason.unwrap_or_else(|| error.to_string());
        failures.entry(reason).or_default().push(path);
    }
    failures
}

/// The reasons of the recent failures of a mount, by object. Those of several objects are
/// equal if they differ in the object only.
fn reasons_of(mount: &MountEntry) -> BTreeMap<ObjectId, String> {
    let errors = read_status(mount).map(|status| status.errors);
    let errors = errors.unwrap_or_default().into_iter().rev();
    errors
        .filter_map(|failure| {
            let id = id_of_file(Path::new(&failure.file))?;
            Some((id, failure.reason.replace(&id.to_string(), "it")))
        })
        .collect()
}

fn read(path: &Path, progress: &Progress) -> io::Result<()> {
    let bound = fs::metadata(path)?.len();
    let mut file = File::open(path)?;
    // Asking for the size makes the mount download a table in one request.
    let len = file.metadata()?.len();
    progress.change_length(|all| (all + len).saturating_sub(bound));
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => progress.advance(read as u64),
        }
    }
}
