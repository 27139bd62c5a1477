//! Data types and stations. They are few enough to be kept in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use rusqlite::{Connection, Row};
use serde_json::{Value, json};

use super::database::query_all;
use super::name::component;
use super::{CatalogFolder, CatalogList};
use icos_portal::lists::{ColumnRow, SpecRow, StationRow};

/// A data type, with the columns that its tables may have.
#[derive(Debug)]
pub struct Spec {
    pub(super) key: i64,
    row: SpecRow,
    columns: Arc<[ColumnRow]>,
    listed: bool,
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

    /// The name of its folder: the end of its IRI as one safe path component.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its display name.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.row.label
    }

    /// 0 (raw) to 3 (elaborated).
    #[must_use]
    pub fn level(&self) -> u8 {
        self.row.level
    }

    /// The label of its theme, e.g. `Ocean data`.
    #[must_use]
    pub fn theme(&self) -> Option<&str> {
        self.row.theme.as_deref()
    }

    /// IRI of its theme.
    #[must_use]
    pub fn theme_iri(&self) -> Option<&str> {
        self.row.theme_iri.as_deref()
    }

    /// The label of the project it belongs to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.row.project.as_deref()
    }

    /// IRI of the project.
    #[must_use]
    pub fn project_iri(&self) -> Option<&str> {
        self.row.project_iri.as_deref()
    }

    /// The last segment of the IRI of its format, which is the name of the portal's
    /// folder of such objects.
    #[must_use]
    pub fn format(&self) -> &str {
        last_segment(&self.row.format)
    }

    /// IRI of the dataset that defines the columns of its tables.
    #[must_use]
    pub fn dataset(&self) -> Option<&str> {
        self.row.dataset.as_deref()
    }

    /// The columns that tables of this type may have; empty if its objects are not
    /// tables.
    #[must_use]
    pub fn columns(&self) -> &[ColumnRow] {
        &self.columns
    }

    /// Its properties as JSON.
    #[must_use]
    pub fn json(&self) -> Arc<[u8]> {
        let column = |column: &ColumnRow| {
            json!({
                "title": column.title,
                "isRegex": column.regex,
                "isOptional": column.optional,
                "valueFormat": column.format,
                "valueType": column.value,
                "unit": column.unit,
            })
        };
        let write = || {
            let json = json!({
                "uri": self.row.iri,
                "label": self.row.label,
                "dataLevel": self.row.level,
                "theme": self.row.theme,
                "project": self.row.project,
                "format": self.row.format,
                "datasetSpec": self.row.dataset,
                "columns": self.columns.iter().map(column).collect::<Value>(),
            });
            let mut text = serde_json::to_vec_pretty(&json).unwrap_or_default();
            text.push(b'\n');
            text.into()
        };
        Arc::clone(self.json.get_or_init(write))
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
                ..SpecRow::default()
            },
            columns: columns.into(),
            listed: true,
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
    has_folder: bool,
}

impl Station {
    /// The folder of its objects of a data type.
    #[must_use]
    pub fn folder(&self, spec: &Spec) -> CatalogFolder {
        CatalogFolder::Station(self.key, spec.key)
    }

    /// The list of its objects.
    #[must_use]
    pub fn list(&self) -> CatalogList {
        CatalogList::Station(self.key)
    }

    /// Its IRI.
    #[must_use]
    pub fn iri(&self) -> &str {
        &self.row.iri
    }

    /// The name of its folder: its id as one safe path component.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is one of the repository's own stations, or one that a listed object
    /// names: these have folders.
    #[must_use]
    pub fn has_folder(&self) -> bool {
        self.has_folder
    }

    /// The end of its IRI, which names its landing page.
    #[must_use]
    pub fn segment(&self) -> &str {
        last_segment(&self.row.iri)
    }

    /// Its entry in the list of stations.
    #[must_use]
    pub fn row(&self) -> &StationRow {
        &self.row
    }
}

/// All data types and stations of the database at one time.
#[derive(Debug, Default)]
pub struct Vocabulary {
    specs: HashMap<i64, Arc<Spec>>,
    spec_names: BTreeMap<String, i64>,
    stations: HashMap<i64, Arc<Station>>,
    station_names: BTreeMap<String, i64>,
    edition: Edition,
}

/// Identifies the vocabulary of the database: when it was last downloaded, and the
/// largest keys of data types and stations.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Edition(Option<i64>, Option<i64>, Option<i64>);

impl Edition {
    /// The present edition in the database.
    pub(super) fn current(db: &Connection) -> rusqlite::Result<Self> {
        db.prepare_cached(
            "SELECT (SELECT value FROM state WHERE key = 'vocabulary'),
                    (SELECT max(row) FROM spec), (SELECT max(row) FROM station)",
        )?
        .query_one([], |row| Ok(Self(row.get(0)?, row.get(1)?, row.get(2)?)))
    }
}

