//! What can be trusted: owners, folders and files.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::LazyLock;

use nix::unistd::geteuid;

/// The owner that the kernel displays if the real one has no number in this user
/// namespace.
const UNMAPPED: u32 = 65534;

/// Why a file or a folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum UnsafeFile {
    /// A symbolic link that another user may have put there.
    #[error(
        "{path} is a symbolic link in a folder that other users can write to; name its target instead"
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Not a regular file.
    #[error("expected a regular file, found {found}")]
    NotRegular {
        /// What it is.
        found: &'static str,
    },
    /// A file of another user, in a folder that other users can write to.
    #[error(
        "expected a file of your own in a folder that other users can write to, found one of user {owner}; name another file"
    )]
    Foreign {
        /// The owner.
        owner: u32,
    },
    /// A file with another name, which may be in another folder.
    #[error(
        "expected a file with one name in a folder that other users can write to, found {links} hard links; remove the file or name another one"
    )]
    HardLinks {
        /// The number of names.
        links: u64,
    },
    /// A file that does not belong to root, or that others than root can write to.
    #[error(
        "expected a file that belongs to root and that only root can write to, found one of user {owner} with mode {mode:04o}"
    )]
    NotOfRoot {
        /// The owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// A folder in which, or above which, others can replace files.
    #[error(
        "expected a folder that only you can write to, found {path} of user {owner} with mode {mode:04o}; remove the write permission of others (chmod go-w), or name another folder"
    )]
    Folder {
        /// The folder, or one above it.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
}

impl UnsafeFile {
    /// Returns whether `error` was made by this crate.
    #[must_use]
    pub fn is_cause_of(error: &io::Error) -> bool {
        let cause = error.get_ref();
        cause.is_some_and(|cause| cause.downcast_ref::<Self>().is_some())
    }
}

impl From<UnsafeFile> for io::Error {
    fn from(error: UnsafeFile) -> Self {
        Self::new(ErrorKind::PermissionDenied, error)
    }
}

/// Whether files of this owner are trusted.
pub(crate) fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Whether this owner has no number in the user namespace of this process: it may be the
/// machine's own root, or another user of the machine.
pub(crate) fn is_unmapped(owner: u32) -> bool {
    static HAS_UNMAPPED: LazyLock<bool> = LazyLock::new(|| {
        let maps = std::fs::read_to_string("/proc/self/uid_map");
        maps.is_ok_and(|maps| !is_mapped(UNMAPPED, &maps))
    });
    owner == UNMAPPED && *HAS_UNMAPPED
}

/// Whether `maps`, the content of `/proc/self/uid_map`, contains `id`.
fn is_mapped(id: u32, maps: &str) -> bool {
    maps.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&id.into())
            }
            _ => true,
        }
    })
}

/// Whether users other than the owner can add, remove and rename entries of this folder.
/// `has_access_list` says whether it has an access control list.
pub(crate) fn is_writable_by_others(
    folder: &Metadata,
    has_access_list: impl FnOnce() -> bool,
) -> bool {
    // Many systems give each user a group of the same number, and folders that the
    // group may write to. With an access control list, these bits are those of all that
    // the list names.
    let private_group = folder.gid() == folder.uid();
    let by_group = folder.mode() & 0o020 != 0 && (!private_group || has_access_list());
    folder.mode() & 0o002 != 0 || by_group
}

/// Whether other users own this file or may write to it, by its owner and mode.
#[must_use]
pub fn is_changeable_by_others(found: &Metadata) -> bool {
    !is_trusted(found.uid()) || is_writable_by_others(found, || false)
}

/// Checks that `file` is a regular file, and returns its attributes.
///
/// # Errors
///
/// [`UnsafeFile::NotRegular`].
pub fn check_regular(file: &File) -> io::Result<Metadata> {
    let attributes = file.metadata()?;
    let kind = attributes.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(attributes),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(UnsafeFile::NotRegular { found }.into())
}

/// Whether this is a regular file of a trusted owner, without another name.
#[must_use]
pub fn is_own_file(found: &Metadata) -> bool {
    found.is_file() && is_trusted(found.uid()) && found.nlink() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_map_tells_which_owners_exist() {
        assert!(is_mapped(65534, "         0          0 4294967295\n"));
        assert!(is_mapped(65534, "0 1000 1\n1 100000 65536\n"));
        assert!(!is_mapped(65534, "      1000       1000          1\n"));
    }
}
