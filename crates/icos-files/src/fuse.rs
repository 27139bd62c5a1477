//! File systems of other users: their processes may say anything of their files.

use std::fs::{File, read_to_string};
use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};

use super::trust::is_trusted;

/// Whether `folder` is on a FUSE file system that another user mounted: the owners,
/// modes and links that it shows prove nothing.
pub(crate) fn is_of_another_user(folder: &File) -> io::Result<bool> {
    if fstatfs(folder)?.filesystem_type() != FUSE_SUPER_MAGIC {
        return Ok(false);
    }
    let info = read_to_string(format!("/proc/self/fdinfo/{}", folder.as_raw_fd()));
    let mounts = read_to_string("/proc/self/mountinfo");
    let owner = (info.ok().zip(mounts.ok())).and_then(|(info, mounts)| owner(&info, &mounts));
    Ok(!owner.is_some_and(is_trusted))
}

/// The user that made the mount of an open file, by the file's `fdinfo` and the table of
/// mounts.
fn owner(info: &str, mounts: &str) -> Option<u32> {
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    let id = id.trim();
    let mut entries = mounts.lines();
    let entry = entries.find(|entry| entry.split(' ').next() == Some(id))?;
    // After " - ": type, source, options of the file system.
    let (_, of_file_system) = entry.split_once(" - ")?;
    let options = of_file_system.split(' ').nth(2)?;
    let mut options = options.split(',');
    options.find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_that_of_the_mount_of_the_file() {
        let mounts = "28 1 0:25 / / rw - ext4 /dev/sda rw\n\
            281 28 0:52 / /home/me/a\\040- ro - fuse.icosfs me rw,user_id=1000,group_id=0\n\
            28 1 0:53 / /b ro - fuse.other x rw,user_id=7,allow_other\n";
        let of = |id: &str| owner(&format!("pos:\t0\nmnt_id:\t{id}\nino:\t1\n"), mounts);
        assert_eq!(of("281"), Some(1000));
        assert_eq!(of("28"), None, "not FUSE");
        assert_eq!(of("2"), None);
    }
}
