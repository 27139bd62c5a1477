//! Stores lists from the portal in the database.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Params, Result, Transaction, params};

use super::name::{Stem, key};
use icos_portal::ObjectId;
use icos_portal::lists::{
    CollectionRow, ColumnRow, MemberRow, ObjectRow, SpecRow, StationRow, SuccessionRow, TextRow,
    Versions,
};

/// The value of the column `synced` if these versions of all objects of a data type
/// are stored.
pub(super) fn synced(versions: Versions) -> i64 {
    match versions {
        Versions::Current => 1,
        Versions::All => 2,
    }
}

/// Executes a statement for one row.
fn execute(db: &Transaction<'_>, statement: &str, parameters: impl Params) -> Result<usize> {
    db.prepare_cached(statement)?.execute(parameters)
}

/// When the list with the key `key` was last downloaded.
pub(super) fn state(db: &Connection, key: &str) -> Result<Option<i64>> {
    db.prepare_cached("SELECT value FROM state WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

pub(super) fn set_state(db: &Transaction<'_>, key: &str, value: i64) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)";
    execute(db, insert, (key, value)).map(drop)
}

/// Replaces the data types, their columns and the stations. Data types and stations
/// that objects may refer to stay, but are no longer listed.
pub(super) fn vocabulary(
    db: &Transaction<'_>,
    specs: &[SpecRow],
    columns: &[ColumnRow],
    stations: &[StationRow],
) -> Result<()> {
    db.execute("UPDATE spec SET offered = 0", [])?;
    for row in specs {
        spec(db, row, true)?;
    }
    db.execute("DELETE FROM field", [])?;
    for row in columns {
        execute(
            db,
            "INSERT INTO field (dataset, title, format, optional, regex, value, unit)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                row.dataset,
                row.title,
                row.format,
                row.optional,
                row.regex,
                row.value,
                row.unit
            ],
        )?;
    }
    db.execute("UPDATE station SET code = NULL", [])?;
    for row in stations {
        let (lat, lon) = row.position.unzip();
        execute(
            db,
            "INSERT OR REPLACE INTO station
                 (row, iri, code, name, country, class, lat, lon, elevation)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                key(&row.iri),
                row.iri,
                row.code,
                row.name,
                row.country,
                row.class,
                lat,
                lon,
                row.elevation
            ],
        )?;
    }
    Ok(())
}

/// Adds or updates a data type. Keeps what is known about its objects.
pub(super) fn spec(db: &Transaction<'_>, row: &SpecRow, listed: bool) -> Result<()> {
    execute(
        db,
        "INSERT INTO spec (row, iri, label, level, format, dataset, theme, project, offered,
             theme_iri, project_iri)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (row) DO UPDATE SET label = excluded.label, level = excluded.level,
             format = excluded.format, dataset = excluded.dataset, theme = excluded.theme,
             project = excluded.project, offered = excluded.offered,
             theme_iri = excluded.theme_iri, project_iri = excluded.project_iri",
        params![
            key(&row.iri),
            row.iri,
            row.label,
            row.level,
            row.format,
            row.dataset,
            row.theme,
            row.project,
            listed,
            row.theme_iri,
            row.project_iri
        ],
    )
    .map(drop)
}

/// Adds or updates objects.
pub(super) fn objects(db: &Transaction<'_>, rows: &[ObjectRow]) -> Result<()> {
    let mut keys = ForeignKeys::default();
    for row in rows {
        let spec = keys.spec(db, row.spec.as_deref())?;
        let station = keys.station(db, row.station.as_deref())?;
        let labels = keys.labels(db, row.column_names.as_deref())?;
        // Data objects that the portal's lists leave out are on no list here.
        let is_listed = row.spec.is_none() || (spec.is_some() && row.span.is_some());
        let shown = match (is_listed, row.next) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(_)) => 2,
        };
        let (id, next) = (row.id.as_bytes(), row.next.map(|id| *id.as_bytes()));
        let rows = row.rows.map(saturating);
        let updated = execute(
            db,
            "UPDATE object SET station = coalesce(station, ?2), rows = ?3, labels = ?4,
                 doi = ?5, next = ?6, shown = ?7, spec = coalesce(?8, spec)
             WHERE id = ?1",
            params![id, station, rows, labels, row.doi, next, shown, spec],
        )?;
        if updated > 0 {
            continue;
        }
        let (starts, ends) = row.span.unzip();
        let stem = Stem::of(&row.file_name).key();
        let shared = execute(db, "UPDATE object SET shared = 1 WHERE stem = ?1", [stem])? > 0;
        execute(
            db,
            "INSERT INTO object (id, name, size, submitted, spec, station, rows, labels, doi, next,
                 starts, ends, height, shown, stem, shared)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            params![
                id,
                row.file_name,
                saturating(row.size),
                row.submitted.as_millisecond(),
                spec,
                station,
                rows,
                labels,
                row.doi,
                next,
                starts.map(Timestamp::as_millisecond),
                ends.map(Timestamp::as_millisecond),
                row.height,
                shown,
                stem,
                shared
            ],
        )?;
    }
    Ok(())
}

/// Converts a number to the type of `SQLite`. No real size exceeds it.
fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Records that objects were superseded.
pub(super) fn successions(db: &Transaction<'_>, rows: &[SuccessionRow]) -> Result<()> {
    let update =
        "UPDATE object SET next = ?2, shown = CASE shown WHEN 0 THEN 0 ELSE 2 END WHERE id = ?1";
    for row in rows {
        execute(db, update, (row.old.as_bytes(), row.new.as_bytes()))?;
    }
    Ok(())
}

