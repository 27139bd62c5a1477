//! The entries of a directory, read in pages.
//!
//! A position identifies one entry for ever: fixed entries come first, by number,
//! then objects by their positions in the catalog, which only appends. So a reader
//! that continues from a position misses no entry and sees none twice, whatever was
//! added meanwhile.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::directory::FileNaming;
use super::lookup::{CONTENTS, archive_node, fixed_entries};
use super::{CollectionPath, Directory, Node, TreeError};
use crate::catalog::{Catalog, CatalogFolder, ListedObject, Representation, Walk};

/// The entries of a directory that is being read.
#[derive(Debug)]
pub struct Listing {
    fixed: Vec<(String, Node)>,
    objects: Option<(CatalogFolder, FileNaming)>,
    catalog: Catalog,
}

/// One entry of a listing.
#[derive(Debug)]
pub struct DirEntry {
    /// The name: one path component.
    pub name: String,
    /// The node.
    pub node: Node,
    /// The position of the next entry.
    pub next: u64,
}

/// Positions 0 and 1 are `.` and `..`.
const DOTS: u64 = 2;
/// An upper bound of the number of entries of one object.
const SLOTS: u64 = 16;
/// The position of the first object.
const OBJECTS: u64 = 1 << 24;

impl Listing {
    /// The entries of `directory` that are known. Blocks on disk I/O.
    pub(super) fn of(catalog: Catalog, directory: &Directory) -> Result<Self, TreeError> {
        let mut fixed = fixed_entries(directory);
        let mut add = |name: &str, node| fixed.push((name.to_owned(), Node::Directory(node)));
        match directory {
            Directory::Stations => {
                for station in catalog.shown_stations() {
                    add(station.name(), Directory::Station(Arc::clone(&station)));
                }
            }
            Directory::Station(station) => {
                for spec in catalog.specs_of(station)? {
                    let data_type = Directory::StationType(Arc::clone(station), Arc::clone(&spec));
                    add(spec.name(), data_type);
                }
            }
            Directory::DataTypes => {
                for spec in catalog.shown_specs() {
                    add(spec.name(), Directory::DataType(Arc::clone(&spec)));
                }
            }
            Directory::Storage => {
                let specs = catalog.shown_specs();
                let formats: BTreeSet<&str> = specs.iter().map(|spec| spec.format()).collect();
                for format in formats {
                    add(format, Directory::Format(format.into()));
                }
            }
            Directory::Collections => {
                for collection in catalog.collections()? {
                    let path = CollectionPath::new(collection.id);
                    add(&collection.id.to_string(), Directory::Collection(path));
                }
            }
            Directory::CollectionLinks(naming) => {
                for (name, id) in naming.links(catalog.collections()?) {
                    let link = Node::CollectionLink(*naming, name.as_str().into(), id);
                    fixed.push((name, link));
                }
            }
            Directory::Collection(path) => {
                for collection in catalog.collections_in(path.id())? {
                    if let Some(path) = path.extend(collection.id) {
                        add(&collection.id.to_string(), Directory::Collection(path));
                    }
                }
            }
            Directory::Archive(object, prefix) => {
                if let Some(archive) = catalog.cached_archive(object.id())? {
                    for (name, child) in archive.children(prefix) {
                        let path = format!("{prefix}{name}");
                        fixed.push((name, archive_node(object, path, child)));
                    }
                }
            }
            _ => {}
        }
        Ok(Self {
            fixed,
            objects: directory.objects(),
            catalog,
        })
    }

    /// Passes the entries from position `from` on to `visit`, until it breaks. `from` is
    /// 0 or an entry's `next`; positions 0 and 1 are `.` and `..`, which the caller adds.
    /// Blocks on disk I/O.
    ///
    /// # Errors
    ///
    /// [`TreeError::Catalog`].
    pub fn entries(
        &self,
        from: u64,
        mut visit: impl FnMut(DirEntry) -> ControlFlow<()>,
    ) -> Result<Walk, TreeError> {
        let first = usize::try_from(from.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        for ((name, node), at) in self.fixed.iter().zip(0_u64..).skip(first) {
            let entry = DirEntry {
                name: name.clone(),
                node: node.clone(),
                next: at + 1 + DOTS,
            };
            if visit(entry).is_break() {
                return Ok(Walk::Stopped);
            }
        }
        let Some((folder, naming)) = &self.objects else {
            return Ok(Walk::AtEnd);
        };
        let from = from.saturating_sub(OBJECTS);
        let (place, slot) = (from / SLOTS, from % SLOTS);
        let walk = self.catalog.walk(folder, place, |listed| {
            let first = if listed.place == place { slot } else { 0 };
            visit_object(&listed, *naming, first, &mut visit)
        })?;
        Ok(walk)
    }

    /// Waits until a listing that was [`Walk::Growing`] has more entries or is complete.
    ///
    /// # Errors
    ///
    /// [`TreeError::Catalog`].
    pub async fn wait_for_more(&self) -> Result<(), TreeError> {
        Ok(self.catalog.wait_for_growth().await?)
    }
}

/// Passes the entries of one object from number `slot` on to `visit`.
fn visit_object(
    listed: &ListedObject,
    naming: FileNaming,
    slot: u64,
    visit: &mut impl FnMut(DirEntry) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let object = &listed.object;
    let files = match naming {
        FileNaming::Id | FileNaming::FileName => object.representations(),
        FileNaming::Stored if object.as_table().is_some() => {
            &[Representation::Cpb, Representation::Original]
        }
        FileNaming::Stored => &[Representation::Original],
    };
    let stem = match naming {
        FileNaming::Id | FileNaming::Stored => object.id().to_string(),
        FileNaming::FileName => object.stem(listed.shares_name),
    };
    for (&representation, at) in files.iter().zip(0..).skip_while(|(_, at)| *at < slot) {
        let mut name = String::with_capacity(stem.len() + 16);
        name.push_str(&stem);
        if (naming, representation) != (FileNaming::Stored, Representation::Original) {
            name.push_str(&object.ending(representation));
        }
        visit(DirEntry {
            name,
            node: Node::File(Arc::clone(object), representation),
            next: OBJECTS + listed.place * SLOTS + at + 1,
        })?;
    }
    // Tens of thousands of tables have archives as originals. A program that
    // walks the tree should not request the contents of each from the portal.
    let last = files.len() as u64;
    if naming == FileNaming::Id
        && slot <= last
        && object.is_archive()
        && object.as_table().is_none()
    {
        visit(DirEntry {
            name: format!("{stem}{CONTENTS}"),
            node: Node::Directory(Directory::Archive(Arc::clone(object), "".into())),
            next: OBJECTS + listed.place * SLOTS + last + 1,
        })?;
    }
    ControlFlow::Continue(())
}
