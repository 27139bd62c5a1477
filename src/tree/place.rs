//! Directories: one for each place, so that none is in two.

use std::fmt;
use std::sync::Arc;

use crate::catalog::{Folder, Need, Object, Spec, Station};
use icos_portal::ObjectId;

/// A directory.
#[derive(Clone, Debug)]
pub enum Place {
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
    Collection(Trail),
    /// `/objects/<id>.contents`, and folders in it, each with a slash behind
    /// it.
    Archive(Arc<Object>, Arc<str>),
}

/// How a collection was reached: by which others, itself last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trail(Arc<[ObjectId]>);

impl Trail {
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

impl Place {
    /// Its objects, and how they are called; none if it has none.
    pub(super) fn objects(&self) -> Option<(Folder, Naming)> {
        match self {
            Place::Objects => Some((Folder::All, Naming::Id)),
            Place::StationType(station, spec) => Some((station.folder(spec), Naming::FileName)),
            Place::DataType(spec) => Some((spec.folder(), Naming::FileName)),
            Place::Format(format) => Some((Folder::Format(Arc::clone(format)), Naming::Stored)),
            Place::Documents => Some((Folder::Documents, Naming::Stored)),
            Place::Collection(trail) => Some((Folder::Collection(trail.id()), Naming::FileName)),
            Place::Root
            | Place::Control
            | Place::Stations
            | Place::Station(_)
            | Place::DataTypes
            | Place::Storage
            | Place::Collections
            | Place::Archive(..) => None,
        }
    }

    /// What must be known to list it.
    pub(super) fn need(&self) -> Option<Need> {
        match self {
            Place::Root | Place::Control | Place::Archive(..) => None,
            Place::Stations | Place::DataTypes | Place::Storage => Some(Need::Vocabulary),
            Place::Objects | Place::DataType(_) | Place::Format(_) => Some(Need::Objects),
            Place::Station(station) | Place::StationType(station, _) => Some(station.need()),
            Place::Documents => Some(Need::Documents),
            Place::Collections => Some(Need::Collections),
            Place::Collection(trail) => Some(Need::Members(trail.id())),
        }
    }
}

/// The path from the mount point, without a leading slash.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => Ok(()),
            Place::Objects => f.write_str("objects"),
            Place::Control => f.write_str(".icosfs"),
            Place::Stations => f.write_str("stations"),
            Place::Station(station) => write!(f, "stations/{}", station.name()),
            Place::StationType(station, spec) => {
                write!(f, "stations/{}/{}", station.name(), spec.name())
            }
            Place::DataTypes => f.write_str("datatypes"),
            Place::DataType(spec) => write!(f, "datatypes/{}", spec.name()),
            Place::Storage => f.write_str("dataAppStorage"),
            Place::Format(format) => write!(f, "dataAppStorage/{format}"),
            Place::Documents => f.write_str("documents"),
            Place::Collections => f.write_str("collections"),
            Place::Collection(trail) => {
                f.write_str("collections")?;
                trail.0.iter().try_for_each(|id| write!(f, "/{id}"))
            }
            Place::Archive(object, path) => {
                let path = path.trim_end_matches('/');
                let slash = if path.is_empty() { "" } else { "/" };
                write!(f, "objects/{}.contents{slash}{path}", object.id())
            }
        }
    }
}
