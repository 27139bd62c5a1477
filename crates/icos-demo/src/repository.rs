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
    parts: RepositoryParts,
    tables: Mutex<HashMap<ObjectId, Option<Arc<DemoTable>>>>,
}

/// The collected parts of a [`DemoRepository`].
pub(crate) struct RepositoryParts {
    pub(crate) envri: Envri,
    pub(crate) graph: Graph,
    pub(crate) seed: u64,
    /// Originals made with the metadata. The others are generated from their
    /// sizes.
    pub(crate) originals: HashMap<ObjectId, OriginalContent>,
    /// The values of columns made with the metadata, by object and column name.
    pub(crate) values: HashMap<ObjectId, HashMap<String, ColumnValues>>,
}

impl RepositoryParts {
    /// Adds the contents of an object.
    pub(crate) fn keep(&mut self, id: ObjectId, item: DemoObject) {
        let original = if item.lost {
            OriginalContent::Missing
        } else {
            item.original
        };
        self.originals.insert(id, original);
        let values = item.columns.into_iter().map(|c| (c.name.into(), c.values));
        self.values.insert(id, values.collect());
    }
}

impl DemoRepository {
    pub(crate) fn of(parts: RepositoryParts) -> Self {
        Self {
            parts,
            tables: Mutex::default(),
        }
    }

    /// Adds an object, and triples that it refers to; returns its id.
    pub(crate) fn extend(&mut self, mut triples: Vec<Triple>, item: DemoObject) -> ObjectId {
        let digest = item.original.digest();
        let id = ObjectId::of_digest(&digest);
        triples.extend(item.triples(self.envri(), &id, &digest));
        self.parts.graph = std::mem::take(&mut self.parts.graph).extended(triples);
        self.parts.keep(id, item);
        id
    }

    /// The repository that this one imitates.
    #[must_use]
    pub fn envri(&self) -> Envri {
        self.parts.envri
    }

    /// The ids of all data objects and documents, including old versions.
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
        self.parts.seed
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.parts.graph
    }

    pub(crate) fn object(&self, id: &ObjectId) -> Option<RdfNode<'_>> {
        self.item(&format!("{}{id}", self.parts.envri.landing_prefix()))
    }

    /// All data objects and documents.
    pub(crate) fn items(&self) -> Vec<RdfNode<'_>> {
        ["cpmeta:DataObject", "cpmeta:DocumentObject"]
            .into_iter()
            .flat_map(|class| self.parts.graph.instances(class))
            .collect()
    }

    /// The object or document with this IRI.
    pub(crate) fn item(&self, iri: &str) -> Option<RdfNode<'_>> {
        let object = self.parts.graph.node(iri)?;
        (object.is_a("cpmeta:DataObject") || object.is_a("cpmeta:DocumentObject")).then_some(object)
    }

    pub(crate) fn collection(&self, id: &ObjectId) -> Option<RdfNode<'_>> {
        let iri = format!("{}/collections/{id}", self.parts.envri.meta_url());
        self.parts
            .graph
            .node(&iri)
            .filter(|c| c.is_a("cpmeta:Collection"))
    }

    /// The original of an object that has been uploaded.
    pub(crate) fn content(&self, id: &ObjectId) -> Option<OriginalContent> {
        if let Some(original) = self.parts.originals.get(id) {
            return Some(original.clone());
        }
        let object = self.object(id)?;
        let size = object.number("cpmeta:hasSizeInBytes")?;
        Some(OriginalContent::Blocks {
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
        matches!(self.content(id), None | Some(OriginalContent::Missing))
            .then(|| format!("Binary file not found for object {id}"))
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
        let given = self.parts.values.get(id);
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
    const HALF_HOUR: i64 = 1_800_000;
    let is_time = matches!(
        format,
        CellFormat::DateTime | CellFormat::Date | CellFormat::TimeOfDay
    );
    if is_time && !column.flag("cpmeta:isRegexColumn") {
        return ColumnValues::Clock {
            start,
            step: HALF_HOUR,
        };
    }
    let is_flag = !column.nodes("cpmeta:isQualityFlagFor").is_empty();
    if format == CellFormat::BmpChar && is_flag {
        let flags = "OUR012N9";
        return ColumnValues::Flags(flags.encode_utf16().collect());
    }
    ColumnValues::Noise
}
