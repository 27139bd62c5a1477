//! What the portal told, into the database.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::name::{Stem, key};
use icos_portal::ObjectId;
use icos_portal::lists::{
    CollectionRow, ColumnRow, MemberRow, ObjectRow, SpecRow, StationRow, SuccessionRow, Versions,
};

type Done = Result<(), rusqlite::Error>;

/// How many of a data type's objects are known, as the database has it.
pub(super) fn synced(versions: Versions) -> i64 {
    match versions {
        Versions::Current => 1,
        Versions::All => 2,
    }
}

pub(super) fn state(db: &rusqlite::Connection, key: &str) -> Result<Option<i64>, rusqlite::Error> {
    db.prepare_cached("SELECT value FROM state WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

pub(super) fn set_state(db: &Transaction<'_>, key: &str, value: i64) -> Done {
    db.prepare_cached("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

/// Puts the data types, their columns and the stations in place of those that
/// were known; what objects may refer to stays.
pub(super) fn vocabulary(
    db: &Transaction<'_>,
    specs: &[SpecRow],
    columns: &[ColumnRow],
    stations: &[StationRow],
) -> Done {
    db.execute("UPDATE spec SET offered = 0", [])?;
    for row in specs {
        spec(db, row, true)?;
    }
    db.execute("DELETE FROM field", [])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO field (dataset, title, format, optional, regex, value, unit)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for row in columns {
        let ColumnRow {
            dataset,
            title,
            format,
            optional,
            regex,
            value,
            unit,
        } = row;
        insert.execute(params![
            dataset, title, format, optional, regex, value, unit
        ])?;
    }
    db.execute("UPDATE station SET code = NULL", [])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO station (row, iri, code, name, country, class, lat, lon, elevation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (row) DO UPDATE SET code = excluded.code, name = excluded.name,
             country = excluded.country, class = excluded.class, lat = excluded.lat,
             lon = excluded.lon, elevation = excluded.elevation",
    )?;
    for row in stations {
        let StationRow {
            iri,
            code,
            name,
            country,
            class,
            position,
            elevation,
        } = row;
        let (lat, lon) = position.unzip();
        let key = key(iri);
        insert.execute(params![
            key, iri, code, name, country, class, lat, lon, elevation
        ])?;
    }
    Ok(())
}

/// Adds a data type, or what is new of it.
pub(super) fn spec(db: &Transaction<'_>, row: &SpecRow, offered: bool) -> Done {
    let SpecRow {
        iri,
        label,
        level,
        format,
        dataset,
        theme,
        project,
    } = row;
    db.prepare_cached(
        "INSERT INTO spec (row, iri, label, level, format, dataset, theme, project, offered)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (row) DO UPDATE SET label = excluded.label, level = excluded.level,
             format = excluded.format, dataset = excluded.dataset, theme = excluded.theme,
             project = excluded.project, offered = excluded.offered",
    )?
    .execute(params![
        key(iri),
        iri,
        label,
        level,
        format,
        dataset,
        theme,
        project,
        offered
    ])?;
    Ok(())
}

/// Adds objects, or what is new of them.
pub(super) fn objects(db: &Transaction<'_>, rows: &[ObjectRow]) -> Done {
    let mut keys = Keys::default();
    for row in rows {
        let spec = keys.spec(db, row.spec.as_deref())?;
        let station = keys.station(db, row.station.as_deref())?;
        let labels = keys.labels(db, row.column_names.as_deref())?;
        // What a list of data objects would leave out is on no list here.
        let listable = row.spec.is_none() || (spec.is_some() && row.span.is_some());
        let shown = match (listable, row.next) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(_)) => 2,
        };
        let (starts, ends) = row
            .span
            .map(|(start, end)| (start.as_millisecond(), end.as_millisecond()))
            .unzip();
        let id = &row.id.as_bytes()[..];
        let next = row.next.as_ref().map(|id| &id.as_bytes()[..]);
        let known: Option<i64> = db
            .prepare_cached("SELECT row FROM object WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            db.prepare_cached(
                "UPDATE object SET station = coalesce(station, ?2), rows = ?3, labels = ?4,
                     doi = ?5, next = ?6, shown = ?7, spec = coalesce(?8, spec)
                 WHERE row = ?1",
            )?
            .execute(params![
                known,
                station,
                size(row.rows),
                labels,
                row.doi,
                next,
                shown,
                spec
            ])?;
            continue;
        }
        let stem = Stem::of(&row.file_name).key();
        let shared = db
            .prepare_cached("UPDATE object SET shared = 1 WHERE stem = ?1")?
            .execute([stem])?
            > 0;
        db.prepare_cached(
            "INSERT INTO object (id, name, size, submitted, spec, station, rows, labels, doi, next,
                 starts, ends, height, shown, stem, shared)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            id,
            row.file_name,
            size(Some(row.size)),
            row.submitted.as_millisecond(),
            spec,
            station,
            size(row.rows),
            labels,
            row.doi,
            next,
            starts,
            ends,
            row.height,
            shown,
            stem,
            shared
        ])?;
    }
    Ok(())
}

/// Lengths beyond this are not of this world.
fn size(size: Option<u64>) -> Option<i64> {
    size.map(|size| i64::try_from(size).unwrap_or(i64::MAX))
}

