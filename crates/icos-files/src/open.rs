//! Opens files by their paths.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::folder::{SafePath, path_of};
use super::trust::{UnsafeFile, is_trusted};
use super::walk::{Destination, HANDLE, WalkMode, walk};

/// Reads the regular file at `path`, which is at most `limit` bytes long, without
/// waiting: a pipe or a device is refused.
///
/// # Errors
///
/// [`UnsafeFile`] if it is not a regular file, or a link that another user may have put
/// there; [`ErrorKind::FileTooLarge`] if it is longer.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_at_most(open_file(path)?, limit)
}

/// The same, with the attributes of the very file that was read: another one may be at
/// `path` at any time.
///
/// # Errors
///
/// Those of [`read_file`].
pub fn read_with_metadata(path: &Path, limit: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let file = open_file(path)?;
    let found = file.metadata()?;
    Ok((read_at_most(file, limit)?, found))
}

/// Reads the regular file at `path` as [`read_file`] does, if it belongs to root and
/// only root can write to it.
///
/// # Errors
///
/// As [`read_file`]; [`UnsafeFile::NotOfRoot`].
pub fn read_file_of_root(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (content, found) = read_with_metadata(path, limit)?;
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(UnsafeFile::NotOfRoot {
            owner: found.uid(),
            mode: found.mode() & 0o7777,
        }
        .into());
    }
    Ok(content)
}

/// Opens the regular file at `path` for reading, without waiting.
///
/// # Errors
///
/// [`UnsafeFile`] if it is not a regular file, or a link that another user may have put
/// there.
pub fn open_file(path: &Path) -> io::Result<File> {
    let place = SafePath::resolve(path)?;
    place.folder.read(&place.name)
}

/// Reads `file`, which is at most `limit` bytes long.
///
/// # Errors
///
/// [`ErrorKind::FileTooLarge`] if it is longer.
pub fn read_at_most(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        let reason = format!("expected at most {limit} bytes, found more");
        return Err(io::Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(content)
}

/// Opens `path` for appending, or creates it with access for its owner only. Also
/// returns where it is, if it is a regular file; `None` for a device or a pipe such as `/dev/stderr`, which is
/// written to without waiting.
///
/// # Errors
///
/// [`UnsafeFile`] if another user may have put the file there.
pub fn open_for_append(path: &Path) -> io::Result<(File, Option<SafePath>)> {
    match find(path)? {
        Found::Place(place) => {
            let (file, _) = place.folder.append(&place.name, 0o600)?;
            Ok((file, Some(place)))
        }
        Found::Special(handle) => {
            let flags = OFlag::O_APPEND | OFlag::O_NONBLOCK;
            Ok((open_again(&handle, flags)?, None))
        }
    }
}

/// Opens `path` for writing if it is a device, a pipe or an open file of a process
/// (`/dev/stdout`); `None` if it is anything else, or does not exist. Waits for the
/// reader of a pipe.
///
/// # Errors
///
/// [`UnsafeFile`] if another user may have put it there.
pub fn open_special(path: &Path) -> io::Result<Option<File>> {
    match find(path)? {
        Found::Place(_) => Ok(None),
        Found::Special(handle) => open_again(&handle, OFlag::empty()).map(Some),
    }
}

/// What a path leads to.
enum Found {
    /// A regular file, or nothing.
    Place(SafePath),
    /// A handle of anything else.
    Special(File),
}

fn find(path: &Path) -> io::Result<Found> {
    let mode = WalkMode {
        keep_last: true,
        ..WalkMode::default()
    };
    let (folder, name) = match walk(path, mode)? {
        Destination::Entry(folder, name) => (folder, name),
        Destination::Folder(_) => return Err(UnsafeFile::NotRegular { found: "a folder" }.into()),
        Destination::OpenFile(handle) => return Ok(Found::Special(handle)),
    };
    let handle = match openat(&folder, &*name, HANDLE, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(Found::Place(SafePath { folder, name })),
        handle => File::from(handle?),
    };
    let found = handle.metadata()?;
    if found.is_file() || found.is_symlink() {
        return Ok(Found::Place(SafePath { folder, name }));
    }
    if found.is_dir() {
        return Err(UnsafeFile::NotRegular { found: "a folder" }.into());
    }
    let owner = found.uid();
    if folder.is_shared() && !is_trusted(owner) {
        return Err(UnsafeFile::Foreign { owner }.into());
    }
    Ok(Found::Special(handle))
}

fn open_again(handle: &File, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    Ok(File::from(open(&path_of(handle), flags, Mode::empty())?))
}
