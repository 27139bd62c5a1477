//! Replies to READ.

use std::sync::Arc;

use bytes::Bytes;
use fuser::Errno;

use super::handles::Handle;
use super::mount_state::MountState;
use crate::catalog::{Object, Representation};
use crate::content::{ByteSource, ContentError, track_source};
use crate::tree::Node;

/// The range of a READ.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadRange {
    pub(super) offset: u64,
    pub(super) size: u32,
}

impl ReadRange {
    /// Returns this range of `bytes`, clamped to their end.
    pub(super) fn slice(self, bytes: &Bytes) -> Bytes {
        let from = usize::try_from(self.offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        bytes.slice(from..bytes.len().min(from.saturating_add(self.size as usize)))
    }
}

impl MountState {
    /// Returns a range of a file, and the farthest source that bytes came from.
    pub(super) async fn read(
        self: Arc<Self>,
        node: Node,
        handle: Option<Handle>,
        range: ReadRange,
    ) -> Result<(Bytes, ByteSource), Errno> {
        let len = range.size as usize;
        let (bytes, source) = match &node {
            Node::File(object, representation) => {
                let corruption_count = match handle {
                    Some(Handle::Original { opened, .. }) => opened.corruption_count,
                    _ => 0,
                };
                track_source(self.read_file(object, *representation, corruption_count, range)).await
            }
            Node::Metadata(page) => {
                track_source(async {
                    let bytes = self.page(page).await;
                    bytes.map(|bytes| range.slice(&bytes))
                })
                .await
            }
            Node::ArchiveFile(object, _, entry) => {
                let contents = &self.contents;
                track_source(contents.read_archive_file(object.id(), entry, range.offset, len))
                    .await
            }
            Node::NoMedia => (Ok(Bytes::new()), ByteSource::Memory),
            Node::ControlFile(_) | Node::Readme => return Err(Errno::EBADF),
            Node::Directory(_) => return Err(Errno::EISDIR),
        };
        let bytes = bytes.map_err(|error| self.fail_content("read", &node, &error))?;
        self.report.count_read(bytes.len(), source);
        Ok((bytes, source))
    }

    /// Reads a file of an object. If it is corrupt, drops the kernel's pages of it.
    async fn read_file(
        &self,
        object: &Arc<Object>,
        representation: Representation,
        corruption_count: u64,
        ReadRange { offset, size }: ReadRange,
    ) -> Result<Bytes, ContentError> {
        self.track_unverified_pages(object, representation);
        let bytes = self
            .contents
            .read(
                object,
                representation,
                corruption_count,
                offset,
                size as usize,
            )
            .await;
        self.track_unverified_pages(object, representation);
        if let Err(ContentError::WrongHash { .. }) = &bytes {
            let node = Node::File(Arc::clone(object), representation);
            self.invalidator.request(node.inode().0);
        }
        bytes
    }
}
