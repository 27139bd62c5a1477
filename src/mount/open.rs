//! Replies to OPEN: chooses between passthrough, the page cache and direct I/O.
//!
//! - Until the kernel has a file's exact size, the file is opened for direct I/O.
//!   If the page cache were used with an estimate, which is too large, a READ
//!   past the true end would leave zeros in it.
//! - A file that the kernel reads directly is checked at each open: its bytes are not
//!   checked when they are read.
//! - An open may notify the kernel. Therefore it runs in a task and never on an
//!   event loop.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fuser::{Errno, FileHandle, FopenFlags, ReplyOpen};

use super::handles::Handle;
use super::inodes::{Passthrough, ServeMode};
use super::interrupt::{Interrupted, unless_interrupted};
use super::mount_state::MountState;
use super::request_trace::PendingReply;
use crate::catalog::{Object, Representation};
use crate::content::{DirectFile, OpenedContent};
use crate::tree::{ControlFile, Node};

/// Why a file cannot be opened that other programs read directly.
const CHANGED: &str = "the file was changed in the cache while programs have it open; close it in all programs and open it again: its bytes are then verified, and wrong ones downloaded again";

impl MountState {
    /// Replies to the OPEN of a file by the thread `caller`.
    pub(super) async fn open(&self, node: &Node, caller: u32, reply: PendingReply<ReplyOpen>) {
        if let Err(refused) = self.refuse_crawler(caller, node).await {
            return reply.error(refused);
        }
        let (handle, flags) = match node {
            Node::File(object, representation) => {
                let opened = self.contents.open(object, *representation);
                return match unless_interrupted(caller, opened).await {
                    Ok(Ok(opened)) => {
                        self.open_object(
                            node,
                            object,
                            *representation,
                            opened,
                            caller,
                            reply.reply,
                        )
                        .await;
                    }
                    Ok(Err(error)) => reply.error(self.fail_content("open", node, &error)),
                    Err(Interrupted) => reply.error(Errno::EINTR),
                };
            }
            Node::Metadata(_) => {
                let flags = if self.ensure_size_known(node) {
                    // Without FOPEN_KEEP_CACHE: it may have changed.
                    FopenFlags::empty()
                } else {
                    FopenFlags::FOPEN_DIRECT_IO
                };
                let number = node.inode().0;
                self.inodes.open(number, 0, || ServeMode::Requests);
                (0, flags)
            }
            // Has the content of the moment when it is opened.
            Node::ControlFile(file) => {
                let content = match file {
                    ControlFile::Status => self.report.status_json().await,
                    ControlFile::Errors => self.report.errors_text(),
                    ControlFile::Read => self.report.read_objects_text(),
                    ControlFile::Metrics => self.report.metrics_text().await,
                    // The adapter opens it, so that the wait can be interrupted.
                    ControlFile::Refresh => Vec::new(),
                };
                let handle = self.handles.add(Handle::Generated(content.into()));
                (handle, FopenFlags::FOPEN_DIRECT_IO)
            }
            Node::Readme
            | Node::NoMedia
            | Node::ArchiveFile(..)
            | Node::CollectionLink(..)
            | Node::Directory(_) => (0, FopenFlags::FOPEN_KEEP_CACHE),
        };
        reply.reply.opened(FileHandle(handle), flags);
    }

