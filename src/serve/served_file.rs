//! A file that a reply has: one version of its bytes, from the first to the last.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use twox_hash::XxHash3_128;

use super::conditions::Validators;
use super::entry::immutable_since;
use super::file_reply::PIECE;
use super::{ServerState, SizeReplies};
use crate::catalog::Representation;
use crate::content::{
    ByteSource, ContentError, FileSize, OpenedContent, OriginalHandle, track_source,
};
use crate::daemon::node_reader::ReadRange;
use crate::tree::Node;
use icos_portal::meta::Subject;

/// Part of the tags of tables: another version may render them in another way.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A file that is being served. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ServedFile {
    pub(super) state: Arc<ServerState>,
    pub(super) node: Node,
    pub(super) bytes: FileBytes,
    /// The path, for reports.
    pub(super) shown: String,
}

/// The bytes that a reply has, from its first to its last one.
#[derive(Clone, Debug)]
pub(super) enum FileBytes {
    /// Those of each moment: of a file that is not opened, or whose bytes never change.
    Changing,
    /// Of an original: corruption that is found after it was opened makes reads fail.
    Original(OriginalHandle),
    /// Of a file that is built here: another build makes reads fail.
    Build(Arc<OpenedContent>),
    /// A page, as it was when the file was opened.
    Page(Bytes),
}

impl ServedFile {
    /// Opens the file: the reply has the bytes of one version, or fails.
    pub(super) async fn open(&mut self) -> Result<(), ContentError> {
        let reader = &self.state.reader;
        let contents = reader.contents();
        match &self.node {
            Node::File(object, Representation::Original) => {
                let opened = contents.open(object, Representation::Original).await?;
                if let Some(handle) = opened.original {
                    self.bytes = FileBytes::Original(handle);
                }
            }
            Node::File(
                object,
                representation @ (Representation::Parquet
                | Representation::GoodParquet
                | Representation::GoodCsv
                | Representation::NetCdf
                | Representation::GoodNetCdf),
            ) => {
                let opened = contents.open_built(object, *representation).await?;
                self.bytes = FileBytes::Build(Arc::new(opened));
            }
            Node::File(object, Representation::Json) => {
                let subject = Subject::Object(object.id());
                self.bytes = FileBytes::Page(contents.landing_page(&subject).await?);
            }
            Node::Metadata(page) => self.bytes = FileBytes::Page(reader.page(page).await?),
            _ => {}
        }
        Ok(())
    }

    /// The size to reply with. `None` if it is not known, and the reply need not have it.
    pub(super) async fn size(
        &self,
        is_head: bool,
        needs_size: bool,
    ) -> Result<Option<u64>, ContentError> {
        if let FileBytes::Page(page) = &self.bytes {
            return Ok(Some(page.len() as u64));
        }
        let estimated = match self.state.reader.size(&self.node) {
            FileSize::Exact(size) => return Ok(Some(size)),
            FileSize::Estimate(estimated) => estimated,
        };
        tracing::trace!(estimated, "the size is not known");
        let may_wait = match self.state.options.size_replies {
            SizeReplies::Exact => true,
            // A CSV is sent while it is rendered. Other files are made first.
            SizeReplies::Known if is_head => false,
            SizeReplies::Known => {
                needs_size || !matches!(self.node, Node::File(_, Representation::Csv))
            }
        };
        if !may_wait {
            return Ok(None);
        }
        self.state.reader.exact_size(&self.node).await.map(Some)
    }

    /// What identifies the bytes. Of a file that is not opened, only as far as it is known
    /// without waiting.
    pub(super) async fn validators(&self) -> Result<Validators, ContentError> {
        let hashed = |bytes: &[u8]| Some(format!("\"{:032x}\"", XxHash3_128::oneshot(bytes)));
        if let FileBytes::Page(page) = &self.bytes {
            return Ok(Validators {
                etag: hashed(page),
                immutable_since: None,
            });
        }
        let contents = self.state.reader.contents();
        let corruption_count = self.corruption_count();
        let etag = match &self.node {
            Node::File(object, representation) => {
                let id = object.id();
                match representation {
                    Representation::Original => {
                        // Bytes that a reader got before they were found corrupt are others.
                        Some(match corruption_count {
                            0 => format!("\"{id}\""),
                            count => format!("\"{id}-{count}\""),
                        })
                    }
                    Representation::Csv => Some(format!("\"{id}-csv-{VERSION}\"")),
                    Representation::Cpb => Some(format!("\"{id}-cpb-{VERSION}\"")),
                    Representation::Parquet
                    | Representation::GoodParquet
                    | Representation::GoodCsv
                    | Representation::NetCdf
                    | Representation::GoodNetCdf => {
                        let number = match &self.bytes {
                            FileBytes::Build(opened) => opened.build_number(),
                            _ => contents.open(object, *representation).await?.build_number(),
                        };
                        let kind = build_kind(*representation);
                        number.map(|number| format!("\"{id}-{kind}-{number:x}\""))
                    }
                    Representation::Json => {
                        let page = contents.cached_landing_page(&Subject::Object(id));
                        page.and_then(|page| hashed(&page))
                    }
                }
            }
            Node::ArchiveFile(object, entry_path, _) => {
                let hash = XxHash3_128::oneshot(entry_path.as_bytes());
                Some(format!("\"{}-{hash:032x}\"", object.id()))
            }
            Node::Readme => hashed(crate::daemon::node_reader::README.as_bytes()),
            Node::NoMedia => hashed(b""),
            Node::Metadata(_)
            | Node::ControlFile(_)
            | Node::CollectionLink(..)
            | Node::Directory(_) => None,
        };
        Ok(Validators {
            etag,
            immutable_since: immutable_since(&self.node).filter(|_| corruption_count == 0),
        })
    }

    /// The count of the open handle of an original; see [`Contents::corruption_count`].
    fn corruption_count(&self) -> u64 {
        match &self.bytes {
            FileBytes::Original(handle) => handle.corruption_count,
            _ => 0,
        }
    }

    /// Reads a range of the file, or less at its end.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes, ContentError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let range = ReadRange {
            offset: range.start,
            len: usize::try_from(range.end - range.start).unwrap_or(PIECE),
        };
        if let FileBytes::Page(page) = &self.bytes {
            let bytes = range.slice(page);
            (self.state.report).count_read(bytes.len(), ByteSource::Cache);
            return Ok(bytes);
        }
        let read = (self.state.reader).read(&self.node, self.corruption_count(), range);
        let (bytes, source) = track_source(read).await;
        let bytes = bytes?;
        if let (FileBytes::Build(opened), Node::File(object, representation)) =
            (&self.bytes, &self.node)
        {
            let contents = self.state.reader.contents();
            contents.check_build(object, *representation, opened)?;
        }
        if let Some(object) = self.node.object_of_data() {
            self.state.report.add_read_object(object.id());
        }
        self.state.report.count_read(bytes.len(), source);
        Ok(bytes)
    }
}

/// The part of a tag that tells the representations of an object that are built here
/// from each other.
fn build_kind(representation: Representation) -> &'static str {
    match representation {
        Representation::Parquet => "parquet",
        Representation::GoodParquet => "good-parquet",
        Representation::GoodCsv => "good-csv",
        Representation::NetCdf => "netcdf",
        Representation::GoodNetCdf => "good-netcdf",
        Representation::Original
        | Representation::Csv
        | Representation::Json
        | Representation::Cpb => "file",
    }
}
