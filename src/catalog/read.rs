//! Objects out of the database: by id, by name, and folder by folder.

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Row, ToSql};

use super::name::{key, marked_id};
use super::selection::{Facts, View};
use super::vocabulary::Vocabulary;
use super::{CatalogState, Object};
use icos_portal::ObjectId;

/// What a folder's objects have in common.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum CatalogFolder {
    /// They are shown at all.
    All,
    /// Station and data type.
    Station(i64, i64),
    /// Data type.
    Spec(i64),
    /// The folder that the portal keeps them in.
    Format(Arc<str>),
    /// They are documents.
    Documents,
    /// They are in a collection, whatever their type and version.
    Collection(ObjectId),
}

/// An object in a folder.
#[derive(Debug)]
pub struct ListedObject {
    /// The object.
    pub object: Arc<Object>,
    /// Its place in the folder's order: never another's, not even if objects
    /// come and go.
    pub place: u64,
    /// Whether another comes first by the name that both would have.
    pub shares_name: bool,
}

/// Columns that [`facts`], [`object`] read, of a table called `object`.
const COLUMNS: &str = "object.row, shown, spec, station, submitted, object.id, name, size, rows, \
     labels, doi, next, starts, ends, height, stem, shared";

fn facts(row: &Row<'_>) -> Result<Facts, rusqlite::Error> {
    Ok(Facts {
        shown: row.get(1)?,
        spec: row.get(2)?,
        station: row.get(3)?,
        submitted: row.get(4)?,
    })
}

