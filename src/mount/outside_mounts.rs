//! Opens a folder and ensures that it is not inside a mount of icosfs.
//!
//! A mount whose cache is inside itself, or two mounts with their caches inside
//! each other, would deadlock. Even `stat` on such a path may block. Therefore
//! this module walks the path component by component with `O_PATH` handles,
//! which send no request to a file system's open, and looks up the mount of
//! each handle in `/proc` before the next step.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::{LINKS, mountinfo};

const HANDLE: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Why a folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFolderError {
    /// It is inside a mount of icosfs.
    #[error("{path} is inside the icosfs mount at {mountpoint}")]
    Inside {
        /// The folder.
        path: PathBuf,
        /// The mount point of that mount, or of the planned one.
        mountpoint: PathBuf,
    },
    /// The operating system refused.
    #[error("{path} cannot be opened: {error}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

/// Opens the folder at `path`, unless it is inside a mount of icosfs or inside
/// `planned`, the folder of a mount to be made.
///
/// # Errors
///
/// [`OpenFolderError::Inside`] if it is inside such a mount;
/// [`OpenFolderError::Io`] if it cannot be opened or is no folder.
pub fn open_folder_outside_mounts(
    path: &Path,
    planned: Option<&Path>,
) -> Result<OwnedFd, OpenFolderError> {
    let opened = walk(path, planned);
    let path = path.to_owned();
    match opened {
        Ok(Ok(folder)) => Ok(folder),
        Ok(Err(mountpoint)) => Err(OpenFolderError::Inside { path, mountpoint }),
        Err(error) => Err(OpenFolderError::Io { path, error }),
    }
}

/// Opens the folder at `path`, or returns the mount point of the mount that it is inside.
fn walk(path: &Path, planned: Option<&Path>) -> io::Result<Result<OwnedFd, PathBuf>> {
    let own = planned.map(std::fs::metadata).transpose()?;
    let own = own.map(|own| (own.dev(), own.ino()));
    let mut steps = steps(&std::path::absolute(path)?);
    let root = || open("/", HANDLE | OFlag::O_DIRECTORY, Mode::empty());
    let kind = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    let mut here = root()?;
    let mut links = 0;
    while let Some(step) = steps.pop_front() {
        let next = openat(here.as_fd(), &*step, HANDLE, Mode::empty())?;
        if let Some(mount) = mount_under(&next)? {
            return Ok(Err(mount));
        }
        let stat = fstat(next.as_fd())?;
        if let Some(planned) = planned
            && own == Some((stat.st_dev, stat.st_ino))
        {
            return Ok(Err(planned.to_owned()));
        }
        if kind(stat.st_mode) != SFlag::S_IFLNK {
            here = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(Errno::ELOOP.into());
        }
        let target = readlinkat(next.as_fd(), "")?;
        if Path::new(&target).is_absolute() {
            here = root()?;
        }
        for step in self::steps(Path::new(&target)).into_iter().rev() {
            steps.push_front(step);
        }
    }
    if kind(fstat(here.as_fd())?.st_mode) != SFlag::S_IFDIR {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(Ok(here))
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

/// Returns the mount point of the icosfs mount that `handle` is on, if any. Reads
/// `/proc` only and never accesses the mount.
fn mount_under(handle: &OwnedFd) -> io::Result<Option<PathBuf>> {
    let id = mountinfo::mount_id(handle.as_fd())?;
    let found = mountinfo::mounts()?.into_iter().find(|m| m.id == id);
    Ok(found.map(|mount| mount.mountpoint))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn open_follows_links_and_parents_and_rejects_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "a/b", "mnt"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink("a/../a/b", at("relative")).unwrap();
        std::os::unix::fs::symlink(at("a"), at("absolute")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let inode = fs::metadata(at("a/b")).unwrap().ino();
        for path in ["a/b", "relative", "absolute/b", "a/../mnt/../a/b"] {
            // The last path passes through the planned mount point.
            let opened = open_folder_outside_mounts(&at(path), Some(&at("mnt")));
            if path.contains("mnt") {
                assert!(matches!(opened, Err(OpenFolderError::Inside { .. })));
                continue;
            }
            assert_eq!(fstat(opened.unwrap().as_fd()).unwrap().st_ino, inode);
        }
        for path in ["a/b/file", "loop", "nowhere"] {
            let opened = open_folder_outside_mounts(&at(path), Some(&at("mnt")));
            assert!(matches!(opened, Err(OpenFolderError::Io { .. })), "{path}");
        }
    }

    #[test]
    fn folder_below_a_planned_mount_point_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let mountpoint = dir.path().join("mnt");
        fs::create_dir(&mountpoint).unwrap();
        std::os::unix::fs::symlink(&mountpoint, dir.path().join("link")).unwrap();
        for path in ["mnt", "mnt/dataAppStorage", "link/dataAppStorage"] {
            let error =
                open_folder_outside_mounts(&dir.path().join(path), Some(&mountpoint)).unwrap_err();
            assert!(matches!(error, OpenFolderError::Inside { .. }), "{error}");
        }
    }
}
