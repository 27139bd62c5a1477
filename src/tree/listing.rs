//! The entries of a directory, read a few at a time.
//!
//! A position stands for one entry for ever: fixed entries come first, by
//! number, then objects by their places in the catalog, which new ones only
//! add to. So whoever goes on from a position misses none and sees none twice,
//! whatever came meanwhile.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::directory::Naming;
use super::lookup::{CONTENTS, fixed_entries, within};
use super::{Directory, Node, TreeError};
use crate::catalog::{Catalog, CatalogFolder, ListedObject, Representation, Walk};

/// A directory's entries; cheap to keep while someone reads it.
#[derive(Debug)]
pub struct Listing {
    fixed: Vec<(String, Node)>,
    objects: Option<(CatalogFolder, Naming)>,
    catalog: Catalog,
}

/// One entry.
#[derive(Debug)]
pub struct DirEntry {
    /// Its name: one path component.
    pub name: String,
    /// What it is.
    pub node: Node,
    /// Where the listing goes on behind it.
    pub next: u64,
}

/// Positions 0 and 1 are `.` and `..`.
const DOTS: u64 = 2;
/// An object has fewer representations than this.
const SLOTS: u64 = 16;
/// Objects' positions begin here.
const OBJECTS: u64 = 1 << 24;

impl Listing {
    /// The entries of `place`, as far as they are known. Blocks on the disk.
    pub(super) fn of(catalog: Catalog, place: &Directory) -> Result<Self, TreeError> {
        let mut fixed = fixed_entries(place);
        let directory = |name: &str, place| (name.to_owned(), Node::Directory(place));
        match place {
            Directory::Stations => {
                for station in catalog.shown_stations() {
                    let name = station.name().to_owned();
                    fixed.push(directory(&name, Directory::Station(station)));
                }
            }
            Directory::Station(station) => {
                for spec in catalog.specs_of(station)? {
                    let name = spec.name().to_owned();
                    let place = Directory::StationType(Arc::clone(station), spec);
                    fixed.push(directory(&name, place));
                }
            }
            Directory::DataTypes => {
                for spec in catalog.shown_specs() {
                    let name = spec.name().to_owned();
                    fixed.push(directory(&name, Directory::DataType(spec)));
                }
            }
            Directory::Storage => {
                let specs = catalog.shown_specs();
                let mut formats: Vec<&str> = specs.iter().map(|spec| spec.format()).collect();
                formats.sort_unstable();
                formats.dedup();
                for format in formats {
                    fixed.push(directory(format, Directory::Format(format.into())));
                }
            }
            Directory::Collections => {
                for collection in catalog.collections()? {
                    let trail = super::CollectionPath::to(collection.id);
                    let name = collection.id.to_string();
                    fixed.push(directory(&name, Directory::Collection(trail)));
                }
            }
            Directory::Collection(trail) => {
                for collection in catalog.collections_in(trail.id())? {
                    if let Some(on) = trail.on_to(collection.id) {
                        let name = collection.id.to_string();
                        fixed.push(directory(&name, Directory::Collection(on)));
                    }
                }
            }
            Directory::Archive(object, prefix) => {
                if let Some(archive) = catalog.cached_archive(object.id())? {
                    for (name, inside) in archive.children(prefix) {
                        let path = format!("{prefix}{name}");
                        fixed.push((name, within(object, path, inside)));
                    }
                }
            }
            _ => {}
        }
        Ok(Self {
            fixed,
            objects: place.objects(),
            catalog,
        })
    }

    /// Shows the entries from position `from` on to `visit`: 0, or an entry's
    /// `next`. `.` and `..` are the caller's, at positions 0 and 1. Blocks on
    /// the disk.
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
            show(&listed, *naming, first, &mut visit)
        })?;
        Ok(walk)
    }

    /// Waits until a listing that was [`Walk::Growing`] has grown, or is
    /// complete.
    pub async fn wait_for_more(&self) -> Result<(), TreeError> {
        Ok(self.catalog.wait_for_growth().await?)
    }
}

/// Shows the files of one object from `slot` on.
fn show(
    listed: &ListedObject,
    naming: Naming,
    slot: u64,
    visit: &mut impl FnMut(DirEntry) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let object = &listed.object;
    let files = match naming {
        Naming::Id | Naming::FileName => object.representations(),
        Naming::Stored if object.as_table().is_some() => {
            &[Representation::Cpb, Representation::Original]
        }
        Naming::Stored => &[Representation::Original],
    };
    let stem = match naming {
        Naming::Id | Naming::Stored => object.id().to_string(),
        Naming::FileName => object.stem(listed.shares_name),
    };
    for (&representation, at) in files.iter().zip(0..).skip_while(|(_, at)| *at < slot) {
        let mut name = String::with_capacity(stem.len() + 16);
        name.push_str(&stem);
        match (naming, representation) {
            (Naming::Stored, Representation::Original) => {}
            _ => {
                name.push_str(&object.ending(representation));
            }
        }
        visit(DirEntry {
            name,
            node: Node::File(Arc::clone(object), representation),
            next: OBJECTS + listed.place * SLOTS + at + 1,
        })?;
    }
    // Tables' originals are archives by the ten thousand; whoever walks through
    // everything should not ask the portal for the contents of each.
    let last = files.len() as u64;
    if naming == Naming::Id && slot <= last && object.is_archive() && object.as_table().is_none() {
        visit(DirEntry {
            name: format!("{stem}{CONTENTS}"),
            node: Node::Directory(Directory::Archive(Arc::clone(object), "".into())),
            next: OBJECTS + listed.place * SLOTS + last + 1,
        })?;
    }
    ControlFlow::Continue(())
}
