//! What mounting asks of a machine, and mounting by the system call.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{AccessFlags, access, getegid, geteuid};

use super::{Access, MountOptions, SUBTYPE};

const DEVICE: &str = "/dev/fuse";
const CONFIG: &str = "/etc/fuse.conf";
const HELPER: &str = "fusermount3";

/// What a machine lacks, and how it is had.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MissingRequirement {
    /// The kernel's device.
    #[error(
        "this machine has no {DEVICE}; load the kernel's module with `modprobe fuse`, or start the container with `--device {DEVICE} --cap-add SYS_ADMIN`"
    )]
    Device,
    /// The program that lets ordinary users mount.
    #[error(
        "ordinary users mount by {HELPER}, which is not installed; on Debian and Ubuntu, `apt-get install fuse3` brings it"
    )]
    Helper,
    /// The permission to use the device.
    #[error("you may not open {DEVICE}; root can allow it: `chmod 666 {DEVICE}`")]
    OpenDevice,
    /// The permission to let others in.
    #[error(
        "letting others into a mount needs the line `user_allow_other` in {CONFIG}; root can add it: `echo user_allow_other >> {CONFIG}`"
    )]
    Permission,
}

/// The first thing that this machine lacks for a mount that lets `let_in` look
/// inside.
#[must_use]
pub fn missing_requirement(let_in: Access) -> Option<MissingRequirement> {
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
    let allowed = config.lines().any(|line| line.trim() == "user_allow_other");
    (let_in != Access::Owner && !allowed).then_some(MissingRequirement::Permission)
}

/// Where `name` is, in the folders of `PATH` and those that fuser adds.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/sbin".into(), "/bin".into()])
        .map(|folder| folder.join(name))
        .find(|file| access(file, AccessFlags::X_OK).is_ok())
}

/// Mounts by the system call, as root can; none if that is not permitted.
///
/// fuser would do it, too, but opens the folder first: under an automount, that
/// open would wait for this very mount.
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
    match mount(
        Some(options.source.as_str()),
        &options.mountpoint,
        Some(kind.as_str()),
        flags,
        Some(data.as_str()),
    ) {
        Ok(()) => Ok(Some(device.into())),
        Err(Errno::EPERM) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
