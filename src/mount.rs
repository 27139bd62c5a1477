//! The kernel side: translates FUSE requests into calls of [`Tree`](crate::tree::Tree) and
//! [`Contents`](crate::content::Contents), and their results into FUSE replies.
//!
//! # Threads and tasks
//!
//! - `EVENT_LOOPS` threads of fuser receive requests and call the callbacks
//!   in `adapter`. A callback never waits for the network; from the disk it
//!   reads at most a few rows of the catalog's database.
//! - Tasks on the tokio runtime produce the replies that may have to wait. A
//!   task owns the reply, and watches whether its caller is interrupted
//!   (`interrupt`).
//! - One task (`idle`) closes idle files and returns memory.
//! - Threads of tokio's blocking pool count objects for `statfs`, close idle
//!   files and read the values for `.icosfs/status.json`.
//! - One thread makes the kernel drop its pages of corrupt files
//!   (`page_invalidator`).
//!
//! | callback | replies at once | hands the reply to a task |
//! |---|---|---|
//! | `lookup` | the catalog knows the name without a request to the portal | otherwise |
//! | `getattr` | the exact size is known, or need not be: the file is closed (unless `ExactSize::Always`), or a CSV with `ExactSize::Never` | otherwise |
//! | `open` | `README.md` | all other files; interruptible only for `.icosfs/refresh` |
//! | `read` | `README.md`, control files | all other files |
//! | `opendir`, `statfs` | | always |
//! | `readdir`, `readdirplus` | the listing has entries after the offset, or is complete | the listing is still being downloaded |
//! | `getxattr` | the catalog has the value | the value is on the landing page |
//! | `listxattr`, `release`, `releasedir`, `forget`, `flush`, `access` | always | |
//!
//! # Locks
//!
//! The locks of this module (`inodes`, `handles`, `stat_ahead`, the totals in `mount_state`,
//! the failures in `report`) are leaves: code that holds one of them takes no
//! other lock, does no I/O, does not notify the kernel, and does not await.
//!
//! # Errors
//!
//! Only [`errno`] turns an error into an errno. `report` records the reason,
//! which users read in `.icosfs/errors` and by `icosfs status`.

use std::io;
use std::path::{Path, PathBuf};

use icos_files::SafePath;

#[cfg(feature = "fuse")]
mod adapter;
#[cfg(feature = "fuse")]
mod attributes;
mod control_file;
#[cfg(feature = "fuse")]
mod crawlers;
#[cfg(feature = "fuse")]
mod directory_reply;
#[cfg(feature = "fuse")]
pub mod errno;
#[cfg(feature = "fuse")]
mod handles;
#[cfg(feature = "fuse")]
mod host_check;
#[cfg(feature = "fuse")]
mod idle;
#[cfg(feature = "fuse")]
mod inode_numbers;
#[cfg(feature = "fuse")]
mod inodes;
#[cfg(feature = "fuse")]
mod interrupt;
#[cfg(feature = "fuse")]
mod mount_state;
pub mod mountinfo;
#[cfg(feature = "fuse")]
mod open;
#[cfg(feature = "fuse")]
mod options;
mod outside_mounts;
#[cfg(feature = "fuse")]
mod page_invalidator;
#[cfg(feature = "fuse")]
mod read;
#[cfg(feature = "fuse")]
mod request_trace;
#[cfg(feature = "fuse")]
mod session;
#[cfg(feature = "fuse")]
mod stat_ahead;
mod unmount;
#[cfg(feature = "fuse")]
mod xattrs;

pub use control_file::read_control_file;
#[cfg(feature = "fuse")]
pub use crawlers::Crawlers;
#[cfg(feature = "fuse")]
pub use host_check::{MissingRequirement, missing_requirement};
#[cfg(feature = "fuse")]
pub use options::{Access, ExactSize, InodeWidth, MountOptions};
pub use outside_mounts::{OpenFolderError, open_folder_outside_mounts};
#[cfg(feature = "fuse")]
pub use session::{MountSession, Refresher};
pub use unmount::{UnmountError, detach, detach_mount, unmount};

/// The kernel's limit of symbolic links in a path.
const LINKS: usize = 40;

/// Returns [`absolute`] of `path`, to mount or unmount there: fails if it contains a
/// symbolic link that another user may have put there.
///
/// # Errors
///
/// Those of [`absolute`], and [`icos_files::UnsafeFile::Link`].
pub fn absolute_without_foreign_links(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    // Every access below an automount may wait for the mount that is about to be made.
    if path.file_name().is_none() || mountinfo::is_below_automount(&path)? {
        return absolute(&path);
    }
    let found = SafePath::resolve(&path)?;
    Ok(found.folder.shown().join(found.name))
}

/// Returns `path` as an absolute path without symbolic links. Does not access the
/// file at `path` itself: on a dead mount, every access to it fails.
///
/// # Errors
///
/// The errors of `canonicalize` on the parent folder, and ELOOP.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return path.canonicalize();
        };
        let folder = parent.canonicalize()?;
        path = folder.join(name);
        // Accesses the file system of the parent folder only.
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_not_a_link) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}
