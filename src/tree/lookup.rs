//! Lookup of a name: in the catalog, or with a request to the portal if the catalog
//! does not know the name.

use std::ffi::OsStr;
use std::sync::Arc;

use super::directory::FileNaming;
use super::{CollectionPath, ControlFile, Directory, MetadataPage, Node, Tree, TreeError};
use crate::catalog::{ArchiveNode, CatalogFolder, Object, Representation, stems};
use icos_portal::ObjectId;

/// What the catalog knows of a name.
#[derive(Debug)]
enum LookupResult {
    /// The node of this name.
    Node(Node),
    /// There is no such node.
    Nothing,
    /// The catalog has no such node, but the portal may have.
    Unknown,
}

impl From<Option<Node>> for LookupResult {
    fn from(node: Option<Node>) -> Self {
        node.map_or(LookupResult::Unknown, LookupResult::Node)
    }
}

/// A name below `/objects`: an id and an ending.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ObjectName<'a> {
    id: ObjectId,
    ending: &'a str,
}

impl<'a> ObjectName<'a> {
    /// Parses `<id><ending>`, where the ending is empty or starts at the first dot.
    fn parse(name: &'a str) -> Option<Self> {
        let (stem, ending) = name.split_at(name.find('.').unwrap_or(name.len()));
        Some(Self {
            id: stem.parse().ok()?,
            ending,
        })
    }
}

/// The representation of `object` with this ending.
fn file(object: &Arc<Object>, ending: &str) -> Option<Node> {
    let representation = (object.representations().iter())
        .find(|&&representation| object.ending(representation) == ending)?;
    Some(Node::File(Arc::clone(object), *representation))
}

