//! Walks a path without following a link of another user.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use rustix::fs::getxattr;
use rustix::io::Errno;

use super::folder::SafeFolder;
use super::trust::{UnsafeFile, is_trusted, is_unmapped, is_writable_by_others};

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
        // Not opened: on a dead or hanging mount, its attributes cannot be had.
        if is_last && readlinkat(&here, &*step) == Err(nix::errno::Errno::EINVAL) {
            return Ok(Destination::Entry(here, step));
        }
        let entry = match openat(&here, &*step, HANDLE, Mode::empty()) {
            Ok(entry) => File::from(entry),
            Err(nix::errno::Errno::ENOENT) if is_last => return Ok(Destination::Entry(here, step)),
            Err(nix::errno::Errno::ENOENT) => {
                let mode = mode.create.ok_or(nix::errno::Errno::ENOENT)?;
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
            return Err(nix::errno::Errno::ELOOP.into());
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
        let is_own = is_trusted(found.uid()) || here.is_system() && is_unmapped(found.uid());
        // A folder that others cannot write to may have been open to them before.
        let is_safe = if mode.guarded {
            is_own
        } else {
            !here.is_shared() || here.is_sticky() && is_own
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
        let owner = self.metadata().uid();
        let is_others = !is_trusted(owner) && !self.is_system();
        self.is_reachable() && (is_others || self.is_open_to_others())
    }

    /// Whether other users can replace entries of trusted owners. An unmapped owner is
    /// taken for the machine's own root here: otherwise no folder could be reached.
    fn lets_others_replace(&self) -> bool {
        let owner = self.metadata().uid();
        let is_others = !is_trusted(owner) && !is_unmapped(owner);
        self.is_reachable() && (is_others || self.is_open_to_others()) && !self.is_sticky()
    }

    /// Whether others than its owner can write to it.
    fn is_open_to_others(&self) -> bool {
        let has_access_list = || {
            let found = getxattr(self.path(), "system.posix_acl_access", &mut [0_u8; 0]);
            !matches!(found, Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS))
        };
        self.is_foreign() || is_writable_by_others(self.metadata(), has_access_list)
    }

    /// Whether only the owner of an entry can remove and rename it.
    fn is_sticky(&self) -> bool {
        let owner = self.metadata().uid();
        let is_trusted = is_trusted(owner) || is_unmapped(owner);
        is_trusted && !self.is_foreign() && self.metadata().mode() & 0o1000 != 0
    }

    /// Whether it is a folder of the machine itself in a user namespace in which the
    /// machine's root has no number: `/`, or one in it, which only root can make.
    fn is_system(&self) -> bool {
        is_unmapped(self.metadata().uid()) && self.shown().components().count() <= 2
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::{XattrFlags, setxattr};

    use super::*;

    /// The access control list `u::rwx,u:65534:rwx,g::r-x,m::rwx,o::r-x`; see acl(5) and
    /// the kernel's `posix_acl_xattr.h`.
    fn list() -> Vec<u8> {
        let entries: [(u16, u16, u32); 5] = [
            (0x01, 7, u32::MAX),
            (0x02, 7, 65534),
            (0x04, 5, u32::MAX),
            (0x10, 7, u32::MAX),
            (0x20, 5, u32::MAX),
        ];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn link_in_a_folder_that_a_list_opens_to_others_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, target) = (dir.path().join("folder"), dir.path().join("target"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&target, "").unwrap();
        symlink(&target, folder.join("log")).unwrap();
        let walked = || {
            let mode = WalkMode {
                keep_last: true,
                ..WalkMode::default()
            };
            walk(&folder.join("log"), mode).map(drop)
        };
        walked().unwrap();
        let set = setxattr(
            &folder,
            "system.posix_acl_access",
            &list(),
            XattrFlags::empty(),
        );
        if set == Err(Errno::OPNOTSUPP) {
            // This file system has no lists.
            return;
        }
        set.unwrap();
        let error = walked().unwrap_err();
        assert!(UnsafeFile::is_cause_of(&error), "{error}");
    }
}
