//! The file system as fuser wants it: thin, since it only translates.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fuser::{
    AccessFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, Notifier, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use tracing::Instrument as _;

use super::caller::{Interrupted, unless_interrupted};
use super::handles::Handle;
use super::pages::{Files, Filled, Names, Page};
use super::shared::{README, Shared};
use super::xattrs::{self, Attribute};
use super::{ExactSize, Operation, Options, Report};
use crate::catalog::Representation;
use crate::content::{ContentError, Contents, Size};
use crate::tree::{Listing, Node, Place, Tree};

/// Requests that the kernel may have pending for readahead and the like; its
/// own default of 16 starves many readers.
const MAX_BACKGROUND: u16 = 512;

/// What `df` counts in, in bytes.
const BLOCK: u32 = 4096;

/// The kernel's own limit.
const STACK_DEPTH: u32 = 2;

/// Translates the kernel's requests. Cheap to clone: tasks take a clone along.
#[derive(Clone, Debug)]
pub(super) struct Adapter(Arc<Shared>);

impl Adapter {
    pub(super) fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<Report>,
        runtime: tokio::runtime::Handle,
        options: &Options,
        notifier: Arc<OnceLock<Notifier>>,
    ) -> Self {
        Self(Arc::new(Shared::new(
            tree, contents, report, runtime, options, notifier,
        )))
    }

    /// Replies with a piece of a listing; waits if it grows and has nothing
    /// new yet.
    fn list(&self, req: &Request, listing: Arc<Listing>, offset: u64, mut page: impl Page) {
        match page.fill(&listing, offset) {
            Ok(Filled::Enough) => page.send(Ok(())),
            Ok(Filled::NothingYet) => self.answer(
                req,
                |shared| async move {
                    loop {
                        let grown = listing.grown().await;
                        let filled = grown.and_then(|()| page.fill(&listing, offset));
                        match filled {
                            Ok(Filled::NothingYet) => {}
                            Ok(Filled::Enough) => return Ok((page, Ok(()))),
                            Err(error) => {
                                let node = Node::Directory(Place::Root);
                                let errno = shared.fail_tree("list", &node, &error);
                                return Ok((page, Err(errno)));
                            }
                        }
                    }
                },
                |done| {
                    // A page that was interrupted is gone with its reply,
                    // which says EIO then.
                    if let Ok((page, result)) = done {
                        page.send(result);
                    }
                },
            ),
            Err(error) => {
                let errno = self
                    .0
                    .fail_tree("list", &Node::Directory(Place::Root), &error);
                page.send(Err(errno));
            }
        }
    }

    /// Runs what may have to wait, then `reply`, unless the caller is
    /// interrupted first.
    fn answer<T, F>(
        &self,
        request: &Request,
        work: impl FnOnce(Arc<Shared>) -> F,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) where
        F: Future<Output = Result<T, Errno>> + Send + 'static,
        T: Send,
    {
        let (caller, work) = (request.pid(), work(Arc::clone(&self.0)));
        self.0.runtime.spawn(async move {
            let result = unless_interrupted(caller, work).await;
            reply(result.unwrap_or_else(|Interrupted| Err(Errno::EINTR)));
        });
    }
}

fn piece(bytes: &Bytes, offset: u64, size: u32) -> Bytes {
    let from = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
    bytes.slice(from..bytes.len().min(from.saturating_add(size as usize)))
}

fn reply_xattr(value: Option<&str>, size: u32, reply: ReplyXattr) {
    match value {
        Some(value) => reply_bytes(value.as_bytes(), size, reply),
        None => reply.error(Errno::NO_XATTR),
    }
}

