//! Walks a path without following a link of another user.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::folder::SafeFolder;
use super::trust::{UnsafeFile, is_sticky, is_trusted, is_writable_by_others};

/// Symbolic links that one path may contain, as in the kernel.
const MAX_LINKS: u32 = 40;

/// A handle of an entry, without access to its content.
pub(crate) const HANDLE: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// How to walk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WalkMode {
    /// Create missing folders, with these permissions.
    pub(crate) create: Option<u32>,
    /// Stop before the last entry unless it is a link.
    pub(crate) keep_last: bool,
    /// Fail if other users can replace an entry on the way, and follow only links of
    /// trusted owners.
    pub(crate) guarded: bool,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum Destination {
    /// To a folder.
    Folder(SafeFolder),
    /// To an entry of this name, which need not exist.
    Entry(SafeFolder, OsString),
    /// To an open file of a process, by a link of the kernel.
    OpenFile(File),
}

/// Walks to `path`.
pub(crate) fn walk(path: &Path, mode: WalkMode) -> io::Result<Destination> {
    let mut steps = steps(&std::path::absolute(path)?);
    let mut here = SafeFolder::root()?;
    let mut links = 0;
    while let Some(step) = steps.pop_front() {
        let is_last = steps.is_empty() && mode.keep_last;
        if mode.guarded && here.lets_others_replace() {
            return Err(here.refusal().into());
        }
        let entry = match openat(&here, &*step, HANDLE, Mode::empty()) {
            Ok(entry) => File::from(entry),
            Err(Errno::ENOENT) if is_last => return Ok(Destination::Entry(here, step)),
            Err(Errno::ENOENT) => {
                let mode = mode.create.ok_or(Errno::ENOENT)?;
                here = here.make(&step, mode)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let found = entry.metadata()?;
        if !found.is_symlink() {
            if is_last {
                return Ok(Destination::Entry(here, step));
            }
            here = here.enter(&step, entry, found)?;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::ELOOP.into());
        }
        if fstatfs(&entry)?.filesystem_type() == PROC_SUPER_MAGIC {
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            let target = File::from(openat(&here, &*step, flags, Mode::empty())?);
            let found = target.metadata()?;
            if is_last && !found.is_dir() {
                return Ok(Destination::OpenFile(target));
            }
            here = here.enter(&step, target, found)?;
            continue;
        }
        let is_own = is_trusted(found.uid());
        // A folder that others cannot write to may have been open to them before.
        let is_safe = if mode.guarded {
            is_own
        } else {
            !here.is_shared() || is_sticky(here.metadata()) && is_own
        };
        if !is_safe {
            let path = here.shown().join(&step);
            return Err(UnsafeFile::Link { path }.into());
        }
        let target = readlinkat(&entry, "")?;
        let target = Path::new(&target);
        if target.is_absolute() {
            here = SafeFolder::root()?;
        }
        for step in self::steps(target).into_iter().rev() {
            steps.push_front(step);
        }
    }
    Ok(Destination::Folder(here))
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

impl SafeFolder {
    /// Whether other users can add, remove and rename entries.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_reachable() && is_writable_by_others(self.metadata())
    }

    /// Whether other users can replace entries of trusted owners.
    fn lets_others_replace(&self) -> bool {
        self.is_shared() && !is_sticky(self.metadata())
    }

    /// The error for a folder in which others can replace entries.
    pub(crate) fn refusal(&self) -> UnsafeFile {
        let found = self.metadata();
        UnsafeFile::Folder {
            path: self.shown().to_owned(),
            owner: found.uid(),
            mode: found.mode() & 0o7777,
        }
    }
}
