//! Replies to READ.

use std::sync::Arc;

use bytes::Bytes;
use fuser::Errno;

use super::handles::Handle;
use super::mount_state::MountState;
use crate::content::{ByteSource, ContentError, track_source};
use crate::daemon::node_reader::ReadRange;
use crate::tree::Node;

impl MountState {
    /// Returns a range of a file, and the farthest source that bytes came from.
    pub(super) async fn read(
        self: Arc<Self>,
        node: Node,
        handle: Option<Handle>,
        range: ReadRange,
    ) -> Result<(Bytes, ByteSource), Errno> {
        match node {
            // Replied to by the adapter.
            Node::ControlFile(_) | Node::Readme | Node::CollectionLink(..) => {
                return Err(Errno::EBADF);
            }
            Node::Directory(_) => return Err(Errno::EISDIR),
            Node::File(..) | Node::Metadata(_) | Node::ArchiveFile(..) | Node::NoMedia => {}
        }
        let corruption_count = match handle {
            Some(Handle::Original { opened, .. }) => opened.corruption_count,
            _ => 0,
        };
        self.track_unverified_pages(&node);
        let read = self.reader.read(&node, corruption_count, range);
        let (bytes, source) = track_source(read).await;
        self.track_unverified_pages(&node);
        if let Err(ContentError::WrongHash { .. }) = &bytes {
            // The kernel drops its pages of the corrupt file.
            self.invalidator.request(node.inode().0);
        }
        let bytes = bytes.map_err(|error| self.fail_content("read", &node, &error))?;
        if let Some(object) = node.object_of_data() {
            self.report.add_read_object(object.id());
        }
        self.report.count_read(bytes.len(), source);
        Ok((bytes, source))
    }

    /// Whether the kernel reads ahead what would have to be downloaded. It ignores the
    /// error that it then gets in reply.
    pub(super) fn is_costly_readahead(&self, node: &Node, range: ReadRange) -> bool {
        let Node::File(object, representation) = node else {
            return false;
        };
        let ReadRange { offset, len } = range;
        let contents = self.reader.contents();
        contents.is_costly_readahead(object, *representation, offset, len)
    }
}
