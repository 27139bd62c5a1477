//! The file system as fuser wants it: thin, since it only translates.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fuser::{
    AccessFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, Notifier, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::attributes::file_type;
use super::caller::{Interrupted, unless_interrupted};
use super::handles::Handle;
use super::shared::{README, Shared};
use super::{ExactSize, Options, Report, errno};
use crate::catalog::Representation;
use crate::content::{ContentError, Contents, Size};
use crate::tree::{Inode, Lookup, Node, Tree};

/// Requests that the kernel may have pending for readahead and the like; its
/// own default of 16 starves many readers.
const MAX_BACKGROUND: u16 = 512;

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
        let Some(parent) = self.0.inodes.get(parent.0) else {
            return reply.error(Errno::ESTALE);
        };
        match self.0.tree.look_up(&parent, name) {
            Lookup::Now(Ok(node)) => self.0.reply_entry(&node, reply),
            Lookup::Now(Err(error)) => reply.error(errno::of_tree(&error)),
            Lookup::Ask(name) => {
                let replying = self.clone();
                self.answer(
                    req,
                    |shared| async move {
                        let node = shared.tree.look_up_object(&name).await;
                        node.map_err(|error| shared.fail_tree("lookup", &parent, &error))
                    },
                    move |node| match node {
                        Ok(node) => replying.0.reply_entry(&node, reply),
                        Err(errno) => reply.error(errno),
                    },
                );
            }
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.0.inodes.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let Some(node) = self.0.inodes.get(ino.0) else {
            return reply.error(Errno::ESTALE);
        };
        let size = self.0.size(&node);
        let Node::File(object, representation) = &node else {
            return self.0.reply_attributes(&node, size, reply);
        };
        // Of what else has no exact length yet, an estimate is no bound.
        let may_wait =
            self.0.exact_size == ExactSize::WhenOpen || *representation != Representation::Csv;
        let waits = may_wait && self.0.inodes.usage(ino.0).is_open;
        if !waits || matches!(size, Size::Exact(_)) {
            return self.0.reply_attributes(&node, size, reply);
        }
        let (object, representation) = (Arc::clone(object), *representation);
        let (failing, replying) = (node.clone(), self.clone());
        self.answer(
            req,
            move |shared| async move {
                let size = shared.contents.exact_size(&object, representation).await;
                size.map_err(|error| shared.fail_content("stat", &failing, &error))
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
        let Some(node) = self.0.inodes.get(ino.0) else {
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
            Node::Readme => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Node::Root | Node::Objects | Node::Control => reply.error(Errno::EISDIR),
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
        let handle = self.0.handles.get(fh.0);
        if let Some(Handle::Made(bytes)) = &handle {
            return reply.data(&piece(bytes, offset, size));
        }
        match self.0.inodes.get(ino.0) {
            Some(Node::Readme) => {
                reply.data(&piece(&Bytes::from_static(README.as_bytes()), offset, size));
            }
            Some(Node::File(object, representation)) => self.answer(
                req,
                move |shared| async move {
                    let opened = match handle {
                        Some(Handle::Generation(generation)) => generation,
                        _ => 0,
                    };
                    shared.note_pages(&object, representation);
                    let bytes = shared
                        .contents
                        .read(&object, representation, opened, offset, size as usize)
                        .await;
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
            Some(Node::ControlFile(_)) => reply.error(Errno::EBADF),
            Some(Node::Root | Node::Objects | Node::Control) => reply.error(Errno::EISDIR),
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
        let node = self.0.inodes.get(ino.0);
        if matches!(node, Some(Node::File(..))) {
            self.0.inodes.released(ino.0);
        }
        reply.ok();
        // The kernel may still hold an estimate of what is known by now.
        let learned = self
            .0
            .inodes
            .get(ino.0)
            .is_some_and(|node| matches!(self.0.size(&node), Size::Exact(_)));
        if learned && !self.0.inodes.usage(ino.0).told_exact {
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
        let Some(node) = self.0.inodes.get(ino.0) else {
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
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(listing) = self.0.listing(fh) else {
            return reply.error(Errno::EBADF);
        };
        for (at, name) in [(0, "."), (1, "..")] {
            // The tree is two levels deep: every `..` is the root or above it,
            // which the kernel answers itself.
            let inode = if at == 0 { ino } else { INodeNo(Inode::ROOT.0) };
            if offset <= at && reply.add(inode, at + 1, fuser::FileType::Directory, name) {
                return reply.ok();
            }
        }
        for entry in listing.entries(offset) {
            let inode = INodeNo(entry.node.inode().0);
            if reply.add(inode, entry.next, file_type(&entry.node), &entry.name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(listing) = self.0.listing(fh) else {
            return reply.error(Errno::EBADF);
        };
        for (at, name) in [(0, "."), (1, "..")] {
            let inode = if at == 0 { ino } else { INodeNo(Inode::ROOT.0) };
            let attributes = self.0.attributes(&Node::Root, Size::Exact(0));
            if offset <= at
                && reply.add(
                    inode,
                    at + 1,
                    name,
                    &Duration::ZERO,
                    &attributes,
                    Generation(0),
                )
            {
                return reply.ok();
            }
        }
        let mut told = Vec::new();
        for entry in listing.entries(offset) {
            let node = &entry.node;
            let size = self.0.size(node);
            let mut attributes = self.0.attributes(node, size);
            let unsettled = self.0.is_unsettled(node, size);
            if unsettled {
                // Means to the kernel: a name without attributes.
                attributes.ino = INodeNo(0);
            }
            let full = reply.add(
                INodeNo(node.inode().0),
                entry.next,
                &entry.name,
                &self.0.attribute_ttl(node),
                &attributes,
                Generation(0),
            );
            if full {
                break;
            }
            if unsettled {
                continue;
            }
            // Each entry that goes out counts as a lookup.
            self.0.inodes.remember(node);
            told.push((entry, size));
        }
        reply.ok();
        for (entry, size) in told {
            self.0.told(&entry.node, size);
        }
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

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        // Full, as any read-only medium is.
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
