//! Reads control files (`.icosfs/`) of a mount, and of no other file system.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::mountinfo::{MountEntry, mount_id};

/// The longest control file that is read, in bytes.
const MAX_LEN: u64 = 4 << 20;

/// Returns the control file `name` of `mount`. Blocks as long as the mount does.
///
/// A user that owns a folder above the mount point can put another folder at its path, or
/// mount another file system over it: what is not on the mount itself is not read.
///
/// # Errors
///
/// [`io::ErrorKind::StaleNetworkFileHandle`] if another file system is at the path of the
/// mount; [`io::ErrorKind::FileTooLarge`]; those of the mount.
pub fn read_control_file(mount: &MountEntry, name: &str) -> io::Result<Vec<u8>> {
    let is_on_mount = |file: &dyn AsFd| {
        let is_same = mount_id(file.as_fd())? == mount.id;
        is_same.then_some(()).ok_or_else(|| {
            let reason = "another file system is at the path of the mount";
            io::Error::new(io::ErrorKind::StaleNetworkFileHandle, reason)
        })
    };
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(&mount.mountpoint, folder, Mode::empty())?;
    is_on_mount(&root)?;
    let control = openat(&root, ".icosfs", folder | OFlag::O_NOFOLLOW, Mode::empty())?;
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(&control, name, read, Mode::empty())?);
    is_on_mount(&file)?;
    let mut content = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_LEN {
        let reason = format!("expected a control file of at most {MAX_LEN} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::mountinfo;
    use super::*;

    #[test]
    fn file_of_another_mount_at_the_same_path_is_not_read() {
        let mut mount = mountinfo::mount_at(Path::new("/proc")).unwrap().unwrap();
        let kind = |mount: &MountEntry| {
            let read = read_control_file(mount, "status.json");
            read.unwrap_err().kind()
        };
        assert_eq!(kind(&mount), io::ErrorKind::NotFound, "it has no such file");
        mount.id += 1_000_000;
        assert_eq!(kind(&mount), io::ErrorKind::StaleNetworkFileHandle);
    }
}
