//! Sizes and bytes of nodes, for all kinds of nodes.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::catalog::Spec;
use crate::content::{ContentError, Contents, FileSize};
use crate::tree::{MetadataPage, Node, link_target};
use icos_portal::meta::Subject;
use icos_portal::{ObjectId, PortalError};

/// Content of `/README.md`.
pub(crate) const README: &str = include_str!("readme.md");

/// The longest landing page that is parsed for attributes, in bytes. That of an
/// object has some ten thousand.
const MAX_PARSED_PAGE: usize = 2 << 20;

/// Reads nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct NodeReader {
    contents: Arc<Contents>,
}

/// A range of a file that a reader asks for: at most `len` bytes from `offset`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRange {
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl ReadRange {
    /// Returns this range of `bytes`, clamped to their end.
    pub(crate) fn slice(self, bytes: &Bytes) -> Bytes {
        let from = usize::try_from(self.offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        bytes.slice(from..bytes.len().min(from.saturating_add(self.len)))
    }
}

impl NodeReader {
    pub(crate) fn new(contents: Arc<Contents>) -> Self {
        Self { contents }
    }

    /// The bytes of the files of objects.
    pub(crate) fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    /// Returns the size of `node`, exact if it is known. Control files have none.
    pub(crate) fn size(&self, node: &Node) -> FileSize {
        match node {
            Node::File(object, representation) => self.contents.size(object, *representation),
            Node::Readme => FileSize::Exact(README.len() as u64),
            Node::ArchiveFile(_, _, entry) => FileSize::Exact(entry.size),
            Node::CollectionLink(_, _, id) => FileSize::Exact(link_target(*id).len() as u64),
            Node::Metadata(page) => match subject(page) {
                Ok(subject) => self.contents.landing_page_size(&subject),
                Err(spec) => FileSize::Exact(spec.json().len() as u64),
            },
            Node::NoMedia | Node::ControlFile(_) | Node::Directory(_) => FileSize::Exact(0),
        }
    }

    /// Returns the exact size of a file. May download or render all of it.
    pub(crate) async fn exact_size(&self, node: &Node) -> Result<u64, ContentError> {
        match node {
            Node::File(object, representation) => {
                self.contents.exact_size(object, *representation).await
            }
            Node::Metadata(page) => Ok(self.page(page).await?.len() as u64),
            Node::Readme
            | Node::NoMedia
            | Node::ControlFile(_)
            | Node::Directory(_)
            | Node::CollectionLink(..)
            | Node::ArchiveFile(..) => {
                let (FileSize::Exact(size) | FileSize::Estimate(size)) = self.size(node);
                Ok(size)
            }
        }
    }

    /// Returns a range of a file. `corruption_count` is that of the open handle of an
    /// original; see [`Contents::read`]. Directories and control files have no bytes here.
    pub(crate) async fn read(
        &self,
        node: &Node,
        corruption_count: u64,
        range: ReadRange,
    ) -> Result<Bytes, ContentError> {
        let ReadRange { offset, len } = range;
        match node {
            Node::File(object, representation) => {
                self.contents
                    .read(object, *representation, corruption_count, offset, len)
                    .await
            }
            Node::Metadata(page) => Ok(range.slice(&self.page(page).await?)),
            Node::ArchiveFile(object, _, entry) => {
                self.contents
                    .read_archive_file(object.id(), entry, offset, len)
                    .await
            }
            Node::Readme => Ok(range.slice(&Bytes::from_static(README.as_bytes()))),
            Node::NoMedia
            | Node::ControlFile(_)
            | Node::CollectionLink(..)
            | Node::Directory(_) => Ok(Bytes::new()),
        }
    }

    /// Returns all bytes of a page.
    pub(crate) async fn page(&self, page: &MetadataPage) -> Result<Bytes, ContentError> {
        match subject(page) {
            Ok(subject) => self.contents.landing_page(&subject).await,
            Err(spec) => Ok(Bytes::copy_from_slice(&spec.json())),
        }
    }

    /// Returns an object's landing page.
    pub(crate) async fn landing_page(&self, id: ObjectId) -> Result<Value, ContentError> {
        let json = self.contents.landing_page(&Subject::Object(id)).await?;
        let unexpected = |found: String| {
            ContentError::from(PortalError::BadResponse {
                service: icos_portal::Service::Meta,
                reason: format!("expected a landing page's JSON, found {found}"),
            })
        };
        // Parsed, it may take many times its length in memory.
        if json.len() > MAX_PARSED_PAGE {
            return Err(unexpected(format!("{} bytes", json.len())));
        }
        serde_json::from_slice(&json).map_err(|error| unexpected(error.to_string()))
    }
}

/// Returns the subject of the landing page that `page` shows, or the data type
/// that it is generated from.
pub(crate) fn subject(page: &MetadataPage) -> Result<Subject, &Arc<Spec>> {
    match page {
        MetadataPage::Station(station) => Ok(Subject::Station(station.segment().to_owned())),
        MetadataPage::Collection(id) => Ok(Subject::Collection(*id)),
        MetadataPage::DataType(spec) => Err(spec),
    }
}