/// Replies with an attribute, or with its length if that is asked.
fn reply_bytes(bytes: &[u8], size: u32, reply: ReplyXattr) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(len);
    } else if len <= size {
        reply.data(bytes);
    } else {
        reply.error(Errno::ERANGE);
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
            // polars and R map files that are opened for direct I/O.
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "this kernel lacks a capability");
            }
        }
        // A complete file of the cache may lie on a stacked file system.
        let passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        self.0.passthrough.store(passthrough, Ordering::Relaxed);
        // Cannot fail: neither is zero.
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.0.report.asked(Operation::Lookup);
        let Some(parent) = self.0.node(parent.0) else {
            return reply.error(Errno::ESTALE);
        };
        if let Some(found) = self.0.tree.look_up_at_once(&parent, name) {
            return match found {
                Ok(node) => self.0.reply_entry(&parent, &node, reply),
                Err(error) => reply.error(self.0.fail_tree("lookup", &parent, &error)),
            };
        }
        let (replying, name) = (self.clone(), name.to_owned());
        let within = parent.clone();
        self.answer(
            req,
            |shared| async move {
                let node = shared.tree.look_up(&within, &name).await;
                node.map_err(|error| shared.fail_tree("lookup", &within, &error))
            },
            move |node| match node {
                Ok(node) => replying.0.reply_entry(&parent, &node, reply),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.0.inodes.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.0.report.asked(Operation::GetAttr);
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(Errno::ESTALE);
        };
        let size = self.0.size(&node);
        // Of what has no exact length yet, only a table's text has a bound.
        let may_wait = self.0.exact_size == ExactSize::WhenOpen
            || !matches!(node, Node::File(_, Representation::Csv));
        let waits = may_wait && self.0.inodes.usage(ino.0).is_open;
        if !waits || matches!(size, Size::Exact(_)) {
            return self.0.reply_attributes(&node, size, reply);
        }
        let (measured, replying) = (node.clone(), self.clone());
        self.answer(
            req,
            move |shared| async move {
                let size = shared.exact_size(&measured).await;
                size.map_err(|error| shared.fail_content("stat", &measured, &error))
            },
            move |size| match size {
                Ok(size) => {
                    replying.0.reply_attributes(&node, Size::Exact(size), reply);
                }
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.0.report.asked(Operation::Open);
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(Errno::ESTALE);
        };
        match node {
            // Telling the kernel something is not for its own loop's thread.
            Node::File(object, representation) => {
                let shared = Arc::clone(&self.0);
                self.0.runtime.spawn(async move {
                    shared.open_file(&object, representation, reply);
                });
            }
            Node::ControlFile(file) => {
                let shared = Arc::clone(&self.0);
                self.0.runtime.spawn(async move {
                    shared.open_control_file(file, reply).await;
                });
            }
            Node::Page(page) => {
                let shared = Arc::clone(&self.0);
                self.0
                    .runtime
                    .spawn(async move { shared.open_page(&page, reply) });
            }
            Node::Readme | Node::Entry(..) => {
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Node::Directory(_) => reply.error(Errno::EISDIR),
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.report.asked(Operation::Read);
        let handle = self.0.handles.get(fh.0);
        if let Some(Handle::Made(bytes)) = &handle {
            return reply.data(&piece(bytes, offset, size));
        }
        match self.0.node(ino.0) {
            Some(Node::Readme) => {
                reply.data(&piece(&Bytes::from_static(README.as_bytes()), offset, size));
            }
            Some(Node::File(object, representation)) => self.answer(
                req,
                move |shared| async move {
                    let opened = match handle {
                        Some(Handle::Original(opened)) => opened.generation,
                        _ => 0,
                    };
                    shared.note_pages(&object, representation);
                    let span = tracing::debug_span!("read", ino = ino.0, offset, size);
                    let bytes = shared
                        .contents
                        .read(&object, representation, opened, offset, size as usize)
                        .instrument(span.clone())
                        .await;
                    span.in_scope(|| match &bytes {
                        Ok(bytes) => tracing::debug!(bytes = bytes.len(), "answered"),
                        Err(error) => tracing::debug!(%error, "failed"),
                    });
                    shared.note_pages(&object, representation);
                    let node = Node::File(object, representation);
                    if let Ok(bytes) = &bytes {
                        shared.report.read(bytes.len());
                    }
                    if let Err(ContentError::WrongHash { .. }) = &bytes {
                        let (forgetting, number) = (Arc::clone(&shared), node.inode().0);
                        std::thread::spawn(move || forgetting.forget_pages(number));
                    }
                    bytes.map_err(|error| shared.fail_content("read", &node, &error))
                },
                move |bytes| match bytes {
                    Ok(bytes) => reply.data(&bytes),
                    Err(errno) => reply.error(errno),
                },
            ),
            Some(Node::Page(page)) => self.answer(
                req,
                move |shared| async move {
                    let bytes = shared.page(&page).await;
                    bytes.map_err(|error| shared.fail_content("read", &Node::Page(page), &error))
                },
                move |bytes| match bytes {
                    Ok(bytes) => reply.data(&piece(&bytes, offset, size)),
                    Err(errno) => reply.error(errno),
                },
            ),
            Some(Node::Entry(object, path, entry)) => self.answer(
                req,
                move |shared| async move {
                    let bytes = (shared.contents)
                        .read_entry(object.id(), &entry, offset, size as usize)
                        .await;
                    bytes.map_err(|error| {
                        let node = Node::Entry(object, path, entry);
                        shared.fail_content("read", &node, &error)
                    })
                },
                move |bytes| match bytes {
                    Ok(bytes) => reply.data(&bytes),
                    Err(errno) => reply.error(errno),
                },
            ),
            Some(Node::ControlFile(_)) => reply.error(Errno::EBADF),
            Some(Node::Directory(_)) => reply.error(Errno::EISDIR),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if fh.0 != 0 {
            self.0.handles.remove(fh.0);
        }
        let node = self.0.node(ino.0);
        if matches!(node, Some(Node::File(..) | Node::Page(_))) {
            self.0.inodes.released(ino.0);
        }
        reply.ok();
        // The kernel may still hold an estimate of what is known by now.
        let Some(node) = node else { return };
        if !matches!(node, Node::File(..) | Node::Page(_)) {
            return;
        }
        let size = self.0.size(&node);
        if matches!(size, Size::Exact(_)) && !self.0.knows_length(&node, size) {
            let shared = Arc::clone(&self.0);
            self.0
                .runtime
                .spawn(async move { shared.forget_attributes(ino.0) });
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Nothing is ever written; so said once, the kernel asks no more.
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.0.report.asked(Operation::OpenDir);
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(Errno::ESTALE);
        };
        self.answer(
            req,
            |shared| async move {
                let listing = shared.tree.list(&node).await;
                let listing = listing.map_err(|error| shared.fail_tree("list", &node, &error))?;
                Ok(shared.handles.add(Handle::Directory(Arc::new(listing))))
            },
            move |handle| match handle {
                Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.0.report.asked(Operation::ReadDir);
        let Some(listing) = self.0.listing(fh) else {
            return reply.error(Errno::EBADF);
        };
        let names = Names {
            reply,
            directory: ino,
        };
        self.list(req, listing, offset, names);
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.0.report.asked(Operation::ReadDirPlus);
        let (Some(listing), Some(node)) = (self.0.listing(fh), self.0.node(ino.0)) else {
            return reply.error(Errno::EBADF);
        };
        let files = Files {
            reply,
            name_ttl: self.0.name_ttl(&node),
            directory: node,
            shared: Arc::clone(&self.0),
            told: Vec::new(),
        };
        self.list(req, listing, offset, files);
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.handles.remove(fh.0);
        reply.ok();
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.answer(
            req,
            |shared| async move { Ok(shared.totals().await) },
            move |totals| {
                let (files, bytes) = totals.unwrap_or_default();
                // Full, as any read-only medium is.
                let blocks = bytes.div_ceil(u64::from(BLOCK));
                reply.statfs(blocks, 0, 0, files, 0, BLOCK, 255, BLOCK);
            },
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.0.report.asked(Operation::Xattr);
        if !self.0.xattr {
            // So said once, the kernel asks no more.
            return reply.error(Errno::ENOSYS);
        }
        let (is_size, attribute) = (name == xattrs::SIZE, Attribute::named(name.as_bytes()));
        // `ls -l` asks for two others of every file: they cost no look at it.
        if !is_size && attribute.is_none() {
            return reply.error(Errno::NO_XATTR);
        }
        let Some(node @ Node::File(..)) = self.0.node(ino.0) else {
            return reply.error(Errno::NO_XATTR);
        };
        if is_size {
            return reply_xattr(Some(xattrs::size(self.0.size(&node))), size, reply);
        }
        let (Some(attribute), Node::File(object, representation)) = (attribute, node) else {
            return reply.error(Errno::NO_XATTR);
        };
        match attribute.look_up(&object, self.0.envri) {
            xattrs::Lookup::Known(value) => reply_xattr(value.as_deref(), size, reply),
            xattrs::Lookup::OnPage => self.answer(
                req,
                move |shared| async move {
                    let page = shared.landing_page(object.id()).await.map_err(|error| {
                        let node = Node::File(object, representation);
                        shared.fail_content("getxattr", &node, &error)
                    })?;
                    Ok(attribute.on_page(&page))
                },
                move |value| match value {
                    Ok(value) => reply_xattr(value.as_deref(), size, reply),
                    Err(errno) => reply.error(errno),
                },
            ),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.0.report.asked(Operation::Xattr);
        if !self.0.xattr {
            return reply.error(Errno::ENOSYS);
        }
        let names = match self.0.node(ino.0) {
            Some(Node::File(object, _)) => xattrs::names(&object, self.0.envri),
            _ => Vec::new(),
        };
        reply_bytes(&names, size, reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
