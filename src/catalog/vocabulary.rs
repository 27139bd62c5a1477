//! Data types and stations: few enough to be kept in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::name::component;
use super::{CatalogFolder, CatalogList};
use icos_portal::lists::{ColumnRow, SpecRow, StationRow};

/// A data type, with the columns that its tables may have.
#[derive(Debug)]
pub struct Spec {
    pub(super) key: i64,
    row: SpecRow,
    columns: Arc<[ColumnRow]>,
    offered: bool,
    name: String,
    json: OnceLock<Arc<[u8]>>,
}

impl Spec {
    /// The folder of its objects.
    #[must_use]
    pub fn folder(&self) -> CatalogFolder {
        CatalogFolder::Spec(self.key)
    }

    /// Its IRI.
    #[must_use]
    pub fn iri(&self) -> &str {
        &self.row.iri
    }

    /// The end of its IRI as one safe path component: what its folder is
    /// called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name for people.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.row.label
    }

    /// 0 (raw) to 3 (elaborated).
    #[must_use]
    pub fn level(&self) -> u8 {
        self.row.level
    }

    /// What it is about, e.g. `Ocean`.
    #[must_use]
    pub fn theme(&self) -> Option<&str> {
        self.row.theme.as_deref()
    }

    /// The project it belongs to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.row.project.as_deref()
    }

    /// The last segment of the format's IRI: the folder that the portal keeps
    /// such objects in.
    #[must_use]
    pub fn format(&self) -> &str {
        last_segment(&self.row.format)
    }

    /// IRI of the dataset that its tables are of.
    #[must_use]
    pub fn dataset(&self) -> Option<&str> {
        self.row.dataset.as_deref()
    }

    /// The columns that tables of this type may have; empty if they are no
    /// tables.
    #[must_use]
    pub fn columns(&self) -> &[ColumnRow] {
        &self.columns
    }

    /// Whether the repository has it on its list of data types.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.offered
    }

    /// All that is known of it, for people and programs.
    #[must_use]
    pub fn json(&self) -> Arc<[u8]> {
        let make = || {
            let columns: Vec<Value> = (self.columns.iter())
                .map(|column| {
                    json!({
                        "title": column.title,
                        "isRegex": column.regex,
                        "isOptional": column.optional,
                        "valueFormat": column.format,
                        "valueType": column.value,
                        "unit": column.unit,
                    })
                })
                .collect();
            let json = json!({
                "uri": self.row.iri,
                "label": self.row.label,
                "dataLevel": self.row.level,
                "theme": self.row.theme,
                "project": self.row.project,
                "format": self.row.format,
                "datasetSpec": self.row.dataset,
                "columns": columns,
            });
            let mut text = serde_json::to_vec_pretty(&json).unwrap_or_default();
            text.push(b'\n');
            text.into()
        };
        Arc::clone(self.json.get_or_init(make))
    }
}

#[cfg(test)]
impl Spec {
    /// A data type of a dataset whose tables have these columns.
    pub(crate) fn for_test(dataset: &str, columns: Vec<ColumnRow>) -> Self {
        Self {
            key: 1,
            row: SpecRow {
                iri: "http://example.org/spec".to_owned(),
                label: "a data type".to_owned(),
                level: 2,
                format: "http://example.org/format".to_owned(),
                dataset: Some(dataset.to_owned()),
                theme: None,
                project: None,
            },
            columns: columns.into(),
            offered: true,
            name: "spec".to_owned(),
            json: OnceLock::new(),
        }
    }
}

/// A station.
#[derive(Debug)]
pub struct Station {
    pub(super) key: i64,
    row: StationRow,
    name: String,
}

impl Station {
    /// The folder of its objects of a data type.
    #[must_use]
    pub fn folder(&self, spec: &Spec) -> CatalogFolder {
        CatalogFolder::Station(self.key, spec.key)
    }

    /// What must be known to list its objects.
    #[must_use]
    pub fn list(&self) -> CatalogList {
        CatalogList::Station(self.key)
    }

    /// Its IRI.
    #[must_use]
    pub fn iri(&self) -> &str {
        &self.row.iri
    }

    /// Its id as one safe path component: what its folder is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The end of its IRI, by which the metadata service names it.
    #[must_use]
    pub fn segment(&self) -> &str {
        last_segment(&self.row.iri)
    }

    /// What the list of stations says of it.
    #[must_use]
    pub fn row(&self) -> &StationRow {
        &self.row
    }
}

/// All data types and stations at one moment.
#[derive(Debug, Default)]
pub struct Vocabulary {
    specs: HashMap<i64, Arc<Spec>>,
    spec_names: BTreeMap<String, i64>,
    stations: HashMap<i64, Arc<Station>>,
    station_names: BTreeMap<String, i64>,
    edition: Edition,
}

/// Which vocabulary the database has: when it was last taken, and the last
/// rows that were added.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Edition(Option<i64>, Option<i64>, Option<i64>);

impl Edition {
    /// The one that is there now.
    pub(super) fn current(db: &Connection) -> Result<Self, rusqlite::Error> {
        db.prepare_cached(
            "SELECT (SELECT value FROM state WHERE key = 'vocabulary'),
                    (SELECT max(row) FROM spec), (SELECT max(row) FROM station)",
        )?
        .query_one([], |row| Ok(Self(row.get(0)?, row.get(1)?, row.get(2)?)))
    }
}

