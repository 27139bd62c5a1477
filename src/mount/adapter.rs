//! Implements fuser's [`Filesystem`]: translates each request and its reply.
//!
//! The header of `mount` lists which callbacks reply at once. The operations
//! themselves are in `mount_state`, `open`, `read`, `directory_reply` and
//! `xattrs`.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fuser::{
    AccessFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use futures_util::FutureExt as _;
use tracing::{Span, debug_span};

use super::directory_reply::PageReply;
use super::handles::Handle;
use super::mount_state::{MountState, SizeQuery};
use super::request_trace::{PendingReply, RequestTrace};
use crate::content::{ByteSource, FileSize};
use crate::daemon::node_reader::{README, ReadRange};
use crate::daemon::report::Operation;
use crate::tree::{ControlFile, MAX_NAME_LEN, Node, link_target};

/// Number of background requests (readahead, direct I/O) that the kernel may
/// have pending. With its default of 16, many parallel readers wait.
const MAX_BACKGROUND: u16 = 512;

/// Block size of `statfs`, in bytes.
const STATFS_BLOCK: u32 = 4096;

/// Number of layers of file systems that a mount with passthrough counts as. The
/// kernel allows two in all: with 1, an overlayfs can use the mount as a lower layer;
/// with 2, the cache could be on an overlayfs itself.
const STACK_DEPTH: u32 = 1;

/// Translates the kernel's requests.
#[derive(Debug)]
pub(super) struct Adapter(pub(super) Arc<MountState>);

