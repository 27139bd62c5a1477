//! The repository that a demo portal serves: metadata, and matching contents.
//!
//! Landing pages, SPARQL results, table layouts and licences are all derived
//! from the metadata [`Graph`], for built-in and real metadata alike.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oxrdf::Triple;

use super::content::OriginalContent;
use super::graph::{Graph, RdfNode};
use super::landing;
use super::object::DemoObject;
use super::random::object_salt;
use super::table::DemoTable;
use super::values::{CellFormat, ColumnValues};
use icos_portal::{Envri, ObjectId};

/// A repository for a [`DemoPortal`](super::DemoPortal) to serve.
///
/// The same constructor arguments give the same contents.
pub struct DemoRepository {
    envri: Envri,
    seed: u64,
    graph: Graph,
    /// Originals made with the metadata; `None` if the file is missing on the
    /// disk. The others are generated from their sizes.
    originals: HashMap<ObjectId, Option<OriginalContent>>,
    /// The values of columns made with the metadata, by object and column name.
    values: HashMap<ObjectId, HashMap<String, ColumnValues>>,
    tables: Mutex<HashMap<ObjectId, Option<Arc<DemoTable>>>>,
}

impl DemoRepository {
    /// An empty repository.
    pub(crate) fn new(envri: Envri, seed: u64) -> Self {
        Self {
            envri,
            seed,
            graph: Graph::default(),
            originals: HashMap::new(),
            values: HashMap::new(),
            tables: Mutex::default(),
        }
    }

    /// Adds metadata.
    pub(crate) fn insert(&mut self, triples: Vec<Triple>) {
        self.graph = std::mem::take(&mut self.graph).extended(triples);
    }

    /// Adds an object; returns its id, the hash of its original.
    pub(crate) fn add(&mut self, object: DemoObject) -> ObjectId {
        let mut triples = Vec::new();
        let id = self.add_contents(object, &mut triples);
        self.insert(triples);
        id
    }

    /// Adds the contents of an object, and its metadata to `triples`, which the caller
    /// inserts: each insertion takes as long as the graph is large.
    pub(crate) fn add_contents(
        &mut self,
        object: DemoObject,
        triples: &mut Vec<Triple>,
    ) -> ObjectId {
        let digest = object.original.digest();
        let id = ObjectId::of_digest(&digest);
        triples.extend(object.triples(self.envri, &id, &digest));
        let original = (!object.lost).then_some(object.original);
        self.originals.insert(id, original);
        let values = object.columns.into_iter().map(|c| (c.name, c.values));
        self.values.insert(id, values.collect());
        id
    }

    /// The repository that this one imitates.
    #[must_use]
    pub fn envri(&self) -> Envri {
        self.envri
    }

    /// The ids of all data objects and documents, including old versions.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectId> {
        let prefix = self.envri.landing_prefix();
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

    /// The complete original content of an object.
    #[must_use]
    pub fn original(&self, id: &ObjectId) -> Option<Vec<u8>> {
        Some(self.content(id)?.read())
    }

    /// The complete `.cpb` file of a table.
    #[must_use]
    pub fn cpb(&self, id: &ObjectId) -> Option<Vec<u8>> {
        let table = self.table(id)?;
        Some(table.read_file(0, table.file_size()))
    }

    /// The CSV of a table with all its columns, as `GET /csv/<id>` returns it;
    /// `None` for tables that the portal cannot serve.
    #[must_use]
    pub fn csv(&self, id: &ObjectId) -> Option<String> {
        let table = self.table(id).filter(|t| !t.has_text())?;
        let selected = table.select(None);
        let rows = table.csv_rows(&selected, 0..table.rows()).ok()?;
        Some(table.csv_header(&selected) + &rows)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn object(&self, id: &ObjectId) -> Option<RdfNode<'_>> {
        self.item(&format!("{}{id}", self.envri.landing_prefix()))
    }

    /// All data objects and documents.
    pub(crate) fn items(&self) -> Vec<RdfNode<'_>> {
        ["cpmeta:DataObject", "cpmeta:DocumentObject"]
            .into_iter()
            .flat_map(|class| self.graph.instances(class))
            .collect()
    }

    /// The object or document with this IRI.
    pub(crate) fn item(&self, iri: &str) -> Option<RdfNode<'_>> {
        let object = self.graph.node(iri)?;
        (object.is_a("cpmeta:DataObject") || object.is_a("cpmeta:DocumentObject")).then_some(object)
    }

    pub(crate) fn collection(&self, id: &ObjectId) -> Option<RdfNode<'_>> {
        let iri = format!("{}/collections/{id}", self.envri.meta_url());
        self.graph
            .node(&iri)
            .filter(|c| c.is_a("cpmeta:Collection"))
    }

    /// The original of an object that has been uploaded and is on the disk.
    pub(crate) fn content(&self, id: &ObjectId) -> Option<OriginalContent> {
        if let Some(original) = self.originals.get(id) {
            return original.clone();
        }
        let object = self.object(id)?;
        let size = object.number("cpmeta:hasSizeInBytes")?;
        Some(OriginalContent::Blocks {
            seed: self.salt(object),
            size,
        })
    }

    /// The original of an object that may be downloaded, or why there is none, in
    /// the data service's words.
    pub(crate) fn available(
        &self,
        id: &ObjectId,
        object: RdfNode<'_>,
    ) -> Result<OriginalContent, String> {
        let document = object.is_a("cpmeta:DocumentObject");
        if !document && let Some(why) = landing::inaccessible(self.envri, object) {
            return Err(why);
        }
        let missing = if document {
            "Contents of this document are not found on the server."
        } else {
            "File with object contents is missing on the server"
        };
        self.content(id).ok_or_else(|| missing.to_owned())
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
        (self.content(id).is_none()).then(|| format!("Binary file not found for object {id}"))
    }

    /// The table of an object, if it has one.
    pub(crate) fn table(&self, id: &ObjectId) -> Option<Arc<DemoTable>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables
            .entry(*id)
            .or_insert_with(|| self.make_table(id).map(Arc::new))
            .clone()
    }

    fn make_table(&self, id: &ObjectId) -> Option<DemoTable> {
        let object = self.object(id)?;
        let start = (object.one("cpmeta:wasAcquiredBy"))
            .and_then(|acquisition| acquisition.text("prov:startedAtTime"))
            .or_else(|| object.text("cpmeta:hasStartTime"))
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map_or(0, jiff::Timestamp::as_millisecond);
        let given = self.values.get(id);
        DemoTable::of(object, self.salt(object), |name, format, column| {
            given
                .and_then(|columns| columns.get(name).cloned())
                .unwrap_or_else(|| default_values(format, column, start))
        })
    }

    fn salt(&self, object: RdfNode<'_>) -> u64 {
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

/// The values of a column with real metadata: half-hourly times from `start`,
/// good flags with some bad ones, otherwise noise.
fn default_values(format: CellFormat, column: RdfNode<'_>, start: i64) -> ColumnValues {
    let is_time = matches!(
        format,
        CellFormat::DateTime | CellFormat::Date | CellFormat::TimeOfDay
    );
    if is_time && !column.flag("cpmeta:isRegexColumn") {
        return ColumnValues::half_hours(start);
    }
    let is_flag = !column.nodes("cpmeta:isQualityFlagFor").is_empty();
    if format == CellFormat::BmpChar && is_flag {
        return ColumnValues::Flags("OUR012N9".to_owned());
    }
    ColumnValues::Noise
}
