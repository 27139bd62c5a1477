//! What must be known to answer someone, and what of it is.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::selection::View;
use super::{CatalogError, Inner, write};
use icos_portal::ObjectId;
use icos_portal::lists::Versions;

/// What the state of [`CatalogList::Vocabulary`] is called.
pub(super) const VOCABULARY: &str = "vocabulary";

/// What must be known to answer someone.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CatalogList {
    /// Data types, their columns, and stations.
    Vocabulary,
    /// All objects that are shown.
    Objects,
    /// The objects of a station.
    Station(i64),
    /// The documents.
    Documents,
    /// Which collections there are.
    Collections,
    /// What is in a collection.
    Members(ObjectId),
}

impl CatalogList {
    /// What its state is called; objects have theirs with their data types,
    /// collections' members with the collections.
    pub(super) fn key(self, view: &View) -> String {
        match self {
            CatalogList::Vocabulary => VOCABULARY.to_owned(),
            CatalogList::Objects => "objects".to_owned(),
            // Mounts that share the catalog may show other objects: what one
            // has taken is not what another needs.
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

impl Inner {
    /// How long ago `need` was last taken; never, if `None`.
    pub(super) fn age(&self, list: CatalogList) -> Result<Option<Duration>, CatalogError> {
        let taken = self.taken(list)?;
        // A clock that was set back makes nothing young.
        Ok(taken.map(|taken| Duration::from_millis(now().abs_diff(taken))))
    }

    /// When `need` was last taken, in milliseconds since 1970.
    pub(super) fn taken(&self, list: CatalogList) -> Result<Option<i64>, CatalogError> {
        // Not within the question: it is one itself.
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

    /// Whether something can be shown though not all of it was ever taken:
    /// what is known of single objects, because they were looked up, must not
    /// pass for a list.
    pub(super) fn knows_some(&self, list: CatalogList) -> Result<bool, CatalogError> {
        // ListAge of some data types were taken, perhaps by a mount that shows
        // fewer.
        let listed = "EXISTS (SELECT 1 FROM spec WHERE taken IS NOT NULL)";
        let (query, station) = match list {
            CatalogList::Vocabulary => ("SELECT EXISTS (SELECT 1 FROM spec)".to_owned(), None),
            CatalogList::Objects => (format!("SELECT {listed}"), None),
            // An empty folder would say that there are none.
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

/// When the objects of every data type that is shown were last taken; never,
/// if those of one were not.
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

/// Which objects of a data type are known. Other mounts change it, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpecState {
    pub(super) spec: i64,
    synced: i64,
    /// Those submitted before this.
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

    /// Whether these versions of its objects are known.
    pub(super) fn has(&self, versions: Versions) -> bool {
        self.synced >= write::synced(versions)
    }
}
