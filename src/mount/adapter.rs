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
use tracing::{Instrument as _, Span, debug_span};

use super::directory_reply::{AttributesPage, DirectoryPage, NamesPage, PageFill};
use super::handles::Handle;
use super::idle;
use super::interrupt::{Interrupted, unless_interrupted};
use super::mount_state::{MountState, README};
use super::read::ReadRange;
use super::request_trace::RequestTrace;
use super::xattrs::{self, ObjectAttribute};
use super::{ExactSize, MountOptions, MountReport, Operation};
use crate::catalog::Representation;
use crate::content::{ByteSource, Contents, FileSize};
use crate::tree::{Directory, Listing, Node, Tree};

/// Requests that the kernel may have pending for readahead and the like; its
/// own default of 16 starves many readers.
const MAX_BACKGROUND: u16 = 512;

/// What `df` counts in, in bytes.
const BLOCK: u32 = 4096;

/// The kernel's own limit.
const STACK_DEPTH: u32 = 2;

/// Translates the kernel's requests. Cheap to clone: tasks take a clone along.
#[derive(Clone, Debug)]
pub(super) struct Adapter(Arc<MountState>);

impl Adapter {
    pub(super) fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<MountReport>,
        runtime: tokio::runtime::Handle,
        options: &MountOptions,
        notifier: Arc<OnceLock<Notifier>>,
    ) -> Self {
        let shared = MountState::new(tree, contents, report, runtime, options, notifier);
        let shared = Arc::new(shared);
        idle::spawn_closer(&shared);
        Self(shared)
    }

    /// Notes a request; `span` says of what.
    fn asked(&self, operation: Operation, span: Span) -> RequestTrace {
        RequestTrace::new(&self.0.report, operation, span)
    }

    /// Replies with a piece of a listing; waits if it grows and has nothing
    /// new yet.
    fn list(
        &self,
        req: &Request,
        asked: RequestTrace,
        listing: Arc<Listing>,
        offset: u64,
        mut page: impl DirectoryPage,
    ) {
        let root = Node::Directory(Directory::Root);
        match page.fill(&listing, offset) {
            Ok(PageFill::Enough) => page.send(Ok(())),
            Ok(PageFill::NothingYet) => self.answer(
                req,
                asked,
                |shared| async move {
                    loop {
                        let grown = listing.wait_for_more().await;
                        let filled = grown.and_then(|()| page.fill(&listing, offset));
                        match filled {
                            Ok(PageFill::NothingYet) => {}
                            Ok(PageFill::Enough) => return Ok((page, Ok(()))),
                            Err(error) => {
                                let errno = shared.fail_tree("list", &root, &error);
                                return Ok((page, Err(errno)));
                            }
                        }
                    }
                },
                |done, asked| {
                    // A page that was interrupted is gone with its reply,
                    // which says EIO then.
                    if let Ok((page, result)) = done {
                        page.send(result.map_err(|errno| asked.failed(errno)));
                    }
                },
            ),
            Err(error) => {
                let errno = self.0.fail_tree("list", &root, &error);
                page.send(Err(asked.failed(errno)));
            }
        }
    }

    /// Runs what may have to wait, then `reply`, unless the caller is
    /// interrupted first.
    fn answer<T, F>(
        &self,
        request: &Request,
        asked: RequestTrace,
        work: impl FnOnce(Arc<MountState>) -> F,
        reply: impl FnOnce(Result<T, Errno>, &RequestTrace) + Send + 'static,
    ) where
        F: Future<Output = Result<T, Errno>> + Send + 'static,
        T: Send,
    {
        let (caller, work) = (request.pid(), work(Arc::clone(&self.0)));
        let work = work.instrument(asked.span().clone());
        self.0.runtime.spawn(async move {
            let result = unless_interrupted(caller, work).await;
            let result = result.unwrap_or_else(|Interrupted| Err(Errno::EINTR));
            reply(result.map_err(|errno| asked.failed(errno)), &asked);
        });
    }
}

fn reply_xattr(value: Option<&str>, size: u32, asked: &RequestTrace, reply: ReplyXattr) {
    match value {
        Some(value) => reply_bytes(value.as_bytes(), size, asked, reply),
        None => reply.error(asked.failed(Errno::NO_XATTR)),
    }
}

