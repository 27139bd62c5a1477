//! What a name is: at once where the catalog knows, else by asking.

use std::ffi::OsStr;
use std::sync::Arc;

use super::directory::Naming;
use super::{CollectionPath, ControlFile, Directory, MetadataPage, Node, Tree, TreeError};
use crate::catalog::{ArchiveNode, CatalogFolder, Object, Representation, stems};
use icos_portal::ObjectId;

/// What can be said of a name at once.
#[derive(Debug)]
enum Found {
    /// It is this.
    Node(Node),
    /// There is no such thing.
    Nothing,
    /// There is none that is known; the portal may know.
    Unknown,
}

impl From<Option<Node>> for Found {
    fn from(node: Option<Node>) -> Self {
        node.map_or(Found::Unknown, Found::Node)
    }
}

/// A name below `/objects`: an id and what stands behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ObjectName<'a> {
    id: ObjectId,
    ending: &'a str,
}

impl<'a> ObjectName<'a> {
    /// Reads `<id><ending>`, the ending empty or from the first dot on.
    fn parse(name: &'a str) -> Option<Self> {
        let (stem, ending) = name.split_at(name.find('.').unwrap_or(name.len()));
        Some(Self {
            id: stem.parse().ok()?,
            ending,
        })
    }
}

/// The representation of `object` whose ending is `ending`.
fn file(object: &Arc<Object>, ending: &str) -> Option<Node> {
    let representation = (object.representations().iter())
        .find(|&&representation| object.ending(representation) == ending)?;
    Some(Node::File(Arc::clone(object), *representation))
}

