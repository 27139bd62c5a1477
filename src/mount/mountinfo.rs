//! Which mounts of icosfs there are: from `/proc/self/mountinfo`, for a mount
//! must never be asked about itself.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::SUBTYPE;

/// A mount of icosfs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Its number among all mounts.
    pub id: u64,
    /// Where.
    pub mountpoint: PathBuf,
    /// What it shows as its device.
    pub source: String,
    /// Major and minor number of its device, e.g. `0:52`.
    pub device: String,
}

/// All mounts of icosfs that this process can see, oldest first.
pub fn mounts() -> io::Result<Vec<Mount>> {
    std::fs::read("/proc/self/mountinfo").map(|table| parse(&table))
}

/// The mount at `mountpoint`, the topmost if there are several.
pub fn mount_at(mountpoint: &Path) -> io::Result<Option<Mount>> {
    let found = mounts()?.into_iter().rfind(|m| m.mountpoint == mountpoint);
    Ok(found)
}

/// Fields as proc(5) has them: id, parent, device, root, mount point, options,
/// optional fields, `-`, type, source, …
fn parse(table: &[u8]) -> Vec<Mount> {
    let wanted = format!("fuse.{SUBTYPE}");
    table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let device = fields.nth(1)?;
            let mountpoint = fields.nth(1)?;
            let mut rest = fields.skip_while(|field| field != b"-").skip(1);
            let (kind, source) = (rest.next()?, rest.next()?);
            (kind == wanted.as_bytes()).then(|| Mount {
                id,
                mountpoint: OsString::from_vec(unescape(mountpoint)).into(),
                source: String::from_utf8_lossy(&unescape(source)).into_owned(),
                device: String::from_utf8_lossy(device).into_owned(),
            })
        })
        .collect()
}

/// Blanks and backslashes are written as three octal digits.
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
    fn only_mounts_of_icosfs_are_found_and_their_names_unescaped() {
        let table = b"22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            40 22 0:52 / /home/a\\040b ro,nosuid shared:3 master:1 - fuse.icosfs data.icos-cp.eu ro\n\
            41 22 0:53 / /x ro - fuse.rclone remote ro\n\
            broken\n";
        assert_eq!(
            parse(table),
            [Mount {
                id: 40,
                mountpoint: "/home/a b".into(),
                source: "data.icos-cp.eu".to_owned(),
                device: "0:52".to_owned(),
            }]
        );
    }
}