/// Records that at the time `now` all objects of these data types submitted before
/// `until` are stored.
pub(super) fn specs_synced(
    db: &Transaction<'_>,
    specs: &[i64],
    versions: Versions,
    until: Option<Timestamp>,
    now: i64,
) -> Result<()> {
    let until = until.map_or(0, Timestamp::as_millisecond);
    // Another mount with a larger selection may have stored more.
    let update = "UPDATE spec SET synced = max(synced, ?2), until = max(until, ?3), taken = ?4
         WHERE row = ?1";
    for spec in specs {
        execute(db, update, (spec, synced(versions), until, now))?;
    }
    Ok(())
}

/// Adds or updates collections.
pub(super) fn collections(db: &Transaction<'_>, rows: &[CollectionRow]) -> Result<()> {
    let insert = "INSERT INTO collection (id, title, doi, current) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET title = excluded.title, doi = excluded.doi,
             current = excluded.current";
    for row in rows {
        let parameters = (row.id.as_bytes(), &row.title, &row.doi, row.next.is_none());
        execute(db, insert, parameters)?;
    }
    Ok(())
}

/// Replaces the titles and keywords.
pub(super) fn texts(db: &Transaction<'_>, rows: &[TextRow]) -> Result<()> {
    execute(db, "DELETE FROM text", [])?;
    for row in rows {
        let insert = "INSERT INTO text (item, text) VALUES (?1, ?2)";
        execute(db, insert, (&row.item, &row.text))?;
    }
    Ok(())
}

/// Replaces the members of `collections` by `rows`.
pub(super) fn members(
    db: &Transaction<'_>,
    collections: &[ObjectId],
    rows: &[MemberRow],
) -> Result<()> {
    for collection in collections {
        let delete = "DELETE FROM member WHERE collection = ?1";
        execute(db, delete, [collection.as_bytes()])?;
    }
    let insert = "INSERT OR IGNORE INTO member (collection, position, item) VALUES (?1, ?2, ?3)";
    let mut positions: HashMap<ObjectId, i64> = HashMap::new();
    for MemberRow { collection, item } in rows {
        let position = positions.entry(*collection).or_default();
        *position += 1;
        execute(
            db,
            insert,
            (collection.as_bytes(), *position, item.as_bytes()),
        )?;
    }
    Ok(())
}

/// Records that at the time `now` all members of `collections` are stored, objects
/// included.
pub(super) fn members_downloaded(
    db: &Transaction<'_>,
    collections: &[ObjectId],
    now: i64,
) -> Result<()> {
    for collection in collections {
        let update = "UPDATE collection SET taken = ?2 WHERE id = ?1";
        execute(db, update, (collection.as_bytes(), now))?;
    }
    Ok(())
}

/// Finds or adds the data types, stations and labels that objects refer to. Their
/// keys are hashes of the IRI or the labels. With consecutive numbers, a key from a
/// former, corrupt file could denote another row in its replacement.
#[derive(Default)]
struct ForeignKeys {
    specs: HashMap<String, Option<i64>>,
    stations: HashSet<i64>,
    labels: HashSet<i64>,
}

impl ForeignKeys {
    fn spec(&mut self, db: &Transaction<'_>, iri: Option<&str>) -> Result<Option<i64>> {
        let Some(iri) = iri else { return Ok(None) };
        if let Some(key) = self.specs.get(iri) {
            return Ok(*key);
        }
        let key = db
            .prepare_cached("SELECT row FROM spec WHERE row = ?1")?
            .query_row([key(iri)], |row| row.get(0))
            .optional()?;
        self.specs.insert(iri.to_owned(), key);
        Ok(key)
    }

    fn station(&mut self, db: &Transaction<'_>, iri: Option<&str>) -> Result<Option<i64>> {
        let Some(iri) = iri else { return Ok(None) };
        let key = key(iri);
        if self.stations.insert(key) {
            let insert = "INSERT OR IGNORE INTO station (row, iri) VALUES (?1, ?2)";
            execute(db, insert, (key, iri))?;
        }
        Ok(Some(key))
    }

    fn labels(&mut self, db: &Transaction<'_>, labels: Option<&[String]>) -> Result<Option<i64>> {
        let Some(labels) = labels else {
            return Ok(None);
        };
        let json = serde_json::to_string(labels).unwrap_or_default();
        let key = key(&json);
        if self.labels.insert(key) {
            let insert = "INSERT OR IGNORE INTO labels (row, json) VALUES (?1, ?2)";
            execute(db, insert, (key, json))?;
        }
        Ok(Some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::Database;
    use super::*;

    /// Regression: labels are cached by key. After a corrupt file was replaced under
    /// a mount, a table could get the column names of another one.
    #[test]
    fn keys_denote_the_same_in_every_file() {
        let labels = [["a".to_owned()], ["b".to_owned()]];
        let dir = tempfile::tempdir().unwrap();
        let keys_in_order = |name: &str, order: [usize; 2]| {
            let database = Database::open(&dir.path().join(name)).unwrap();
            let keys = database.write(|db| {
                let mut keys = [[None; 2]; 2];
                let mut known = ForeignKeys::default();
                for n in order {
                    keys[n] = [
                        known.labels(db, Some(&labels[n]))?,
                        known.station(db, Some(&labels[n][0]))?,
                    ];
                }
                Ok(keys)
            });
            keys.unwrap()
        };
        let keys = keys_in_order("corrupt", [0, 1]);
        assert_eq!(keys_in_order("new", [1, 0]), keys);
        assert_ne!(keys[0], keys[1]);
    }
}
