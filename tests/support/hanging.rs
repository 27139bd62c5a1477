//! A disk that stops answering: a file system over a folder, whose reads can be held.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};

const TTL: Duration = Duration::from_secs(1);

/// The files of a folder with their attributes, on another file system that covers it.
pub(crate) struct HangingDisk {
    held: Arc<Mutex<HeldReads>>,
    _session: BackgroundSession,
}

/// Reads that have no answer yet.
#[derive(Default)]
struct HeldReads {
    holds: bool,
    replies: Vec<ReplyData>,
}

struct CoveredFolder {
    folder: Metadata,
    files: Vec<(String, Vec<u8>, Metadata)>,
    held: Arc<Mutex<HeldReads>>,
}

impl HangingDisk {
    /// Covers `folder`; needs root.
    pub(crate) fn over(folder: &Path) -> Self {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            files.push((
                name,
                fs::read(entry.path()).unwrap(),
                entry.metadata().unwrap(),
            ));
        }
        let held = Arc::default();
        let covered = CoveredFolder {
            folder: fs::metadata(folder).unwrap(),
            files,
            held: Arc::clone(&held),
        };
        let session = fuser::spawn_mount(covered, folder, &fuser::Config::default());
        Self {
            held,
            _session: session.expect("root can mount"),
        }
    }

    /// Answers no read from now on.
    pub(crate) fn hang(&self) {
        self.held.lock().unwrap().holds = true;
    }

    /// Returns how many reads wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        self.held.lock().unwrap().replies.len()
    }

    /// Answers all reads, those that waited with an error.
    pub(crate) fn release(&self) {
        let mut held = self.held.lock().unwrap();
        held.holds = false;
        for reply in held.replies.drain(..) {
            reply.error(Errno::EIO);
        }
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        self.release();
    }
}

impl CoveredFolder {
    fn attributes(&self, ino: INodeNo) -> Option<FileAttr> {
        let (found, kind) = match ino {
            INodeNo::ROOT => (&self.folder, FileType::Directory),
            INodeNo(number) => {
                let at = usize::try_from(number).ok()?.checked_sub(2)?;
                (&self.files.get(at)?.2, FileType::RegularFile)
            }
        };
        let time = |seconds: i64, nanos: i64| {
            let since = Duration::new(seconds.try_into().unwrap(), nanos.try_into().unwrap());
            SystemTime::UNIX_EPOCH + since
        };
        Some(FileAttr {
            ino,
            size: found.size(),
            blocks: found.blocks(),
            atime: time(found.atime(), found.atime_nsec()),
            mtime: time(found.mtime(), found.mtime_nsec()),
            ctime: time(found.ctime(), found.ctime_nsec()),
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm: u16::try_from(found.mode() & 0o7777).unwrap(),
            nlink: 1,
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for CoveredFolder {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let at = self.files.iter().position(|(file, ..)| name == &**file);
        let attributes = at.and_then(|at| self.attributes(INodeNo(at as u64 + 2)));
        match attributes {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut held = self.held.lock().unwrap();
        if held.holds {
            return held.replies.push(reply);
        }
        drop(held);
        let bytes = &self.files[usize::try_from(ino.0).unwrap() - 2].1;
        let from = bytes.len().min(usize::try_from(offset).unwrap());
        let to = bytes.len().min(from + size as usize);
        reply.data(&bytes[from..to]);
    }
}
