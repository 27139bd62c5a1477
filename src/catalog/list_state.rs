//! The lists of the catalog, and when they were last downloaded.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use serde::{Deserialize, Serialize};

use super::database::query_all;
use super::selection::ResolvedSelection;
use super::{Catalog, CatalogError, CatalogState, write};
use icos_portal::ObjectId;
use icos_portal::lists::Versions;

/// A list that the catalog downloads.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CatalogList {
    /// Data types, their columns, and stations.
    Vocabulary,
    /// All objects in the selection.
    Objects,
    /// The objects of a station.
    Station(i64),
    /// The documents.
    Documents,
    /// The collections.
    Collections,
    /// The members of a collection.
    Members(ObjectId),
    /// Titles and keywords, for searches.
    Texts,
}

/// When lists were last downloaded, for status reports; `None` if never.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListAge {
    /// Data types and stations.
    pub vocabulary: Option<Timestamp>,
    /// All objects in the selection.
    pub objects: Option<Timestamp>,
}

impl CatalogList {
    /// Key of the list's state in the database. (The state of objects is stored
    /// with their data types, that of members with their collections.)
    pub(super) fn key(self, selection: &ResolvedSelection) -> String {
        match self {
            CatalogList::Vocabulary => "vocabulary".to_owned(),
            CatalogList::Objects => "objects".to_owned(),
            // Mounts that share the catalog may have different selections, which
            // need different lists.
            CatalogList::Station(key) => format!("station {key} {:x}", selection.scope()),
            CatalogList::Documents => "documents".to_owned(),
            CatalogList::Collections => "collections".to_owned(),
            CatalogList::Members(id) => format!("members {id}"),
            CatalogList::Texts => "texts".to_owned(),
        }
    }

    /// Whether a narrow query downloads it: see [`super::sync`].
    pub(super) fn is_narrow(self) -> bool {
        matches!(self, CatalogList::Station(_) | CatalogList::Members(_))
    }
}

pub(super) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

impl Catalog {
    /// When the lists were last downloaded. Blocks on the disk for a short time.
    pub fn lists(&self) -> Result<ListAge, CatalogError> {
        let downloaded = |list| -> Result<Option<Timestamp>, CatalogError> {
            let time = self.0.download_time(list)?;
            Ok(time.and_then(|time| Timestamp::from_millisecond(time).ok()))
        };
        Ok(ListAge {
            vocabulary: downloaded(CatalogList::Vocabulary)?,
            objects: downloaded(CatalogList::Objects)?,
        })
    }
}

impl CatalogState {
    /// Time since `list` was last downloaded; `None` if it never was.
    pub(super) fn age(&self, list: CatalogList) -> Result<Option<Duration>, CatalogError> {
        // The absolute value: if the clock was set back, lists still age.
        let age = |time| Duration::from_millis(now().abs_diff(time));
        Ok(self.download_time(list)?.map(age))
    }

    /// When `list` was last downloaded, in milliseconds since 1970.
    pub(super) fn download_time(&self, list: CatalogList) -> Result<Option<i64>, CatalogError> {
        // Before the read below, since it reads the database itself.
        let selection = self.resolved_selection();
        let versions = self.selection.versions;
        self.db.read(|db| match list {
            CatalogList::Objects => objects_download_time(db, &selection, versions),
            CatalogList::Station(_) => match objects_download_time(db, &selection, versions)? {
                Some(time) => Ok(Some(time)),
                None => write::state(db, &list.key(&selection)),
            },
            CatalogList::Members(id) => {
                let time = db
                    .prepare_cached("SELECT taken FROM collection WHERE id = ?1")?
                    .query_row([id.as_bytes()], |row| row.get(0));
                Ok(time.optional()?.flatten())
            }
            _ => write::state(db, &list.key(&selection)),
        })
    }

    /// Whether a part of the list is stored that can be served although the list
    /// is incomplete. Objects that were looked up one by one do not count.
    pub(super) fn has_part_of(&self, list: CatalogList) -> Result<bool, CatalogError> {
        // Objects of some data types were downloaded, perhaps by a mount with a
        // smaller selection.
        let listed = "SELECT EXISTS (SELECT 1 FROM spec WHERE taken IS NOT NULL)";
        let (query, station) = match list {
            CatalogList::Vocabulary => ("SELECT EXISTS (SELECT 1 FROM spec)".to_owned(), None),
            CatalogList::Objects => (listed.to_owned(), None),
            // An empty folder would claim that the station has no objects.
            CatalogList::Station(key) => (
                format!("{listed} AND EXISTS (SELECT 1 FROM object WHERE station = ?1)"),
                Some(key),
            ),
            CatalogList::Documents
            | CatalogList::Collections
            | CatalogList::Members(_)
            | CatalogList::Texts => return Ok(false),
        };
        (self.db).read(|db| db.query_row(&query, params_from_iter(station), |row| row.get(0)))
    }
}

/// When the objects of all selected data types were last downloaded: the oldest
/// time, or `None` if those of any data type never were.
fn objects_download_time(
    db: &Connection,
    selection: &ResolvedSelection,
    versions: Versions,
) -> rusqlite::Result<Option<i64>> {
    let states = SpecState::all(db)?.into_iter();
    let selected = states.filter(|state| selection.has_spec(state.spec));
    // `None` is less than any time.
    let times = selected.map(|state| state.downloaded.filter(|_| state.has(versions)));
    Ok(times.min().flatten())
}

/// Which objects of a data type are stored. Other mounts change it too.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpecState {
    pub(super) spec: i64,
    synced: i64,
    /// Objects submitted before this time are stored.
    pub(super) until: i64,
    downloaded: Option<i64>,
}

impl SpecState {
    pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<Self>> {
        let query = "SELECT row, synced, until, taken FROM spec";
        query_all(db, query, [], |row| {
            let (spec, synced, until, downloaded) = row.try_into()?;
            Ok(Self {
                spec,
                synced,
                until,
                downloaded,
            })
        })
    }

    /// Whether these versions of its objects are stored.
    pub(super) fn has(&self, versions: Versions) -> bool {
        self.synced >= write::synced(versions)
    }
}
