//! What a demo portal serves: metadata, and content to go with it.
//!
//! There is one truth, the metadata's [`Graph`]: landing pages, SPARQL answers,
//! table layouts and licences are all read from it, for built-in and real
//! metadata alike.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use oxrdf::Triple;

use super::DemoError;
use super::content::Original;
use super::graph::{Graph, Node};
use super::item::Item;
use super::landing;
use super::table::{Table, object_salt};
use super::values::{Format, Values};
use icos_portal::{Envri, ObjectId};

/// A repository for a [`DemoPortal`](super::DemoPortal) to serve.
///
/// Contents are the same whenever the same repository is made again.
pub struct Repository {
    parts: Parts,
    tables: Mutex<HashMap<ObjectId, Option<Arc<Table>>>>,
}

/// The collected parts of a [`Repository`].
pub(crate) struct Parts {
    pub(crate) envri: Envri,
    pub(crate) graph: Graph,
    pub(crate) seed: u64,
    /// Originals made with the metadata. Others are made up from their size.
    pub(crate) originals: HashMap<ObjectId, Original>,
    /// How columns made with the metadata are filled, by their names.
    pub(crate) values: HashMap<ObjectId, HashMap<String, Values>>,
}

impl Parts {
    /// Keeps what an object holds.
    pub(crate) fn keep(&mut self, id: ObjectId, item: Item) {
        let original = if item.lost {
            Original::Missing
        } else {
            item.original
        };
        self.originals.insert(id, original);
        let values = item.columns.into_iter().map(|c| (c.name.into(), c.values));
        self.values.insert(id, values.collect());
    }
}

impl Repository {
    /// A small but believable repository, made in code: six stations of three
    /// kinds, their data in most formats the portal has, versions, documents
    /// and collections. Every original hashes to its id.
    #[must_use]
    pub fn builtin(seed: u64) -> Self {
        super::builtin::repository(seed)
    }

    /// Real metadata: every `.rdf` and `.owl` file of `folder`, with contents
    /// made up to go with it.
    ///
    /// Originals have the right length, but since the ids are real ones they
    /// cannot hash to them: a client that verifies originals must refuse them.
    /// Tables have the real columns, formats and number of rows.
    ///
    /// # Errors
    ///
    /// [`DemoError::Metadata`] if the folder or a file cannot be read.
    pub fn from_rdf(folder: &Path) -> Result<Self, DemoError> {
        super::rdf::repository(folder)
    }

    pub(crate) fn of(parts: Parts) -> Self {
        Self {
            parts,
            tables: Mutex::default(),
        }
    }

    /// Adds an object, and triples that it needs; returns its id.
    pub(crate) fn extend(&mut self, mut triples: Vec<Triple>, item: Item) -> ObjectId {
        let digest = item.original.digest();
        let id = ObjectId::of_digest(&digest);
        triples.extend(item.triples(self.envri(), &id, &digest));
        self.parts.graph = std::mem::take(&mut self.parts.graph).extended(triples);
        self.parts.keep(id, item);
        id
    }

    /// Which repository this is a double of.
    #[must_use]
    pub fn envri(&self) -> Envri {
        self.parts.envri
    }

