//! Reads objects from the database: by id, by name, and folder by folder.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::name::{id_of_stem, key};
use super::selection::{FilterColumns, ResolvedSelection};
use super::vocabulary::Vocabulary;
use super::{Catalog, CatalogError, CatalogState, Object, first_bits};
use icos_portal::ObjectId;

/// Selects the objects of a folder.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum CatalogFolder {
    /// All data objects in the selection.
    All,
    /// Those of a station and a data type.
    Station(i64, i64),
    /// Those of a data type.
    Spec(i64),
    /// Those of a format, by the name of the portal's own folder.
    Format(Arc<str>),
    /// The documents.
    Documents,
    /// The members of a collection, of any type and version.
    Collection(ObjectId),
}

/// An object in a folder.
#[derive(Debug)]
pub struct ListedObject {
    /// The object.
    pub object: Arc<Object>,
    /// Its place in the order of the folder. No other object ever gets it.
    pub place: u64,
    /// Whether another object of the folder has precedence for the same name.
    pub shares_name: bool,
}

/// How a [`Catalog::walk`] ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Walk {
    /// The visitor stopped it.
    Stopped,
    /// It visited all objects.
    AtEnd,
    /// It visited all stored objects, but the list is still being downloaded: see [`Catalog::wait_for_growth`].
    Growing,
}

/// The columns of the table `object` that [`filter_columns`] and
/// [`CatalogState::to_object`] read.
const COLUMNS: &str = "object.row, shown, spec, station, submitted, object.id, name, size, rows, \
     labels, doi, next, starts, ends, height, stem, shared";

fn filter_columns(row: &Row<'_>) -> rusqlite::Result<FilterColumns> {
    Ok(FilterColumns {
        shown: row.get(1)?,
        spec: row.get(2)?,
        station: row.get(3)?,
        submitted: row.get(4)?,
    })
}

