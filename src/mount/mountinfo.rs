//! Reads the mount table, `/proc/self/mountinfo`.
//!
//! icosfs finds mounts only here, and in the tables of processes in other mount
//! namespaces, never by `stat` on a mount point: such a call
//! on its own mount could deadlock, and on a dead one it fails.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The file system's subtype: the kernel shows the type `fuse.icosfs`.
pub const SUBTYPE: &str = "icosfs";

/// One entry of the mount table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountEntry {
    /// Mount id.
    pub id: u64,
    /// Id of the mount that this one is mounted on.
    pub parent: u64,
    /// The folder of the file system that is mounted: `/`, or another one for a bind
    /// mount of a part.
    pub root: PathBuf,
    /// Absolute path of the mount point.
    pub mountpoint: PathBuf,
    /// File system type, e.g. `fuse.icosfs`.
    pub kind: String,
    /// Device name, e.g. `data.icos-cp.eu`.
    pub source: String,
    /// The user who mounted it, if it is a FUSE file system.
    pub owner: Option<u32>,
    /// Major and minor number of its device, e.g. `0:52`.
    pub device: String,
}

impl MountEntry {
    /// Whether it is a mount of icosfs.
    #[must_use]
    pub fn is_icosfs(&self) -> bool {
        self.kind.strip_prefix("fuse.") == Some(SUBTYPE)
    }

    /// Whether this user or root mounted it: the process of another user may say
    /// anything in its control files.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        let user = nix::unistd::geteuid().as_raw();
        self.owner.is_some_and(|owner| owner == 0 || owner == user)
    }

    /// Whether it shows a part of the file system only.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.root != Path::new("/")
    }
}

/// A mount of icosfs in another mount namespace only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForeignMount {
    /// A process in that namespace.
    pub process: u32,
    /// The mount's entry in the table of that process.
    pub entry: MountEntry,
}

impl ForeignMount {
    /// The path by which processes outside of the namespace reach the mount.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.process);
        let mountpoint = self.entry.mountpoint.strip_prefix("/");
        Path::new(&root).join(mountpoint.unwrap_or(&self.entry.mountpoint))
    }
}

/// Returns the mounts of icosfs that only other mount namespaces have, as far as this
/// user may see the processes there.
#[must_use]
pub fn foreign_mounts() -> Vec<ForeignMount> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let mut namespaces: HashSet<PathBuf> = namespace("self").into_iter().collect();
    let own = mounts().unwrap_or_default().into_iter();
    let mut devices: HashSet<String> = own.map(|mount| mount.device).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found = Vec::new();
    for process in ids {
        let id = process.to_string();
        if namespace(&id).is_none_or(|namespace| !namespaces.insert(namespace)) {
            continue;
        }
        let table = fs::read(format!("/proc/{id}/mountinfo")).unwrap_or_default();
        for entry in parse(&table).into_iter().filter(MountEntry::is_icosfs) {
            if devices.insert(entry.device.clone()) {
                found.push(ForeignMount { process, entry });
            }
        }
    }
    found
}

/// Returns all mounts of icosfs in the namespace of this process, in the order of
/// the mount table.
///
/// # Errors
///
/// If the mount table cannot be read.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    let mut all = all()?;
    all.retain(MountEntry::is_icosfs);
    Ok(all)
}

/// Returns the mounts of icosfs in the namespace of this process, without bind mounts of
/// others. A bind mount whose origin was unmounted is returned, too.
///
/// # Errors
///
/// If the mount table cannot be read.
pub fn mounts_without_binds() -> io::Result<Vec<MountEntry>> {
    let all = mounts()?;
    let origin = |device: &str| {
        all.iter()
            .find(|mount| mount.device == device && !mount.is_part())
    };
    let is_origin = |mount: &&MountEntry| match origin(&mount.device) {
        Some(origin) => origin.id == mount.id,
        None => true,
    };
    Ok(all.iter().filter(is_origin).cloned().collect())
}