/// Reads an id that we wrote.
pub(super) fn id_of(bytes: &[u8]) -> Option<ObjectId> {
    <[u8; 18]>::try_from(bytes).ok().map(ObjectId::from_bytes)
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl CatalogFolder {
    /// The rows of the folder, and some that are not of it, from `?1` on.
    fn query(&self) -> String {
        let rest = match self {
            CatalogFolder::All | CatalogFolder::Format(_) => {
                "FROM object WHERE row >= ?1 ORDER BY row"
            }
            CatalogFolder::Station(..) => {
                "FROM object WHERE row >= ?1 AND station = ?2 AND spec = ?3 ORDER BY row"
            }
            CatalogFolder::Spec(_) => "FROM object WHERE row >= ?1 AND spec = ?2 ORDER BY row",
            CatalogFolder::Documents => "FROM object WHERE row >= ?1 AND spec IS NULL ORDER BY row",
            CatalogFolder::Collection(_) => {
                "FROM member JOIN object ON object.id = item
                 WHERE collection = ?2 AND position >= ?1 ORDER BY position"
            }
        };
        let place = match self {
            CatalogFolder::Collection(_) => "position",
            _ => "object.row",
        };
        format!("SELECT {COLUMNS}, {place} {rest}")
    }

    /// What the query's parameters from `?2` on are.
    fn parameters(&self) -> Vec<Box<dyn ToSql>> {
        match self {
            CatalogFolder::All | CatalogFolder::Format(_) | CatalogFolder::Documents => Vec::new(),
            CatalogFolder::Station(station, spec) => vec![Box::new(*station), Box::new(*spec)],
            CatalogFolder::Spec(spec) => vec![Box::new(*spec)],
            CatalogFolder::Collection(id) => vec![Box::new(*id.as_bytes())],
        }
    }

    /// Whether a row is of the folder, where its query does not see to it.
    fn holds(&self, row: &Facts, view: &View) -> bool {
        match self {
            CatalogFolder::All => row.spec.is_some() && view.shows(row),
            CatalogFolder::Station(station, spec) => {
                row.station == Some(*station) && row.spec == Some(*spec) && view.shows(row)
            }
            CatalogFolder::Spec(spec) => row.spec == Some(*spec) && view.shows(row),
            CatalogFolder::Format(format) => {
                let spec = row.spec.and_then(|spec| view.vocabulary.spec(spec));
                spec.is_some_and(|spec| spec.format() == &**format) && view.shows(row)
            }
            CatalogFolder::Documents => {
                row.spec.is_none() && row.shown != 0 && view.shows_version(row)
            }
            CatalogFolder::Collection(_) => true,
        }
    }

    /// Whether its files are called after their objects' names.
    fn is_named(&self) -> bool {
        match self {
            CatalogFolder::All | CatalogFolder::Format(_) | CatalogFolder::Documents => false,
            CatalogFolder::Station(..) | CatalogFolder::Spec(_) | CatalogFolder::Collection(_) => {
                true
            }
        }
    }
}

impl CatalogState {
    fn object(
        &self,
        db: &Connection,
        vocabulary: &Vocabulary,
        row: &Row<'_>,
    ) -> Result<Object, rusqlite::Error> {
        let blob = |at| {
            Ok::<_, rusqlite::Error>(
                row.get_ref(at)?
                    .as_blob_or_null()
                    .ok()
                    .flatten()
                    .and_then(id_of),
            )
        };
        let spec: Option<i64> = row.get(2)?;
        let station: Option<i64> = row.get(3)?;
        let labels: Option<i64> = row.get(9)?;
        let (starts, ends): (Option<i64>, Option<i64>) = (row.get(12)?, row.get(13)?);
        let text = |at| {
            let text = row.get_ref(at)?.as_str_or_null()?;
            Ok::<_, rusqlite::Error>(text.map(Box::from))
        };
        Ok(Object {
            id: blob(5)?.unwrap_or_else(|| ObjectId::from_bytes([0; 18])),
            file_name: text(6)?.unwrap_or_default(),
            size: row.get::<_, i64>(7)?.unsigned_abs(),
            submitted: time(row.get(4)?),
            spec: spec.and_then(|spec| vocabulary.spec(spec)).cloned(),
            station: station.and_then(|key| vocabulary.station(key)).cloned(),
            rows: row.get::<_, Option<i64>>(8)?.map(i64::unsigned_abs),
            column_names: labels.map(|key| self.labels(db, key)).transpose()?,
            doi: text(10)?,
            next: blob(11)?,
            span: starts
                .zip(ends)
                .map(|(start, end)| (time(start), time(end))),
            height: row.get(14)?,
            superseded: row.get::<_, i64>(1)? == 2 || row.get_ref(11)?.as_blob_or_null()?.is_some(),
        })
    }

    fn labels(&self, db: &Connection, key: i64) -> Result<Arc<[String]>, rusqlite::Error> {
        if let Some(labels) = self.cached().labels.get(&key) {
            return Ok(Arc::clone(labels));
        }
        let json: String = db
            .prepare_cached("SELECT json FROM labels WHERE row = ?1")?
            .query_row([key], |row| row.get(0))?;
        // We wrote it.
        let labels: Vec<String> = serde_json::from_str(&json).unwrap_or_default();
        let labels: Arc<[String]> = labels.into();
        self.cached().labels.put(key, Arc::clone(&labels));
        Ok(labels)
    }

    /// The object whose id begins with the bits of `first` that `mask` has.
    pub(super) fn by_first_bits(
        &self,
        db: &Connection,
        view: &View,
        first: u64,
        mask: u64,
    ) -> Result<Option<Object>, rusqlite::Error> {
        let bound = |bits: u64, fill: u8| {
            let mut bytes = [fill; 18];
            bytes[..8].copy_from_slice(&bits.to_be_bytes());
            bytes
        };
        let (low, high) = (bound(first & mask, 0), bound(first | !mask, 0xff));
        let query = format!("SELECT {COLUMNS} FROM object WHERE id BETWEEN ?1 AND ?2 LIMIT 1");
        let mut statement = db.prepare_cached(&query)?;
        let mut rows = statement.query((&low[..], &high[..]))?;
        match rows.next()? {
            Some(row) => self.object(db, &view.vocabulary, row).map(Some),
            None => Ok(None),
        }
    }

    /// Shows the objects of `folder` to `visit`, in order from `from` on.
    pub(super) fn walk(
        &self,
        db: &Connection,
        view: &View,
        folder: &CatalogFolder,
        from: u64,
        visit: &mut dyn FnMut(ListedObject) -> ControlFlow<()>,
    ) -> Result<(), rusqlite::Error> {
        let mut statement = db.prepare_cached(&folder.query())?;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let mut parameters: Vec<Box<dyn ToSql>> = vec![Box::new(from)];
        parameters.extend(folder.parameters());
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        while let Some(row) = rows.next()? {
            if !folder.holds(&facts(row)?, view) {
                continue;
            }
            let object = self.object(db, &view.vocabulary, row)?;
            let shared = folder.is_named() && row.get::<_, bool>(16)?;
            let shares_name = shared && {
                let stem: i64 = row.get(15)?;
                first_of_stem(db, view, folder, stem)? != Some(object.id)
            };
            let listed = ListedObject {
                object: Arc::new(object),
                place: row.get::<_, i64>(17)?.unsigned_abs(),
                shares_name,
            };
            if visit(listed).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The object whose names in `folder` have the stem `stem`.
    pub(super) fn by_stem(
        &self,
        db: &Connection,
        view: &View,
        folder: &CatalogFolder,
        stem: &str,
    ) -> Result<Option<Object>, rusqlite::Error> {
        let id = match marked_id(stem) {
            Some(id) => Some(id),
            None => first_of_stem(db, view, folder, key(stem))?,
        };
        let Some(id) = id else { return Ok(None) };
        let query = format!("SELECT {COLUMNS} FROM object WHERE id = ?1");
        let mut statement = db.prepare_cached(&query)?;
        let mut rows = statement.query([&id.as_bytes()[..]])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        if !(folder.holds(&facts(row)?, view) && is_member(db, folder, id.as_bytes())?) {
            return Ok(None);
        }
        let object = self.object(db, &view.vocabulary, row)?;
        // A number may be another stem's as well.
        let shares_name = marked_id(stem).is_some();
        Ok(Some(object).filter(|object| object.stem(shares_name) == stem))
    }
}

/// The object that a shared name is of in `folder`: of those that are shown
/// there, the one that was submitted first. So a new object never takes
/// another's name.
fn first_of_stem(
    db: &Connection,
    view: &View,
    folder: &CatalogFolder,
    stem: i64,
) -> Result<Option<ObjectId>, rusqlite::Error> {
    let query = format!("SELECT {COLUMNS} FROM object WHERE stem = ?1 ORDER BY submitted, id");
    let mut statement = db.prepare_cached(&query)?;
    let mut rows = statement.query([stem])?;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(5)?.as_blob()?;
        if folder.holds(&facts(row)?, view) && is_member(db, folder, id)? {
            return Ok(id_of(id));
        }
    }
    Ok(None)
}

fn is_member(db: &Connection, folder: &CatalogFolder, id: &[u8]) -> Result<bool, rusqlite::Error> {
    match folder {
        CatalogFolder::Collection(collection) => db
            .prepare_cached("SELECT 1 FROM member WHERE collection = ?1 AND item = ?2")?
            .exists((&collection.as_bytes()[..], id)),
        _ => Ok(true),
    }
}
