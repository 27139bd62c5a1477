//! State that all requests share, and what several replies need: sizes,
//! attributes, TTLs, and the recording of failures.
//!
//! Sizes: until a file's exact size is known, the kernel gets an estimate; for a CSV
//! that is rendered here it is an upper bound. Opening such a file invalidates the
//! kernel's attributes, and while it is open, GETATTR waits for the exact size,
//! except that of a CSV with [`ExactSize::Never`] (see `adapter`).

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fuser::{Errno, FileAttr, FileHandle, Generation, Notifier, ReplyAttr, ReplyEntry, Request};
use serde_json::Value;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::attributes::{FOREVER, Owner};
use super::errno;
use super::handles::{Handle, Handles};
use super::inodes::Inodes;
use super::interrupt::{Interrupted, unless_interrupted};
use super::options::{ExactSize, MountOptions};
use super::report::MountReport;
use super::request_trace::RequestTrace;
use crate::catalog::{Representation, Spec};
use crate::content::{ContentError, Contents, FileSize};
use crate::tree::{Directory, Inode, Listing, MetadataPage, Node, Tree, TreeError};
use icos_portal::meta::Subject;
use icos_portal::{Envri, ObjectId, PortalError};

/// Content of `/README.md`.
pub(super) const README: &str = include_str!("readme.md");

/// How long `statfs` uses a count of all objects before it counts again.
const TOTALS_TTL: Duration = Duration::from_mins(1);

