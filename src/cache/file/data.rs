//! The data file on the disk. While the file is sealed, it is open for reading only
//! and has mode 0400, so that no program of its owner writes to it by mistake.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::stat::{Mode, fchmod};
use rustix::io::{ReadWriteFlags, preadv2};
use twox_hash::XxHash3_64;

use crate::cache::map_file::is_same;
use crate::cache::open_own;

/// An open data file.
#[derive(Debug)]
pub(super) struct DataFile {
    /// Open for reading, and for writing if the file was partial when it was opened.
    file: File,
    is_writable: bool,
    /// Open for writing, once a sealed file has become partial.
    writer: OnceLock<File>,
}

/// A hash of a file's size and times of change, which differs after others have
/// modified the file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::cache) struct Stamp(pub(in crate::cache) u64);

impl Stamp {
    pub(in crate::cache) fn of(file: &File) -> io::Result<Self> {
        ChangeStamp::of(file).map(|found| found.stamp())
    }
}

/// What a [`Stamp`] is a hash of.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ChangeStamp {
    /// The size, then seconds and nanoseconds of the last modification.
    of_bytes: [i64; 3],
    /// Seconds and nanoseconds of the last change of the bytes, the mode or the name.
    of_all: [i64; 2],
    is_removed: bool,
}

impl ChangeStamp {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            of_bytes: [
                found.size().cast_signed(),
                found.mtime(),
                found.mtime_nsec(),
            ],
            of_all: [found.ctime(), found.ctime_nsec()],
            is_removed: found.nlink() == 0,
        })
    }

    pub(super) fn stamp(&self) -> Stamp {
        let mut bytes = Vec::with_capacity(40);
        for number in self.of_bytes.iter().chain(&self.of_all) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        Stamp(XxHash3_64::oneshot(&bytes))
    }

    /// Whether the file had the same bytes at `before`, unless a program has set the time
    /// of their modification back. The removal of a file changes `of_all` only.
    pub(super) fn has_bytes_of(&self, before: &Self) -> bool {
        self.of_bytes == before.of_bytes && (self.is_removed || self.of_all == before.of_all)
    }
}

impl DataFile {
    /// Opens a sealed file.
    pub(super) fn open_sealed(path: &Path) -> io::Result<Self> {
        let file = open_own(OpenOptions::new().read(true), path)?;
        Ok(Self::new(file, false))
    }

    /// Opens or creates a partial file.
    pub(super) fn open_partial(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        (options.read(true).write(true))
            .create(true)
            .truncate(false)
            .mode(0o600);
        match open_own(&options, path) {
            // A process ended while it was sealing the file.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let sealed = Self::open_sealed(path)?;
                sealed.allow_writes()?;
                Ok(sealed)
            }
            opened => Ok(Self::new(opened?, true)),
        }
    }

    fn new(file: File, is_writable: bool) -> Self {
        Self {
            file,
            is_writable,
            writer: OnceLock::new(),
        }
    }

    /// Prepares a sealed file for writes.
    pub(super) fn allow_writes(&self) -> io::Result<()> {
        fchmod(&self.file, Mode::S_IRUSR | Mode::S_IWUSR)?;
        if !self.is_writable && self.writer.get().is_none() {
            // This very file, whatever its name is now.
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let writer = OpenOptions::new().read(true).write(true).open(path)?;
            let _ = self.writer.set(writer);
        }
        Ok(())
    }

    /// Forbids programs to open the file for writing. A file system without modes
    /// stays as it is.
    pub(super) fn forbid_writes(&self) {
        if let Err(error) = fchmod(&self.file, Mode::S_IRUSR) {
            tracing::debug!(%error, "a complete file of the cache keeps its mode");
        }
    }

    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        Stamp::of(&self.file)
    }

    /// Changes the stamp for good: the bytes are not those that were verified, even if
    /// the disk has changed them without a trace.
    pub(super) fn distrust(&self) -> io::Result<()> {
        self.file.set_modified(SystemTime::now())
    }

    /// Whether the file has the name `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        is_same(&self.file, path)
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The file, to read from it.
    pub(super) fn reader(&self) -> &File {
        &self.file
    }

    /// Another descriptor of the file. Only for reading, if the file was sealed when it
    /// was opened.
    pub(super) fn try_clone(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Fills `buffer` with the bytes at `offset`, if all of them are in the page cache;
    /// otherwise returns false. So does a file system that cannot tell.
    pub(super) fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> bool {
        let len = buffer.len();
        let buffers = &mut [IoSliceMut::new(buffer)];
        let read = preadv2(&self.file, buffers, offset, ReadWriteFlags::NOWAIT);
        read == Ok(len)
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writer().write_all_at(bytes, offset)
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.writer().set_len(len)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the space of `len` bytes at `offset` back to the file system; false if that
    /// frees it with the file only.
    pub(super) fn release(&self, offset: u64, len: u64) -> bool {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (at, size) = (offset.cast_signed(), len.cast_signed());
        fallocate(self.writer(), hole, at, size).is_ok()
    }

    /// The file, open for writing if it is not sealed.
    pub(super) fn writer(&self) -> &File {
        self.writer.get().unwrap_or(&self.file)
    }
}
