//! Objects and collections that are made in code, and the triples of their
//! metadata, which `object/*.ttl` describe.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxrdf::Triple;
use serde::Deserialize;

use super::content::OriginalContent;
use super::values::{CellFormat, ColumnValues};
use super::vocabulary::{TemplateValues, read_template};
use icos_portal::{Envri, ObjectId};

/// An object or a document.
pub(crate) struct DemoObject {
    pub(crate) kind: ObjectKind,
    pub(crate) original: OriginalContent,
    /// The columns of a table.
    pub(crate) columns: Vec<ColumnContent>,
    /// Whether the file is missing on the disk.
    pub(crate) lost: bool,
    /// Values for `object.ttl`: all but those that follow from the fields above.
    /// An object without `published` has not been uploaded completely.
    pub(crate) metadata: TemplateValues,
}

/// The kind of an object.
#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ObjectKind {
    /// A station's time series of a data type.
    Series,
    /// An object that covers space and time.
    Field,
    /// A document.
    Document,
}

/// A column of a table, in the order of the original.
#[derive(Clone, Deserialize)]
pub(crate) struct ColumnContent {
    pub(crate) name: String,
    pub(crate) format: CellFormat,
    pub(crate) values: ColumnValues,
}

impl DemoObject {
    pub(crate) fn new(kind: ObjectKind, original: OriginalContent) -> Self {
        Self {
            kind,
            original,
            columns: Vec::new(),
            lost: false,
            metadata: TemplateValues::default(),
        }
    }

    /// Makes the object a table. If its columns are not `listed` in the metadata,
    /// they are the mandatory ones of its data type, in an order that the metadata
    /// do not show.
    pub(crate) fn set_table(&mut self, columns: Vec<ColumnContent>, rows: u64, listed: bool) {
        self.metadata.add("rows", rows);
        if listed {
            let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
            self.metadata.add("columns", serde_json::json!(names));
        }
        self.columns = columns;
    }

    pub(crate) fn triples(&self, envri: Envri, id: &ObjectId, digest: &[u8; 32]) -> Vec<Triple> {
        let mut values = self.metadata.clone();
        let (kind, class) = match self.kind {
            ObjectKind::Series => ("series", "DataObject"),
            ObjectKind::Field => ("field", "DataObject"),
            ObjectKind::Document => ("document", "DocumentObject"),
        };
        let station = self.metadata.first("station");
        // The centre of AS_HTM, an atmosphere station, is ATC.
        let centre = station.map_or("CP".to_owned(), |station| format!("{}TC", &station[..1]));
        values.add("objects", envri.landing_prefix());
        values.add("id", id);
        values.add(kind, id);
        values.add("class", class);
        values.add("centre", centre);
        values.add("sha256", STANDARD.encode(digest));
        if station == Some("AS_HTM") {
            values.add("instrument", "ATC_181");
            values.add("instrument", "ATC_505");
        }
        if values.first("published").is_some() {
            values.add("size", self.original.size());
        }
        read_template(include_str!("object/object.ttl"), &values)
    }
}

/// A collection.
pub(crate) struct DemoCollection {
    pub(crate) title: String,
    pub(crate) doi: Option<String>,
    pub(crate) objects: Vec<ObjectId>,
    pub(crate) collections: Vec<ObjectId>,
    pub(crate) previous: Vec<ObjectId>,
}

impl DemoCollection {
    /// The hash of the members' ids.
    pub(crate) fn id(&self) -> ObjectId {
        let members = self.objects.iter().chain(&self.collections);
        let bytes: Vec<u8> = members.flat_map(|id| *id.as_bytes()).collect();
        ObjectId::of_content(&bytes)
    }

    pub(crate) fn triples(&self, envri: Envri) -> Vec<Triple> {
        let mut values = TemplateValues::default();
        values.add("objects", envri.landing_prefix());
        values.add("collections", format!("{}/collections/", envri.meta_url()));
        values.add("id", self.id());
        values.add("title", &self.title);
        if let Some(doi) = &self.doi {
            values.add("doi", doi);
        }
        for (name, ids) in [
            ("object", &self.objects),
            ("collection", &self.collections),
            ("previous", &self.previous),
        ] {
            for id in ids {
                values.add(name, id);
            }
        }
        read_template(include_str!("object/collection.ttl"), &values)
    }
}
