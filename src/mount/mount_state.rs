//! What the adapter's answers are made of: nodes' attributes, how a file is
//! opened, and what is noted when something fails.
//!
//! Lengths follow idea 4 of the design: what is not known is an estimate that
//! the kernel may keep; opening such a file makes the kernel ask again, and
//! that question waits for the truth. Until the kernel was told the exact
//! length, a file is opened for direct I/O: with a page cache that believes in
//! a length too large, a READ past the true end would leave zeros in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fuser::{
    BackingId, Errno, FileAttr, FileHandle, FopenFlags, Generation, INodeNo, Notifier, ReplyAttr,
    ReplyEntry, ReplyOpen,
};
use serde_json::Value;
use tokio::sync::watch;

use super::attributes::{FOREVER, Owner};
use super::handles::{Handle, Handles};
use super::inodes::{Inodes, ServeMode};
use super::{ExactSize, MountOptions, MountReport, errno};
use crate::catalog::{Object, Representation, Spec};
use crate::content::{ContentError, Contents, FileSize};
use crate::tree::{ControlFile, Directory, Inode, Listing, MetadataPage, Node, Tree, TreeError};
use icos_portal::meta::Subject;
use icos_portal::{Envri, ObjectId, PortalError};

/// What `/README.md` says.
pub(super) const README: &str = include_str!("readme.md");

/// How long a count of all objects is good enough.
const RECOUNT: Duration = Duration::from_mins(1);

/// What all requests share.
#[derive(Debug)]
pub(super) struct MountState {
    pub(super) tree: Tree,
    pub(super) contents: Arc<Contents>,
    pub(super) report: Arc<MountReport>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) notifier: Arc<OnceLock<Notifier>>,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    pub(super) owner: Owner,
    pub(super) metadata_ttl: Duration,
    pub(super) exact_size: ExactSize,
    pub(super) xattr: bool,
    pub(super) envri: Envri,
    /// Number and bytes of objects, counted of late.
    pub(super) totals: Mutex<Option<(Instant, (u64, u64))>>,
    /// Whether the kernel can, and we may, have it read files by itself.
    pub(super) passthrough: AtomicBool,
    /// Told whenever a reader closes something.
    pub(super) released: watch::Sender<()>,
}

