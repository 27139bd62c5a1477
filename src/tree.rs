//! Names: which nodes there are, what they are called, and their inode
//! numbers. No bytes, no kernel, no HTTP.
//!
//! ```text
//! /README.md
//! /objects/<id>.csv .parquet .json .<ext>   any id resolves, even if not listed
//! /objects/<id>.contents/            what is in an archive
//! /stations/<station>/station.json   and <data type>/<file name>
//! /datatypes/<data type>/datatype.json   and its objects by file name
//! /collections/<id>/collection.json  its objects by file name, and others in it
//! /dataAppStorage/<format>/<id> .cpb as the portal has them on its disk
//! /documents/<id>                    likewise
//! /.icosfs/status.json errors metrics   not listed, always there
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{Catalog, CatalogError, FileId, Object, Representation, Spec, Station};
use icos_portal::ObjectId;
use icos_portal::archive::ArchiveEntry;

mod directory;
mod inode;
mod listing;
mod lookup;
#[cfg(test)]
mod tests;

pub use directory::{CollectionPath, Directory};
pub use inode::Inode;
pub use listing::{DirEntry, Listing};

/// Something that has a name: a directory, or a file.
#[derive(Clone, Debug)]
pub enum Node {
    /// A directory.
    Directory(Directory),
    /// `/README.md`.
    Readme,
    /// A file in `/.icosfs`.
    ControlFile(ControlFile),
    /// A representation of an object.
    File(Arc<Object>, Representation),
    /// What is known of something else.
    Metadata(MetadataPage),
    /// A file in an archive, by its safe path.
    ArchiveFile(Arc<Object>, Arc<str>, Arc<ArchiveEntry>),
}

/// What the mount says about itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ControlFile {
    /// `status.json`: login, cache, counters.
    Status,
    /// `errors`: the last failures with their reasons.
    Errors,
    /// `metrics`: counters, for programs that watch.
    Metrics,
}

/// What is known of something that is no object, as JSON.
#[derive(Clone, Debug)]
pub enum MetadataPage {
    /// `station.json`: the landing page.
    Station(Arc<Station>),
    /// `collection.json`: the landing page.
    Collection(ObjectId),
    /// `datatype.json`: made of the lists.
    DataType(Arc<Spec>),
}

impl ControlFile {
    const ALL: [ControlFile; 3] = [
        ControlFile::Status,
        ControlFile::Errors,
        ControlFile::Metrics,
    ];

    fn name(self) -> &'static str {
        match self {
            ControlFile::Status => "status.json",
            ControlFile::Errors => "errors",
            ControlFile::Metrics => "metrics",
        }
    }
}

impl Node {
    /// Whether it has entries.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        match self {
            Node::Directory(_) => true,
            Node::Readme
            | Node::ControlFile(_)
            | Node::File(..)
            | Node::Metadata(_)
            | Node::ArchiveFile(..) => false,
        }
    }

    /// Its inode number, the same in every mount.
    #[must_use]
    pub fn inode(&self) -> Inode {
        match self {
            Node::Directory(Directory::Root) => Inode::ROOT,
            Node::Directory(place) => Inode::of_path(&place.to_string()),
            Node::Readme => Inode::of_path("README.md"),
            Node::ControlFile(file) => Inode::of_path(&format!(".icosfs/{}", file.name())),
            Node::File(object, representation) => Inode::of_file(FileId {
                object: object.id(),
                representation: *representation,
            }),
            // No path is like these.
            Node::Metadata(MetadataPage::Station(station)) => Inode::of_path(station.iri()),
            Node::Metadata(MetadataPage::Collection(id)) => Inode::of_path(&format!("//{id}")),
            Node::Metadata(MetadataPage::DataType(spec)) => Inode::of_path(spec.iri()),
            Node::ArchiveFile(object, path, _) => {
                Inode::of_path(&format!("objects/{}.contents/{path}", object.id()))
            }
        }
    }
}

/// The names of a repository.
#[derive(Clone, Debug)]
pub struct Tree {
    catalog: Catalog,
}

/// Why a name or a listing could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TreeError {
    /// There is no such name.
    #[error("there is no such file")]
    NoSuchName,
    /// Only directories have entries.
    #[error("not a directory")]
    NotADirectory,
    /// The catalog could not be asked.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Tree {
    /// The names that `catalog` gives rise to.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog }
    }

    /// The node of an object's file by its inode number, if the object is
    /// known. Blocks on the disk, shortly.
    pub fn file(&self, inode: Inode) -> Result<Option<Node>, TreeError> {
        let Some((first, mask, representation)) = inode.file() else {
            return Ok(None);
        };
        let object = self.catalog.known_by_bits(first, mask)?;
        Ok(object.map(|object| Node::File(object, representation)))
    }

    /// Closes connections to the catalog that were not used for `idle`;
    /// whether there will be more in a while.
    #[must_use]
    pub fn close_idle_connections(&self, idle: Duration) -> bool {
        self.catalog.close_idle(idle)
    }

    /// How many objects are known, and how many bytes their originals have.
    /// Blocks on the disk, for all of them.
    pub fn totals(&self) -> Result<(u64, u64), TreeError> {
        Ok(self.catalog.totals()?)
    }

    /// The entries of `directory`. What comes while they are read is among
    /// them, at the end.
    pub async fn list(&self, directory: &Node) -> Result<Listing, TreeError> {
        let Node::Directory(place) = directory else {
            return Err(TreeError::NotADirectory);
        };
        if let Some(list) = place.list() {
            self.catalog.ensure(list).await?;
        }
        if let Directory::Archive(object, _) = place {
            self.catalog.archive(object).await?;
        }
        let (catalog, place) = (self.catalog.clone(), place.clone());
        let listing = tokio::task::spawn_blocking(move || Listing::of(catalog, &place)).await;
        listing.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}
