//! Implements fuser's [`Filesystem`]: translates each request and its reply.
//!
//! The header of `mount` lists which callbacks reply at once. The operations
//! themselves are in `mount_state`, `open`, `read`, `directory_reply` and
//! `xattrs`.

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
use tracing::{Span, debug_span};

use super::directory_reply::{AttributesPage, NamesPage};
use super::handles::Handle;
use super::idle;
use super::mount_state::{MountState, README};
use super::options::{ExactSize, MountOptions};
use super::read::ReadRange;
use super::report::{MountReport, Operation};
use super::request_trace::RequestTrace;
use super::xattrs::{self, ObjectAttribute};
use crate::catalog::Representation;
use crate::content::{ByteSource, Contents, FileSize};
use crate::tree::{Node, Tree};

/// Number of background requests (readahead, direct I/O) that the kernel may
/// have pending. With its default of 16, many parallel readers wait.
const MAX_BACKGROUND: u16 = 512;

/// Block size of `statfs`, in bytes.
const STATFS_BLOCK: u32 = 4096;

/// The kernel's limit of file systems stacked below a passthrough file.
const STACK_DEPTH: u32 = 2;

/// Translates the kernel's requests. Cheap to clone: each task owns a clone.
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
        let state = MountState::new(tree, contents, report, runtime, options, notifier);
        let state = Arc::new(state);
        idle::spawn_closer(&state);
        Self(state)
    }

    /// Starts the trace of a request; `span` names its parameters.
    fn trace(&self, operation: Operation, span: Span) -> RequestTrace {
        RequestTrace::new(&self.0.report, operation, span)
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
            // polars and R map files into memory, also those opened for direct I/O.
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "the kernel lacks a capability");
            }
        }
        // The cache may be on a stacked file system (overlayfs in containers).
        let passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        self.0.passthrough.store(passthrough, Ordering::Relaxed);
        // Both calls fail only for zero.
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let span = debug_span!("lookup", parent = parent.0, ?name);
        let trace = self.trace(Operation::Lookup, span);
        let Some(parent) = self.0.node(parent.0) else {
            return reply.error(trace.failed(Errno::ESTALE));
        };
        if let Some(found) = self.0.tree.lookup_cached(&parent, name) {
            return match found {
                Ok(node) => self.0.reply_entry(&parent, &node, reply),
                Err(error) => {
                    reply.error(trace.failed(self.0.fail_tree("lookup", &parent, &error)));
                }
            };
        }
        let (replier, name) = (self.clone(), name.to_owned());
        let directory = parent.clone();
        self.0.respond(
            req,
            trace,
            |state| async move {
                let node = state.tree.lookup(&directory, &name).await;
                node.map_err(|error| state.fail_tree("lookup", &directory, &error))
            },
            move |node, _| match node {
                Ok(node) => replier.0.reply_entry(&parent, &node, reply),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.0.inodes.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let span = debug_span!("getattr", ino = ino.0);
        let trace = self.trace(Operation::GetAttr, span);
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(trace.failed(Errno::ESTALE));
        };
        let size = self.0.size(&node);
        // Only a CSV has an upper bound to reply with instead.
        let may_wait = self.0.exact_size == ExactSize::WhenOpen
            || !matches!(node, Node::File(_, Representation::Csv));
        let waits = may_wait && self.0.inodes.usage(ino.0).is_open;
        if !waits || matches!(size, FileSize::Exact(_)) {
            return self.0.reply_attributes(&node, size, reply);
        }
        let (measured, replier) = (node.clone(), self.clone());
        self.0.respond(
            req,
            trace,
            move |state| async move {
                let size = state.exact_size(&measured).await;
                size.map_err(|error| state.fail_content("stat", &measured, &error))
            },
            move |size, _| match size {
                Ok(size) => {
                    replier
                        .0
                        .reply_attributes(&node, FileSize::Exact(size), reply);
                }
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let trace = self.trace(Operation::Open, debug_span!("open", ino = ino.0));
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(trace.failed(Errno::ESTALE));
        };
        let state = Arc::clone(&self.0);
        match node {
            // An open may notify the kernel, which an event loop must not do.
            Node::File(object, representation) => {
                self.0.runtime.spawn(async move {
                    state.open_file(&object, representation, reply);
                    drop(trace);
                });
            }
            Node::ControlFile(file) => {
                self.0.runtime.spawn(async move {
                    state.open_control_file(file, reply).await;
                    drop(trace);
                });
            }
            Node::Metadata(page) => {
                self.0.runtime.spawn(async move {
                    state.open_page(&page, reply);
                    drop(trace);
                });
            }
            Node::Readme | Node::ArchiveFile(..) => {
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Node::Directory(_) => reply.error(trace.failed(Errno::EISDIR)),
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
        let trace = self.trace(Operation::Read, span);
        let (handle, range) = (self.0.handles.get(fh.0), ReadRange { offset, size });
        let node = self.0.node(ino.0);
        if let Some(Handle::Original {
            earlier_epoch_open: true, ..
        }) = handle
            // A read(2) has a lock owner. A READ without one fills a page of a
            // memory mapping, which readers of the earlier epoch share.
            && lock_owner.is_none()
        {
            return reply.error(trace.failed(Errno::EIO));
        }
        let in_memory = match (&handle, &node) {
            (Some(Handle::Generated(bytes)), _) => Some(bytes.clone()),
            (_, Some(Node::Readme)) => Some(Bytes::from_static(README.as_bytes())),
            _ => None,
        };
        if let Some(bytes) = in_memory {
            let bytes = range.slice(&bytes);
            trace.replied(bytes.len(), ByteSource::Memory);
            return reply.data(&bytes);
        }
        let Some(node) = node else {
            return reply.error(trace.failed(Errno::ESTALE));
        };
        self.0.respond(
            req,
            trace,
            move |state| state.read(node, handle, range),
            move |read, trace| match read {
                Ok((bytes, source)) => {
                    trace.replied(bytes.len(), source);
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
        self.0.inodes.release(ino.0);
        reply.ok();
        self.0.notify_released();
        let node = self.0.node(ino.0);
        // The kernel may still cache an estimate although the exact size is known.
        let Some(node) = node else { return };
        if !matches!(node, Node::File(..) | Node::Metadata(_)) {
            return;
        }
        let size = self.0.size(&node);
        if matches!(size, FileSize::Exact(_)) && !self.0.kernel_knows_size(&node, size) {
            let state = Arc::clone(&self.0);
            self.0
                .runtime
                .spawn(async move { state.invalidate_attributes(ino.0) });
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
        // Nothing is ever written. After ENOSYS the kernel sends no more of these.
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let trace = self.trace(Operation::OpenDir, debug_span!("opendir", ino = ino.0));
        let Some(node) = self.0.node(ino.0) else {
            return reply.error(trace.failed(Errno::ESTALE));
        };
        self.0.respond(
            req,
            trace,
            |state| async move {
                let listing = state.tree.list(&node).await;
                let listing = listing.map_err(|error| state.fail_tree("list", &node, &error))?;
                Ok(state.handles.add(Handle::Directory(Arc::new(listing))))
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
        let trace = self.trace(Operation::ReadDir, span);
        let Some(listing) = self.0.listing(fh) else {
            return reply.error(trace.failed(Errno::EBADF));
        };
        let names = NamesPage {
            reply,
            directory: ino,
        };
        self.0.send_page(req, trace, listing, offset, names);
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
        let trace = self.trace(Operation::ReadDirPlus, span);
        let (Some(listing), Some(node)) = (self.0.listing(fh), self.0.node(ino.0)) else {
            return reply.error(trace.failed(Errno::EBADF));
        };
        let files = AttributesPage {
            reply,
            name_ttl: self.0.name_ttl(&node),
            directory: node,
            state: Arc::clone(&self.0),
            sent: Vec::new(),
        };
        self.0.send_page(req, trace, listing, offset, files);
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
        self.0.notify_released();
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let trace = self.trace(Operation::StatFs, debug_span!("statfs"));
        self.0.respond(
            req,
            trace,
            |state| async move { Ok(state.totals().await) },
            move |totals, _| {
                let (files, bytes) = totals.unwrap_or_default();
                // No free blocks, as on any read-only file system.
                let blocks = bytes.div_ceil(u64::from(STATFS_BLOCK));
                reply.statfs(blocks, 0, 0, files, 0, STATFS_BLOCK, 255, STATFS_BLOCK);
            },
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let span = debug_span!("getxattr", ino = ino.0, ?name);
        let trace = self.trace(Operation::Xattr, span);
        if !self.0.xattr {
            // After ENOSYS the kernel sends no more of these requests.
            return reply.error(trace.failed(Errno::ENOSYS));
        }
        let (is_size, attribute) = (
            name == xattrs::SIZE,
            ObjectAttribute::from_name(name.as_bytes()),
        );
        // Security labels and ACLs: `ls -l` requests them of every file, unless
        // the file system does not support them.
        if !name.as_bytes().starts_with(b"user.") {
            return reply.error(trace.failed(Errno::EOPNOTSUPP));
        }
        if !is_size && attribute.is_none() {
            return reply.error(trace.failed(Errno::NO_XATTR));
        }
        let Some(node @ Node::File(..)) = self.0.node(ino.0) else {
            return reply.error(trace.failed(Errno::NO_XATTR));
        };
        if is_size {
            return xattrs::reply(
                Some(xattrs::size_kind(self.0.size(&node))),
                size,
                &trace,
                reply,
            );
        }
        let (Some(attribute), Node::File(object, representation)) = (attribute, node) else {
            return reply.error(trace.failed(Errno::NO_XATTR));
        };
        match attribute.in_catalog(&object, self.0.envri) {
            xattrs::XattrValue::Known(value) => {
                xattrs::reply(value.as_deref(), size, &trace, reply);
            }
            xattrs::XattrValue::OnLandingPage => self.0.respond(
                req,
                trace,
                move |state| async move {
                    let page = state.landing_page(object.id()).await.map_err(|error| {
                        let node = Node::File(object, representation);
                        state.fail_content("getxattr", &node, &error)
                    })?;
                    Ok(attribute.on_page(&page))
                },
                move |value, trace| match value {
                    Ok(value) => xattrs::reply(value.as_deref(), size, trace, reply),
                    Err(errno) => reply.error(errno),
                },
            ),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let span = debug_span!("listxattr", ino = ino.0);
        let trace = self.trace(Operation::Xattr, span);
        if !self.0.xattr {
            return reply.error(trace.failed(Errno::ENOSYS));
        }
        let names = match self.0.node(ino.0) {
            Some(Node::File(object, _)) => xattrs::names(&object, self.0.envri),
            _ => Vec::new(),
        };
        xattrs::reply_bytes(&names, size, &trace, reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