    /// The ids of all data objects and documents, current or not.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectId> {
        let prefix = self.parts.envri.landing_prefix();
        (self.items().into_iter())
            .filter_map(|object| object.iri().strip_prefix(&prefix)?.parse().ok())
            .collect()
    }

    /// The id of the object with this file name, the newest if there are
    /// several versions.
    #[must_use]
    pub fn find(&self, file_name: &str) -> Option<ObjectId> {
        let named = self.objects().into_iter().filter(|id| {
            self.object(id)
                .is_some_and(|o| o.text("cpmeta:hasName") == Some(file_name))
        });
        named.max_by_key(|id| {
            let submission = self.object(id)?.one("cpmeta:wasSubmittedBy")?;
            Some(submission.text("prov:endedAtTime")?.to_owned())
        })
    }

    /// The original content of an object, whole.
    #[must_use]
    pub fn original(&self, id: &ObjectId) -> Option<Vec<u8>> {
        Some(self.content(id)?.read())
    }

    /// The `.cpb` file of a table, whole.
    #[must_use]
    pub fn cpb(&self, id: &ObjectId) -> Option<Vec<u8>> {
        let table = self.table(id)?;
        Some(table.read_file(0, table.file_size()))
    }

    /// The CSV of a table with all its columns, as `GET /csv/<id>` gives it;
    /// nothing for tables the portal cannot serve.
    #[must_use]
    pub fn csv(&self, id: &ObjectId) -> Option<String> {
        let table = self.table(id).filter(|t| !t.has_text())?;
        let selected = table.select(None);
        let rows = table.csv_rows(&selected, 0..table.rows()).ok()?;
        Some(table.csv_header(&selected) + &rows)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.parts.seed
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.parts.graph
    }

    pub(crate) fn object(&self, id: &ObjectId) -> Option<Node<'_>> {
        self.item(&format!("{}{id}", self.parts.envri.landing_prefix()))
    }

    /// All data objects and documents.
    pub(crate) fn items(&self) -> Vec<Node<'_>> {
        ["cpmeta:DataObject", "cpmeta:DocumentObject"]
            .into_iter()
            .flat_map(|class| self.parts.graph.instances(class))
            .collect()
    }

    /// The object or document with this IRI.
    pub(crate) fn item(&self, iri: &str) -> Option<Node<'_>> {
        let object = self.parts.graph.node(iri)?;
        (object.is_a("cpmeta:DataObject") || object.is_a("cpmeta:DocumentObject")).then_some(object)
    }

    pub(crate) fn collection(&self, id: &ObjectId) -> Option<Node<'_>> {
        let iri = format!("{}/collections/{id}", self.parts.envri.meta_url());
        self.parts
            .graph
            .node(&iri)
            .filter(|c| c.is_a("cpmeta:Collection"))
    }

    /// The original of an object that has been uploaded.
    pub(crate) fn content(&self, id: &ObjectId) -> Option<Original> {
        if let Some(original) = self.parts.originals.get(id) {
            return Some(original.clone());
        }
        let object = self.object(id)?;
        let size = object.number("cpmeta:hasSizeInBytes")?;
        Some(Original::Blocks {
            seed: self.salt(object),
            size,
        })
    }

    /// The folder an object's files are stored in: the name of its format.
    pub(crate) fn storage_folder(&self, id: &ObjectId) -> Option<&str> {
        let spec = self.object(id)?.one("cpmeta:hasObjectSpec")?;
        Some(spec.one("cpmeta:hasFormat")?.local_name())
    }

    /// Why the file of a table cannot be read, in the data service's words.
    pub(crate) fn unreadable(&self, id: &ObjectId) -> Option<String> {
        let object = self.object(id)?;
        if landing::is_under_moratorium(object) {
            return Some(format!("Object {id} is under moratorium"));
        }
        matches!(self.content(id), None | Some(Original::Missing))
            .then(|| format!("Binary file not found for object {id}"))
    }

    /// The table of an object, if it has one.
    pub(crate) fn table(&self, id: &ObjectId) -> Option<Arc<Table>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables
            .entry(*id)
            .or_insert_with(|| self.make_table(id).map(Arc::new))
            .clone()
    }

    fn make_table(&self, id: &ObjectId) -> Option<Table> {
        let object = self.object(id)?;
        let start = (object.one("cpmeta:wasAcquiredBy"))
            .and_then(|acquisition| acquisition.text("prov:startedAtTime"))
            .or_else(|| object.text("cpmeta:hasStartTime"))
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map_or(0, jiff::Timestamp::as_millisecond);
        let given = self.parts.values.get(id);
        Table::of(object, self.salt(object), |name, format, column| {
            given
                .and_then(|columns| columns.get(name).cloned())
                .unwrap_or_else(|| default_values(format, column, start))
        })
    }

    fn salt(&self, object: Node<'_>) -> u64 {
        let submission = object.one("cpmeta:wasSubmittedBy");
        object_salt(
            self.seed(),
            object.text("cpmeta:hasName").unwrap_or_default(),
            submission
                .and_then(|s| s.text("prov:startedAtTime"))
                .unwrap_or_default(),
        )
    }
}

/// What a column holds if nobody said: half-hourly times from `start`, flags
/// from the good ones and a bad one, else noise.
fn default_values(format: Format, column: Node<'_>, start: i64) -> Values {
    const HALF_HOUR: i64 = 1_800_000;
    let is_time = matches!(format, Format::DateTime | Format::Date | Format::TimeOfDay);
    if is_time && !column.flag("cpmeta:isRegexColumn") {
        return Values::Clock {
            start,
            step: HALF_HOUR,
        };
    }
    let is_flag = !column.nodes("cpmeta:isQualityFlagFor").is_empty();
    if format == Format::BmpChar && is_flag {
        let flags = "OUR012N9";
        return Values::Flags(flags.encode_utf16().collect());
    }
    Values::Noise
}
