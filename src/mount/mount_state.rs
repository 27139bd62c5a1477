//! State that all requests share, and what several replies need: sizes,
//! attributes, TTLs, and the recording of failures.
//!
//! Sizes: until a file's exact size is known, the kernel gets an estimate; for a CSV
//! that is rendered here it is an upper bound. Opening such a file invalidates the
//! kernel's attributes, and while it is open, GETATTR waits for the exact size,
//! except that of a CSV with [`ExactSize::Never`]. With [`ExactSize::Always`],
//! GETATTR waits whether the file is open or not.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fuser::{Errno, FileAttr, Generation, Notifier, ReplyAttr, ReplyEntry, Request};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::attributes::{FOREVER, Owner};
use super::errno;
use super::handles::Handles;
use super::inode_numbers::InodeNumbers;
use super::inodes::Inodes;
use super::interrupt::{Interrupted, unless_interrupted};
use super::options::{ExactSize, MountOptions};
use super::page_invalidator::PageInvalidator;
use super::request_trace::{PendingReply, Reply};
use super::stat_ahead::StatAhead;
use crate::catalog::Representation;
use crate::content::{ContentError, Contents, FileSize};
use crate::daemon::node_reader::NodeReader;
use crate::daemon::refresh::ListRefresher;
use crate::daemon::report::DaemonReport;
use crate::tree::{Directory, Inode, Node, Tree, TreeError};

/// How long `statfs` uses a count of all objects before it counts again.
const TOTALS_TTL: Duration = Duration::from_mins(1);

/// State that all requests share.
#[derive(Debug)]
pub(super) struct MountState {
    pub(super) tree: Tree,
    pub(super) contents: Arc<Contents>,
    pub(super) reader: NodeReader,
    pub(super) refresher: ListRefresher,
    pub(super) report: Arc<DaemonReport>,
    pub(super) runtime: tokio::runtime::Handle,
    /// Set before the event loops start.
    pub(super) notifier: Arc<OnceLock<Notifier>>,
    pub(super) invalidator: PageInvalidator,
    pub(super) options: MountOptions,
    pub(super) inodes: Inodes,
    pub(super) numbers: Arc<InodeNumbers>,
    pub(super) handles: Handles,
    pub(super) stat_ahead: StatAhead,
    pub(super) owner: Owner,
    /// Number and bytes of all objects, and the time of the count.
    pub(super) totals: Mutex<Option<(Instant, (u64, u64))>>,
    /// Whether the kernel supports passthrough and allows it to this process.
    pub(super) passthrough: AtomicBool,
    /// Notified whenever a handle is released.
    pub(super) released: watch::Sender<()>,
}

/// How to reply to a query of a size that is not known exactly.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SizeQuery {
    /// At once, with the estimate.
    Estimate,
    /// With the exact size, once it is known; with the estimate if it cannot be
    /// determined. A failed `fstat` would end a copy of the whole folder (rsync). The
    /// read that follows fails, with the same reason.
    WaitOrEstimate,
    /// With the exact size, once it is known; else with an error. Programs that query
    /// the size before they open the file then leave this file out, and continue.
    Wait,
}

