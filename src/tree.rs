//! Names: the nodes of a repository, how they are called, and their inode numbers.
//! No bytes, no kernel, no HTTP.
//!
//! ```text
//! /README.md
//! /objects/<id><ending>       .csv, .parquet, .json, ...; any id, even if not listed
//! /objects/<id>.contents/<path>               a file in an archive
//! /stations/<station>/station.json
//! /stations/<station>/<data type>/<file name>
//! /datatypes/<data type>/datatype.json
//! /datatypes/<data type>/<file name>
//! /collections/<id>/collection.json
//! /collections/<id>/<file name>
//! /collections/<id>/<collection>/             a collection in it
//! /collections/by-title/<title>               a link to /collections/<id>
//! /collections/by-doi/<DOI>                   the same; `_` for slashes
//! /dataAppStorage/<format>/<id>               as on the portal's disk
//! /dataAppStorage/<format>/<id>.cpb
//! /documents/<id>                             as on the portal's disk
//! /.icosfs/status.json, errors, metrics, read, refresh   not listed, always present
//! ```
//!
//! Nothing is cached here: each lookup and listing queries the catalog. So there are
//! no locks, and millions of names cost no memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{
    Catalog, CatalogError, CatalogList, FileId, Object, Representation, Spec, Station,
};
use icos_portal::ObjectId;
use icos_portal::archive::ArchiveEntry;
use icos_sync::run_blocking;

mod collection_links;
mod directory;
mod inode;
mod listing;
mod lookup;
#[cfg(test)]
mod tests;

pub use collection_links::{CollectionNaming, link_target};
pub use directory::{CollectionPath, Directory};
pub use inode::Inode;
pub use listing::{DirEntry, Listing};

/// A directory or a file.
#[derive(Clone, Debug)]
pub enum Node {
    /// A directory.
    Directory(Directory),
    /// `/README.md`.
    Readme,
    /// `/.nomedia`, an empty file that tells indexers to leave the folder out.
    NoMedia,
    /// A file in `/.icosfs`.
    ControlFile(ControlFile),
    /// A representation of an object.
    File(Arc<Object>, Representation),
    /// Metadata of something other than an object.
    Metadata(MetadataPage),
    /// A symbolic link to a collection, by its name.
    CollectionLink(CollectionNaming, Arc<str>, ObjectId),
    /// A file in an archive, by its sanitized path.
    ArchiveFile(Arc<Object>, Arc<str>, Arc<ArchiveEntry>),
}

/// A file with which a mount reports its state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ControlFile {
    /// `status.json`: login, cache, counters.
    Status,
    /// `errors`: the last failures and their reasons.
    Errors,
    /// `metrics`: counters for monitoring.
    Metrics,
    /// `read`: the objects whose data were read.
    Read,
    /// `refresh`: reading it downloads the lists again.
    Refresh,
}

/// Metadata, as JSON, of something other than an object.
#[derive(Clone, Debug)]
pub enum MetadataPage {
    /// `station.json`: the landing page.
    Station(Arc<Station>),
    /// `collection.json`: the landing page.
    Collection(ObjectId),
    /// `datatype.json`: generated from the catalog.
    DataType(Arc<Spec>),
}

impl ControlFile {
    const ALL: [ControlFile; 5] = [
        ControlFile::Status,
        ControlFile::Errors,
        ControlFile::Metrics,
        ControlFile::Read,
        ControlFile::Refresh,
    ];

    fn name(self) -> &'static str {
        match self {
            ControlFile::Status => "status.json",
            ControlFile::Errors => "errors",
            ControlFile::Metrics => "metrics",
            ControlFile::Read => "read",
            ControlFile::Refresh => "refresh",
        }
    }
}

impl Node {
    /// What a link leads to, or the node itself.
    #[must_use]
    pub fn followed(self) -> Node {
        match self {
            Node::CollectionLink(_, _, id) => {
                Node::Directory(Directory::Collection(CollectionPath::new(id)))
            }
            node => node,
        }
    }

    /// The object whose data a file has. Metadata need no citation.
    #[must_use]
    pub fn object_of_data(&self) -> Option<&Arc<Object>> {
        match self {
            Node::File(_, Representation::Json) => None,
            Node::File(object, _) | Node::ArchiveFile(object, ..) => Some(object),
            _ => None,
        }
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self, Node::Directory(_))
    }

    /// The number of names of a file, without those in collections. 1 for a directory:
    /// as on other file systems that do not count sub-directories, it means "unknown".
    #[must_use]
    pub fn link_count(&self) -> u32 {
        let Node::File(object, representation) = self else {
            return 1;
        };
        let by_station = object.station().is_some_and(|station| station.has_folder());
        let names = match representation {
            Representation::Cpb => [false, false, false, true],
            _ => [
                true,
                object.spec().is_some(),
                object.spec().is_some() && by_station,
                *representation == Representation::Original,
            ],
        };
        // In objects, datatypes, stations; in dataAppStorage or documents.
        names.map(u32::from).iter().sum()
    }

    /// The inode number, the same in every mount.
    #[must_use]
    pub fn inode(&self) -> Inode {
        match self {
            Node::Directory(Directory::Root) => Inode::ROOT,
            Node::File(object, representation) => Inode::of_file(FileId {
                object: object.id(),
                representation: *representation,
            }),
            // No path equals one of these names.
            Node::Metadata(MetadataPage::Station(station)) => Inode::of_path(station.iri()),
            Node::Metadata(MetadataPage::Collection(id)) => Inode::of_path(&format!("//{id}")),
            Node::Metadata(MetadataPage::DataType(spec)) => Inode::of_path(spec.iri()),
            Node::Directory(_)
            | Node::Readme
            | Node::NoMedia
            | Node::ControlFile(_)
            | Node::CollectionLink(..)
            | Node::ArchiveFile(..) => Inode::of_path(&self.to_string()),
        }
    }
}

