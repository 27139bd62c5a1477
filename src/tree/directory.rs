//! Directories: one for each place, so that none is in two.

use std::fmt;
use std::sync::Arc;

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
    /// `/collections/<id>`, and collections in it.
    Collection(CollectionPath),
    /// `/objects/<id>.contents`, and folders in it, each with a slash behind
    /// it.
    Archive(Arc<Object>, Arc<str>),
}

/// How a collection was reached: by which others, itself last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CollectionPath(Arc<[ObjectId]>);

impl CollectionPath {
    pub(super) fn to(id: ObjectId) -> Self {
        Self([id].into())
    }

    /// The collection `id` within this one; none if it is on the way already,
    /// since who follows would never arrive.
    pub(super) fn on_to(&self, id: ObjectId) -> Option<Self> {
        let known = self.0.contains(&id);
        (!known).then(|| Self(self.0.iter().copied().chain([id]).collect()))
    }

    /// The collection itself.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        // Never empty.
        self.0
            .last()
            .copied()
            .unwrap_or_else(|| ObjectId::from_bytes([0; 18]))
    }
}

/// How objects are called in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Naming {
    /// By their ids.
    Id,
    /// By their file names.
    FileName,
    /// As the portal has them on its disk.
    Stored,
}

impl Directory {
    /// Its objects, and how they are called; none if it has none.
    pub(super) fn objects(&self) -> Option<(CatalogFolder, Naming)> {
        match self {
            Directory::Objects => Some((CatalogFolder::All, Naming::Id)),
            Directory::StationType(station, spec) => Some((station.folder(spec), Naming::FileName)),
            Directory::DataType(spec) => Some((spec.folder(), Naming::FileName)),
            Directory::Format(format) => {
                Some((CatalogFolder::Format(Arc::clone(format)), Naming::Stored))
            }
            Directory::Documents => Some((CatalogFolder::Documents, Naming::Stored)),
            Directory::Collection(trail) => {
                Some((CatalogFolder::Collection(trail.id()), Naming::FileName))
            }
            Directory::Root
            | Directory::Control
            | Directory::Stations
            | Directory::Station(_)
            | Directory::DataTypes
            | Directory::Storage
            | Directory::Collections
            | Directory::Archive(..) => None,
        }
    }

    /// What must be known to list it.
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
            Directory::Collections => Some(CatalogList::Collections),
            Directory::Collection(trail) => Some(CatalogList::Members(trail.id())),
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
            Directory::Collection(trail) => {
                f.write_str("collections")?;
                trail.0.iter().try_for_each(|id| write!(f, "/{id}"))
            }
            Directory::Archive(object, path) => {
                let path = path.trim_end_matches('/');
                let slash = if path.is_empty() { "" } else { "/" };
                write!(f, "objects/{}.contents{slash}{path}", object.id())
            }
        }
    }
}
