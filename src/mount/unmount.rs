//! Taking a mount away.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::mountinfo::{self, MountEntry};

/// Why a mount is still there.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing of ours is mounted there.
    #[error("no icosfs is mounted at {0}; `findmnt -t fuse.icosfs` lists the mounts")]
    NotMounted(PathBuf),
    /// Something else was mounted over it.
    #[error(
        "a file system of type {kind} is mounted over the icosfs at {mountpoint}; take that away first, with `umount {mountpoint}`"
    )]
    Covered {
        /// Where.
        mountpoint: PathBuf,
        /// The type of what lies over it.
        kind: String,
    },
    /// Someone uses it.
    #[error(
        "{0} is in use; close the files and leave the folder (`fuser -vm {0}` shows who), or take it away at once with --lazy"
    )]
    Busy(PathBuf),
    /// The operating system or `fusermount3` refused.
    #[error("{mountpoint} could not be unmounted: {reason}")]
    Refused {
        /// Which.
        mountpoint: PathBuf,
        /// Their words.
        reason: String,
    },
}

/// Unmounts `mountpoint`, if nobody uses it.
pub fn unmount(mountpoint: &Path) -> Result<(), UnmountError> {
    take_away(mountpoint, None, MntFlags::empty())
}

/// Takes `mountpoint` out of sight at once; those inside it finish, or fail
/// when the daemon ends.
pub fn detach(mountpoint: &Path) -> Result<(), UnmountError> {
    take_away(mountpoint, None, MntFlags::MNT_DETACH)
}

/// As [`detach`], but this very mount, not another that took its place.
pub fn detach_mount(mount: &MountEntry) -> Result<(), UnmountError> {
    take_away(&mount.mountpoint, Some(mount.id), MntFlags::MNT_DETACH)
}

fn take_away(mountpoint: &Path, id: Option<u64>, flags: MntFlags) -> Result<(), UnmountError> {
    let refused = |reason: String| UnmountError::Refused {
        mountpoint: mountpoint.to_owned(),
        reason,
    };
    let all = mountinfo::mounts().map_err(|error| refused(error.to_string()))?;
    let ours = all
        .into_iter()
        .any(|mount| mount.mountpoint == mountpoint && id.is_none_or(|id| mount.id == id));
    if !ours {
        return Err(UnmountError::NotMounted(mountpoint.to_owned()));
    }
    // What lies on top would be taken away in its place.
    match mountinfo::mount_at(mountpoint) {
        Ok(Some(top)) if !top.is_ours() || id.is_some_and(|id| top.id != id) => {
            return Err(UnmountError::Covered {
                mountpoint: mountpoint.to_owned(),
                kind: top.kind,
            });
        }
        Ok(_) => {}
        Err(error) => return Err(refused(error.to_string())),
    }
    match umount2(mountpoint, flags | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(UnmountError::Busy(mountpoint.to_owned())),
        // Ordinary users unmount by the setuid helper.
        Err(Errno::EPERM) => {
            let lazy = flags.contains(MntFlags::MNT_DETACH);
            by_helper(mountpoint, lazy).map_err(|error| refused(error.to_string()))?
        }
        Err(errno) => Err(refused(errno.to_string())),
    }
}

fn by_helper(mountpoint: &Path, lazy: bool) -> io::Result<Result<(), UnmountError>> {
    let output = Command::new("fusermount3")
        .arg(if lazy { "-uz" } else { "-u" })
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(Err(if reason.contains("busy") {
        UnmountError::Busy(mountpoint.to_owned())
    } else {
        UnmountError::Refused {
            mountpoint: mountpoint.to_owned(),
            reason,
        }
    }))
}
