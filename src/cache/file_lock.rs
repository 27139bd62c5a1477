//! Locks of files, held by an open file description: the kernel releases them when its
//! last descriptor is closed, also if the process is killed.
//!
//! These are the locks of `fcntl` (`F_OFD_SETLK`), not those of `flock`, which releases a
//! shared lock before it takes an exclusive one in its place: another process can get
//! the file in between, and if it does, the shared lock is lost. Here, a change of the
//! lock happens at once or not at all.

use std::fs::File;
use std::io;
use std::ops::Range;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// The kind of a lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LockKind {
    /// Several holders at once. The file must be open for reading.
    Shared,
    /// One holder. The file must be open for writing.
    Exclusive,
}

/// The byte whose lock stands for the whole file.
const FILE: Range<u64> = 0..1;

/// Takes the lock of a file, or changes its kind. False if another open file description
/// has a lock that forbids it; then `file` has the lock that it had before.
pub(super) fn try_lock(file: &File, kind: LockKind) -> io::Result<bool> {
    try_lock_range(file, kind, &FILE)
}

/// Whether another open file description has the lock of the file.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    Ok(locked_range(file, &FILE)?.is_some())
}

/// As [`try_lock`], of some bytes, which need not exist.
pub(super) fn try_lock_range(file: &File, kind: LockKind, bytes: &Range<u64>) -> io::Result<bool> {
    let kind = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&description(kind, bytes))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Releases the locks of some bytes.
pub(super) fn unlock_range(file: &File, bytes: &Range<u64>) -> io::Result<()> {
    fcntl(
        file,
        FcntlArg::F_OFD_SETLK(&description(libc::F_UNLCK, bytes)),
    )?;
    Ok(())
}

/// The bytes of a lock of another open file description that covers some of `bytes`.
pub(super) fn locked_range(file: &File, bytes: &Range<u64>) -> io::Result<Option<Range<u64>>> {
    let mut found = description(libc::F_WRLCK, bytes);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    if found.l_type == kind_of(libc::F_UNLCK) {
        return Ok(None);
    }
    let start = u64::try_from(found.l_start).unwrap_or(0);
    let len = match u64::try_from(found.l_len) {
        Ok(0) | Err(_) => u64::MAX,
        Ok(len) => len,
    };
    Ok(Some(start..start.saturating_add(len)))
}

fn description(kind: libc::c_int, bytes: &Range<u64>) -> libc::flock {
    let offset = |at: u64| libc::off_t::try_from(at).unwrap_or(libc::off_t::MAX);
    let (start, end) = (offset(bytes.start), offset(bytes.end));
    libc::flock {
        l_type: kind_of(kind),
        l_whence: kind_of(libc::SEEK_SET),
        l_start: start,
        // A length of 0 means up to the end, wherever that is.
        l_len: if end == libc::off_t::MAX {
            0
        } else {
            end - start
        },
        l_pid: 0,
    }
}

fn kind_of(kind: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(kind).expect("constants of the kernel are small")
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(path).unwrap()
    }

    #[test]
    fn refused_exclusive_lock_keeps_the_shared_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [one, other, third] = [(); 3].map(|()| open(file.path()));
        let lock = |file: &File, kind| try_lock(file, kind).unwrap();
        assert!(lock(&one, LockKind::Shared) && lock(&other, LockKind::Shared));
        assert!(!lock(&one, LockKind::Exclusive));
        drop(other);
        assert!(!lock(&third, LockKind::Exclusive), "the file is in use");
        assert!(is_locked(&third).unwrap() && !is_locked(&one).unwrap());
        assert!(lock(&one, LockKind::Exclusive) && !lock(&third, LockKind::Shared));
        drop(one);
        assert!(lock(&third, LockKind::Exclusive));
    }

    #[test]
    fn locked_bytes_are_those_that_are_not_released_yet() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [one, other] = [(); 2].map(|()| open(file.path()));
        assert!(try_lock_range(&one, LockKind::Exclusive, &(10..50)).unwrap());
        unlock_range(&one, &(10..20)).unwrap();
        assert_eq!(locked_range(&other, &(0..100)).unwrap(), Some(20..50));
        assert_eq!(locked_range(&other, &(0..20)).unwrap(), None);
        assert!(!try_lock_range(&other, LockKind::Exclusive, &(40..60)).unwrap());
        assert!(try_lock_range(&other, LockKind::Exclusive, &(50..60)).unwrap());
        assert!(try_lock_range(&one, LockKind::Shared, &(0..u64::MAX)).is_ok_and(|locked| !locked));
    }
}