/// The id in the column at `index`.
pub(super) fn id_at(row: &Row<'_>, index: usize) -> rusqlite::Result<ObjectId> {
    row.get(index).map(ObjectId::from_bytes)
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl CatalogFolder {
    /// The query for the rows of the folder from `?1` on, and its parameters from
    /// `?2` on. [`CatalogFolder::contains`] must check each row.
    fn query(&self) -> (String, Vec<Value>) {
        let (condition, parameters) = match self {
            CatalogFolder::All | CatalogFolder::Format(_) => ("", vec![]),
            CatalogFolder::Station(station, spec) => (
                "AND station = ?2 AND spec = ?3",
                vec![(*station).into(), (*spec).into()],
            ),
            CatalogFolder::Spec(spec) => ("AND spec = ?2", vec![(*spec).into()]),
            CatalogFolder::Documents => ("AND spec IS NULL", vec![]),
            CatalogFolder::Collection(id) => {
                let query = format!(
                    "SELECT {COLUMNS}, position FROM member JOIN object ON object.id = item
                     WHERE collection = ?2 AND position >= ?1 ORDER BY position"
                );
                return (query, vec![id.as_bytes().to_vec().into()]);
            }
        };
        let query = format!(
            "SELECT {COLUMNS}, object.row FROM object WHERE row >= ?1 {condition} ORDER BY row"
        );
        (query, parameters)
    }

    /// Whether the folder contains the object of `row`, as far as its columns tell.
    fn contains(&self, row: &FilterColumns, selection: &ResolvedSelection) -> bool {
        match self {
            CatalogFolder::All => row.spec.is_some() && selection.contains(row),
            CatalogFolder::Station(station, spec) => {
                row.station == Some(*station) && row.spec == Some(*spec) && selection.contains(row)
            }
            CatalogFolder::Spec(spec) => row.spec == Some(*spec) && selection.contains(row),
            CatalogFolder::Format(format) => {
                let spec = row.spec.and_then(|spec| selection.vocabulary.spec(spec));
                spec.is_some_and(|spec| spec.format() == &**format) && selection.contains(row)
            }
            CatalogFolder::Documents => {
                row.spec.is_none() && row.shown != 0 && selection.has_version(row)
            }
            CatalogFolder::Collection(_) => true,
        }
    }

    /// Whether its files are named by the file names of the objects, not by ids.
    fn is_named(&self) -> bool {
        !matches!(
            self,
            CatalogFolder::All | CatalogFolder::Format(_) | CatalogFolder::Documents
        )
    }
}

impl CatalogState {
    /// The object of a row with [`COLUMNS`].
    fn to_object(
        &self,
        db: &Connection,
        vocabulary: &Vocabulary,
        row: &Row<'_>,
    ) -> rusqlite::Result<Object> {
        let spec: Option<i64> = row.get(2)?;
        let station: Option<i64> = row.get(3)?;
        let labels: Option<i64> = row.get(9)?;
        let next: Option<[u8; 18]> = row.get(11)?;
        let (start, end): (Option<i64>, Option<i64>) = (row.get(12)?, row.get(13)?);
        Ok(Object {
            id: id_at(row, 5)?,
            file_name: row.get(6)?,
            size: row.get::<_, i64>(7)?.unsigned_abs(),
            submitted: time(row.get(4)?),
            spec: spec.and_then(|spec| vocabulary.spec(spec)).cloned(),
            station: station.and_then(|key| vocabulary.station(key)).cloned(),
            rows: row.get::<_, Option<i64>>(8)?.map(i64::unsigned_abs),
            column_names: labels.map(|key| self.labels(db, key)).transpose()?,
            doi: row.get(10)?,
            next: next.map(ObjectId::from_bytes),
            span: start.map(time).zip(end.map(time)),
            height: row.get(14)?,
        })
    }

    fn labels(&self, db: &Connection, key: i64) -> rusqlite::Result<Arc<[String]>> {
        if let Some(labels) = self.cached.lock().labels.get(&key) {
            return Ok(Arc::clone(labels));
        }
        let json: String = db
            .prepare_cached("SELECT json FROM labels WHERE row = ?1")?
            .query_row([key], |row| row.get(0))?;
        // The catalog itself wrote it.
        let labels: Vec<String> = serde_json::from_str(&json).unwrap_or_default();
        let labels: Arc<[String]> = labels.into();
        self.cached.lock().labels.put(key, Arc::clone(&labels));
        Ok(labels)
    }

    fn cache_object(&self, key: u64, object: Object) -> Arc<Object> {
        let object = Arc::new(object);
        self.cached.lock().objects.put(key, Arc::clone(&object));
        object
    }
}

impl Catalog {
    /// The object `id`, if it is stored. Blocks on the disk for a short time.
    pub fn known(&self, id: ObjectId) -> Result<Option<Arc<Object>>, CatalogError> {
        let found = self.known_by_bits(first_bits(id), u64::MAX)?;
        Ok(found.filter(|object| object.id() == id))
    }

    /// The stored object whose id begins with the bits of `first` selected by
    /// `mask`. Blocks on the disk for a short time.
    pub fn known_by_bits(
        &self,
        first: u64,
        mask: u64,
    ) -> Result<Option<Arc<Object>>, CatalogError> {
        let key = first & mask;
        if let Some(object) = self.0.cached.lock().objects.get(&key)
            && first_bits(object.id()) & mask == key
        {
            return Ok(Some(Arc::clone(object)));
        }
        let bound = |bits: u64, fill: u8| {
            let mut bytes = [fill; 18];
            bytes[..8].copy_from_slice(&bits.to_be_bytes());
            bytes
        };
        let range = (bound(key, 0), bound(first | !mask, 0xff));
        let query = format!("SELECT {COLUMNS} FROM object WHERE id BETWEEN ?1 AND ?2 LIMIT 1");
        let vocabulary = self.vocabulary();
        let found = self.0.db.read(|db| {
            let mut statement = db.prepare_cached(&query)?;
            let object = statement.query_row(range, |row| self.0.to_object(db, &vocabulary, row));
            object.optional()
        })?;
        Ok(found.map(|object| self.0.cache_object(key, object)))
    }

    /// Passes the objects of `folder` to `visit`, in order, from place `from` on.
    /// New objects are last. Blocks on the disk.
    pub fn walk(
        &self,
        folder: &CatalogFolder,
        from: u64,
        visit: impl FnMut(ListedObject) -> ControlFlow<()>,
    ) -> Result<Walk, CatalogError> {
        // Read before the walk: rows added during the walk are left to the next.
        let growing = self.0.progress.borrow().active
            && !matches!(
                folder,
                CatalogFolder::Collection(_) | CatalogFolder::Documents
            );
        let selection = self.0.resolved_selection();
        // The read restarts if the file turns out to be corrupt; no object may be
        // visited twice.
        let (place, visit) = (Cell::new(from), RefCell::new(visit));
        let stopped = self.0.db.read(|db| {
            let (query, parameters) = folder.query();
            let mut statement = db.prepare_cached(&query)?;
            let from = i64::try_from(place.get()).unwrap_or(i64::MAX);
            let parameters = std::iter::once(from.into()).chain(parameters);
            let mut rows = statement.query(params_from_iter(parameters))?;
            while let Some(row) = rows.next()? {
                if !folder.contains(&filter_columns(row)?, &selection) {
                    continue;
                }
                let object = self.0.to_object(db, &selection.vocabulary, row)?;
                let shared = folder.is_named() && row.get::<_, bool>(16)?;
                let shares_name = shared && {
                    let stem: i64 = row.get(15)?;
                    first_of_stem(db, &selection, folder, stem)? != Some(object.id)
                };
                let listed = ListedObject {
                    object: Arc::new(object),
                    place: row.get::<_, i64>(17)?.unsigned_abs(),
                    shares_name,
                };
                place.set(listed.place + 1);
                if (visit.borrow_mut())(listed).is_break() {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        Ok(match (stopped, growing) {
            (true, _) => Walk::Stopped,
            (false, true) => Walk::Growing,
            (false, false) => Walk::AtEnd,
        })
    }

    /// Whether no stored object is in `folder`. Blocks on the disk for a short time.
    pub fn is_empty(&self, folder: &CatalogFolder) -> Result<bool, CatalogError> {
        let walk = self.walk(folder, 0, |_| ControlFlow::Break(()))?;
        Ok(walk != Walk::Stopped)
    }

    /// The object whose names in `folder` begin with `stem`. Blocks on the disk for
    /// a short time.
    pub fn by_stem(
        &self,
        folder: &CatalogFolder,
        stem: &str,
    ) -> Result<Option<Arc<Object>>, CatalogError> {
        let selection = self.0.resolved_selection();
        let id_in_stem = id_of_stem(stem);
        let query = format!("SELECT {COLUMNS} FROM object WHERE id = ?1");
        let found = self.0.db.read(|db| {
            let id = match id_in_stem {
                Some(id) => Some(id),
                None => first_of_stem(db, &selection, folder, key(stem))?,
            };
            let Some(id) = id else { return Ok(None) };
            let mut statement = db.prepare_cached(&query)?;
            let mut rows = statement.query([id.as_bytes()])?;
            match rows.next()? {
                Some(row)
                    if folder.contains(&filter_columns(row)?, &selection)
                        && is_member(db, folder, id)? =>
                {
                    self.0.to_object(db, &selection.vocabulary, row).map(Some)
                }
                _ => Ok(None),
            }
        })?;
        // Two stems may have the same hash.
        let found = found.filter(|object| object.stem(id_in_stem.is_some()) == stem);
        Ok(found.map(|object| self.0.cache_object(first_bits(object.id), object)))
    }
}

/// The object that has the stem in `folder` without its id: of those in the folder,
/// the one that was submitted first. So a new object never takes over the name of
/// another one.
fn first_of_stem(
    db: &Connection,
    selection: &ResolvedSelection,
    folder: &CatalogFolder,
    stem: i64,
) -> rusqlite::Result<Option<ObjectId>> {
    let query = format!("SELECT {COLUMNS} FROM object WHERE stem = ?1 ORDER BY submitted, id");
    let mut statement = db.prepare_cached(&query)?;
    let mut rows = statement.query([stem])?;
    while let Some(row) = rows.next()? {
        let id = id_at(row, 5)?;
        if folder.contains(&filter_columns(row)?, selection) && is_member(db, folder, id)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn is_member(db: &Connection, folder: &CatalogFolder, id: ObjectId) -> rusqlite::Result<bool> {
    match folder {
        CatalogFolder::Collection(collection) => db
            .prepare_cached("SELECT 1 FROM member WHERE collection = ?1 AND item = ?2")?
            .exists([collection.as_bytes(), id.as_bytes()]),
        _ => Ok(true),
    }
}
