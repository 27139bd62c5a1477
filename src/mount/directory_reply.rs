//! Replies to READDIR and READDIRPLUS.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus, Request};

use super::attributes::file_type;
use super::mount_state::MountState;
use super::request_trace::RequestTrace;
use crate::catalog::Walk;
use crate::content::FileSize;
use crate::tree::{DirEntry, Directory, Inode, Listing, Node, TreeError};

/// Whether a page can be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PageFill {
    /// It can be sent: it is full, or it contains all entries known so far.
    Ready,
    /// It is empty, and the listing is still growing.
    Empty,
}

/// A reply to READDIR or READDIRPLUS.
pub(super) trait DirectoryPage: Send + Sized + 'static {
    /// Adds `.` or `..`. Returns true if the page is full.
    fn add_dots(&mut self, name: &str, next: u64) -> bool;
    /// Adds an entry. Returns true if the page is full.
    fn add(&mut self, entry: DirEntry) -> bool;
    /// Sends the page, or an error instead.
    fn send(self, result: Result<(), Errno>);

    /// Adds the entries from `offset` on.
    fn fill(&mut self, listing: &Listing, offset: u64) -> Result<PageFill, TreeError> {
        let mut empty = true;
        for (at, name) in [(0, "."), (1, "..")] {
            if offset <= at {
                if self.add_dots(name, at + 1) {
                    return Ok(PageFill::Ready);
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
            Walk::Growing if empty => PageFill::Empty,
            Walk::Growing | Walk::Stopped | Walk::AtEnd => PageFill::Ready,
        })
    }
}

impl MountState {
    /// Replies with a page of a listing. If the listing is being downloaded and has
    /// no entries after `offset` yet, hands the reply to a task that waits for them.
    pub(super) fn send_page(
        self: &Arc<Self>,
        req: &Request,
        trace: RequestTrace,
        listing: Arc<Listing>,
        offset: u64,
        mut page: impl DirectoryPage,
    ) {
        let root = Node::Directory(Directory::Root);
        match page.fill(&listing, offset) {
            Ok(PageFill::Ready) => page.send(Ok(())),
            Ok(PageFill::Empty) => self.respond(
                req,
                trace,
                |state| async move {
                    loop {
                        let grown = listing.wait_for_more().await;
                        let filled = grown.and_then(|()| page.fill(&listing, offset));
                        match filled {
                            Ok(PageFill::Empty) => {}
                            Ok(PageFill::Ready) => return Ok((page, Ok(()))),
                            Err(error) => {
                                let errno = state.fail_tree("list", &root, &error);
                                return Ok((page, Err(errno)));
                            }
                        }
                    }
                },
                |outcome, trace| {
                    // An interrupted task has dropped the page, and its reply with
                    // it, which sends EIO.
                    if let Ok((page, result)) = outcome {
                        page.send(result.map_err(|errno| trace.failed(errno)));
                    }
                },
            ),
            Err(error) => {
                let errno = self.fail_tree("list", &root, &error);
                page.send(Err(trace.failed(errno)));
            }
        }
    }
}

/// A reply to READDIR: names only.
pub(super) struct NamesPage {
    pub(super) reply: ReplyDirectory,
    pub(super) directory: INodeNo,
}

impl DirectoryPage for NamesPage {
    fn add_dots(&mut self, name: &str, next: u64) -> bool {
        // The kernel knows the inode of `..` and ignores this one.
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

/// A reply to READDIRPLUS: names with attributes.
pub(super) struct AttributesPage {
    pub(super) reply: ReplyDirectoryPlus,
    pub(super) directory: Node,
    pub(super) name_ttl: Duration,
    pub(super) state: Arc<MountState>,
    /// The entries on the page, and their sizes.
    pub(super) sent: Vec<(Node, FileSize)>,
}

impl DirectoryPage for AttributesPage {
    fn add_dots(&mut self, name: &str, next: u64) -> bool {
        let root = Node::Directory(Directory::Root);
        let node = if next == 1 { &self.directory } else { &root };
        let attributes = self.state.attributes(node, FileSize::Exact(0));
        let inode = attributes.ino;
        let ttl = Duration::ZERO;
        self.reply
            .add(inode, next, name, &ttl, &attributes, Generation(0))
    }

    fn add(&mut self, entry: DirEntry) -> bool {
        let DirEntry { name, node, next } = entry;
        let size = self.state.size(&node);
        let attributes = self.state.attributes(&node, size);
        let inode = attributes.ino;
        // fuser takes one TTL for both name and attributes. (An entry without
        // attributes has inode 0, and C libraries skip it.)
        let ttl = if self.state.must_revalidate_size(&node, size) {
            Duration::ZERO
        } else {
            self.state.attribute_ttl(&node).min(self.name_ttl)
        };
        let full = self
            .reply
            .add(inode, next, &name, &ttl, &attributes, Generation(0));
        if !full {
            // Each entry in a READDIRPLUS reply counts as a lookup.
            self.state.inodes.add_lookup(&node);
            self.sent.push((node, size));
        }
        full
    }

    fn send(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.reply.ok(),
            Err(errno) => self.reply.error(errno),
        }
        for (node, size) in self.sent {
            self.state.set_reported_size(&node, size);
        }
    }
}