/// State that all requests share.
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
    /// Number and bytes of all objects, and the time of the count.
    pub(super) totals: Mutex<Option<(Instant, (u64, u64))>>,
    /// Whether the kernel supports passthrough and allows it to this process.
    pub(super) passthrough: AtomicBool,
    /// Notified whenever a handle is released.
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
            // `Duration::MAX` overflows in the kernel.
            metadata_ttl: options.metadata_ttl.min(FOREVER),
            xattr: options.xattr,
            envri: options.envri,
            exact_size: options.exact_size,
            totals: Mutex::default(),
            passthrough: AtomicBool::new(false),
            released: watch::Sender::new(()),
        }
    }

    /// Spawns a task that runs `work` and passes its result to `reply`. If the
    /// caller is interrupted first, the result is EINTR.
    pub(super) fn respond<T, F>(
        self: &Arc<Self>,
        request: &Request,
        trace: RequestTrace,
        work: impl FnOnce(Arc<Self>) -> F,
        reply: impl FnOnce(Result<T, Errno>, &RequestTrace) + Send + 'static,
    ) where
        F: Future<Output = Result<T, Errno>> + Send + 'static,
        T: Send,
    {
        let (caller, work) = (request.pid(), work(Arc::clone(self)));
        let work = work.instrument(trace.span().clone());
        self.runtime.spawn(async move {
            let result = unless_interrupted(caller, work).await;
            let result = result.unwrap_or_else(|Interrupted| Err(Errno::EINTR));
            reply(result.map_err(|errno| trace.failed(errno)), &trace);
        });
    }

    /// Returns the size of `node`, exact if it is known.
    pub(super) fn size(&self, node: &Node) -> FileSize {
        match node {
            Node::File(object, representation) => self.contents.size(object, *representation),
            Node::Readme => FileSize::Exact(README.len() as u64),
            Node::ArchiveFile(_, _, entry) => FileSize::Exact(entry.size),
            Node::Metadata(page) => match subject(page) {
                Ok(subject) => self.contents.landing_page_size(&subject),
                Err(spec) => FileSize::Exact(spec.json().len() as u64),
            },
            // Control files are opened for direct I/O, which ignores the size.
            Node::ControlFile(_) | Node::Directory(_) => FileSize::Exact(0),
        }
    }

    /// Returns the attributes of `node` in FUSE replies.
    pub(super) fn attributes(&self, node: &Node, size: FileSize) -> FileAttr {
        self.owner.attributes(node, size)
    }

    /// Returns how long the kernel may cache the attributes of `node`.
    pub(super) fn attribute_ttl(&self, node: &Node) -> Duration {
        match node {
            Node::File(_, Representation::Original | Representation::Csv | Representation::Cpb)
            | Node::Readme
            | Node::ArchiveFile(..) => FOREVER,
            // Parquet contains metadata, and is rebuilt after it was removed.
            Node::File(_, Representation::Json | Representation::Parquet)
            | Node::Directory(_)
            | Node::Metadata(_) => self.metadata_ttl,
            Node::ControlFile(_) => Duration::ZERO,
        }
    }

    /// Returns how long the kernel may cache names in `parent`.
    pub(super) fn name_ttl(&self, parent: &Node) -> Duration {
        match parent {
            // These names derive from ids and never change.
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

    /// Replies to a LOOKUP with `node` in `parent`, and counts the lookup.
    pub(super) fn reply_entry(&self, parent: &Node, node: &Node, reply: ReplyEntry) {
        self.inodes.add_lookup(node);
        let size = self.size(node);
        let ttl = if self.must_revalidate_size(node, size) {
            Duration::ZERO
        } else {
            self.attribute_ttl(node)
        };
        let name_ttl = self.name_ttl(parent);
        reply.entry_with_ttls(&ttl, &name_ttl, &self.attributes(node, size), Generation(0));
        self.set_reported_size(node, size);
    }

    /// Replies to a GETATTR.
    pub(super) fn reply_attributes(&self, node: &Node, size: FileSize, reply: ReplyAttr) {
        reply.attr(&self.attribute_ttl(node), &self.attributes(node, size));
        self.set_reported_size(node, size);
    }

    /// Whether the kernel must not cache the size: the file is open and its size an
    /// estimate. A GETATTR then waits for the exact size, and no cached estimate may
    /// prevent that request.
    pub(super) fn must_revalidate_size(&self, node: &Node, size: FileSize) -> bool {
        matches!(size, FileSize::Estimate(_)) && self.inodes.usage(node.inode().0).is_open
    }

    /// Records the size in a reply to the kernel. Call it after the reply was sent.
    pub(super) fn set_reported_size(&self, node: &Node, size: FileSize) {
        // All other sizes are always exact.
        if matches!(node, Node::File(_, representation) if *representation != Representation::Original)
            || matches!(node, Node::Metadata(_))
        {
            let exact = match size {
                FileSize::Exact(length) => Some(length),
                FileSize::Estimate(_) => None,
            };
            self.inodes.set_reported_size(node.inode().0, exact);
        }
    }

    /// Whether the kernel has the exact `size` of the file. It does not if it has an
    /// estimate, or the size of an earlier build of the file.
    pub(super) fn kernel_knows_size(&self, node: &Node, size: FileSize) -> bool {
        if matches!(node, Node::File(_, Representation::Original)) {
            return true;
        }
        let reported = self.inodes.usage(node.inode().0).reported_size;
        matches!(size, FileSize::Exact(length) if reported == Some(length))
    }

    /// Returns the node with inode number `number`.
    pub(super) fn node(&self, number: u64) -> Option<Node> {
        if let Some(node) = self.inodes.get(number) {
            return Some(node);
        }
        self.tree.file(Inode(number)).unwrap_or_else(|error| {
            tracing::warn!(number, %error, "cannot look up an inode");
            None
        })
    }

    /// Records that `operation` on `node` failed, and returns `errno`.
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
            .record_failure(operation, file, errno.code(), reason.to_string());
        errno
    }

    /// Records a failure to provide bytes and returns its errno.
    pub(super) fn fail_content(&self, operation: &str, node: &Node, error: &ContentError) -> Errno {
        self.fail(operation, node, errno::of_content(error), error)
    }

    /// Records a failed lookup or listing and returns its errno.
    pub(super) fn fail_tree(&self, operation: &str, node: &Node, error: &TreeError) -> Errno {
        match error {
            // Ordinary results of a lookup, not failures.
            TreeError::NoSuchName | TreeError::NotADirectory => errno::of_tree(error),
            TreeError::Catalog(_) => self.fail(operation, node, errno::of_tree(error), error),
        }
    }

    /// Returns number and bytes of all objects in the catalog. Counts them on the
    /// blocking pool if the previous count is too old.
    pub(super) async fn totals(self: Arc<Self>) -> (u64, u64) {
        let cached = *self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, totals)) = cached
            && at.elapsed() < TOTALS_TTL
        {
            return totals;
        }
        let tree = self.tree.clone();
        let counted = tokio::task::spawn_blocking(move || tree.totals()).await;
        let Ok(Ok(totals)) = counted else {
            return (0, 0);
        };
        let mut cached = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        *cached = Some((Instant::now(), totals));
        totals
    }

    /// Returns an object's landing page.
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

    /// Returns the exact size of a file. May download or render all of it.
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

    /// Returns all bytes of a page.
    pub(super) async fn page(&self, page: &MetadataPage) -> Result<Bytes, ContentError> {
        match subject(page) {
            Ok(subject) => self.contents.landing_page(&subject).await,
            Err(spec) => Ok(Bytes::copy_from_slice(&spec.json())),
        }
    }

    /// Returns the listing of an open directory.
    pub(super) fn listing(&self, handle: FileHandle) -> Option<Arc<Listing>> {
        match self.handles.get(handle.0)? {
            Handle::Directory(listing) => Some(listing),
            Handle::Generated(_) | Handle::Original { .. } => None,
        }
    }
}

/// Returns the subject of the landing page that `page` shows, or the data type
/// that it is generated from.
fn subject(page: &MetadataPage) -> Result<Subject, &Arc<Spec>> {
    match page {
        MetadataPage::Station(station) => Ok(Subject::Station(station.segment().to_owned())),
        MetadataPage::Collection(id) => Ok(Subject::Collection(*id)),
        MetadataPage::DataType(spec) => Err(spec),
    }
}
