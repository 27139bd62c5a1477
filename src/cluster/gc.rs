//! Removes what was not used for a while from a shared cache in a folder.
//!
//! Others can write to the folder. It is walked by descriptors, from `v1` on: no symbolic
//! link is followed, no other file system is entered, and the walk is no deeper than the
//! format. Only files with the names of the format, in the folders that have them, are
//! removed. A machine that misses a segment downloads it again.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use icos_files::SafeFolder;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A file without its final name that is older than this belongs to a process that ended.
const MAX_UNFINISHED_AGE: Duration = Duration::from_hours(24);
/// Objects are so many folders below `v1`: `<host>/<representation>/<id>`, and for rows of
/// some columns `<columns>/<rows>`. See `docs/cluster-format.md`.
const OBJECT_DEPTH: usize = 3;
const MAX_DEPTH: usize = 5;

/// What to remove.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// Remove objects that were neither read nor written for so long.
    pub unused: Duration,
    /// Whether to count only.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GcReport {
    /// Number of objects: originals, tables, or rows of some columns.
    pub objects: u64,
    /// Number of files that writers left unfinished.
    pub unfinished: u64,
    /// The bytes of both.
    pub bytes: u64,
    /// The bytes that remain.
    pub remaining: u64,
    /// Number of files and folders that could not be read or removed.
    pub failures: u64,
    /// The first of these, and why.
    pub first_failure: Option<String>,
}

/// Why a folder cannot be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// It does not exist.
    #[error("there is no folder {}; give the one that --shared-cache names", .0.display())]
    NoFolder(PathBuf),
    /// No machine has shared anything there.
    #[error(
        "{} has no shared cache (a folder v1); give the folder that --shared-cache names",
        .0.display()
    )]
    NoSharedCache(PathBuf),
    /// Its `v1` is a link, a file, or on another file system.
    #[error(
        "expected a folder at {}, found a link, a file or another file system, which is not followed; remove it",
        .0.display()
    )]
    NotAFolder(PathBuf),
    /// Anything else.
    #[error("cannot open {}: {error}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Removes what was not used for a while from the shared cache in `folder`.
///
/// A filesystem that is mounted with `noatime` does not tell when a file was read; then
/// the time counts at which it was written.
///
/// # Errors
///
/// [`GcError`] if `folder` has no shared cache. What cannot be read or removed in it is
/// left and counted.
pub fn collect_garbage(folder: &Path, options: GcOptions) -> Result<GcReport, GcError> {
    let root = SafeFolder::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GcError::NoFolder(folder.to_owned()),
        _ => failed(folder, error),
    })?;
    let shown = folder.join("v1");
    let device = root.metadata().dev();
    let found = match Entry::open(root.as_fd(), c"v1") {
        Ok(Some(found)) => found.into_folder(device),
        Ok(None) => return Err(GcError::NoSharedCache(folder.to_owned())),
        Err(Errno::XDEV) => None,
        Err(error) => return Err(failed(&shown, error.into())),
    };
    let found = found.ok_or_else(|| GcError::NotAFolder(shown.clone()))?;
    let mut collection = Collection {
        options,
        now: SystemTime::now(),
        device,
        report: GcReport::default(),
    };
    collection.clean(&found, &shown, 0);
    Ok(collection.report)
}

fn failed(path: &Path, error: io::Error) -> GcError {
    let path = path.to_owned();
    GcError::Folder { path, error }
}

/// A garbage collection under way.
struct Collection {
    options: GcOptions,
    now: SystemTime,
    /// The file system that it stays on.
    device: u64,
    report: GcReport,
}

/// A handle of an entry of a folder, without access to its content.
struct Entry {
    handle: OwnedFd,
    found: Stat,
}

/// What a file is by its name and place.
enum FileRole {
    /// A part of an object.
    Part,
    /// Not complete, or a claim.
    Unfinished,
    Other,
}