impl MountState {
    pub(super) fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<MountReport>,
        runtime: tokio::runtime::Handle,
        options: &MountOptions,
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
            owner: Owner::new(options.uid, options.gid),
            // The kernel counts in less than the longest times there are.
            metadata_ttl: options.metadata_ttl.min(FOREVER),
            xattr: options.xattr,
            envri: options.envri,
            exact_size: options.exact_size,
            totals: Mutex::default(),
            passthrough: AtomicBool::new(false),
            released: watch::Sender::new(()),
        }
    }

    pub(super) fn size(&self, node: &Node) -> FileSize {
        match node {
            Node::File(object, representation) => self.contents.size(object, *representation),
            Node::Readme => FileSize::Exact(README.len() as u64),
            Node::ArchiveFile(_, _, entry) => FileSize::Exact(entry.size),
            Node::Metadata(page) => match subject(page) {
                Ok(subject) => self.contents.landing_page_size(&subject),
                Err(spec) => FileSize::Exact(spec.json().len() as u64),
            },
            // Made anew at each opening, and read to their ends: direct I/O.
            Node::ControlFile(_) | Node::Directory(_) => FileSize::Exact(0),
        }
    }

    pub(super) fn attributes(&self, node: &Node, size: FileSize) -> FileAttr {
        self.owner.attributes(node, size)
    }

    /// How long the kernel may believe in a node's attributes.
    pub(super) fn attribute_ttl(&self, node: &Node) -> Duration {
        match node {
            Node::File(_, Representation::Original | Representation::Csv | Representation::Cpb)
            | Node::Readme
            | Node::ArchiveFile(..) => FOREVER,
            // Parquet holds metadata, and is made anew if it was removed.
            Node::File(_, Representation::Json | Representation::Parquet)
            | Node::Directory(_)
            | Node::Metadata(_) => self.metadata_ttl,
            Node::ControlFile(_) => Duration::ZERO,
        }
    }

    /// How long the kernel may believe in a name in `parent`.
    pub(super) fn name_ttl(&self, parent: &Node) -> Duration {
        match parent {
            // Names made of ids are for ever: so is what is behind them.
            Node::Directory(
                Directory::Root
                | Directory::Control
                | Directory::Objects
                | Directory::Format(_)
                | Directory::Documents
                | Directory::Archive(..),
            ) => FOREVER,
            _ => self.metadata_ttl,
        }
    }

    /// Replies with `node` in `parent` and remembers that the kernel was told
    /// of it.
    pub(super) fn reply_entry(&self, parent: &Node, node: &Node, reply: ReplyEntry) {
        self.inodes.remember(node);
        let size = self.size(node);
        let ttl = if self.is_unsettled(node, size) {
            Duration::ZERO
        } else {
            self.attribute_ttl(node)
        };
        let name_ttl = self.name_ttl(parent);
        reply.entry_with_ttls(&ttl, &name_ttl, &self.attributes(node, size), Generation(0));
        self.told(node, size);
    }

    pub(super) fn reply_attributes(&self, node: &Node, size: FileSize, reply: ReplyAttr) {
        reply.attr(&self.attribute_ttl(node), &self.attributes(node, size));
        self.told(node, size);
    }

    /// Whether someone has the file open whose length is an estimate: whoever
    /// asks then waits for the truth, and no listing may say otherwise.
    pub(super) fn is_unsettled(&self, node: &Node, size: FileSize) -> bool {
        matches!(size, FileSize::Estimate(_)) && self.inodes.usage(node.inode().0).is_open
    }

    /// Notes what the kernel now knows; never before it was told.
    pub(super) fn told(&self, node: &Node, size: FileSize) {
        // The length of an original is never estimated, nor that of what is
        // made here: nothing needs to be noted of them.
        if matches!(node, Node::File(_, representation) if *representation != Representation::Original)
            || matches!(node, Node::Metadata(_))
        {
            let exact = match size {
                FileSize::Exact(length) => Some(length),
                FileSize::Estimate(_) => None,
            };
            self.inodes.told(node.inode().0, exact);
        }
    }

    /// Whether the kernel's idea of the length of a file is the exact `size`:
    /// a file that was made anew may have another than it was told.
    pub(super) fn knows_length(&self, node: &Node, size: FileSize) -> bool {
        if matches!(node, Node::File(_, Representation::Original)) {
            return true;
        }
        let told = self.inodes.usage(node.inode().0).told;
        matches!(size, FileSize::Exact(length) if told == Some(length))
    }

    /// The node that the kernel knows by `number`.
    pub(super) fn node(&self, number: u64) -> Option<Node> {
        if let Some(node) = self.inodes.get(number) {
            return Some(node);
        }
        self.tree.file(Inode(number)).unwrap_or_else(|error| {
            tracing::warn!(number, %error, "an inode cannot be told");
            None
        })
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
            Node::Directory(Directory::Root) => "/".to_owned(),
            Node::Directory(place) => place.to_string(),
            Node::Readme => "README.md".to_owned(),
            Node::ControlFile(_) => ".icosfs".to_owned(),
            Node::ArchiveFile(object, path, _) => {
                format!("objects/{}.contents/{path}", object.id())
            }
            Node::Metadata(MetadataPage::Station(station)) => {
                format!("stations/{}/station.json", station.name())
            }
            Node::Metadata(MetadataPage::Collection(id)) => {
                format!("collections/{id}/collection.json")
            }
            Node::Metadata(MetadataPage::DataType(spec)) => {
                format!("datatypes/{}/datatype.json", spec.name())
            }
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
            TreeError::Catalog(_) => self.fail(operation, node, errno::of_tree(error), error),
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
        // Before all else: whatever turns out wrong from now on concerns it.
        let original = (representation == Representation::Original)
            .then(|| self.contents.open_original(object));
        let corruption_count = original
            .as_ref()
            .map_or(0, |original| original.corruption_count);
        let opened = self.inodes.opened(number, corruption_count, || {
            self.pass_through(object, representation, &reply)
                .map_or(ServeMode::Requests, |id| {
                    ServeMode::Passthrough(Arc::new(id))
                })
        });
        if let ServeMode::Passthrough(id) = opened.service {
            self.report.passed_through();
            // It may hold a guess of what an earlier mount built.
            if !self.knows_length(&node, self.size(&node)) {
                self.forget_attributes(number);
            }
            return reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), &id);
        }
        let flags = if opened.beside_older {
            // Who began with a wrong copy must not find pages of a better one.
            FopenFlags::FOPEN_DIRECT_IO
        } else if self.knows_length(&node, self.size(&node)) {
            match representation {
                Representation::Csv | Representation::Cpb => FopenFlags::FOPEN_KEEP_CACHE,
                // What its pages show must prove itself together with what is
                // read next. If it will, they stay, proved or not: to drop
                // them, an opener would wait for those that others read, deaf
                // to signals.
                Representation::Original
                    if self
                        .contents
                        .cached_epoch(object)
                        .is_none_or(|(epoch, proved)| {
                            self.inodes.keeps_pages(number, epoch, proved)
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
        let beside_older = opened.beside_older;
        let handle = original.map_or(0, |opened| {
            self.handles.add(Handle::Original {
                opened,
                beside_older,
            })
        });
        reply.opened(FileHandle(handle), flags);
    }

    /// Notes of what epoch the bytes are that the kernel is given.
    pub(super) fn note_pages(&self, object: &Arc<Object>, representation: Representation) {
        if representation == Representation::Original
            && let Some((epoch, false)) = self.contents.cached_epoch(object)
        {
            let number = Node::File(Arc::clone(object), representation).inode().0;
            self.inodes.shows(number, epoch);
        }
    }

    /// Opens what is known of something that is no object.
    pub(super) fn open_page(&self, page: &MetadataPage, reply: ReplyOpen) {
        let node = Node::Metadata(page.clone());
        let flags = if self.knows_length(&node, self.size(&node)) {
            // It may have changed since.
            FopenFlags::empty()
        } else {
            self.forget_attributes(node.inode().0);
            FopenFlags::FOPEN_DIRECT_IO
        };
        self.inodes
            .opened(node.inode().0, 0, || ServeMode::Requests);
        reply.opened(FileHandle(0), flags);
    }

    /// Number and bytes of the objects that are known; to count them takes a
    /// while.
    pub(super) async fn totals(self: Arc<Self>) -> (u64, u64) {
        let known = *self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, totals)) = known
            && at.elapsed() < RECOUNT
        {
            return totals;
        }
        let tree = self.tree.clone();
        let counted = tokio::task::spawn_blocking(move || tree.totals()).await;
        let Ok(Ok(totals)) = counted else {
            return (0, 0);
        };
        let mut known = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), totals));
        totals
    }

    /// An object's landing page.
    pub(super) async fn landing_page(&self, id: ObjectId) -> Result<Value, ContentError> {
        let json = self.contents.landing_page(&Subject::Object(id)).await?;
        serde_json::from_slice(&json).map_err(|error| {
            PortalError::BadResponse {
                service: icos_portal::Service::Meta,
                reason: format!("expected a landing page's JSON, found {error}"),
            }
            .into()
        })
    }

    /// The exact length of a file: may fetch or draw all of it.
    pub(super) async fn exact_size(&self, node: &Node) -> Result<u64, ContentError> {
        match node {
            Node::File(object, representation) => {
                self.contents.exact_size(object, *representation).await
            }
            Node::Metadata(page) => Ok(self.page(page).await?.len() as u64),
            Node::Readme | Node::ControlFile(_) | Node::Directory(_) | Node::ArchiveFile(..) => {
                match self.size(node) {
                    FileSize::Exact(size) | FileSize::Estimate(size) => Ok(size),
                }
            }
        }
    }

    /// All bytes of a page.
    pub(super) async fn page(&self, page: &MetadataPage) -> Result<Bytes, ContentError> {
        match subject(page) {
            Ok(subject) => self.contents.landing_page(&subject).await,
            Err(spec) => Ok(Bytes::copy_from_slice(&spec.json())),
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
            ControlFile::Metrics => self.report.metrics_text().await,
        };
        let handle = FileHandle(self.handles.add(Handle::Made(made.into())));
        reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO);
    }

    pub(super) fn listing(&self, handle: FileHandle) -> Option<Arc<Listing>> {
        match self.handles.get(handle.0)? {
            Handle::Directory(listing) => Some(listing),
            Handle::Made(_) | Handle::Original { .. } => None,
        }
    }
}

/// What the landing page is about that `page` shows; or the data type that it
/// is made of.
fn subject(page: &MetadataPage) -> Result<Subject, &Arc<Spec>> {
    match page {
        MetadataPage::Station(station) => Ok(Subject::Station(station.segment().to_owned())),
        MetadataPage::Collection(id) => Ok(Subject::Collection(*id)),
        MetadataPage::DataType(spec) => Err(spec),
    }
}
