//! Names: which nodes there are, what they are called, and their inode
//! numbers. No bytes, no kernel, no HTTP.
//!
//! ```text
//! /README.md
//! /objects/<id>.csv .parquet .json .<ext>     any id resolves, even if not listed
//! /.icosfs/status.json errors        not listed, always there
//! ```

use std::ffi::OsStr;
use std::sync::Arc;

use crate::catalog::{Catalog, FileId, Object, Representation, Snapshot};
use crate::portal::{ObjectId, PortalError};

mod inode;
mod listing;

pub use inode::Inode;
pub use listing::{Entry, Listing};

/// A place in the tree: a directory, or a file.
#[derive(Clone, Debug)]
pub enum Node {
    /// The mount point itself.
    Root,
    /// `/objects`.
    Objects,
    /// `/README.md`.
    Readme,
    /// `/.icosfs`.
    Control,
    /// A file in `/.icosfs`.
    ControlFile(ControlFile),
    /// A representation of an object.
    File(Arc<Object>, Representation),
}

/// What the mount says about itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ControlFile {
    /// `status.json`: login, cache, counters.
    Status,
    /// `errors`: the last failures with their reasons.
    Errors,
}

impl ControlFile {
    const ALL: [ControlFile; 2] = [ControlFile::Status, ControlFile::Errors];

    fn name(self) -> &'static str {
        match self {
            ControlFile::Status => "status.json",
            ControlFile::Errors => "errors",
        }
    }
}

impl Node {
    /// Whether it has entries.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        match self {
            Node::Root | Node::Objects | Node::Control => true,
            Node::Readme | Node::ControlFile(_) | Node::File(..) => false,
        }
    }

    /// Its inode number, the same in every mount.
    #[must_use]
    pub fn inode(&self) -> Inode {
        match self {
            Node::Root => Inode::ROOT,
            Node::Objects => Inode::fixed(2),
            Node::Readme => Inode::fixed(3),
            Node::Control => Inode::fixed(4),
            Node::ControlFile(ControlFile::Status) => Inode::fixed(5),
            Node::ControlFile(ControlFile::Errors) => Inode::fixed(6),
            Node::File(object, representation) => Inode::of_file(FileId {
                object: object.id(),
                representation: *representation,
            }),
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
    Portal(#[from] PortalError),
}

/// What can be said of a name.
#[derive(Debug)]
pub enum Lookup {
    /// This, at once.
    Now(Result<Node, TreeError>),
    /// It takes the portal to know: see [`Tree::look_up_object`].
    Ask(ObjectName),
}

/// A name below `/objects`: an id and what stands behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectName {
    id: ObjectId,
    ending: String,
}

impl ObjectName {
    /// Reads `<id><ending>`, the ending empty or from the first dot on.
    fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let (stem, ending) = name.split_at(name.find('.').unwrap_or(name.len()));
        Some(Self {
            id: stem.parse().ok()?,
            ending: ending.to_owned(),
        })
    }

    /// The object that the name speaks of.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    fn node_of(&self, object: &Arc<Object>) -> Result<Node, TreeError> {
        object
            .representations()
            .iter()
            .find(|&&representation| object.ending(representation) == self.ending)
            .map(|&representation| Node::File(Arc::clone(object), representation))
            .ok_or(TreeError::NoSuchName)
    }
}

impl Tree {
    /// The names that `catalog` gives rise to.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog }
    }

    /// What `name` in `parent` is.
    #[must_use]
    pub fn look_up(&self, parent: &Node, name: &OsStr) -> Lookup {
        let found = match parent {
            Node::Root => match name.to_str() {
                Some("objects") => Some(Node::Objects),
                Some("README.md") => Some(Node::Readme),
                Some(".icosfs") => Some(Node::Control),
                _ => None,
            },
            Node::Control => ControlFile::ALL
                .into_iter()
                .find(|file| name == file.name())
                .map(Node::ControlFile),
            Node::Objects => {
                let Some(name) = ObjectName::parse(name) else {
                    return Lookup::Now(Err(TreeError::NoSuchName));
                };
                let listed = self.catalog.at_hand();
                return match listed.and_then(|s| s.object(name.id).cloned()) {
                    Some(object) => Lookup::Now(name.node_of(&object)),
                    None => Lookup::Ask(name),
                };
            }
            Node::Readme | Node::ControlFile(_) | Node::File(..) => {
                return Lookup::Now(Err(TreeError::NotADirectory));
            }
        };
        Lookup::Now(found.ok_or(TreeError::NoSuchName))
    }

    /// What `name` in `/objects` is, by asking the portal.
    pub async fn look_up_object(&self, name: &ObjectName) -> Result<Node, TreeError> {
        match self.catalog.object(name.id).await? {
            Some(object) => name.node_of(&object),
            None => Err(TreeError::NoSuchName),
        }
    }

    /// The entries of `directory` as they are now; stays as it is while it is
    /// read.
    pub async fn list(&self, directory: &Node) -> Result<Listing, TreeError> {
        match directory {
            Node::Root => Ok(Listing::few([
                ("README.md", Node::Readme),
                ("objects", Node::Objects),
            ])),
            Node::Control => Ok(Listing::few(
                ControlFile::ALL.map(|file| (file.name(), Node::ControlFile(file))),
            )),
            Node::Objects => {
                let snapshot: Arc<Snapshot> = self.catalog.listed().await?;
                Ok(Listing::objects(snapshot))
            }
            Node::Readme | Node::ControlFile(_) | Node::File(..) => Err(TreeError::NotADirectory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_are_an_id_and_an_ending() {
        let id = ObjectId::of_content(b"x");
        for ending in ["", ".csv", ".original.csv.gz"] {
            let name = ObjectName::parse(OsStr::new(&format!("{id}{ending}"))).unwrap();
            assert_eq!((name.id, name.ending.as_str()), (id, ending));
        }
        for bad in ["", ".", "..", "README.md", ".csv", "desktop.ini"] {
            assert_eq!(ObjectName::parse(OsStr::new(bad)), None, "{bad}");
        }
    }
}