impl Collection {
    /// Cleans `folder`, which is `depth` folders below `v1`. Names are not collected: there
    /// may be any number.
    fn clean(&mut self, folder: &OwnedFd, shown: &Path, depth: usize) {
        let mut bytes = 0;
        let mut unused: Option<Duration> = None;
        self.for_each(folder, shown, |this, name, entry| {
            if let Some(subfolder) = entry.folder(this.device) {
                if depth < MAX_DEPTH {
                    this.clean(subfolder, &shown.join(shown_name(name)), depth + 1);
                }
                return Ok(());
            }
            let Some(size) = entry.file_size() else {
                return Ok(());
            };
            let age = age_of(&entry.found, this.now);
            match FileRole::of(name, depth) {
                FileRole::Part => {
                    bytes += size;
                    unused = Some(unused.map_or(age, |unused| unused.min(age)));
                }
                FileRole::Unfinished if age > MAX_UNFINISHED_AGE => {
                    this.remove(folder, name)?;
                    this.report.unfinished += 1;
                    this.report.bytes += size;
                }
                FileRole::Unfinished | FileRole::Other => this.report.remaining += size,
            }
            Ok(())
        });
        if unused.is_none_or(|unused| unused < self.options.unused) {
            self.report.remaining += bytes;
            return;
        }
        self.report.objects += 1;
        self.for_each(folder, shown, |this, name, entry| {
            let is_part = matches!(FileRole::of(name, depth), FileRole::Part);
            let Some(size) = entry.file_size().filter(|_| is_part) else {
                return Ok(());
            };
            // Another machine may have used it meanwhile.
            if age_of(&entry.found, this.now) < this.options.unused {
                this.report.remaining += size;
                return Ok(());
            }
            this.remove(folder, name)?;
            this.report.bytes += size;
            Ok(())
        });
    }

    /// Calls `visit` with each entry of `folder`, and notes failures.
    fn for_each(
        &mut self,
        folder: &OwnedFd,
        shown: &Path,
        mut visit: impl FnMut(&mut Self, &CStr, &Entry) -> Result<(), Errno>,
    ) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(folder, c".", flags, Mode::empty());
        let entries = match opened.and_then(Dir::new) {
            Ok(entries) => entries,
            Err(error) => return self.note_failure(shown, error),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.note_failure(shown, error),
            };
            let name = entry.file_name();
            let is_candidate = matches!(
                entry.file_type(),
                FileType::Directory | FileType::RegularFile | FileType::Unknown
            );
            if !is_candidate || name == c"." || name == c".." {
                continue;
            }
            let visited = match Entry::open(folder.as_fd(), name) {
                Ok(Some(entry)) => visit(self, name, &entry),
                Ok(None) | Err(Errno::XDEV) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = visited {
                self.note_failure(&shown.join(shown_name(name)), error);
            }
        }
    }

    fn remove(&self, folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        if self.options.dry_run {
            return Ok(());
        }
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            // Another process may have removed it.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn note_failure(&mut self, path: &Path, error: Errno) {
        self.report.failures += 1;
        let text = || format!("{}: {}", path.display(), io::Error::from(error));
        self.report.first_failure.get_or_insert_with(text);
    }
}

impl Entry {
    /// Opens `name` in `folder`, if it exists.
    ///
    /// # Errors
    ///
    /// [`Errno::XDEV`] if something is mounted there: the process of another user may be
    /// behind it, and never answer.
    fn open(folder: BorrowedFd<'_>, name: &CStr) -> Result<Option<Self>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_XDEV;
        let opened = match rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve) {
            // Before Linux 5.6, or where a filter of system calls does not know it.
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(folder, name, flags, Mode::empty())
            }
            opened => opened,
        };
        let handle = match opened {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = rustix::fs::fstat(&handle)?;
        Ok(Some(Self { handle, found }))
    }

    /// The folder, if it is one on the file system `device`.
    fn folder(&self, device: u64) -> Option<&OwnedFd> {
        let is_folder = FileType::from_raw_mode(self.found.st_mode) == FileType::Directory;
        (is_folder && self.found.st_dev == device).then_some(&self.handle)
    }

    fn into_folder(self, device: u64) -> Option<OwnedFd> {
        self.folder(device).is_some().then_some(self.handle)
    }

    /// The length of the file in bytes, if it is a regular one.
    fn file_size(&self) -> Option<u64> {
        let is_file = FileType::from_raw_mode(self.found.st_mode) == FileType::RegularFile;
        is_file.then(|| u64::try_from(self.found.st_size).unwrap_or(0))
    }
}

impl FileRole {
    fn of(name: &CStr, depth: usize) -> Self {
        let name = name.to_bytes();
        let is_segment = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
        let is_part = is_segment || name == b"manifest" || name == b"lease";
        if name.starts_with(b".new-") || name.starts_with(b".claim-") {
            Self::Unfinished
        } else if is_part && depth >= OBJECT_DEPTH {
            Self::Part
        } else {
            Self::Other
        }
    }
}

fn shown_name(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// How long ago a file was last read or written.
fn age_of(found: &Stat, now: SystemTime) -> Duration {
    let last = found.st_atime.max(found.st_mtime);
    let last = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(last).unwrap_or(0)));
    // A time in the future, which anyone can set, is no age.
    last.and_then(|last| now.duration_since(last).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