/// Notes that these objects were superseded.
pub(super) fn successions(db: &Transaction<'_>, rows: &[SuccessionRow]) -> Done {
    let mut update = db.prepare_cached(
        "UPDATE object SET next = ?2, shown = CASE shown WHEN 0 THEN 0 ELSE 2 END WHERE id = ?1",
    )?;
    for row in rows {
        update.execute((&row.old.as_bytes()[..], &row.new.as_bytes()[..]))?;
    }
    Ok(())
}

/// Notes that of these data types all objects are known, at `now`, that were
/// submitted before `until`.
pub(super) fn specs_synced(
    db: &Transaction<'_>,
    specs: &[i64],
    versions: Versions,
    until: Option<Timestamp>,
    now: i64,
) -> Done {
    let until = until.map_or(0, Timestamp::as_millisecond);
    // Another mount may know more than this one shows.
    let mut update = db.prepare_cached(
        "UPDATE spec SET synced = max(synced, ?2), until = max(until, ?3), taken = ?4
         WHERE row = ?1",
    )?;
    for spec in specs {
        update.execute(params![spec, synced(versions), until, now])?;
    }
    Ok(())
}

/// Puts the collections in place of those that were known.
pub(super) fn collections(db: &Transaction<'_>, rows: &[CollectionRow]) -> Done {
    let mut insert = db.prepare_cached(
        "INSERT INTO collection (id, title, doi, current) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET title = excluded.title, doi = excluded.doi,
             current = excluded.current",
    )?;
    for row in rows {
        insert.execute(params![
            &row.id.as_bytes()[..],
            row.title,
            row.doi,
            row.next.is_none()
        ])?;
    }
    Ok(())
}

/// Puts `rows` in place of what was known to be in their collections.
pub(super) fn members(db: &Transaction<'_>, collections: &[ObjectId], rows: &[MemberRow]) -> Done {
    for collection in collections {
        db.prepare_cached("DELETE FROM member WHERE collection = ?1")?
            .execute([&collection.as_bytes()[..]])?;
    }
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO member (collection, position, item) VALUES (?1, ?2, ?3)",
    )?;
    let mut positions: HashMap<ObjectId, i64> = HashMap::new();
    for row in rows {
        let position = positions.entry(row.collection).or_default();
        *position += 1;
        insert.execute(params![
            &row.collection.as_bytes()[..],
            *position,
            &row.item.as_bytes()[..]
        ])?;
    }
    Ok(())
}

/// Notes that all that is in `collections` is known, its members' objects too.
pub(super) fn members_taken(db: &Transaction<'_>, collections: &[ObjectId], now: i64) -> Done {
    let mut update = db.prepare_cached("UPDATE collection SET taken = ?2 WHERE id = ?1")?;
    for collection in collections {
        update.execute(params![&collection.as_bytes()[..], now])?;
    }
    Ok(())
}

/// Keys of what many objects refer to. They are made of what they stand for:
/// whoever remembers one may have it from lists that were damaged and begun
/// anew since, where a number would stand for something else.
#[derive(Default)]
struct Keys {
    specs: HashMap<String, Option<i64>>,
    stations: HashSet<i64>,
    labels: HashSet<i64>,
}

impl Keys {
    fn spec(
        &mut self,
        db: &Transaction<'_>,
        iri: Option<&str>,
    ) -> Result<Option<i64>, rusqlite::Error> {
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

    fn station(
        &mut self,
        db: &Transaction<'_>,
        iri: Option<&str>,
    ) -> Result<Option<i64>, rusqlite::Error> {
        let Some(iri) = iri else { return Ok(None) };
        let key = key(iri);
        if self.stations.insert(key) {
            db.prepare_cached("INSERT OR IGNORE INTO station (row, iri) VALUES (?1, ?2)")?
                .execute(params![key, iri])?;
        }
        Ok(Some(key))
    }

    fn labels(
        &mut self,
        db: &Transaction<'_>,
        labels: Option<&[String]>,
    ) -> Result<Option<i64>, rusqlite::Error> {
        let Some(labels) = labels else {
            return Ok(None);
        };
        let json = serde_json::to_string(labels).unwrap_or_default();
        let key = key(&json);
        if self.labels.insert(key) {
            db.prepare_cached("INSERT OR IGNORE INTO labels (row, json) VALUES (?1, ?2)")?
                .execute(params![key, json])?;
        }
        Ok(Some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::Database;
    use super::*;

    /// Labels are remembered by their keys: after damaged lists were begun anew
    /// under a mount, a table could get the names of another one's columns.
    #[test]
    fn a_key_of_lists_that_are_gone_stands_for_the_same_in_new_ones_or_for_nothing() {
        let labels = [["a".to_owned()], ["b".to_owned()]];
        let dir = tempfile::tempdir().unwrap();
        let keys_in_order = |name: &str, order: [usize; 2]| {
            let database = Database::open(&dir.path().join(name)).unwrap();
            let keys = database.write(|db| {
                let mut keys = [[None; 2]; 2];
                let mut known = Keys::default();
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
        let keys = keys_in_order("damaged", [0, 1]);
        assert_eq!(keys_in_order("new", [1, 0]), keys);
        assert_ne!(keys[0], keys[1]);
    }
}