impl Tree {
    /// Looks up `name` in `parent` without a request; `None` if it takes
    /// [`Tree::lookup`]. Blocks shortly on disk I/O.
    #[must_use]
    pub fn lookup_cached(&self, parent: &Node, name: &OsStr) -> Option<Result<Node, TreeError>> {
        let Node::Directory(directory) = parent else {
            return Some(Err(TreeError::NotADirectory));
        };
        let Some(name) = name.to_str() else {
            // All names are UTF-8.
            return Some(Err(TreeError::NoSuchName));
        };
        match self.find(directory, name) {
            Ok(LookupResult::Node(node)) => Some(Ok(node)),
            Ok(LookupResult::Nothing) => Some(Err(TreeError::NoSuchName)),
            Ok(LookupResult::Unknown) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Looks up `name` in `parent`, with requests to the portal if necessary.
    ///
    /// # Errors
    ///
    /// [`TreeError`].
    pub async fn lookup(&self, parent: &Node, name: &OsStr) -> Result<Node, TreeError> {
        if let Some(found) = self.lookup_cached(parent, name) {
            return found;
        }
        let (Node::Directory(directory), Some(name)) = (parent, name.to_str()) else {
            return Err(TreeError::NoSuchName);
        };
        if let Directory::Archive(object, _) = directory {
            self.catalog.archive(object).await?;
        }
        match directory.objects() {
            Some((CatalogFolder::All | CatalogFolder::Format(_) | CatalogFolder::Documents, _)) => {
                if let Some(name) = ObjectName::parse(name) {
                    self.catalog.object(name.id).await?;
                }
            }
            _ => {
                if let Some(list) = directory.list() {
                    self.catalog.ensure_complete(list).await?;
                }
            }
        }
        match self.find(directory, name)? {
            LookupResult::Node(node) => Ok(node),
            LookupResult::Nothing | LookupResult::Unknown => Err(TreeError::NoSuchName),
        }
    }

    fn find(&self, directory: &Directory, name: &str) -> Result<LookupResult, TreeError> {
        let fixed = fixed_entries(directory);
        if let Some((_, node)) = fixed.iter().find(|(known, _)| known == name) {
            return Ok(LookupResult::Node(node.clone()));
        }
        let found = |directory| LookupResult::Node(Node::Directory(directory));
        Ok(match directory {
            Directory::Root | Directory::Control => match name {
                ".icosfs" if matches!(directory, Directory::Root) => found(Directory::Control),
                _ => LookupResult::Nothing,
            },
            Directory::Stations => match self.catalog.vocabulary().station_named(name) {
                Some(station) => found(Directory::Station(Arc::clone(station))),
                None => LookupResult::Unknown,
            },
            Directory::Station(station) => {
                let vocabulary = self.catalog.vocabulary();
                let Some(spec) = vocabulary.spec_named(name) else {
                    return Ok(LookupResult::Nothing);
                };
                if self.catalog.is_empty(&station.folder(spec))? {
                    LookupResult::Unknown
                } else {
                    found(Directory::StationType(
                        Arc::clone(station),
                        Arc::clone(spec),
                    ))
                }
            }
            Directory::DataTypes => match self.catalog.vocabulary().spec_named(name) {
                Some(spec) => found(Directory::DataType(Arc::clone(spec))),
                None => LookupResult::Unknown,
            },
            Directory::Storage => {
                let vocabulary = self.catalog.vocabulary();
                let mut formats = vocabulary.specs().map(|spec| spec.format());
                match formats.find(|format| *format == name) {
                    Some(format) => found(Directory::Format(format.into())),
                    None => LookupResult::Unknown,
                }
            }
            Directory::Collections => match name.parse::<ObjectId>() {
                Ok(id) if self.catalog.collection(id)?.is_some() => {
                    found(Directory::Collection(CollectionPath::new(id)))
                }
                Ok(_) => LookupResult::Unknown,
                Err(_) => LookupResult::Nothing,
            },
            Directory::Collection(path) => {
                if let Ok(id) = name.parse::<ObjectId>()
                    && let Some(path) = path.extend(id)
                {
                    let within = self.catalog.collections_in(collection_id(directory))?;
                    if within.iter().any(|collection| collection.id == id) {
                        return Ok(found(Directory::Collection(path)));
                    }
                }
                self.find_object(directory, name)?
            }
            Directory::Archive(object, prefix) => {
                match self.catalog.cached_archive(object.id())? {
                    Some(archive) => {
                        let path = format!("{prefix}{name}");
                        let child = archive.find(&path);
                        child.map_or(LookupResult::Nothing, |child| {
                            LookupResult::Node(archive_node(object, path, child))
                        })
                    }
                    None => LookupResult::Unknown,
                }
            }
            Directory::Objects
            | Directory::StationType(..)
            | Directory::DataType(_)
            | Directory::Format(_)
            | Directory::Documents => self.find_object(directory, name)?,
        })
    }

    fn find_object(&self, directory: &Directory, name: &str) -> Result<LookupResult, TreeError> {
        let Some((folder, naming)) = directory.objects() else {
            return Ok(LookupResult::Nothing);
        };
        if naming == FileNaming::FileName {
            for stem in stems(name) {
                let Some(object) = self.catalog.by_stem(&folder, stem)? else {
                    continue;
                };
                if let Some(node) = file(&object, &name[stem.len()..]) {
                    return Ok(LookupResult::Node(node));
                }
            }
            return Ok(LookupResult::Unknown);
        }
        let Some(name) = ObjectName::parse(name) else {
            return Ok(LookupResult::Nothing);
        };
        let Some(object) = self.catalog.known(name.id)? else {
            return Ok(LookupResult::Unknown);
        };
        let node = match naming {
            FileNaming::Stored => match (&folder, object.spec(), name.ending) {
                (CatalogFolder::Format(format), Some(spec), ending)
                    if spec.format() == &**format =>
                {
                    stored_file(&object, ending)
                }
                (CatalogFolder::Documents, None, ending) => stored_file(&object, ending),
                _ => None,
            },
            FileNaming::Id | FileNaming::FileName
                if name.ending == CONTENTS && object.is_archive() =>
            {
                Some(Node::Directory(Directory::Archive(object, "".into())))
            }
            FileNaming::Id | FileNaming::FileName => file(&object, name.ending),
        };
        Ok(node.map_or(LookupResult::Nothing, LookupResult::Node))
    }
}

/// The ending of the name of an archive's folder.
pub(super) const CONTENTS: &str = ".contents";

/// The node at `path` in the archive `object`.
pub(super) fn archive_node(object: &Arc<Object>, path: String, inside: ArchiveNode) -> Node {
    match inside {
        ArchiveNode::Folder => Node::Directory(Directory::Archive(
            Arc::clone(object),
            format!("{path}/").into(),
        )),
        ArchiveNode::File(entry) => Node::ArchiveFile(Arc::clone(object), path.into(), entry),
    }
}

/// The file of `object` that has this ending on the portal's disk.
fn stored_file(object: &Arc<Object>, ending: &str) -> Option<Node> {
    let representation = match ending {
        "" => Representation::Original,
        ".cpb" if object.as_table().is_some() => Representation::Cpb,
        _ => return None,
    };
    Some(Node::File(Arc::clone(object), representation))
}

fn collection_id(directory: &Directory) -> ObjectId {
    match directory {
        Directory::Collection(path) => path.id(),
        _ => ObjectId::from_bytes([0; 18]),
    }
}

/// The entries that a directory has in any repository.
pub(super) fn fixed_entries(directory: &Directory) -> Vec<(String, Node)> {
    let subdirectory = |directory: Directory| (directory.to_string(), Node::Directory(directory));
    match directory {
        Directory::Root => vec![
            ("README.md".to_owned(), Node::Readme),
            subdirectory(Directory::Collections),
            subdirectory(Directory::Storage),
            subdirectory(Directory::DataTypes),
            subdirectory(Directory::Documents),
            subdirectory(Directory::Objects),
            subdirectory(Directory::Stations),
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
        Directory::Collection(path) => vec![(
            "collection.json".to_owned(),
            Node::Metadata(MetadataPage::Collection(path.id())),
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_are_an_id_and_an_ending() {
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
