//! What the adapter's answers are made of: nodes' attributes, how a file is
//! opened, and what is noted when something fails.
//!
//! Lengths follow idea 4 of the design: what is not known is an estimate that
//! the kernel may keep; opening such a file makes the kernel ask again, and
//! that question waits for the truth. Until the kernel was told the exact
//! length, a file is opened for direct I/O: with a page cache that believes in
//! a length too large, a READ past the true end would leave zeros in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{
    BackingId, Errno, FileAttr, FileHandle, FopenFlags, Generation, INodeNo, Notifier, ReplyAttr,
    ReplyEntry, ReplyOpen,
};

use super::attributes::{FOREVER, Owner};
use super::handles::{Handle, Handles};
use super::inodes::{Inodes, Service};
use super::{ExactSize, Options, Report, errno};
use crate::catalog::{Object, Representation};
use crate::content::{ContentError, Contents, Size};
use crate::tree::{ControlFile, Listing, Node, Tree, TreeError};

/// What `/README.md` says.
pub(super) const README: &str = include_str!("readme.md");

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tree: Tree,
    pub(super) contents: Arc<Contents>,
    pub(super) report: Arc<Report>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) notifier: Arc<OnceLock<Notifier>>,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    pub(super) owner: Owner,
    pub(super) metadata_ttl: Duration,
    pub(super) exact_size: ExactSize,
    /// Whether the kernel can, and we may, have it read files by itself.
    pub(super) passthrough: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<Report>,
        runtime: tokio::runtime::Handle,
        options: &Options,
        notifier: Arc<OnceLock<Notifier>>,
    ) -> Self {
        Self {
            tree,
            contents,
            report,
            runtime,
            notifier,
            inodes: Inodes::new(),
            handles: Handles::default(),
            owner: Owner::of_this_process(),
            metadata_ttl: options.metadata_ttl,
            exact_size: options.exact_size,
            passthrough: AtomicBool::new(false),
        }
    }

    pub(super) fn size(&self, node: &Node) -> Size {
        match node {
            Node::File(object, representation) => self.contents.size(object, *representation),
            Node::Readme => Size::Exact(README.len() as u64),
            // Made anew at each opening, and read to their ends: direct I/O.
            Node::ControlFile(_) | Node::Root | Node::Objects | Node::Control => Size::Exact(0),
        }
    }

    pub(super) fn attributes(&self, node: &Node, size: Size) -> FileAttr {
        self.owner.attributes(node, size)
    }

    /// How long the kernel may believe in a node's attributes.
    pub(super) fn attribute_ttl(&self, node: &Node) -> Duration {
        match node {
            Node::File(_, Representation::Original | Representation::Csv | Representation::Cpb)
            | Node::Readme => FOREVER,
            // Parquet holds metadata, and is made anew if it was removed.
            Node::File(_, Representation::Json | Representation::Parquet)
            | Node::Root
            | Node::Objects
            | Node::Control => self.metadata_ttl,
            Node::ControlFile(_) => Duration::ZERO,
        }
    }

    /// Replies with `node` and remembers that the kernel was told of it.
    pub(super) fn reply_entry(&self, node: &Node, reply: ReplyEntry) {
        self.inodes.remember(node);
        let size = self.size(node);
        let ttl = if self.is_unsettled(node, size) {
            Duration::ZERO
        } else {
            self.attribute_ttl(node)
        };
        // Names of objects are for ever: so is what is behind them.
        reply.entry_with_ttls(&ttl, &FOREVER, &self.attributes(node, size), Generation(0));
        self.told(node, size);
    }

    pub(super) fn reply_attributes(&self, node: &Node, size: Size, reply: ReplyAttr) {
        reply.attr(&self.attribute_ttl(node), &self.attributes(node, size));
        self.told(node, size);
    }

    /// Whether someone has the file open whose length is an estimate: whoever
    /// asks then waits for the truth, and no listing may say otherwise.
    pub(super) fn is_unsettled(&self, node: &Node, size: Size) -> bool {
        matches!(size, Size::Estimate(_)) && self.inodes.usage(node.inode().0).is_open
    }

    /// Notes what the kernel now knows; never before it was told.
    pub(super) fn told(&self, node: &Node, size: Size) {
        if matches!(size, Size::Exact(_)) {
            self.inodes.tell_exact(node.inode().0);
        }
    }

    /// Notes why `operation` on `node` fails and says with which errno.
    pub(super) fn fail(
        &self,
        operation: &str,
        node: &Node,
        errno: Errno,
        reason: &dyn ToString,
    ) -> Errno {
        let file = match node {
            Node::File(object, representation) => {
                format!("{}{}", object.id(), object.ending(*representation))
            }
            Node::Root => "/".to_owned(),
            Node::Objects => "objects".to_owned(),
            Node::Readme => "README.md".to_owned(),
            Node::Control | Node::ControlFile(_) => ".icosfs".to_owned(),
        };
        self.report
            .failed(operation, file, errno.code(), reason.to_string());
        errno
    }

    pub(super) fn fail_content(&self, operation: &str, node: &Node, error: &ContentError) -> Errno {
        self.fail(operation, node, errno::of_content(error), error)
    }

    pub(super) fn fail_tree(&self, operation: &str, node: &Node, error: &TreeError) -> Errno {
        match error {
            // Not failures, but answers.
            TreeError::NoSuchName | TreeError::NotADirectory => errno::of_tree(error),
            TreeError::Portal(_) => self.fail(operation, node, errno::of_tree(error), error),
        }
    }

    /// Makes the kernel ask for the attributes of `number` again.
    pub(super) fn forget_attributes(&self, number: u64) {
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(INodeNo(number), -1, 0)
            // The kernel has forgotten the inode altogether.
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            tracing::debug!(number, %error, "attributes could not be invalidated");
        }
    }

    /// Opens a file of an object.
    pub(super) fn open_file(
        &self,
        object: &Arc<Object>,
        representation: Representation,
        reply: ReplyOpen,
    ) {
        let node = Node::File(Arc::clone(object), representation);
        let number = node.inode().0;
        let service = self.inodes.opened(number, || {
            self.pass_through(object, representation, &reply)
                .map_or(Service::Requests, |id| Service::Passthrough(Arc::new(id)))
        });
        if let Service::Passthrough(id) = service {
            self.report.passed_through();
            return reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), &id);
        }
        let exact = matches!(self.size(&node), Size::Exact(_));
        let flags = if exact && self.inodes.usage(number).told_exact {
            match representation {
                Representation::Csv | Representation::Cpb => FopenFlags::FOPEN_KEEP_CACHE,
                // What its pages show must prove itself together with what is
                // read next. If it will, they stay, proved or not: to drop
                // them, an opener would wait for those that others read, deaf
                // to signals.
                Representation::Original
                    if self.contents.standing(object).is_none_or(|(life, proved)| {
                        self.inodes.keeps_pages(number, life, proved)
                    }) =>
                {
                    FopenFlags::FOPEN_KEEP_CACHE
                }
                // What holds metadata may have been made anew.
                Representation::Original | Representation::Parquet => FopenFlags::empty(),
                // It may have changed since, and has no pages to drop.
                Representation::Json => FopenFlags::FOPEN_DIRECT_IO,
            }
        } else {
            self.forget_attributes(number);
            FopenFlags::FOPEN_DIRECT_IO
        };
        let handle = match representation {
            Representation::Original => {
                let generation = self.contents.generation(object.id());
                self.handles.add(Handle::Generation(generation))
            }
            Representation::Csv
            | Representation::Parquet
            | Representation::Cpb
            | Representation::Json => 0,
        };
        reply.opened(FileHandle(handle), flags);
    }

    /// Notes of what life the bytes are that the kernel is given.
    pub(super) fn note_pages(&self, object: &Arc<Object>, representation: Representation) {
        if representation == Representation::Original
            && let Some((life, false)) = self.contents.standing(object)
        {
            let number = Node::File(Arc::clone(object), representation).inode().0;
            self.inodes.shows(number, life);
        }
    }

    /// Makes the kernel drop the pages of a file that turned out wrong. Waits
    /// for pages that are being read: not for a thread that serves them.
    pub(super) fn forget_pages(&self, number: u64) {
        if let Some(notifier) = self.notifier.get() {
            // The kernel may have forgotten the inode altogether.
            let _ = notifier.inval_inode(INodeNo(number), 0, 0);
        }
    }

    /// Lets the kernel read a complete file of the cache by itself, where it
    /// can and where we may.
    fn pass_through(
        &self,
        object: &Arc<Object>,
        representation: Representation,
        reply: &ReplyOpen,
    ) -> Option<BackingId> {
        if !self.passthrough.load(Ordering::Relaxed) {
            return None;
        }
        let file = self.contents.sealed_file(object, representation)?;
        match reply.open_backing(file) {
            Ok(id) => Some(id),
            Err(error) => {
                tracing::info!(%error, "the kernel does not read the cache by itself");
                self.passthrough.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// Opens a control file: its content is made now, and read to its end.
    pub(super) async fn open_control_file(&self, file: ControlFile, reply: ReplyOpen) {
        let made = match file {
            ControlFile::Status => self.report.status_json().await,
            ControlFile::Errors => self.report.errors_text(),
        };
        let handle = FileHandle(self.handles.add(Handle::Made(made.into())));
        reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO);
    }

    pub(super) fn listing(&self, handle: FileHandle) -> Option<Arc<Listing>> {
        match self.handles.get(handle.0)? {
            Handle::Directory(listing) => Some(listing),
            Handle::Made(_) | Handle::Generation(_) => None,
        }
    }
}