    /// Replies to the OPEN of a file of an object.
    async fn open_object(
        &self,
        node: &Node,
        object: &Arc<Object>,
        representation: Representation,
        opened: OpenedContent,
        caller: u32,
        reply: ReplyOpen,
    ) {
        let number = node.inode().0;
        let OpenedContent {
            original, direct, ..
        } = opened;
        let corruption_count = (original.as_ref()).map_or(0, |original| original.corruption_count);
        let (opened, is_chosen) = {
            let chosen = Cell::new(false);
            let opened = self.inodes.open(number, corruption_count, || {
                chosen.set(true);
                let passthrough = self.pass_through(&direct, &reply);
                passthrough.map_or(ServeMode::Requests, |passthrough| {
                    ServeMode::Passthrough(Arc::new(passthrough))
                })
            });
            (opened, chosen.get())
        };
        if let ServeMode::Passthrough(passthrough) = opened.mode {
            // The kernel allows nothing else while the earlier handles are open.
            if !is_chosen {
                let look = self.contents.is_unchanged(&passthrough.backing);
                let refused = match unless_interrupted(caller, look).await {
                    Ok(true) => None,
                    Ok(false) => Some(self.fail("open", node, Errno::EIO, &CHANGED)),
                    Err(Interrupted) => Some(Errno::EINTR),
                };
                if let Some(refused) = refused {
                    self.inodes.release(number);
                    return reply.error(refused);
                }
            }
            self.report.count_passthrough_open();
            self.report.add_read_object(object.id());
            // The kernel may have an estimate from before the file was built.
            self.ensure_size_known(node);
            return reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), &passthrough.id);
        }
        let earlier_epoch_open = opened.earlier_epoch_open;
        // Readers of older, corrupt content must not read pages of this one.
        let flags = if earlier_epoch_open || !self.ensure_size_known(node) {
            FopenFlags::FOPEN_DIRECT_IO
        } else {
            match representation {
                Representation::Csv | Representation::Cpb => FopenFlags::FOPEN_KEEP_CACHE,
                // Pages of the current epoch stay, verified or not: they are
                // verified together with the bytes that are read next. Dropping
                // them would make this open wait, uninterruptibly, for pages that
                // others read.
                Representation::Original if self.may_keep_pages(number, object) => {
                    FopenFlags::FOPEN_KEEP_CACHE
                }
                // Parquet and NetCDF contain metadata and may have been rebuilt.
                Representation::Original
                | Representation::Parquet
                | Representation::NetCdf
                | Representation::GoodCsv
                | Representation::GoodParquet
                | Representation::GoodNetCdf => FopenFlags::empty(),
                // It may have changed, and direct I/O leaves no pages to drop.
                Representation::Json => FopenFlags::FOPEN_DIRECT_IO,
            }
        };
        let handle = original.map_or(0, |opened| {
            self.handles.add(Handle::Original {
                opened,
                earlier_epoch_open,
            })
        });
        reply.opened(FileHandle(handle), flags);
    }

    /// Returns whether the kernel has the exact size of a file. If not, invalidates the
    /// attributes that it has.
    fn ensure_size_known(&self, node: &Node) -> bool {
        let known = self.kernel_knows_size(node, self.size(node));
        if !known {
            self.invalidate_attributes(node.inode().0);
        }
        known
    }

    /// Whether the open of an original may keep the kernel's pages.
    fn may_keep_pages(&self, number: u64, object: &Arc<Object>) -> bool {
        match self.contents.cached_epoch(object) {
            Some((epoch, verified)) => self.inodes.may_keep_pages(number, epoch, verified),
            None => true,
        }
    }

    /// Registers a complete file of the cache as the backing file of a passthrough
    /// open. Disables passthrough if the kernel refuses.
    fn pass_through(&self, direct: &DirectFile, reply: &ReplyOpen) -> Option<Passthrough> {
        if !self.passthrough.load(Ordering::Relaxed) {
            return None;
        }
        let DirectFile::Verified(backing) = direct else {
            return None;
        };
        match reply.open_backing(backing.file()) {
            Ok(id) => Some(Passthrough {
                id,
                backing: Arc::clone(backing),
            }),
            Err(error) => {
                tracing::info!(%error, "passthrough is not available");
                self.passthrough.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// Records the epoch of an original while it is unverified, since its bytes
    /// enter the kernel's page cache.
    pub(super) fn track_unverified_pages(&self, node: &Node) {
        if let Node::File(object, Representation::Original) = node
            && let Some((epoch, false)) = self.contents.cached_epoch(object)
        {
            self.inodes.add_unverified_pages(node.inode().0, epoch);
        }
    }

    /// Invalidates the attributes that the kernel caches for `number`.
    pub(super) fn invalidate_attributes(&self, number: u64) {
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(self.numbers.show(number), -1, 0)
            // ENOENT: the kernel has forgotten the inode.
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            tracing::debug!(number, %error, "cannot invalidate attributes");
        }
    }
}