impl Tree {
    /// What `name` in `parent` is, if that can be said at once; `None` if it
    /// takes [`Tree::lookup`]. Blocks on the disk, shortly.
    #[must_use]
    pub fn lookup_cached(&self, parent: &Node, name: &OsStr) -> Option<Result<Node, TreeError>> {
        let Node::Directory(place) = parent else {
            return Some(Err(TreeError::NotADirectory));
        };
        let Some(name) = name.to_str() else {
            // All our names are text.
            return Some(Err(TreeError::NoSuchName));
        };
        match self.find(place, name) {
            Ok(Found::Node(node)) => Some(Ok(node)),
            Ok(Found::Nothing) => Some(Err(TreeError::NoSuchName)),
            Ok(Found::Unknown) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// What `name` in `parent` is, by asking the portal if need be.
    pub async fn lookup(&self, parent: &Node, name: &OsStr) -> Result<Node, TreeError> {
        if let Some(found) = self.lookup_cached(parent, name) {
            return found;
        }
        let (Node::Directory(place), Some(name)) = (parent, name.to_str()) else {
            return Err(TreeError::NoSuchName);
        };
        if let Directory::Archive(object, _) = place {
            self.catalog.archive(object).await?;
        }
        match place.objects() {
            Some((CatalogFolder::All | CatalogFolder::Format(_) | CatalogFolder::Documents, _)) => {
                if let Some(name) = ObjectName::parse(name) {
                    self.catalog.object(name.id).await?;
                }
            }
            _ => {
                if let Some(list) = place.list() {
                    self.catalog.ensure_complete(list).await?;
                }
            }
        }
        match self.find(place, name)? {
            Found::Node(node) => Ok(node),
            Found::Nothing | Found::Unknown => Err(TreeError::NoSuchName),
        }
    }

    fn find(&self, place: &Directory, name: &str) -> Result<Found, TreeError> {
        let fixed = fixed_entries(place);
        if let Some((_, node)) = fixed.iter().find(|(known, _)| known == name) {
            return Ok(Found::Node(node.clone()));
        }
        let directory = |place| Found::Node(Node::Directory(place));
        Ok(match place {
            Directory::Root | Directory::Control => match name {
                ".icosfs" if matches!(place, Directory::Root) => directory(Directory::Control),
                _ => Found::Nothing,
            },
            Directory::Stations => match self.catalog.vocabulary().station_named(name) {
                Some(station) => directory(Directory::Station(Arc::clone(station))),
                None => Found::Unknown,
            },
            Directory::Station(station) => {
                let vocabulary = self.catalog.vocabulary();
                let Some(spec) = vocabulary.spec_named(name) else {
                    return Ok(Found::Nothing);
                };
                if self.catalog.is_empty(&station.folder(spec))? {
                    Found::Unknown
                } else {
                    directory(Directory::StationType(
                        Arc::clone(station),
                        Arc::clone(spec),
                    ))
                }
            }
            Directory::DataTypes => match self.catalog.vocabulary().spec_named(name) {
                Some(spec) => directory(Directory::DataType(Arc::clone(spec))),
                None => Found::Unknown,
            },
            Directory::Storage => {
                let vocabulary = self.catalog.vocabulary();
                let mut formats = vocabulary.specs().map(|spec| spec.format());
                match formats.find(|format| *format == name) {
                    Some(format) => directory(Directory::Format(format.into())),
                    None => Found::Unknown,
                }
            }
            Directory::Collections => match name.parse::<ObjectId>() {
                Ok(id) if self.catalog.collection(id)?.is_some() => {
                    directory(Directory::Collection(CollectionPath::to(id)))
                }
                Ok(_) => Found::Unknown,
                Err(_) => Found::Nothing,
            },
            Directory::Collection(trail) => {
                if let Ok(id) = name.parse::<ObjectId>()
                    && let Some(trail) = trail.on_to(id)
                {
                    let within = self.catalog.collections_in(place_id(place))?;
                    if within.iter().any(|collection| collection.id == id) {
                        return Ok(directory(Directory::Collection(trail)));
                    }
                }
                self.find_object(place, name)?
            }
            Directory::Archive(object, prefix) => {
                match self.catalog.cached_archive(object.id())? {
                    Some(archive) => {
                        let path = format!("{prefix}{name}");
                        let inside = archive.find(&path);
                        inside.map_or(Found::Nothing, |inside| {
                            Found::Node(within(object, path, inside))
                        })
                    }
                    None => Found::Unknown,
                }
            }
            Directory::Objects
            | Directory::StationType(..)
            | Directory::DataType(_)
            | Directory::Format(_)
            | Directory::Documents => self.find_object(place, name)?,
        })
    }

    fn find_object(&self, place: &Directory, name: &str) -> Result<Found, TreeError> {
        let Some((folder, naming)) = place.objects() else {
            return Ok(Found::Nothing);
        };
        if naming == Naming::FileName {
            for stem in stems(name) {
                let Some(object) = self.catalog.by_stem(&folder, stem)? else {
                    continue;
                };
                if let Some(node) = file(&object, &name[stem.len()..]) {
                    return Ok(Found::Node(node));
                }
            }
            return Ok(Found::Unknown);
        }
        let Some(name) = ObjectName::parse(name) else {
            return Ok(Found::Nothing);
        };
        let Some(object) = self.catalog.known(name.id)? else {
            return Ok(Found::Unknown);
        };
        let node = match naming {
            Naming::Stored => match (&folder, object.spec(), name.ending) {
                (CatalogFolder::Format(format), Some(spec), ending)
                    if spec.format() == &**format =>
                {
                    stored(&object, ending)
                }
                (CatalogFolder::Documents, None, ending) => stored(&object, ending),
                _ => None,
            },
            Naming::Id | Naming::FileName if name.ending == CONTENTS && object.is_archive() => {
                Some(Node::Directory(Directory::Archive(object, "".into())))
            }
            Naming::Id | Naming::FileName => file(&object, name.ending),
        };
        Ok(node.map_or(Found::Nothing, Found::Node))
    }
}

/// What stands behind the id in the name of an archive's folder.
pub(super) const CONTENTS: &str = ".contents";

/// The node of what is at `path` in the archive `object`.
pub(super) fn within(object: &Arc<Object>, path: String, inside: ArchiveNode) -> Node {
    match inside {
        ArchiveNode::Folder => Node::Directory(Directory::Archive(
            Arc::clone(object),
            format!("{path}/").into(),
        )),
        ArchiveNode::File(entry) => Node::ArchiveFile(Arc::clone(object), path.into(), entry),
    }
}

/// The file of `object` that the portal has under its id and `ending`.
fn stored(object: &Arc<Object>, ending: &str) -> Option<Node> {
    let representation = match ending {
        "" => Representation::Original,
        ".cpb" if object.as_table().is_some() => Representation::Cpb,
        _ => return None,
    };
    Some(Node::File(Arc::clone(object), representation))
}

fn place_id(place: &Directory) -> ObjectId {
    match place {
        Directory::Collection(trail) => trail.id(),
        _ => ObjectId::from_bytes([0; 18]),
    }
}

/// The entries that a directory has whatever the repository has.
pub(super) fn fixed_entries(place: &Directory) -> Vec<(String, Node)> {
    let directory = |place: Directory| (place.to_string(), Node::Directory(place));
    match place {
        Directory::Root => vec![
            ("README.md".to_owned(), Node::Readme),
            directory(Directory::Collections),
            directory(Directory::Storage),
            directory(Directory::DataTypes),
            directory(Directory::Documents),
            directory(Directory::Objects),
            directory(Directory::Stations),
        ],
        Directory::Control => ControlFile::ALL
            .map(|file| (file.name().to_owned(), Node::ControlFile(file)))
            .into(),
        Directory::Station(station) => vec![(
            "station.json".to_owned(),
            Node::Metadata(MetadataPage::Station(Arc::clone(station))),
        )],
        Directory::DataType(spec) => vec![(
            "datatype.json".to_owned(),
            Node::Metadata(MetadataPage::DataType(Arc::clone(spec))),
        )],
        Directory::Collection(trail) => vec![(
            "collection.json".to_owned(),
            Node::Metadata(MetadataPage::Collection(trail.id())),
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_are_an_id_and_an_ending() {
        let id = ObjectId::of_content(b"x");
        for ending in ["", ".csv", ".original.csv.gz"] {
            let text = format!("{id}{ending}");
            let name = ObjectName::parse(&text).unwrap();
            assert_eq!((name.id, name.ending), (id, ending));
        }
        for bad in ["", ".", "..", "README.md", ".csv", "desktop.ini"] {
            assert_eq!(ObjectName::parse(bad), None, "{bad}");
        }
    }
}
