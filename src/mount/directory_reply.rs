//! Replies to READDIR and READDIRPLUS.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Generation, ReplyDirectory, ReplyDirectoryPlus, Request,
};

use super::attributes::file_type;
use super::handles::Handle;
use super::mount_state::MountState;
use super::options::ExactSize;
use super::request_trace::{PendingReply, Reply};
use crate::catalog::Walk;
use crate::content::FileSize;
use crate::tree::{DirEntry, Directory, Listing, Node, TreeError};

/// The reply of a page.
pub(super) enum PageReply {
    /// To READDIR: names only.
    Names(ReplyDirectory),
    /// To READDIRPLUS: names with attributes.
    Attributes(ReplyDirectoryPlus),
}

/// A page of a listing.
struct DirectoryPage {
    reply: PageReply,
    directory: Node,
    state: Arc<MountState>,
    /// The entries with attributes on the page, and their sizes.
    sent: Vec<(Node, FileSize)>,
    /// The files on the page whose sizes may be queried next.
    files: Vec<Node>,
}

impl Reply for PageReply {
    fn error(self, errno: Errno) {
        match self {
            PageReply::Names(reply) => reply.error(errno),
            PageReply::Attributes(reply) => reply.error(errno),
        }
    }
}

impl Reply for DirectoryPage {
    fn error(self, errno: Errno) {
        self.reply.error(errno);
    }
}

impl MountState {
    /// Replies with the entries of an open directory from `offset` on. If the listing
    /// is being downloaded and has no such entries yet, hands the reply to a task that
    /// waits for them.
    pub(super) fn read_directory(
        self: &Arc<Self>,
        req: &Request,
        (number, handle): (u64, FileHandle),
        offset: u64,
        PendingReply { reply, trace }: PendingReply<PageReply>,
    ) {
        let handle = self.handles.get(handle.0);
        let (Some(Handle::Directory(listing)), Some(directory)) = (handle, self.node(number))
        else {
            return PendingReply { reply, trace }.error(Errno::EBADF);
        };
        let mut reply = DirectoryPage {
            reply,
            directory,
            state: Arc::clone(self),
            sent: Vec::new(),
            files: Vec::new(),
        };
        let filled = reply.fill(&listing, offset);
        let page = PendingReply { reply, trace };
        match filled {
            Ok(false) => {}
            Ok(true) => return page.reply.send(),
            Err(error) => return page.error(self.fail_listing(&error)),
        }
        let growing = Arc::clone(&listing);
        self.respond(
            req,
            page,
            |state| async move {
                let grown = async {
                    loop {
                        growing.wait_for_more().await?;
                        if growing.entries(offset, |_| ControlFlow::Break(()))? != Walk::Growing {
                            return Ok(());
                        }
                    }
                };
                grown.await.map_err(|error| state.fail_listing(&error))
            },
            move |mut page, ()| match page.reply.fill(&listing, offset) {
                Ok(_) => page.reply.send(),
                Err(error) => {
                    let errno = page.reply.state.fail_listing(&error);
                    page.error(errno);
                }
            },
        );
    }

    /// Records that a listing cannot be read and returns the errno.
    fn fail_listing(&self, error: &TreeError) -> Errno {
        self.fail_tree("list", &Node::Directory(Directory::Root), error)
    }
}

impl DirectoryPage {
    /// Adds the entries from `offset` on. Returns false if the page cannot be sent yet:
    /// it is empty, and the listing is still growing.
    fn fill(&mut self, listing: &Listing, offset: u64) -> Result<bool, TreeError> {
        let mut empty = true;
        let dots = [
            (".", self.directory.clone()),
            // The kernel knows the inode of `..` and ignores this one.
            ("..", Node::Directory(Directory::Root)),
        ];
        for ((name, node), at) in dots.into_iter().zip(0..) {
            if offset <= at {
                if self.add_dots(name, &node, at + 1) {
                    return Ok(true);
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
        Ok(walk != Walk::Growing || !empty)
    }

    /// Adds `.` or `..`. Returns true if the page is full.
    fn add_dots(&mut self, name: &str, node: &Node, next: u64) -> bool {
        let attributes = FileAttr {
            ino: self.state.numbers.show(node.inode().0),
            ..self.state.owner.attributes(node, FileSize::Exact(0))
        };
        let inode = attributes.ino;
        match &mut self.reply {
            PageReply::Names(reply) => reply.add(inode, next, FileType::Directory, name),
            PageReply::Attributes(reply) => {
                let ttl = Duration::ZERO;
                reply.add(inode, next, name, &ttl, &attributes, Generation(0))
            }
        }
    }

    /// Adds an entry. Returns true if the page is full.
    fn add(&mut self, DirEntry { name, node, next }: DirEntry) -> bool {
        let reply = match &mut self.reply {
            PageReply::Names(reply) => {
                let inode = self.state.numbers.show(node.inode().0);
                let full = reply.add(inode, next, file_type(&node), &name);
                if !full {
                    self.note_file(node);
                }
                return full;
            }
            PageReply::Attributes(reply) => reply,
        };
        let size = self.state.size(&node);
        let attributes = self.state.attributes(&node, size);
        // fuser takes one TTL for both name and attributes. (An entry without
        // attributes has inode 0, and C libraries skip it.)
        let ttl = self.state.entry_ttl(&node, size);
        let ttl = ttl.min(self.state.name_ttl(&self.directory));
        let inode = attributes.ino;
        let full = reply.add(inode, next, &name, &ttl, &attributes, Generation(0));
        if full {
            self.state.numbers.forget(node.inode().0, 1);
        } else {
            // Each entry in a READDIRPLUS reply counts as a lookup.
            self.state.inodes.add_lookup(&node);
            self.note_file(node.clone());
            self.sent.push((node, size));
        }
        full
    }

    /// Notes that `node` is on the page, if queries of its size may wait.
    fn note_file(&mut self, node: Node) {
        if self.state.options.exact_size == ExactSize::Always && !node.is_directory() {
            self.files.push(node);
        }
    }

    fn send(self) {
        match self.reply {
            PageReply::Names(reply) => reply.ok(),
            PageReply::Attributes(reply) => reply.ok(),
        }
        for (node, size) in self.sent {
            self.state.set_reported_size(&node, size);
        }
        if !self.files.is_empty() {
            self.state.stat_ahead.add_page(self.files);
        }
    }
}
