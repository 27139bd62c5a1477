//! Checks the requirements for mounting on this machine, and mounts as root by the
//! system call.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use icos_files::SafeFolder;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{AccessFlags, access, getegid, geteuid};

use super::mountinfo::{self, SUBTYPE};
use super::options::{Access, MountOptions};

const DEVICE: &str = "/dev/fuse";
const CONFIG: &str = "/etc/fuse.conf";
const HELPER: &str = "fusermount3";

/// A requirement that this machine does not meet, with its remedy.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MissingRequirement {
    /// The FUSE device.
    #[error(
        "this machine has no {DEVICE}; load the kernel module with `modprobe fuse`, or start the container with `--device {DEVICE} --cap-add SYS_ADMIN`"
    )]
    Device,
    /// The setuid program by which ordinary users mount.
    #[error(
        "{HELPER}, by which ordinary users mount, is not installed; on Debian and Ubuntu, install it with `apt-get install fuse3`"
    )]
    Helper,
    /// Permission to open the FUSE device.
    #[error("you may not open {DEVICE}; root can allow it: `chmod 666 {DEVICE}`")]
    OpenDevice,
    /// Permission to give other users access.
    #[error(
        "access by other users requires the line `user_allow_other` in {CONFIG}; root can add it: `echo user_allow_other >> {CONFIG}`"
    )]
    Permission,
}

/// Returns the first requirement that this machine does not meet for a mount with
/// this `access`.
#[must_use]
pub fn missing_requirement(allowed: Access) -> Option<MissingRequirement> {
    if !Path::new(DEVICE).exists() {
        return Some(MissingRequirement::Device);
    }
    if geteuid().is_root() {
        return None;
    }
    if find_program(HELPER).is_none() {
        return Some(MissingRequirement::Helper);
    }
    if access(DEVICE, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        return Some(MissingRequirement::OpenDevice);
    }
    let config = std::fs::read_to_string(CONFIG).unwrap_or_default();
    let others_allowed = config.lines().any(|line| line.trim() == "user_allow_other");
    (allowed != Access::Owner && !others_allowed).then_some(MissingRequirement::Permission)
}

/// Finds the program `name` in the folders of `PATH` and in those that fuser adds.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/sbin".into(), "/bin".into()])
        .map(|folder| folder.join(name))
        .find(|file| access(file, AccessFlags::X_OK).is_ok())
}

/// Mounts by the system call and returns the opened FUSE device; `None` if this
/// process is not root or lacks the capability.
///
/// fuser is not used for this since it opens the mount point first: below an
/// automount, that open waits for the mount that is about to be made.
///
/// # Errors
///
/// The error of opening the device or of the system call.
pub(super) fn mount_as_root(options: &MountOptions) -> io::Result<Option<OwnedFd>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let device = File::options().read(true).write(true).open(DEVICE)?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        geteuid(),
        getegid()
    );
    if options.access != Access::Owner {
        data += ",allow_other";
    }
    let flags = MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC
        | MsFlags::MS_NOATIME;
    let kind = format!("fuse.{SUBTYPE}");
    let mountpoint = &options.mountpoint;
    // Another user may replace a folder above the mount point by a link to anywhere. The
    // mount is made at a folder to which no such link leads.
    let folder = if mountinfo::is_below_automount(mountpoint)? {
        None
    } else {
        Some(SafeFolder::open(mountpoint)?)
    };
    let target = folder.as_ref().map_or(mountpoint.clone(), SafeFolder::path);
    match mount(
        Some(options.source.as_str()),
        &target,
        Some(kind.as_str()),
        flags,
        Some(data.as_str()),
    ) {
        Ok(()) => Ok(Some(device.into())),
        Err(Errno::EPERM) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