/// Replies with an attribute, or with its length if that is asked.
fn reply_bytes(bytes: &[u8], size: u32, asked: &RequestTrace, reply: ReplyXattr) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(len);
    } else if len <= size {
        reply.data(bytes);
    } else {
        reply.error(asked.failed(Errno::ERANGE));
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
        let span = debug_span!("lookup", parent = parent.0, ?name);
        let asked = self.asked(Operation::Lookup, span);
        let Some(parent) = self.0.node(parent.0) else {
            return reply.error(asked.failed(Errno::ESTALE));
        };
        if let Some(found) = self.0.tree.lookup_cached(&parent, name) {
            return match found {
                Ok(node) => self.0.reply_entry(&parent, &node, reply),
                Err(error) => {
                    reply.error(asked.failed(self.0.fail_tree("lookup", &parent, &error)));
                }
            };
        }
        let (replying, name) = (self.clone(), name.to_owned());
        let within = parent.clone();
        self.answer(
            req,
            asked,
            |shared| async move {
                let node = shared.tree.lookup(&within, &name).await;
                node.map_err(|error| shared.fail_tree("lookup", &within, &error))
            },
            move |node, _| match node {
                Ok(node) => replying.0.reply_entry(&parent, &node, reply),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.0.inodes.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let span = debug_span!("getattr", ino = ino.0);
        let asked = self.asked(Operation::GetAttr, span);
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(asked.failed(Errno::ESTALE));
        };
        let size = self.0.size(&node);
        // Of what has no exact length yet, only a table's text has a bound.
        let may_wait = self.0.exact_size == ExactSize::WhenOpen
            || !matches!(node, Node::File(_, Representation::Csv));
        let waits = may_wait && self.0.inodes.usage(ino.0).is_open;
        if !waits || matches!(size, FileSize::Exact(_)) {
            return self.0.reply_attributes(&node, size, reply);
        }
        let (measured, replying) = (node.clone(), self.clone());
        self.answer(
            req,
            asked,
            move |shared| async move {
                let size = shared.exact_size(&measured).await;
                size.map_err(|error| shared.fail_content("stat", &measured, &error))
            },
            move |size, _| match size {
                Ok(size) => {
                    replying
                        .0
                        .reply_attributes(&node, FileSize::Exact(size), reply);
                }
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let asked = self.asked(Operation::Open, debug_span!("open", ino = ino.0));
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(asked.failed(Errno::ESTALE));
        };
        let shared = Arc::clone(&self.0);
        match node {
            // Telling the kernel something is not for its own loop's thread.
            Node::File(object, representation) => {
                self.0.runtime.spawn(async move {
                    shared.open_file(&object, representation, reply);
                    drop(asked);
                });
            }
            Node::ControlFile(file) => {
                self.0.runtime.spawn(async move {
                    shared.open_control_file(file, reply).await;
                    drop(asked);
                });
            }
            Node::Metadata(page) => {
                self.0.runtime.spawn(async move {
                    shared.open_page(&page, reply);
                    drop(asked);
                });
            }
            Node::Readme | Node::ArchiveFile(..) => {
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Node::Directory(_) => reply.error(asked.failed(Errno::EISDIR)),
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
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let span = debug_span!("read", ino = ino.0, offset, len = size);
        let asked = self.asked(Operation::Read, span);
        let (handle, piece) = (self.0.handles.get(fh.0), ReadRange { offset, size });
        let node = self.0.node(ino.0);
        if let Some(Handle::Original {
            beside_older: true, ..
        }) = handle
            // Whoever reads by itself has an owner; to fill a page of a mapping
            // has none.
            && lock_owner.is_none()
        {
            return reply.error(asked.failed(Errno::EIO));
        }
        let at_hand = match (&handle, &node) {
            (Some(Handle::Made(bytes)), _) => Some(bytes.clone()),
            (_, Some(Node::Readme)) => Some(Bytes::from_static(README.as_bytes())),
            _ => None,
        };
        if let Some(bytes) = at_hand {
            let bytes = piece.of(&bytes);
            asked.answered(bytes.len(), ByteSource::Memory);
            return reply.data(&bytes);
        }
        let Some(node) = node else {
            return reply.error(asked.failed(Errno::ESTALE));
        };
        self.answer(
            req,
            asked,
            move |shared| shared.read(node, handle, piece),
            move |read, asked| match read {
                Ok((bytes, origin)) => {
                    asked.answered(bytes.len(), origin);
                    reply.data(&bytes);
                }
                Err(errno) => reply.error(errno),
            },
        );
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
        self.0.inodes.released(ino.0);
        reply.ok();
        self.0.was_released();
        let node = self.0.node(ino.0);
        // The kernel may still hold an estimate of what is known by now.
        let Some(node) = node else { return };
        if !matches!(node, Node::File(..) | Node::Metadata(_)) {
            return;
        }
        let size = self.0.size(&node);
        if matches!(size, FileSize::Exact(_)) && !self.0.knows_length(&node, size) {
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
        let asked = self.asked(Operation::OpenDir, debug_span!("opendir", ino = ino.0));
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(asked.failed(Errno::ESTALE));
        };
        self.answer(
            req,
            asked,
            |shared| async move {
                let listing = shared.tree.list(&node).await;
                let listing = listing.map_err(|error| shared.fail_tree("list", &node, &error))?;
                Ok(shared.handles.add(Handle::Directory(Arc::new(listing))))
            },
            move |handle, _| match handle {
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
        let span = debug_span!("readdir", ino = ino.0, offset);
        let asked = self.asked(Operation::ReadDir, span);
        let Some(listing) = self.0.listing(fh) else {
            return reply.error(asked.failed(Errno::EBADF));
        };
        let names = NamesPage {
            reply,
            directory: ino,
        };
        self.list(req, asked, listing, offset, names);
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let span = debug_span!("readdirplus", ino = ino.0, offset);
        let asked = self.asked(Operation::ReadDirPlus, span);
        let (Some(listing), Some(node)) = (self.0.listing(fh), self.0.node(ino.0)) else {
            return reply.error(asked.failed(Errno::EBADF));
        };
        let files = AttributesPage {
            reply,
            name_ttl: self.0.name_ttl(&node),
            directory: node,
            shared: Arc::clone(&self.0),
            told: Vec::new(),
        };
        self.list(req, asked, listing, offset, files);
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
        self.0.was_released();
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let asked = self.asked(Operation::StatFs, debug_span!("statfs"));
        self.answer(
            req,
            asked,
            |shared| async move { Ok(shared.totals().await) },
            move |totals, _| {
                let (files, bytes) = totals.unwrap_or_default();
                // Full, as any read-only medium is.
                let blocks = bytes.div_ceil(u64::from(BLOCK));
                reply.statfs(blocks, 0, 0, files, 0, BLOCK, 255, BLOCK);
            },
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let span = debug_span!("getxattr", ino = ino.0, ?name);
        let asked = self.asked(Operation::Xattr, span);
        if !self.0.xattr {
            // So said once, the kernel asks no more.
            return reply.error(asked.failed(Errno::ENOSYS));
        }
        let (is_size, attribute) = (
            name == xattrs::SIZE,
            ObjectAttribute::named(name.as_bytes()),
        );
        // Labels and access lists, which `ls -l` asks of every file unless it is
        // told that there are none here.
        if !name.as_bytes().starts_with(b"user.") {
            return reply.error(asked.failed(Errno::EOPNOTSUPP));
        }
        if !is_size && attribute.is_none() {
            return reply.error(asked.failed(Errno::NO_XATTR));
        }
        let Some(node @ Node::File(..)) = self.0.node(ino.0) else {
            return reply.error(asked.failed(Errno::NO_XATTR));
        };
        if is_size {
            return reply_xattr(Some(xattrs::size(self.0.size(&node))), size, &asked, reply);
        }
        let (Some(attribute), Node::File(object, representation)) = (attribute, node) else {
            return reply.error(asked.failed(Errno::NO_XATTR));
        };
        match attribute.look_up(&object, self.0.envri) {
            xattrs::XattrValue::Known(value) => reply_xattr(value.as_deref(), size, &asked, reply),
            xattrs::XattrValue::OnLandingPage => self.answer(
                req,
                asked,
                move |shared| async move {
                    let page = shared.landing_page(object.id()).await.map_err(|error| {
                        let node = Node::File(object, representation);
                        shared.fail_content("getxattr", &node, &error)
                    })?;
                    Ok(attribute.on_page(&page))
                },
                move |value, asked| match value {
                    Ok(value) => reply_xattr(value.as_deref(), size, asked, reply),
                    Err(errno) => reply.error(errno),
                },
            ),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let span = debug_span!("listxattr", ino = ino.0);
        let asked = self.asked(Operation::Xattr, span);
        if !self.0.xattr {
            return reply.error(asked.failed(Errno::ENOSYS));
        }
        let names = match self.0.node(ino.0) {
            Some(Node::File(object, _)) => xattrs::names(&object, self.0.envri),
            _ => Vec::new(),
        };
        reply_bytes(&names, size, &asked, reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