impl Vocabulary {
    pub(super) fn edition(&self) -> Edition {
        self.edition
    }

    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        // First: a change during the load makes this edition differ from the next.
        let edition = Edition::current(db)?;
        let (mut spec_names, mut station_names) = (BTreeMap::new(), BTreeMap::new());
        let datasets = load_datasets(db)?;
        let query = "SELECT row, iri, label, level, format, dataset, theme, project, offered,
                 theme_iri, project_iri
             FROM spec ORDER BY iri";
        let load = |row: &Row<'_>| Spec::load(row, &datasets, &mut spec_names);
        let specs = query_all(db, query, [], load)?.into_iter();
        let query = "SELECT row, iri, code, name, country, class, lat, lon, elevation,
                 EXISTS (SELECT 1 FROM object
                         WHERE object.station = station.row AND shown > 0 AND spec IS NOT NULL)
             FROM station ORDER BY code IS NULL, iri";
        let load = |row: &Row<'_>| Station::load(row, &mut station_names);
        let stations = query_all(db, query, [], load)?.into_iter();
        Ok(Self {
            specs: specs.map(|spec| (spec.key, Arc::new(spec))).collect(),
            spec_names,
            stations: stations.map(|one| (one.key, Arc::new(one))).collect(),
            station_names,
            edition,
        })
    }

    /// The data types on the repository's list, by name.
    pub fn specs(&self) -> impl Iterator<Item = &Arc<Spec>> {
        let keys = self.spec_names.values();
        keys.filter_map(|key| self.specs.get(key))
            .filter(|spec| spec.listed)
    }

    /// The stations that have folders, by name.
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

/// The columns of each dataset, by its IRI.
type Datasets = HashMap<String, Arc<[ColumnRow]>>;

fn load_datasets(db: &Connection) -> rusqlite::Result<Datasets> {
    let query =
        "SELECT dataset, title, format, optional, regex, value, unit FROM field ORDER BY rowid";
    let columns = query_all(db, query, [], |row| {
        Ok(ColumnRow {
            dataset: row.get(0)?,
            title: row.get(1)?,
            format: row.get(2)?,
            optional: row.get(3)?,
            regex: row.get(4)?,
            value: row.get(5)?,
            unit: row.get(6)?,
        })
    })?;
    let mut datasets: HashMap<String, Vec<ColumnRow>> = HashMap::new();
    for column in columns {
        let columns = datasets.entry(column.dataset.clone()).or_default();
        columns.push(column);
    }
    let datasets = datasets.into_iter();
    Ok(datasets
        .map(|(iri, columns)| (iri, columns.into()))
        .collect())
}

impl Spec {
    fn load(
        row: &Row<'_>,
        datasets: &Datasets,
        names: &mut BTreeMap<String, i64>,
    ) -> rusqlite::Result<Self> {
        let key = row.get(0)?;
        let spec = SpecRow {
            iri: row.get(1)?,
            label: row.get(2)?,
            level: row.get(3)?,
            format: row.get(4)?,
            dataset: row.get(5)?,
            theme: row.get(6)?,
            project: row.get(7)?,
            theme_iri: row.get(9)?,
            project_iri: row.get(10)?,
        };
        let columns = spec.dataset.as_ref().and_then(|iri| datasets.get(iri));
        Ok(Self {
            key,
            columns: columns.cloned().unwrap_or_default(),
            listed: row.get(8)?,
            name: unique_name(names, last_segment(&spec.iri), key),
            row: spec,
            json: OnceLock::new(),
        })
    }
}

impl Station {
    fn load(row: &Row<'_>, names: &mut BTreeMap<String, i64>) -> rusqlite::Result<Self> {
        let (key, iri): (i64, String) = (row.get(0)?, row.get(1)?);
        let code: Option<String> = row.get(2)?;
        // The portal's list of stations lacks those without an id.
        let has_folder = code.is_some() || row.get(9)?;
        let code = code.unwrap_or_else(|| last_segment(&iri).to_owned());
        let name = if has_folder {
            unique_name(names, &code, key)
        } else {
            component(&code)
        };
        let text = |at| {
            row.get::<_, Option<String>>(at)
                .map(Option::unwrap_or_default)
        };
        let (lat, lon): (Option<f64>, Option<f64>) = (row.get(6)?, row.get(7)?);
        Ok(Self {
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
            has_folder,
        })
    }
}

/// Adds a name for `key` that no other key has, made of `wanted`.
fn unique_name(names: &mut BTreeMap<String, i64>, wanted: &str, key: i64) -> String {
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

/// The part of an IRI after the last slash.
pub(super) fn last_segment(iri: &str) -> &str {
    iri.rsplit('/').next().unwrap_or(iri)
}
