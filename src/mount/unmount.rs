//! Unmounts a mount of icosfs.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use icos_files::SafeFolder;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::mountinfo::{self, MountEntry};

/// Why a mount could not be unmounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// No icosfs is mounted at the path.
    #[error("no icosfs is mounted at {0}; `findmnt -t fuse.icosfs` lists the mounts")]
    NotMounted(PathBuf),
    /// Another file system is mounted over it.
    #[error(
        "a file system of type {kind} is mounted over the icosfs at {mountpoint}; unmount that first with `umount {mountpoint}`"
    )]
    Covered {
        /// The mount point.
        mountpoint: PathBuf,
        /// The type of the file system on top.
        kind: String,
    },
    /// A process uses it.
    #[error(
        "{0} is in use; close the files and leave the folder (`fuser -vm {0}` lists the processes), or detach it at once with --lazy"
    )]
    Busy(PathBuf),
    /// The operating system or `fusermount3` refused.
    #[error("{mountpoint} could not be unmounted: {reason}")]
    Refused {
        /// The mount point.
        mountpoint: PathBuf,
        /// Their message.
        reason: String,
    },
}

/// Unmounts `mountpoint`, unless it is in use.
///
/// # Errors
///
/// Every variant of [`UnmountError`].
pub fn unmount(mountpoint: &Path) -> Result<(), UnmountError> {
    unmount_with(mountpoint, None, MntFlags::empty())
}

/// Detaches `mountpoint` at once. Processes with open files there can read on
/// until the daemon ends.
///
/// # Errors
///
/// All variants of [`UnmountError`] but `Busy`.
pub fn detach(mountpoint: &Path) -> Result<(), UnmountError> {
    unmount_with(mountpoint, None, MntFlags::MNT_DETACH)
}

/// Detaches this mount like [`detach`], but never another mount at the same path.
///
/// # Errors
///
/// All variants of [`UnmountError`] but `Busy`.
pub fn detach_mount(mount: &MountEntry) -> Result<(), UnmountError> {
    unmount_with(&mount.mountpoint, Some(mount.id), MntFlags::MNT_DETACH)
}

fn unmount_with(mountpoint: &Path, id: Option<u64>, flags: MntFlags) -> Result<(), UnmountError> {
    let refused = |reason: String| UnmountError::Refused {
        mountpoint: mountpoint.to_owned(),
        reason,
    };
    let ours = |mount: &MountEntry| mount.is_icosfs() && id.is_none_or(|id| mount.id == id);
    let all = mountinfo::mounts().map_err(|error| refused(error.to_string()))?;
    if !(all.iter()).any(|mount| mount.mountpoint == mountpoint && ours(mount)) {
        return Err(UnmountError::NotMounted(mountpoint.to_owned()));
    }
    // The system call unmounts the topmost file system, which may be another.
    let top = mountinfo::mount_at(mountpoint).map_err(|error| refused(error.to_string()))?;
    let Some(top) = top else {
        return Err(UnmountError::NotMounted(mountpoint.to_owned()));
    };
    if !ours(&top) {
        return Err(UnmountError::Covered {
            mountpoint: mountpoint.to_owned(),
            kind: top.kind,
        });
    }
    let located = if geteuid().is_root() {
        locate(&top).map_err(|error| refused(error.to_string()))?
    } else {
        None
    };
    let target = match &located {
        Some((folder, name)) => folder.path().join(name),
        None => mountpoint.to_owned(),
    };
    match umount2(&target, flags | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(UnmountError::Busy(mountpoint.to_owned())),
        // Without the capability, the setuid helper unmounts.
        Err(Errno::EPERM) => {
            let lazy = flags.contains(MntFlags::MNT_DETACH);
            run_helper(mountpoint, lazy).map_err(|reason| match reason {
                reason if reason.contains("busy") => UnmountError::Busy(mountpoint.to_owned()),
                reason => refused(reason),
            })
        }
        Err(errno) => Err(refused(errno.to_string())),
    }
}

/// Finds the folder that contains the mount point, and its name there. Another user that
/// owns a folder above it could have root unmount something else by a link in its place.
/// `None` below an automount, which every access would trigger, and for `/`.
fn locate(mount: &MountEntry) -> io::Result<Option<(SafeFolder, OsString)>> {
    let path = &mount.mountpoint;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    if mountinfo::is_below_automount(path)? {
        return Ok(None);
    }
    let folder = SafeFolder::open(parent)?;
    // Closed at once: it would keep the mount busy.
    let handle = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = openat(&folder, name, handle, Mode::empty())?;
    if mountinfo::mount_id(found.as_fd())? != mount.id {
        return Err(io::Error::other("another folder is at its path"));
    }
    Ok(Some((folder, name.to_owned())))
}

/// Unmounts by `fusermount3`. Returns its message if it fails.
fn run_helper(mountpoint: &Path, lazy: bool) -> Result<(), String> {
    let output = Command::new("fusermount3")
        .arg(if lazy { "-uz" } else { "-u" })
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
