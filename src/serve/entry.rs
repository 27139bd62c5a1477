//! One file or folder as JSON, for programs.

use std::time::SystemTime;

use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::ServerState;
use super::media_type;
use super::reply::{self, ErrorForm, JSON, Reply};
use super::router::RequestPath;
use super::status_code;
use crate::catalog::{Object, Representation};
use crate::content::FileSize;
use crate::tree::{Directory, Node};

/// What is known of a file or folder without waiting.
#[derive(Clone, Debug)]
pub(super) struct EntryInfo {
    /// The name: one component of a path.
    pub(super) name: String,
    /// The size, of a file.
    pub(super) size: Option<FileSize>,
    /// When the object was submitted.
    pub(super) modified: Option<Timestamp>,
    /// The media type, of a file.
    pub(super) media_type: Option<&'static str>,
}

impl EntryInfo {
    /// Describes `node`, which is called `name`.
    pub(super) fn of(state: &ServerState, name: String, node: &Node) -> Self {
        let size = match node {
            // Generated when they are read.
            Node::Directory(_) | Node::ControlFile(_) | Node::CollectionLink(..) => None,
            _ => Some(state.reader.size(node)),
        };
        Self {
            size,
            modified: object_of(node).map(Object::submitted),
            media_type: (!node.is_directory()).then(|| media_type::of(&name)),
            name,
        }
    }

    /// The entry as JSON. Values that are not known are missing.
    pub(super) fn json(&self, state: &ServerState, node: &Node) -> Value {
        let kind = if node.is_directory() {
            "directory"
        } else {
            "file"
        };
        let mut entry = json!({"name": self.name, "kind": kind});
        if let Some(size) = self.size {
            let (bytes, is_exact) = match size {
                FileSize::Exact(bytes) => (bytes, true),
                FileSize::Estimate(bytes) => (bytes, false),
            };
            entry["size"] = bytes.into();
            entry["size_is_exact"] = is_exact.into();
        }
        if let Some(modified) = self.modified {
            entry["modified"] = modified.to_string().into();
        }
        if let Some(media_type) = self.media_type {
            entry["media_type"] = media_type.into();
        }
        if let Some(object) = object_of(node) {
            let id = object.id().to_string();
            let landing_page = format!("{}{id}", state.options.envri.landing_prefix());
            entry["landing_page"] = landing_page.into();
            entry["pid"] = format!("{}/{id}", state.options.envri.handle_prefix()).into();
            entry["id"] = id.into();
        }
        entry
    }
}

/// The object of a file or of an archive's folder.
pub(super) fn object_of(node: &Node) -> Option<&Object> {
    match node {
        Node::File(object, _)
        | Node::ArchiveFile(object, ..)
        | Node::Directory(Directory::Archive(object, _)) => Some(object),
        Node::Directory(_)
        | Node::Readme
        | Node::NoMedia
        | Node::ControlFile(_)
        | Node::CollectionLink(..)
        | Node::Metadata(_) => None,
    }
}

/// When the bytes of `node` were last changed, if they never change again.
pub(super) fn immutable_since(node: &Node) -> Option<SystemTime> {
    match node {
        // Another version may render a table in another way, or find other columns.
        Node::File(object, Representation::Original) | Node::ArchiveFile(object, ..) => {
            Some(object.submitted().into())
        }
        _ => None,
    }
}

/// Replies with one file or folder as JSON. With `wants_exact_size`, waits until the size
/// is known, which may download or render the file.
pub(super) async fn reply(
    state: &ServerState,
    path: &RequestPath,
    node: &Node,
    wants_exact_size: bool,
    form: ErrorForm,
) -> Reply {
    let mut entry = EntryInfo::of(state, path.name().to_owned(), node);
    if wants_exact_size && matches!(entry.size, Some(FileSize::Estimate(_))) {
        match state.reader.exact_size(node).await {
            Ok(size) => entry.size = Some(FileSize::Exact(size)),
            Err(error) => {
                let status = status_code::of_content(&error);
                state.record_failure("stat", &path.encoded(), status, &error);
                return reply::error(status, &error, form);
            }
        }
    }
    reply::with_bytes(StatusCode::OK, JSON, entry.json(state, node).to_string())
}
