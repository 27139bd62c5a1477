//! Extended attributes: what files say about themselves beside their bytes.

use fuser::{Errno, ReplyXattr};

use super::shared::Shared;
use crate::content::Size;
use crate::tree::Node;

/// Whether the length that `stat` tells is `exact`, or an `estimate` that is
/// replaced by the exact one once the file has been read or measured.
const SIZE: &str = "user.icosfs.size";

/// The attributes of `node`, by name.
fn names(node: &Node) -> Vec<&'static str> {
    match node {
        Node::File(..) => vec![SIZE],
        Node::Root | Node::Objects | Node::Readme | Node::Control | Node::ControlFile(_) => {
            Vec::new()
        }
    }
}

/// The value of one of them.
fn value(shared: &Shared, node: &Node, name: &str) -> Option<Vec<u8>> {
    if !names(node).contains(&name) {
        return None;
    }
    match name {
        SIZE => Some(match shared.size(node) {
            Size::Exact(_) => b"exact".to_vec(),
            Size::Estimate(_) => b"estimate".to_vec(),
        }),
        _ => None,
    }
}

/// Answers `getxattr`.
pub(super) fn get(shared: &Shared, node: &Node, name: Option<&str>, size: u32, reply: ReplyXattr) {
    match name.and_then(|name| value(shared, node, name)) {
        Some(value) => fill(&value, size, reply),
        None => reply.error(Errno::NO_XATTR),
    }
}

/// Answers `listxattr`.
pub(super) fn list(node: &Node, size: u32, reply: ReplyXattr) {
    let mut list = Vec::new();
    for name in names(node) {
        list.extend_from_slice(name.as_bytes());
        list.push(0);
    }
    fill(&list, size, reply);
}

/// Replies with `bytes` if there is room for so many, with their number to
/// whoever asks for that with 0.
fn fill(bytes: &[u8], room: u32, reply: ReplyXattr) {
    match u32::try_from(bytes.len()) {
        Ok(len) if room == 0 => reply.size(len),
        Ok(len) if len <= room => reply.data(bytes),
        _ => reply.error(Errno::ERANGE),
    }
}