impl Adapter {
    /// Starts the trace of a request; `span` names its parameters.
    fn pending<R>(&self, operation: Operation, span: Span, reply: R) -> PendingReply<R> {
        let trace = RequestTrace::new(&self.0.report, operation, span);
        PendingReply { reply, trace }
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
            // File handles stay valid after the kernel has forgotten the inode.
            InitFlags::FUSE_EXPORT_SUPPORT,
            // polars and R map files into memory, also those opened for direct I/O.
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "the kernel lacks a capability");
            }
        }
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
        let reply = self.pending(Operation::Lookup, span, reply);
        // Before it opens a file by its handle, the kernel looks up ".".
        let number = self.0.numbers.own(parent);
        let recalled = || {
            (name == ".")
                .then(|| self.0.inodes.recall(number))
                .flatten()
        };
        let Some(parent) = self.0.node(number).or_else(recalled) else {
            return reply.error(Errno::ESTALE);
        };
        if let Some(found) = self.0.tree.lookup_cached(&parent, name) {
            return match found {
                Ok(node) => self.0.reply_entry(&parent, &node, reply),
                Err(error) => reply.error(self.0.fail_tree("lookup", &parent, &error)),
            };
        }
        let (replier, directory, name) = (Arc::clone(&self.0), parent.clone(), name.to_owned());
        self.0.respond(
            req,
            reply,
            |state| async move {
                let node = state.tree.lookup(&directory, &name).await;
                node.map_err(|error| state.fail_tree("lookup", &directory, &error))
            },
            move |reply, node| replier.reply_entry(&parent, &node, reply),
        );
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let number = self.0.numbers.own(ino);
        self.0.inodes.forget(number, nlookup);
        self.0.numbers.forget(number, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let number = self.0.numbers.own(ino);
        let span = debug_span!("getattr", ino = number);
        let reply = self.pending(Operation::GetAttr, span, reply);
        let Some(node) = self.0.node(number) else {
            return reply.error(Errno::ESTALE);
        };
        let size = self.0.size(&node);
        if matches!(size, FileSize::Exact(_)) {
            return self.0.reply_attributes(&node, size, reply);
        }
        let mut query = self.0.size_query(&node);
        // Programs that look at every file would download all of them.
        if query == SizeQuery::Wait && self.0.is_crawler(req.pid()) {
            query = SizeQuery::Estimate;
        }
        match query {
            SizeQuery::Estimate => return self.0.reply_attributes(&node, size, reply),
            SizeQuery::Wait => self.0.stat_ahead(number),
            SizeQuery::WaitOrEstimate => {}
        }
        let (replier, measured) = (Arc::clone(&self.0), node.clone());
        self.0.respond(
            req,
            reply,
            move |state| async move {
                match state.reader.exact_size(&measured).await {
                    Ok(size) => Ok(FileSize::Exact(size)),
                    Err(error) => {
                        let errno = state.fail_content("stat", &measured, &error);
                        match query {
                            SizeQuery::Wait => Err(errno),
                            _ => Ok(state.size(&measured)),
                        }
                    }
                }
            },
            move |reply, size| replier.reply_attributes(&node, size, reply),
        );
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.0.node(self.0.numbers.own(ino)) {
            Some(Node::CollectionLink(_, _, id)) => reply.data(link_target(id).as_bytes()),
            Some(_) => reply.error(Errno::EINVAL),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let number = self.0.numbers.own(ino);
        let reply = self.pending(Operation::Open, debug_span!("open", ino = number), reply);
        match self.0.node(number) {
            None => reply.error(Errno::ESTALE),
            Some(Node::Directory(_)) => reply.error(Errno::EISDIR),
            Some(Node::Readme | Node::NoMedia) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.reply.opened(FileHandle(0), flags);
            }
            Some(Node::ControlFile(_)) if !self.0.owner.may_control(req.uid()) => {
                reply.error(Errno::EACCES);
            }
            Some(Node::ControlFile(ControlFile::Refresh)) => self.0.respond(
                req,
                reply,
                |state| async move {
                    let text = Bytes::from_static(state.refresh().await?.as_bytes());
                    Ok(state.handles.add(Handle::Generated(text)))
                },
                |reply, handle| {
                    let flags = FopenFlags::FOPEN_DIRECT_IO;
                    reply.reply.opened(FileHandle(handle), flags);
                },
            ),
            // An open may notify the kernel, which an event loop must not do.
            Some(node) => {
                let (state, caller) = (Arc::clone(&self.0), req.pid());
                let open = async move { state.open(&node, caller, reply).await };
                self.0.runtime.spawn(open.boxed());
            }
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
        let number = self.0.numbers.own(ino);
        let span = debug_span!("read", ino = number, offset, len = size);
        let reply = self.pending(Operation::Read, span, reply);
        let (handle, range) = (
            self.0.handles.get(fh.0),
            ReadRange {
                offset,
                len: size as usize,
            },
        );
        let node = self.0.node(number);
        if let Some(Handle::Original {
            earlier_epoch_open: true, ..
        }) = handle
            // A read(2) has a lock owner. A READ without one fills a page of a
            // memory mapping, which readers of the earlier epoch share.
            && lock_owner.is_none()
        {
            return reply.error(Errno::EIO);
        }
        let send = |PendingReply { reply, trace }: PendingReply<ReplyData>, read| {
            let (bytes, source): (Bytes, ByteSource) = read;
            trace.replied(bytes.len(), source);
            reply.data(&bytes);
        };
        match (handle, node) {
            (Some(Handle::Generated(bytes)), _) => {
                send(reply, (range.slice(&bytes), ByteSource::Memory));
            }
            (_, Some(Node::Readme)) => {
                let bytes = Bytes::from_static(README.as_bytes());
                send(reply, (range.slice(&bytes), ByteSource::Memory));
            }
            (_, None) => reply.error(Errno::ESTALE),
            (handle, Some(node)) => {
                // A read(2) of a file in the page cache, the kernel's readahead, and a
                // memory mapping have no lock owner.
                if lock_owner.is_none() && self.0.is_costly_readahead(&node, range) {
                    return reply.error(Errno::EAGAIN);
                }
                let work = move |state: Arc<MountState>| state.read(node, handle, range);
                self.0.respond(req, reply, work, send);
            }
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
        let number = self.0.numbers.own(ino);
        self.0.inodes.release(number);
        reply.ok();
        self.0.notify_released();
        // The kernel may still cache an estimate although the exact size is known.
        if let Some(node @ (Node::File(..) | Node::Metadata(_))) = self.0.node(number)
            && let size @ FileSize::Exact(_) = self.0.size(&node)
            && !self.0.kernel_knows_size(&node, size)
        {
            let state = Arc::clone(&self.0);
            let invalidate = async move { state.invalidate_attributes(number) };
            self.0.runtime.spawn(invalidate.boxed());
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
        let number = self.0.numbers.own(ino);
        let span = debug_span!("opendir", ino = number);
        let reply = self.pending(Operation::OpenDir, span, reply);
        let Some(node) = self.0.node(number) else {
            return reply.error(Errno::ESTALE);
        };
        let caller = req.pid();
        self.0.respond(
            req,
            reply,
            move |state| async move {
                state.refuse_crawler(caller, &node).await?;
                let listing = state.tree.list(&node).await;
                let listing = listing.map_err(|error| state.fail_tree("list", &node, &error))?;
                Ok(state.handles.add(Handle::Directory(Arc::new(listing))))
            },
            |reply, handle| {
                let flags = FopenFlags::empty();
                reply.reply.opened(FileHandle(handle), flags);
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
        let reply = self.pending(Operation::ReadDir, span, PageReply::Names(reply));
        self.0
            .read_directory(req, (self.0.numbers.own(ino), fh), offset, reply);
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
        let reply = self.pending(Operation::ReadDirPlus, span, PageReply::Attributes(reply));
        self.0
            .read_directory(req, (self.0.numbers.own(ino), fh), offset, reply);
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
        let reply = self.pending(Operation::StatFs, debug_span!("statfs"), reply);
        self.0.respond(
            req,
            reply,
            |state| async move { Ok(state.totals().await) },
            |reply, (files, bytes)| {
                // No free blocks, as on any read-only file system. Never no blocks at
                // all: `df` would not list it.
                let blocks = bytes.div_ceil(u64::from(STATFS_BLOCK)).max(1);
                let (reply, files) = (reply.reply, files.max(1));
                let name_len = u32::from(MAX_NAME_LEN);
                reply.statfs(blocks, 0, 0, files, 0, STATFS_BLOCK, name_len, STATFS_BLOCK);
            },
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let number = self.0.numbers.own(ino);
        let span = debug_span!("getxattr", ino = number, ?name);
        let reply = self.pending(Operation::Xattr, span, reply);
        self.0.get_xattr(req, number, name, size, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let number = self.0.numbers.own(ino);
        let span = debug_span!("listxattr", ino = number);
        let reply = self.pending(Operation::Xattr, span, reply);
        self.0.list_xattrs(number, size, reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
