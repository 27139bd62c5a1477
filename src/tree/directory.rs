//! Directories. Each has one path only, except collections, which may be in several
//! others.

use std::fmt;
use std::sync::Arc;

use super::CollectionNaming;
use crate::catalog::{CatalogFolder, CatalogList, Object, Spec, Station};
use icos_portal::ObjectId;

/// A directory.
#[derive(Clone, Debug)]
pub enum Directory {
    /// The mount point itself.
    Root,
    /// `/objects`.
    Objects,
    /// `/.icosfs`.
    Control,
    /// `/stations`.
    Stations,
    /// `/stations/<station>`.
    Station(Arc<Station>),
    /// `/stations/<station>/<data type>`.
    StationType(Arc<Station>, Arc<Spec>),
    /// `/datatypes`.
    DataTypes,
    /// `/datatypes/<data type>`.
    DataType(Arc<Spec>),
    /// `/dataAppStorage`.
    Storage,
    /// `/dataAppStorage/<format>`.
    Format(Arc<str>),
    /// `/documents`.
    Documents,
    /// `/collections`.
    Collections,
    /// `/collections/by-title` and `/collections/by-doi`.
    CollectionLinks(CollectionNaming),
    /// `/collections/<id>`, and collections in it.
    Collection(CollectionPath),
    /// `/objects/<id>.contents`, and folders in it; the path ends with a slash unless
    /// it is empty.
    Archive(Arc<Object>, Arc<str>),
}

/// The path to a collection: the ids of the collections that contain it, then its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CollectionPath(Arc<[ObjectId]>);

impl CollectionPath {
    /// A collection that is reached from `/collections`.
    pub(super) fn new(id: ObjectId) -> Self {
        Self([id].into())
    }

    /// The path to collection `id` in this one. `None` if the path has it already, so
    /// that a walk of cyclic collections ends.
    pub(super) fn extend(&self, id: ObjectId) -> Option<Self> {
        let known = self.0.contains(&id);
        (!known).then(|| Self(self.0.iter().copied().chain([id]).collect()))
    }

    /// The path of the collection that contains this one; `None` in `/collections`.
    fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        (!above.is_empty()).then(|| Self(above.into()))
    }

    /// The id of the collection itself.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        // Never empty.
        self.0
            .last()
            .copied()
            .unwrap_or_else(|| ObjectId::from_bytes([0; 18]))
    }
}

/// How the objects of a directory are named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileNaming {
    /// By id.
    Id,
    /// By file name.
    FileName,
    /// As on the portal's disk.
    Stored,
}

impl Directory {
    /// The directory that contains this one. The root contains itself.
    pub(super) fn parent(&self) -> Directory {
        match self {
            Directory::Root
            | Directory::Objects
            | Directory::Control
            | Directory::Stations
            | Directory::DataTypes
            | Directory::Storage
            | Directory::Documents
            | Directory::Collections => Directory::Root,
            Directory::Station(_) => Directory::Stations,
            Directory::StationType(station, _) => Directory::Station(Arc::clone(station)),
            Directory::DataType(_) => Directory::DataTypes,
            Directory::Format(_) => Directory::Storage,
            Directory::CollectionLinks(_) => Directory::Collections,
            Directory::Collection(path) => {
                (path.parent()).map_or(Directory::Collections, Directory::Collection)
            }
            Directory::Archive(object, path) => {
                let path = path.trim_end_matches('/');
                if path.is_empty() {
                    return Directory::Objects;
                }
                let above = path.rfind('/').map_or("", |slash| &path[..=slash]);
                Directory::Archive(Arc::clone(object), above.into())
            }
        }
    }

    /// The objects of the directory, and how they are named.
    pub(super) fn objects(&self) -> Option<(CatalogFolder, FileNaming)> {
        match self {
            Directory::Objects => Some((CatalogFolder::All, FileNaming::Id)),
            Directory::StationType(station, spec) => {
                Some((station.folder(spec), FileNaming::FileName))
            }
            Directory::DataType(spec) => Some((spec.folder(), FileNaming::FileName)),
            Directory::Format(format) => Some((
                CatalogFolder::Format(Arc::clone(format)),
                FileNaming::Stored,
            )),
            Directory::Documents => Some((CatalogFolder::Documents, FileNaming::Stored)),
            Directory::Collection(path) => {
                Some((CatalogFolder::Collection(path.id()), FileNaming::FileName))
            }
            Directory::Root
            | Directory::Control
            | Directory::Stations
            | Directory::Station(_)
            | Directory::DataTypes
            | Directory::Storage
            | Directory::Collections
            | Directory::CollectionLinks(_)
            | Directory::Archive(..) => None,
        }
    }

    /// What the catalog must have loaded to list the directory.
    pub(super) fn list(&self) -> Option<CatalogList> {
        match self {
            Directory::Root | Directory::Control | Directory::Archive(..) => None,
            Directory::Stations | Directory::DataTypes | Directory::Storage => {
                Some(CatalogList::Vocabulary)
            }
            Directory::Objects | Directory::DataType(_) | Directory::Format(_) => {
                Some(CatalogList::Objects)
            }
            Directory::Station(station) | Directory::StationType(station, _) => {
                Some(station.list())
            }
            Directory::Documents => Some(CatalogList::Documents),
            Directory::Collections | Directory::CollectionLinks(_) => {
                Some(CatalogList::Collections)
            }
            Directory::Collection(path) => Some(CatalogList::Members(path.id())),
        }
    }
}

/// The path from the mount point, without a leading slash.
impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Directory::Root => Ok(()),
            Directory::Objects => f.write_str("objects"),
            Directory::Control => f.write_str(".icosfs"),
            Directory::Stations => f.write_str("stations"),
            Directory::Station(station) => write!(f, "stations/{}", station.name()),
            Directory::StationType(station, spec) => {
                write!(f, "stations/{}/{}", station.name(), spec.name())
            }
            Directory::DataTypes => f.write_str("datatypes"),
            Directory::DataType(spec) => write!(f, "datatypes/{}", spec.name()),
            Directory::Storage => f.write_str("dataAppStorage"),
            Directory::Format(format) => write!(f, "dataAppStorage/{format}"),
            Directory::Documents => f.write_str("documents"),
            Directory::Collections => f.write_str("collections"),
            Directory::CollectionLinks(naming) => write!(f, "collections/{}", naming.folder()),
            Directory::Collection(path) => {
                f.write_str("collections")?;
                path.0.iter().try_for_each(|id| write!(f, "/{id}"))
            }
            Directory::Archive(object, path) => {
                let path = path.trim_end_matches('/');
                let slash = if path.is_empty() { "" } else { "/" };
                write!(f, "objects/{}.contents{slash}{path}", object.id())
            }
        }
    }
}