impl MountState {
    pub(super) fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<DaemonReport>,
        runtime: tokio::runtime::Handle,
        options: &MountOptions,
    ) -> io::Result<Self> {
        let notifier = Arc::new(OnceLock::<Notifier>::new());
        let numbers = Arc::new(InodeNumbers::new(options.inode_width));
        let (sender, shown) = (Arc::clone(&notifier), Arc::clone(&numbers));
        let invalidator = PageInvalidator::start(move |number| {
            if let Some(notifier) = sender.get() {
                // Fails if the kernel has forgotten the inode, which is as good.
                let _ = notifier.inval_inode(shown.show(number), 0, 0);
            }
        })?;
        Ok(Self {
            reader: NodeReader::new(Arc::clone(&contents)),
            refresher: ListRefresher::new(tree.clone(), Arc::clone(&contents)),
            tree,
            contents,
            report,
            runtime,
            notifier,
            invalidator,
            inodes: Inodes::new(),
            numbers,
            handles: Handles::default(),
            stat_ahead: StatAhead::new(),
            owner: Owner::new(options.uid, options.gid),
            options: MountOptions {
                // `Duration::MAX` overflows in the kernel.
                metadata_ttl: options.metadata_ttl.min(FOREVER),
                ..options.clone()
            },
            totals: Mutex::default(),
            passthrough: AtomicBool::new(false),
            released: watch::Sender::new(()),
        })
    }

    /// Spawns a task that runs `work` and replies with its result by `send`, or with
    /// its error; with EINTR if the caller is interrupted first.
    pub(super) fn respond<R: Reply, T: Send, F>(
        self: &Arc<Self>,
        request: &Request,
        reply: PendingReply<R>,
        work: impl FnOnce(Arc<Self>) -> F,
        send: impl FnOnce(PendingReply<R>, T) + Send + 'static,
    ) where
        F: Future<Output = Result<T, Errno>> + Send + 'static,
    {
        let (caller, work) = (request.pid(), work(Arc::clone(self)));
        let work = work.instrument(reply.trace.span().clone());
        let respond = async move {
            match unless_interrupted(caller, work).await {
                Ok(Ok(result)) => send(reply, result),
                Ok(Err(errno)) => reply.error(errno),
                Err(Interrupted) => reply.error(Errno::EINTR),
            }
        };
        // Boxed: tokio's code for tasks is compiled once, not for each kind of request.
        self.runtime.spawn(respond.boxed());
    }

    /// Returns the size of `node`, exact if it is known. Control files are opened for
    /// direct I/O, which ignores the size.
    pub(super) fn size(&self, node: &Node) -> FileSize {
        self.reader.size(node)
    }

    /// Returns how long the kernel may cache the attributes of `node`.
    fn attribute_ttl(&self, node: &Node) -> Duration {
        match node {
            Node::File(
                _,
                Representation::Original
                | Representation::Csv
                | Representation::Cpb
                | Representation::NetCdf
                | Representation::GoodNetCdf,
            )
            | Node::Readme
            | Node::NoMedia
            | Node::ArchiveFile(..) => FOREVER,
            // Parquet contains metadata, and is rebuilt after it was removed.
            Node::File(
                _,
                Representation::Json
                | Representation::Parquet
                | Representation::GoodCsv
                | Representation::GoodParquet,
            )
            | Node::Directory(_)
            | Node::CollectionLink(..)
            | Node::Metadata(_) => self.options.metadata_ttl,
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
            _ => self.options.metadata_ttl,
        }
    }

    /// Returns how long the kernel may cache the attributes in a reply. Not at all if
    /// the size is an estimate and a GETATTR would wait for the exact one: no cached
    /// estimate may prevent that request.
    pub(super) fn entry_ttl(&self, node: &Node, size: FileSize) -> Duration {
        match size {
            FileSize::Estimate(_) if self.size_query(node) != SizeQuery::Estimate => Duration::ZERO,
            _ => self.attribute_ttl(node),
        }
    }

    /// How to reply to a query of the size of `node`, which is not known exactly.
    pub(super) fn size_query(&self, node: &Node) -> SizeQuery {
        let is_open = self.inodes.usage(node.inode().0).is_open;
        match self.options.exact_size {
            ExactSize::Always if is_open => SizeQuery::WaitOrEstimate,
            ExactSize::Always => SizeQuery::Wait,
            // Only a CSV has an upper bound to reply with instead.
            ExactSize::Never if matches!(node, Node::File(_, Representation::Csv)) => {
                SizeQuery::Estimate
            }
            ExactSize::WhenOpen | ExactSize::Never if is_open => SizeQuery::WaitOrEstimate,
            ExactSize::WhenOpen | ExactSize::Never => SizeQuery::Estimate,
        }
    }

    /// Replies to a LOOKUP with `node` in `parent`, and counts the lookup.
    pub(super) fn reply_entry(&self, parent: &Node, node: &Node, reply: PendingReply<ReplyEntry>) {
        let size = self.size(node);
        let (ttl, name_ttl) = (self.entry_ttl(node, size), self.name_ttl(parent));
        let attributes = self.attributes(node, size);
        self.inodes.add_lookup(node);
        (reply.reply).entry_with_ttls(&ttl, &name_ttl, &attributes, Generation(0));
        self.set_reported_size(node, size);
    }

    /// Returns the attributes of `node` for a reply that counts as a lookup, and counts
    /// it in `numbers`.
    pub(super) fn attributes(&self, node: &Node, size: FileSize) -> FileAttr {
        FileAttr {
            ino: self.numbers.look_up(node.inode().0),
            ..self.owner.attributes(node, size)
        }
    }

    /// Replies to a GETATTR.
    pub(super) fn reply_attributes(
        &self,
        node: &Node,
        size: FileSize,
        reply: PendingReply<ReplyAttr>,
    ) {
        let attributes = FileAttr {
            ino: self.numbers.show(node.inode().0),
            ..self.owner.attributes(node, size)
        };
        reply.reply.attr(&self.entry_ttl(node, size), &attributes);
        self.set_reported_size(node, size);
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
            Node::Directory(Directory::Root) => "/".to_owned(),
            node => node.to_string(),
        };
        self.report
            .record_failure(operation, file, errno::name(errno), reason.to_string());
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
            TreeError::NoSuchName | TreeError::NameTooLong | TreeError::NotADirectory => {
                errno::of_tree(error)
            }
            TreeError::Catalog(_) => self.fail(operation, node, errno::of_tree(error), error),
        }
    }

    /// Downloads all stored lists again and forgets all landing pages. Returns a text
    /// for `.icosfs/refresh`.
    pub(super) async fn refresh(&self) -> Result<&'static str, Errno> {
        self.refresher.refresh().await.map_err(|error| {
            let root = Node::Directory(Directory::Root);
            self.fail_tree("refresh", &root, &error)
        })
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
        let counted = icos_sync::spawn_blocking(move || tree.totals()).await;
        let Ok(Ok(totals)) = counted else {
            return (0, 0);
        };
        let mut cached = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        *cached = Some((Instant::now(), totals));
        totals
    }
}
