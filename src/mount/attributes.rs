//! Translates nodes into the attributes of FUSE replies.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};

use crate::catalog::Representation;
use crate::content::FileSize;
use crate::tree::{Directory, Node};

/// The time to live of objects and their names, which never change.
pub(super) const FOREVER: Duration = Duration::from_hours(365 * 24);

/// The attributes that all nodes share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// When the mount started: the timestamp of nodes without one of their own.
    pub(super) since: SystemTime,
}

impl Owner {
    /// Uses the given ids, or else those of this process.
    pub(super) fn new(uid: Option<u32>, gid: Option<u32>) -> Self {
        Self {
            uid: uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw()),
            gid: gid.unwrap_or_else(|| nix::unistd::getegid().as_raw()),
            since: SystemTime::now(),
        }
    }

    /// Returns whether this user may read the control files: what a mount does and
    /// what fails is nothing for the other users whom `--allow-other` lets in.
    pub(super) fn may_control(&self, user: u32) -> bool {
        [0, self.uid, nix::unistd::geteuid().as_raw()].contains(&user)
    }

    /// Returns the attributes of `node`, which is `size` bytes long.
    pub(super) fn attributes(&self, node: &Node, size: FileSize) -> FileAttr {
        let (FileSize::Exact(size) | FileSize::Estimate(size)) = size;
        let time = match node {
            Node::File(object, _) | Node::ArchiveFile(object, ..) => {
                SystemTime::from(object.submitted())
            }
            Node::Directory(_)
            | Node::Readme
            | Node::NoMedia
            | Node::ControlFile(_)
            | Node::CollectionLink(..)
            | Node::Metadata(_) => self.since,
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
            perm: match node {
                Node::Directory(Directory::Control) => 0o500,
                Node::ControlFile(_) => 0o400,
                Node::CollectionLink(..) => 0o777,
                _ if directory => 0o555,
                _ => 0o444,
            },
            nlink: node.link_count(),
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: read_size(node),
            flags: 0,
        }
    }
}

/// The read size that `stat` recommends to programs. The NetCDF library reads whole
/// multiples of it, so that a large one would make it read beyond a variable.
fn read_size(node: &Node) -> u32 {
    match node {
        Node::File(_, Representation::NetCdf | Representation::GoodNetCdf) => 4 << 10,
        _ => 128 << 10,
    }
}

/// Returns whether `node` is a directory, a symbolic link or a regular file.
pub(super) fn file_type(node: &Node) -> FileType {
    match node {
        Node::Directory(_) => FileType::Directory,
        Node::CollectionLink(..) => FileType::Symlink,
        _ => FileType::RegularFile,
    }
}