/// The path from the mount point, without a leading slash; for an object's file only
/// the name, since it has several paths.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Directory(directory) => directory.fmt(f),
            Node::Readme => f.write_str("README.md"),
            Node::NoMedia => f.write_str(".nomedia"),
            Node::ControlFile(file) => write!(f, ".icosfs/{}", file.name()),
            Node::File(object, representation) => {
                write!(f, "{}{}", object.id(), object.ending(*representation))
            }
            Node::Metadata(MetadataPage::Station(station)) => {
                write!(f, "stations/{}/station.json", station.name())
            }
            Node::Metadata(MetadataPage::Collection(id)) => {
                write!(f, "collections/{id}/collection.json")
            }
            Node::Metadata(MetadataPage::DataType(spec)) => {
                write!(f, "datatypes/{}/datatype.json", spec.name())
            }
            Node::CollectionLink(naming, name, _) => {
                write!(f, "collections/{}/{name}", naming.folder())
            }
            Node::ArchiveFile(object, path, _) => {
                write!(f, "objects/{}.contents/{path}", object.id())
            }
        }
    }
}

/// The names of a repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tree {
    catalog: Catalog,
}

/// The greatest length of a name in bytes.
pub const MAX_NAME_LEN: u8 = 255;

/// Why a lookup or a listing failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TreeError {
    /// The directory has no such entry.
    #[error("there is no such file")]
    NoSuchName,
    /// The name is longer than any name can be.
    #[error("the name is longer than {MAX_NAME_LEN} bytes")]
    NameTooLong,
    /// The parent is a file.
    #[error("not a directory")]
    NotADirectory,
    /// The catalog could not answer.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Tree {
    /// Names what is in `catalog`.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog }
    }

    /// The node of an object's file by its inode number, if the catalog knows the
    /// object. Blocks shortly on disk I/O.
    ///
    /// # Errors
    ///
    /// [`TreeError::Catalog`].
    pub fn file(&self, inode: Inode) -> Result<Option<Node>, TreeError> {
        let Some((first, mask, representation)) = inode.file() else {
            return Ok(None);
        };
        let object = self.catalog.known_by_bits(first, mask)?;
        Ok(object.map(|object| Node::File(object, representation)))
    }

    /// Closes catalog connections that have been idle for `idle`; whether a later call
    /// may close more.
    #[must_use]
    pub fn close_idle_connections(&self, idle: Duration) -> bool {
        self.catalog.close_idle(idle)
    }

    /// The number of known objects, and the sum of the lengths of their originals.
    /// Reads the complete catalog. Blocks on disk I/O.
    ///
    /// # Errors
    ///
    /// [`TreeError::Catalog`].
    pub fn totals(&self) -> Result<(u64, u64), TreeError> {
        Ok(self.catalog.totals()?)
    }

    /// Whether the entries of an archive are known, so that listing them causes no
    /// request.
    #[must_use]
    pub fn knows_archive(&self, archive: ObjectId) -> bool {
        matches!(self.catalog.cached_archive(archive), Ok(Some(_)))
    }

    /// The stations that are listed.
    ///
    /// # Errors
    ///
    /// [`TreeError::Catalog`].
    pub async fn stations(&self) -> Result<Vec<Arc<Station>>, TreeError> {
        self.catalog.ensure(CatalogList::Vocabulary).await?;
        let catalog = self.catalog.clone();
        Ok(run_blocking(move || catalog.shown_stations()).await)
    }

    /// The object `id`, with a request to the portal if the catalog does not know it.
    ///
    /// # Errors
    ///
    /// [`TreeError::NoSuchName`] or [`TreeError::Catalog`].
    pub async fn object(&self, id: ObjectId) -> Result<Arc<Object>, TreeError> {
        if self.catalog.known(id)?.is_none() {
            self.catalog.object(id).await?;
        }
        self.catalog.known(id)?.ok_or(TreeError::NoSuchName)
    }

    /// The title of a collection, if the catalog knows it. Blocks shortly on disk I/O.
    #[must_use]
    pub fn collection_title(&self, id: ObjectId) -> Option<String> {
        let collection = self.catalog.collection(id).ok().flatten()?;
        Some(collection.title)
    }

    /// Downloads all stored lists again.
    ///
    /// # Errors
    ///
    /// [`TreeError::Catalog`].
    pub async fn refresh(&self) -> Result<(), TreeError> {
        Ok(self.catalog.refresh_stored().await?)
    }

    /// The entries of `directory`. Objects that the catalog learns of while the listing
    /// is read are appended to it.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotADirectory`] or [`TreeError::Catalog`].
    pub async fn list(&self, directory: &Node) -> Result<Listing, TreeError> {
        let Node::Directory(directory) = directory else {
            return Err(TreeError::NotADirectory);
        };
        if let Some(list) = directory.list() {
            self.catalog.ensure(list).await?;
        }
        if let Directory::Archive(object, _) = directory {
            self.catalog.archive(object).await?;
        }
        let (catalog, directory) = (self.catalog.clone(), directory.clone());
        run_blocking(move || Listing::of(catalog, &directory)).await
    }
}