impl Vocabulary {
    /// Which edition it is.
    pub(super) fn edition(&self) -> Edition {
        self.edition
    }

    pub(super) fn load(db: &Connection) -> Result<Self, rusqlite::Error> {
        // First: what is added meanwhile is found missing the next time.
        let edition = Edition::current(db)?;
        let mut datasets: HashMap<String, Vec<ColumnRow>> = HashMap::new();
        let mut fields = db.prepare_cached(
            "SELECT dataset, title, format, optional, regex, value, unit FROM field ORDER BY rowid",
        )?;
        let mut rows = fields.query([])?;
        while let Some(row) = rows.next()? {
            let column = ColumnRow {
                dataset: row.get(0)?,
                title: row.get(1)?,
                format: row.get(2)?,
                optional: row.get(3)?,
                regex: row.get(4)?,
                value: row.get(5)?,
                unit: row.get(6)?,
            };
            let of_dataset = datasets.entry(column.dataset.clone()).or_default();
            of_dataset.push(column);
        }
        let datasets: HashMap<String, Arc<[ColumnRow]>> = datasets
            .into_iter()
            .map(|(iri, columns)| (iri, columns.into()))
            .collect();
        let mut vocabulary = Self {
            edition,
            ..Self::default()
        };
        let mut specs = db.prepare_cached(
            "SELECT row, iri, label, level, format, dataset, theme, project, offered
             FROM spec ORDER BY iri",
        )?;
        let mut rows = specs.query([])?;
        while let Some(row) = rows.next()? {
            let key = row.get(0)?;
            let spec = SpecRow {
                iri: row.get(1)?,
                label: row.get(2)?,
                level: row.get(3)?,
                format: row.get(4)?,
                dataset: row.get(5)?,
                theme: row.get(6)?,
                project: row.get(7)?,
            };
            let name = unique(&mut vocabulary.spec_names, last_segment(&spec.iri), key);
            let columns = spec.dataset.as_ref().and_then(|iri| datasets.get(iri));
            let spec = Spec {
                key,
                columns: columns.cloned().unwrap_or_default(),
                row: spec,
                offered: row.get(8)?,
                name,
                json: OnceLock::new(),
            };
            vocabulary.specs.insert(key, Arc::new(spec));
        }
        let mut stations = db.prepare_cached(
            "SELECT row, iri, code, name, country, class, lat, lon, elevation
             FROM station ORDER BY code IS NULL, iri",
        )?;
        let mut rows = stations.query([])?;
        while let Some(row) = rows.next()? {
            let (key, iri): (i64, String) = (row.get(0)?, row.get(1)?);
            let code: Option<String> = row.get(2)?;
            let own = code.is_some();
            let code = code.unwrap_or_else(|| last_segment(&iri).to_owned());
            let name = if own {
                unique(&mut vocabulary.station_names, &code, key)
            } else {
                component(&code)
            };
            let text = |at| {
                Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(at)?.unwrap_or_default())
            };
            let (lat, lon): (Option<f64>, Option<f64>) = (row.get(6)?, row.get(7)?);
            let station = Station {
                key,
                row: StationRow {
                    code,
                    name: text(3)?,
                    country: text(4)?,
                    class: text(5)?,
                    position: lat.zip(lon),
                    elevation: row.get(8)?,
                    iri,
                },
                name,
            };
            vocabulary.stations.insert(key, Arc::new(station));
        }
        Ok(vocabulary)
    }

    /// The data types, by name.
    pub fn specs(&self) -> impl Iterator<Item = &Arc<Spec>> {
        let keys = self.spec_names.values();
        keys.filter_map(|key| self.specs.get(key))
            .filter(|spec| spec.offered)
    }

    /// The repository's own stations, by name.
    pub fn stations(&self) -> impl Iterator<Item = &Arc<Station>> {
        let keys = self.station_names.values();
        keys.filter_map(|key| self.stations.get(key))
    }

    /// The data type whose folder is called `name`.
    #[must_use]
    pub fn spec_named(&self, name: &str) -> Option<&Arc<Spec>> {
        self.specs.get(self.spec_names.get(name)?)
    }

    /// The repository's station whose folder is called `name`.
    #[must_use]
    pub fn station_named(&self, name: &str) -> Option<&Arc<Station>> {
        self.stations.get(self.station_names.get(name)?)
    }

    pub(super) fn spec(&self, key: i64) -> Option<&Arc<Spec>> {
        self.specs.get(&key)
    }

    pub(super) fn station(&self, key: i64) -> Option<&Arc<Station>> {
        self.stations.get(&key)
    }
}

/// A name for `key` that no other has.
fn unique(names: &mut BTreeMap<String, i64>, wanted: &str, key: i64) -> String {
    let wanted = component(wanted);
    let mut name = wanted.clone();
    let mut number = 1;
    while names.contains_key(&name) {
        number += 1;
        name = format!("{wanted}~{number}");
    }
    names.insert(name.clone(), key);
    name
}

pub(super) fn last_segment(iri: &str) -> &str {
    iri.rsplit('/').next().unwrap_or(iri)
}
