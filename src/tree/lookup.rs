//! Lookup of a name: in the catalog, or with a request to the portal if the catalog
//! does not know the name.

use std::ffi::OsStr;
use std::sync::Arc;

use super::directory::FileNaming;
use super::{
    CollectionNaming, CollectionPath, ControlFile, Directory, MAX_NAME_LEN, MetadataPage, Node,
    Tree, TreeError,
};
use crate::catalog::{ArchiveNode, CatalogFolder, Object, Representation, stems};
use icos_portal::ObjectId;

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
        .chain(object.unlisted_representations())
        .find(|&&representation| object.ending(representation) == ending)?;
    Some(Node::File(Arc::clone(object), *representation))
}

impl Tree {
    /// Looks up `name` in `parent` without a request; `None` if it takes
    /// [`Tree::lookup`]. Blocks shortly on disk I/O.
    #[must_use]
    pub fn lookup_cached(&self, parent: &Node, name: &OsStr) -> Option<Result<Node, TreeError>> {
        // To open a file by its handle, the kernel looks up "." in the file itself.
        if name == "." {
            return Some(Ok(parent.clone()));
        }
        let Node::Directory(directory) = parent else {
            return Some(Err(TreeError::NotADirectory));
        };
        if name == ".." {
            return Some(Ok(Node::Directory(directory.parent())));
        }
        if name.len() > usize::from(MAX_NAME_LEN) {
            return Some(Err(TreeError::NameTooLong));
        }
        let Some(name) = name.to_str() else {
            // All names are UTF-8.
            return Some(Err(TreeError::NoSuchName));
        };
        self.find(directory, name).transpose()
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
        let found = self.find(directory, name)?;
        found.ok_or(TreeError::NoSuchName)
    }

    /// Looks up `name` in the catalog; `None` if it has no such node, but the portal may
    /// have. An error if there is no such node.
    fn find(&self, directory: &Directory, name: &str) -> Result<Option<Node>, TreeError> {
        let fixed = fixed_entries(directory);
        if let Some((_, node)) = fixed.into_iter().find(|(known, _)| known == name) {
            return Ok(Some(node));
        }
        let vocabulary = self.catalog.vocabulary();
        let found = match directory {
            Directory::Root if name == ".icosfs" => Some(Directory::Control),
            Directory::Root | Directory::Control => return Err(TreeError::NoSuchName),
            Directory::Stations => (vocabulary.station_named(name))
                .map(|station| Directory::Station(Arc::clone(station))),
            Directory::Station(station) => {
                let spec = vocabulary.spec_named(name).ok_or(TreeError::NoSuchName)?;
                let listed = !self.catalog.is_empty(&station.folder(spec))?;
                listed.then(|| Directory::StationType(Arc::clone(station), Arc::clone(spec)))
            }
            Directory::DataTypes => {
                (vocabulary.spec_named(name)).map(|spec| Directory::DataType(Arc::clone(spec)))
            }
            Directory::Storage => {
                let mut formats = vocabulary.specs().map(|spec| spec.format());
                let format = formats.find(|format| *format == name);
                format.map(|format| Directory::Format(format.into()))
            }
            Directory::Collections => {
                let id = name.parse().map_err(|_| TreeError::NoSuchName)?;
                let collection = self.catalog.collection(id)?;
                collection.map(|_| Directory::Collection(CollectionPath::new(id)))
            }
            Directory::CollectionLinks(naming) => {
                let mut links = naming.links(self.catalog.collections()?);
                let link = links.remove_entry(name);
                return Ok(link.map(|(name, id)| Node::CollectionLink(*naming, name.into(), id)));
            }
            Directory::Collection(path) => {
                if let Ok(id) = name.parse::<ObjectId>()
                    && let Some(inner) = path.extend(id)
                    && (self.catalog.collections_in(path.id())?.iter()).any(|one| one.id == id)
                {
                    Some(Directory::Collection(inner))
                } else {
                    return self.find_object(directory, name);
                }
            }
            Directory::Archive(object, prefix) => {
                let Some(archive) = self.catalog.cached_archive(object.id())? else {
                    return Ok(None);
                };
                let path = format!("{prefix}{name}");
                let child = archive.find(&path).ok_or(TreeError::NoSuchName)?;
                return Ok(Some(archive_node(object, path, child)));
            }
            Directory::Objects
            | Directory::StationType(..)
            | Directory::DataType(_)
            | Directory::Format(_)
            | Directory::Documents => return self.find_object(directory, name),
        };
        Ok(found.map(Node::Directory))
    }

    fn find_object(&self, directory: &Directory, name: &str) -> Result<Option<Node>, TreeError> {
        let (folder, naming) = directory.objects().ok_or(TreeError::NoSuchName)?;
        if naming == FileNaming::FileName {
            for stem in stems(name) {
                if let Some(object) = self.catalog.by_stem(&folder, stem)?
                    && let Some(node) = file(&object, &name[stem.len()..])
                {
                    return Ok(Some(node));
                }
            }
            return Ok(None);
        }
        let name = ObjectName::parse(name).ok_or(TreeError::NoSuchName)?;
        let Some(object) = self.catalog.known(name.id)? else {
            return Ok(None);
        };
        let node = match (naming, &folder, object.spec()) {
            (FileNaming::Stored, CatalogFolder::Format(format), Some(spec))
                if spec.format() == &**format =>
            {
                stored_file(&object, name.ending)
            }
            (FileNaming::Stored, CatalogFolder::Documents, None) => {
                stored_file(&object, name.ending)
            }
            (FileNaming::Stored, ..) => None,
            _ if name.ending == CONTENTS && object.is_archive() => {
                Some(Node::Directory(Directory::Archive(object, "".into())))
            }
            _ => file(&object, name.ending),
        };
        node.map(Some).ok_or(TreeError::NoSuchName)
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

/// The entries that a directory has in any repository.
pub(super) fn fixed_entries(directory: &Directory) -> Vec<(String, Node)> {
    let subdirectory = |directory: Directory| (directory.to_string(), Node::Directory(directory));
    match directory {
        Directory::Root => vec![
            ("README.md".to_owned(), Node::Readme),
            (".nomedia".to_owned(), Node::NoMedia),
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
        Directory::Collections => CollectionNaming::ALL
            .map(|naming| {
                let links = Directory::CollectionLinks(naming);
                (naming.folder().to_owned(), Node::Directory(links))
            })
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
