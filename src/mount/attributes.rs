//! Nodes' attributes as the kernel wants them.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};

use crate::content::FileSize;
use crate::tree::Node;

/// Objects never change, nor do their names: the kernel may keep both as long
/// as it likes.
pub(super) const FOREVER: Duration = Duration::from_hours(365 * 24);

/// What all nodes have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// When the mount began: the time of whatever has none of its own.
    pub(super) since: SystemTime,
}

impl Owner {
    /// Those given, or else those of this process.
    pub(super) fn new(uid: Option<u32>, gid: Option<u32>) -> Self {
        Self {
            uid: uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw()),
            gid: gid.unwrap_or_else(|| nix::unistd::getegid().as_raw()),
            since: SystemTime::now(),
        }
    }

    pub(super) fn attributes(&self, node: &Node, size: FileSize) -> FileAttr {
        let (FileSize::Exact(size) | FileSize::Estimate(size)) = size;
        let time = match node {
            Node::File(object, _) | Node::ArchiveFile(object, ..) => {
                SystemTime::from(object.submitted())
            }
            Node::Directory(_) | Node::Readme | Node::ControlFile(_) | Node::Metadata(_) => {
                self.since
            }
        };
        let directory = node.is_directory();
        FileAttr {
            ino: INodeNo(node.inode().0),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: file_type(node),
            perm: if directory { 0o555 } else { 0o444 },
            nlink: if directory { 2 } else { 1 },
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            // What `stat` tells programs to read at once.
            blksize: 128 << 10,
            flags: 0,
        }
    }
}

pub(super) fn file_type(node: &Node) -> FileType {
    if node.is_directory() {
        FileType::Directory
    } else {
        FileType::RegularFile
    }
}
