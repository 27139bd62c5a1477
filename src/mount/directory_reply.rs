//! Pieces of listings as the kernel wants them: names alone, or names with
//! attributes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::attributes::file_type;
use super::mount_state::MountState;
use crate::catalog::Walk;
use crate::content::FileSize;
use crate::tree::{DirEntry, Directory, Inode, Listing, Node, TreeError};

/// How far a page was filled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PageFill {
    /// It can be sent: it is full, or the listing is at its end, or what comes
    /// next is not known yet.
    Enough,
    /// Nothing is on it, and more will come.
    NothingYet,
}

/// A reply that is being filled with entries.
pub(super) trait DirectoryPage: Send + Sized + 'static {
    /// Adds `.` or `..`; true if there was no room.
    fn add_dots(&mut self, name: &str, next: u64) -> bool;
    /// Adds an entry; true if there was no room.
    fn add(&mut self, entry: DirEntry) -> bool;
    /// Sends it, or an error in its place.
    fn send(self, result: Result<(), Errno>);

    /// Adds what comes from `offset` on.
    fn fill(&mut self, listing: &Listing, offset: u64) -> Result<PageFill, TreeError> {
        let mut empty = true;
        for (at, name) in [(0, "."), (1, "..")] {
            if offset <= at {
                if self.add_dots(name, at + 1) {
                    return Ok(PageFill::Enough);
                }
                empty = false;
            }
        }
        let walk = listing.entries(offset, |entry| {
            if self.add(entry) {
                return ControlFlow::Break(());
            }
            empty = false;
            ControlFlow::Continue(())
        })?;
        Ok(match walk {
            Walk::Growing if empty => PageFill::NothingYet,
            Walk::Growing | Walk::Stopped | Walk::AtEnd => PageFill::Enough,
        })
    }
}

/// NamesPage alone.
pub(super) struct NamesPage {
    pub(super) reply: ReplyDirectory,
    pub(super) directory: INodeNo,
}

impl DirectoryPage for NamesPage {
    fn add_dots(&mut self, name: &str, next: u64) -> bool {
        // What `..` is the kernel knows by itself.
        let inode = if next == 1 {
            self.directory
        } else {
            INodeNo(Inode::ROOT.0)
        };
        self.reply.add(inode, next, FileType::Directory, name)
    }

    fn add(&mut self, entry: DirEntry) -> bool {
        let inode = INodeNo(entry.node.inode().0);
        let kind = file_type(&entry.node);
        self.reply.add(inode, entry.next, kind, &entry.name)
    }

    fn send(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.reply.ok(),
            Err(errno) => self.reply.error(errno),
        }
    }
}

/// NamesPage with attributes.
pub(super) struct AttributesPage {
    pub(super) reply: ReplyDirectoryPlus,
    pub(super) directory: Node,
    pub(super) name_ttl: Duration,
    pub(super) shared: Arc<MountState>,
    /// What the kernel is going to be told.
    pub(super) told: Vec<(Node, FileSize)>,
}

impl DirectoryPage for AttributesPage {
    fn add_dots(&mut self, name: &str, next: u64) -> bool {
        let root = Node::Directory(Directory::Root);
        let node = if next == 1 { &self.directory } else { &root };
        let attributes = self.shared.attributes(node, FileSize::Exact(0));
        let inode = attributes.ino;
        let ttl = Duration::ZERO;
        self.reply
            .add(inode, next, name, &ttl, &attributes, Generation(0))
    }

    fn add(&mut self, entry: DirEntry) -> bool {
        let DirEntry { name, node, next } = entry;
        let size = self.shared.size(&node);
        let attributes = self.shared.attributes(&node, size);
        let inode = attributes.ino;
        // There is one time for both. (A name without attributes is no choice:
        // fuser then says inode 0, and C libraries skip such an entry.)
        let ttl = if self.shared.is_unsettled(&node, size) {
            Duration::ZERO
        } else {
            self.shared.attribute_ttl(&node).min(self.name_ttl)
        };
        let full = self
            .reply
            .add(inode, next, &name, &ttl, &attributes, Generation(0));
        if !full {
            // Each entry that goes out counts as a lookup.
            self.shared.inodes.remember(&node);
            self.told.push((node, size));
        }
        full
    }

    fn send(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.reply.ok(),
            Err(errno) => self.reply.error(errno),
        }
        for (node, size) in self.told {
            self.shared.told(&node, size);
        }
    }
}
