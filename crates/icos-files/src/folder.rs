//! An open folder, and the files in it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};

use super::fuse::is_of_another_user;
use super::trust::{UnsafeFile, check_regular, is_trusted};
use super::walk::{Destination, HANDLE, WalkMode, walk};

/// How often to try again if another process creates or removes a file at the same
/// moment.
const MAX_RACES: u32 = 16;
/// The mode of a new folder with access for its owner only.
const PRIVATE: u32 = 0o700;
/// How every file is opened: at once, and never through a link.
const OPEN: OFlag = OFlag::O_NOFOLLOW
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// An open folder. Its descriptor stays valid if the folder is renamed, or if
/// another one takes its path.
#[derive(Debug)]
pub struct SafeFolder {
    handle: File,
    found: Box<Metadata>,
    shown: PathBuf,
    /// Whether other users can get here.
    reachable: bool,
    /// Whether it is on a file system of another user.
    foreign: bool,
}

/// A name in an open folder: where a path leads, once its links are followed. The
/// file need not exist.
#[derive(Debug)]
pub struct SafePath {
    /// The folder.
    pub folder: SafeFolder,
    /// The name in it.
    pub name: OsString,
}

impl SafeFolder {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    ///
    /// [`UnsafeFile::Link`] if another user may have put a link on the way there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::at(path, WalkMode::default())
    }

    /// Opens the folder at `path`, after creating it and the missing ones above it
    /// with `mode`, to which the umask applies.
    ///
    /// # Errors
    ///
    /// As [`SafeFolder::open`].
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let create = Some(mode);
        Self::at(
            path,
            WalkMode {
                create,
                ..WalkMode::default()
            },
        )
    }

    /// Opens a folder that no other user can write to or replace; creates it if
    /// `create` is true.
    ///
    /// # Errors
    ///
    /// [`UnsafeFile::Folder`] if others can write to it, or can replace it because
    /// they can write to a folder above it; as [`SafeFolder::open`].
    pub fn private(path: &Path, create: bool) -> io::Result<Self> {
        let folder = Self::at(
            path,
            WalkMode {
                create: create.then_some(PRIVATE),
                guarded: true,
                ..WalkMode::default()
            },
        )?;
        let (owner, mode) = (folder.found.uid(), folder.found.mode());
        if !is_trusted(owner) || mode & 0o022 != 0 || folder.is_foreign() {
            return Err(folder.refusal().into());
        }
        Ok(folder)
    }

    fn at(path: &Path, mode: WalkMode) -> io::Result<Self> {
        match walk(path, mode)? {
            Destination::Folder(folder) => Ok(folder),
            Destination::Entry(..) | Destination::OpenFile(_) => Err(Errno::ENOTDIR.into()),
        }
    }

    pub(crate) fn root() -> io::Result<Self> {
        let handle = File::from(open("/", HANDLE | OFlag::O_DIRECTORY, Mode::empty())?);
        Ok(Self {
            found: Box::new(handle.metadata()?),
            handle,
            shown: PathBuf::from("/"),
            reachable: true,
            foreign: false,
        })
    }

    /// The folder `entry`, which has the name `step` here.
    pub(crate) fn enter(self, step: &OsStr, entry: File, found: Metadata) -> io::Result<Self> {
        if !found.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let mut shown = self.shown;
        let is_up = step == "..";
        if is_up {
            shown.pop();
        } else {
            shown.push(step);
        }
        let closed = is_trusted(self.found.uid()) && self.found.mode() & 0o011 == 0;
        let foreign = if found.dev() == self.found.dev() {
            self.foreign
        } else {
            is_of_another_user(&entry)?
        };
        Ok(Self {
            foreign,
            handle: entry,
            found: Box::new(found),
            shown,
            reachable: is_up || self.reachable && !closed,
        })
    }

    /// Creates a folder here and enters it. As root, in a folder of another user,
    /// gives it to that user, who could not use it otherwise.
    pub(crate) fn make(self, step: &OsStr, mode: u32) -> io::Result<Self> {
        let created = match mkdirat(&self, step, Mode::from_bits_truncate(mode)) {
            Err(Errno::EEXIST) => false,
            result => {
                result?;
                true
            }
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OPEN;
        let entry = File::from(openat(&self, step, flags, Mode::empty())?);
        let found = entry.metadata()?;
        if created && found.uid() == geteuid().as_raw() {
            let path = path_of(&entry);
            // Another user may have put an older folder of ours in its place.
            if std::fs::read_dir(path)?.next().is_none() {
                self.give_to_owner(&entry, None)?;
            }
        }
        let found = entry.metadata()?;
        self.enter(step, entry, found)
    }

    /// Its path as found by the walk, for messages.
    #[must_use]
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// A path that leads to this very folder as long as it is open, wherever it has
    /// been moved.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path_of(&self.handle)
    }

    /// Its attributes when it was opened.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.found
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable
    }

    /// Whether it is on a file system of another user, which may say anything of it.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The attributes of an entry; of a link, not of its target.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata> {
        File::from(openat(self, name, HANDLE, Mode::empty())?).metadata()
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// [`UnsafeFile::NotRegular`], or [`UnsafeFile::Link`].
    pub fn read(&self, name: &OsStr) -> io::Result<File> {
        let file = self.open_at(name, OFlag::O_RDONLY, Mode::empty())?;
        check_regular(&file)?;
        Ok(file)
    }

    /// Opens a regular file for appending, or creates it with `mode`, to which the
    /// umask applies. Returns whether it was created.
    ///
    /// # Errors
    ///
    /// [`UnsafeFile`] if another user may have put the file there.
    pub fn append(&self, name: &OsStr, mode: u32) -> io::Result<(File, bool)> {
        let mode = Mode::from_bits_truncate(mode);
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND;
        for _ in 0..MAX_RACES {
            match self.open_at(name, flags, Mode::empty()) {
                Ok(file) => {
                    self.check_writable(&file)?;
                    return Ok((file, false));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            match self.open_at(name, flags | OFlag::O_CREAT | OFlag::O_EXCL, mode) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => return Ok((created?, true)),
            }
        }
        Err(Errno::EAGAIN.into())
    }

    /// Creates a file that does not exist yet, for writing.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        self.open_at(name, flags, Mode::from_bits_truncate(mode))
    }

    /// Replaces the file `name` by a new one, written to `temporary` first. As root,
    /// in a folder of another user, gives it to that user.
    ///
    /// # Errors
    ///
    /// Those of the operating system. The old file is unchanged then.
    pub fn replace(
        &self,
        name: &OsStr,
        temporary: &OsStr,
        mode: u32,
        content: &[u8],
    ) -> io::Result<()> {
        let previous = self.metadata_of(name).ok();
        let write = || {
            self.remove(temporary)?;
            let mut file = self.create_new(temporary, mode)?;
            self.give_to_owner(&file, previous.as_ref())?;
            file.write_all(content)?;
            file.sync_all()?;
            self.rename(temporary, name)
        };
        write().inspect_err(|_| {
            let _ = self.remove(temporary);
        })
    }

    /// Renames an entry. A link is renamed, not followed.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(self, from, self, to)?)
    }

    /// Removes a file or a link. Returns false if there was none.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn remove(&self, name: &OsStr) -> io::Result<bool> {
        match unlinkat(self, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => Ok(false),
            removed => Ok(removed.map(|()| true)?),
        }
    }

    /// If root runs the program, e.g. by sudo, gives `file`, which was just created,
    /// to the owner of this folder, so that this user can use it. In a folder that
    /// only root can write to, to the owner of the `previous` file.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn give_to_owner(&self, file: &File, previous: Option<&Metadata>) -> io::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let previous = previous.filter(|found| found.is_file() && !self.is_shared());
        let owner = previous.unwrap_or(&self.found);
        if owner.uid() == 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        Ok(fchown(file, Some(uid), Some(gid))?)
    }

    /// Whether `file` in this folder may be changed: in a folder that other users
    /// can write to, only a file of our own, or of the folder's owner if root runs
    /// the program, and only if it has no other name.
    ///
    /// # Errors
    ///
    /// [`UnsafeFile`] says why not.
    pub fn check_writable(&self, file: &File) -> io::Result<()> {
        let found = check_regular(file)?;
        if !self.is_shared() {
            return Ok(());
        }
        let (owner, links) = (found.uid(), found.nlink());
        let of_folder = geteuid().is_root() && owner == self.found.uid();
        if !is_trusted(owner) && !of_folder {
            return Err(UnsafeFile::Foreign { owner }.into());
        }
        if links > 1 {
            return Err(UnsafeFile::HardLinks { links }.into());
        }
        Ok(())
    }

    fn open_at(&self, name: &OsStr, flags: OFlag, mode: Mode) -> io::Result<File> {
        match openat(self, name, flags | OPEN, mode) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::ELOOP) => {
                let path = self.shown.join(name);
                Err(UnsafeFile::Link { path }.into())
            }
            // A named pipe without a reader.
            Err(Errno::ENXIO) => Err(UnsafeFile::NotRegular {
                found: "a named pipe or a socket",
            }
            .into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<SafeFolder> for OwnedFd {
    fn from(folder: SafeFolder) -> Self {
        folder.handle.into()
    }
}

impl AsFd for SafeFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl SafePath {
    /// Walks to the folder of `path`, and on if `path` is a link that no other user
    /// can have put there.
    ///
    /// # Errors
    ///
    /// [`UnsafeFile::Link`] if another user may have put a link on the way there;
    /// [`UnsafeFile::NotRegular`] for the open file of a process.
    pub fn resolve(path: &Path) -> io::Result<Self> {
        Self::walk(path, false)
    }

    /// As [`SafePath::resolve`]; creates missing folders, with access for their
    /// owner only.
    ///
    /// # Errors
    ///
    /// As [`SafePath::resolve`].
    pub fn resolve_or_create(path: &Path) -> io::Result<Self> {
        Self::walk(path, true)
    }

    fn walk(path: &Path, create: bool) -> io::Result<Self> {
        let mode = WalkMode {
            create: create.then_some(PRIVATE),
            keep_last: true,
            ..WalkMode::default()
        };
        match walk(path, mode)? {
            Destination::Entry(folder, name) => Ok(Self { folder, name }),
            Destination::Folder(_) => Err(UnsafeFile::NotRegular { found: "a folder" }.into()),
            Destination::OpenFile(_) => Err(UnsafeFile::NotRegular {
                found: "an open file of a process",
            }
            .into()),
        }
    }

    /// The attributes of the file.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.folder.metadata_of(&self.name)
    }

    /// The name with a text before and after it.
    #[must_use]
    pub fn name_with(&self, before: &str, after: &str) -> OsString {
        let mut name = OsString::from(before);
        name.push(&self.name);
        name.push(after);
        name
    }
}

/// A path that leads to an open file.
pub(crate) fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests;
