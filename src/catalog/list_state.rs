//! The lists of the catalog, and when they were last downloaded.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::selection::View;
use super::{CatalogError, CatalogState, write};
use icos_portal::ObjectId;
use icos_portal::lists::Versions;

/// Key of the state of [`CatalogList::Vocabulary`].
pub(super) const VOCABULARY: &str = "vocabulary";

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
}

impl CatalogList {
    /// Key of the list's state in the database. (The state of objects is stored
    /// with their data types, that of members with their collections.)
    pub(super) fn key(self, view: &View) -> String {
        match self {
            CatalogList::Vocabulary => VOCABULARY.to_owned(),
            CatalogList::Objects => "objects".to_owned(),
            // Mounts that share the catalog may have different selections, which
            // need different lists.
            CatalogList::Station(key) => format!("station {key} {:x}", view.scope()),
            CatalogList::Documents => "documents".to_owned(),
            CatalogList::Collections => "collections".to_owned(),
            CatalogList::Members(id) => format!("members {id}"),
        }
    }
}

pub(super) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

impl CatalogState {
    /// Time since `list` was last downloaded; `None` if it never was.
    pub(super) fn age(&self, list: CatalogList) -> Result<Option<Duration>, CatalogError> {
        let taken = self.taken(list)?;
        // The absolute value: if the clock was set back, lists still age.
        Ok(taken.map(|taken| Duration::from_millis(now().abs_diff(taken))))
    }

    /// When `list` was last downloaded, in milliseconds since 1970.
    pub(super) fn taken(&self, list: CatalogList) -> Result<Option<i64>, CatalogError> {
        // Before the read below, since it reads the database itself.
        let view = self.view();
        let versions = self.selection.versions;
        self.db.read(|db| match list {
            CatalogList::Objects => objects_taken(db, &view, versions),
            CatalogList::Station(_) => match objects_taken(db, &view, versions)? {
                Some(taken) => Ok(Some(taken)),
                None => write::state(db, &list.key(&view)),
            },
            CatalogList::Members(id) => {
                let taken = "SELECT taken FROM collection WHERE id = ?1";
                let mut statement = db.prepare_cached(taken)?;
                let mut rows = statement.query([&id.as_bytes()[..]])?;
                match rows.next()? {
                    Some(row) => row.get(0),
                    None => Ok(None),
                }
            }
            _ => write::state(db, &list.key(&view)),
        })
    }

    /// Whether a part of the list is stored that can be served although the list
    /// is incomplete. Objects that were looked up one by one do not count.
    pub(super) fn knows_some(&self, list: CatalogList) -> Result<bool, CatalogError> {
        // ListAge of some data types were taken, perhaps by a mount that shows
        // fewer.
        let listed = "EXISTS (SELECT 1 FROM spec WHERE taken IS NOT NULL)";
        let (query, station) = match list {
            CatalogList::Vocabulary => ("SELECT EXISTS (SELECT 1 FROM spec)".to_owned(), None),
            CatalogList::Objects => (format!("SELECT {listed}"), None),
            // An empty folder would claim that the station has no objects.
            CatalogList::Station(key) => (
                format!("SELECT {listed} AND EXISTS (SELECT 1 FROM object WHERE station = ?1)"),
                Some(key),
            ),
            CatalogList::Documents | CatalogList::Collections | CatalogList::Members(_) => {
                return Ok(false);
            }
        };
        self.db.read(|db| {
            let found = |row: &rusqlite::Row<'_>| row.get(0);
            match station {
                Some(key) => db.query_row(&query, [key], found),
                None => db.query_row(&query, [], found),
            }
        })
    }
}

/// When the objects of all selected data types were last downloaded: the oldest
/// time, or `None` if those of any data type never were.
fn objects_taken(
    db: &Connection,
    view: &View,
    versions: Versions,
) -> Result<Option<i64>, rusqlite::Error> {
    let shown = SpecState::all(db)?.into_iter();
    let mut oldest = None;
    for state in shown.filter(|state| view.shows_spec(state.spec)) {
        match state.taken {
            Some(taken) if state.has(versions) => {
                oldest = Some(oldest.map_or(taken, |oldest: i64| oldest.min(taken)));
            }
            _ => return Ok(None),
        }
    }
    Ok(oldest)
}

/// Which objects of a data type are stored. Other mounts change it too.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpecState {
    pub(super) spec: i64,
    synced: i64,
    /// Objects submitted before this time are stored.
    pub(super) until: i64,
    taken: Option<i64>,
}

impl SpecState {
    pub(super) fn all(db: &Connection) -> Result<Vec<Self>, rusqlite::Error> {
        let mut statement = db.prepare_cached("SELECT row, synced, until, taken FROM spec")?;
        let states = statement.query_map([], |row| {
            Ok(Self {
                spec: row.get(0)?,
                synced: row.get(1)?,
                until: row.get(2)?,
                taken: row.get(3)?,
            })
        })?;
        states.collect()
    }

    /// Whether these versions of its objects are stored.
    pub(super) fn has(&self, versions: Versions) -> bool {
        self.synced >= write::synced(versions)
    }
}