/// Whether `path`, which is absolute and without symbolic links, is in a mount of icosfs.
///
/// # Errors
///
/// If the mount table cannot be read.
pub fn is_in_mount(path: &Path) -> io::Result<bool> {
    Ok((mounts()?.iter()).any(|mount| path.starts_with(&mount.mountpoint)))
}

/// Returns the mount at `mountpoint`, of any type: the topmost if there are
/// several.
///
/// # Errors
///
/// If the mount table cannot be read.
pub fn mount_at(mountpoint: &Path) -> io::Result<Option<MountEntry>> {
    Ok(topmost(all()?, mountpoint))
}

/// Whether `path` is an automount, or below one: every access to it may wait for the mount
/// that is about to be made.
pub(super) fn is_below_automount(path: &Path) -> io::Result<bool> {
    let mut all = all()?.into_iter();
    Ok(all.any(|mount| mount.kind == "autofs" && path.starts_with(&mount.mountpoint)))
}

/// Returns the id of the mount that `handle` is on. Reads `/proc` only and never accesses
/// the mount.
pub(super) fn mount_id(handle: BorrowedFd<'_>) -> io::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd()))?;
    let mut lines = info.lines();
    let id = lines.find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::other("expected mnt_id in /proc/self/fdinfo"))
}

fn all() -> io::Result<Vec<MountEntry>> {
    std::fs::read("/proc/self/mountinfo").map(|table| parse(&table))
}

/// Returns the mount at `mountpoint` that no other mount is on. The order of the
/// table does not tell: a mount can be inserted beneath others.
fn topmost(mut all: Vec<MountEntry>, mountpoint: &Path) -> Option<MountEntry> {
    all.retain(|mount| mount.mountpoint == mountpoint);
    let top = all
        .iter()
        .rposition(|mount| all.iter().all(|other| other.parent != mount.id))?;
    Some(all.swap_remove(top))
}

/// Parses the table. Fields by proc(5): id, parent, device, root, mount point, options,
/// optional fields, `-`, type, source, options of the file system.
fn parse(table: &[u8]) -> Vec<MountEntry> {
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            let id = number(fields.next()?)?;
            let parent = number(fields.next()?)?;
            let device = fields.next()?;
            let root = fields.next()?;
            let mountpoint = fields.next()?;
            let mut rest = fields.skip_while(|field| field != b"-").skip(1);
            let (kind, source) = (text(rest.next()?), text(rest.next()?));
            let options = text(rest.next().unwrap_or_default());
            let mut options = options.split(',');
            let owner = options.find_map(|option| option.strip_prefix("user_id=")?.parse().ok());
            Some(MountEntry {
                id,
                parent,
                root: OsString::from_vec(unescape(root)).into(),
                mountpoint: OsString::from_vec(unescape(mountpoint)).into(),
                kind,
                source,
                owner,
                device: text(device),
            })
        })
        .collect()
}

/// Decodes blanks and backslashes, which are written as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = escaped {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_decodes_escapes_and_skips_malformed_lines() {
        let table = b"22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            40 22 0:52 / /home/a\\040b ro,nosuid shared:3 master:1 - fuse.icosfs data.icos-cp.eu ro,user_id=1000,group_id=0\n\
            41 22 0:53 / /x ro - fuse.rclone remote ro\n\
            broken\n";
        let found = parse(table);
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[1],
            MountEntry {
                id: 40,
                parent: 22,
                root: "/".into(),
                mountpoint: "/home/a b".into(),
                kind: "fuse.icosfs".to_owned(),
                source: "data.icos-cp.eu".to_owned(),
                owner: Some(1000),
                device: "0:52".to_owned(),
            }
        );
        assert!(found[1].is_icosfs() && !found[2].is_icosfs());
    }

    #[test]
    fn topmost_returns_the_mount_without_a_child() {
        let table = b"22 1 0:20 / / rw - ext4 /dev/vda rw\n\
            41 40 0:53 / /m rw - tmpfs none rw\n\
            40 22 0:52 / /m ro - fuse.icosfs icos ro\n";
        let top = topmost(parse(table), Path::new("/m")).unwrap();
        assert_eq!(top.kind, "tmpfs");
        assert_eq!(topmost(parse(table), Path::new("/n")), None);
    }
}
