//! Descriptions of objects and collections that are made in code, and the
//! triples of their metadata.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxrdf::{Literal, NamedNode, Term, Triple};

use super::content::OriginalContent;
use super::values::{CellFormat, ColumnValues};
use super::vocabulary::iri;
use icos_portal::{Envri, ObjectId};

/// An object or a document.
pub(crate) struct DemoObject {
    pub(crate) name: String,
    pub(crate) original: OriginalContent,
    pub(crate) kind: Kind,
    /// The time of submission, e.g. `2024-09-12T09:05:38.471Z`.
    pub(crate) submitted: &'static str,
    /// When the object became or becomes public; `None` if the upload was not
    /// completed.
    pub(crate) published: Option<&'static str>,
    pub(crate) previous: Vec<ObjectId>,
    pub(crate) table: Option<TableMetadata>,
    pub(crate) columns: Vec<ColumnContent>,
    pub(crate) licence: Option<&'static str>,
    pub(crate) elsewhere: Option<&'static str>,
    /// Whether the file is missing on the disk.
    pub(crate) lost: bool,
}

/// The kind of an object.
pub(crate) enum Kind {
    /// A station's time series of a data type.
    Series {
        spec: &'static str,
        station: &'static str,
        time: [&'static str; 2],
        height: Option<&'static str>,
    },
    /// An object that covers space and time.
    Field {
        spec: &'static str,
        title: &'static str,
        time: [&'static str; 2],
    },
    /// A document.
    Document { title: &'static str },
}

/// The metadata of a table.
pub(crate) struct TableMetadata {
    pub(crate) rows: u64,
    /// Whether the metadata lists the columns.
    pub(crate) named: bool,
}

/// A column of a table, in the order of the original.
pub(crate) struct ColumnContent {
    pub(crate) name: Cow<'static, str>,
    pub(crate) format: CellFormat,
    pub(crate) values: ColumnValues,
}

impl DemoObject {
    /// An object without a table that is available after login.
    pub(crate) fn new(name: &str, kind: Kind, original: OriginalContent) -> Self {
        Self {
            name: name.to_owned(),
            original,
            kind,
            submitted: "2024-05-02T12:00:00Z",
            published: Some("2024-05-02T12:00:07.25Z"),
            previous: Vec::new(),
            table: None,
            columns: Vec::new(),
            licence: None,
            elsewhere: None,
            lost: false,
        }
    }

    pub(crate) fn triples(&self, envri: Envri, id: &ObjectId, digest: &[u8; 32]) -> Vec<Triple> {
        let landing = format!("{}{id}", envri.landing_prefix());
        let part = |kind: &str| format!("res:{kind}_{id}");
        let mut triples = Vec::new();
        let mut object = SubjectTriples::new(&mut triples, &landing);
        object
            .text("cpmeta:hasName", &self.name)
            .typed(
                "cpmeta:hasSha256sum",
                &STANDARD.encode(digest),
                "base64Binary",
            )
            .link("cpmeta:wasSubmittedBy", &part("subm"));
        if self.published.is_some() {
            let size = self.original.size().to_string();
            object.typed("cpmeta:hasSizeInBytes", &size, "long");
        }
        for previous in &self.previous {
            let previous = format!("{}{previous}", envri.landing_prefix());
            object.link("cpmeta:isNextVersionOf", &previous);
        }
        if let Some(licence) = self.licence {
            object.link("dcterms:license", licence);
        }
        if let Some(elsewhere) = self.elsewhere {
            object.link("rdfs:seeAlso", elsewhere);
        }
        if let Some(table) = &self.table {
            object.typed("cpmeta:hasNumberOfRows", &table.rows.to_string(), "integer");
            if table.named {
                let names: Vec<_> = self.columns.iter().map(|c| &c.name).collect();
                let json = serde_json::to_string(&names).expect("names are strings");
                object.text("cpmeta:hasActualColumnNames", &json);
            }
        }
        let submitter = self.describe(&landing, &mut triples, &part);
        let mut submission = SubjectTriples::new(&mut triples, &part("subm"));
        submission
            .link("rdf:type", "cpmeta:DataSubmission")
            .link("prov:wasAssociatedWith", submitter)
            .time("prov:startedAtTime", self.submitted);
        if let Some(published) = self.published {
            submission.time("prov:endedAtTime", published);
        }
        triples
    }

    /// Adds the triples of this kind of object; returns its submitter.
    fn describe(
        &self,
        landing: &str,
        triples: &mut Vec<Triple>,
        part: &dyn Fn(&str) -> String,
    ) -> &'static str {
        let mut object = SubjectTriples::new(triples, landing);
        match &self.kind {
            Kind::Series {
                spec,
                station,
                time,
                height,
            } => {
                object
                    .link("rdf:type", "cpmeta:DataObject")
                    .link("cpmeta:hasObjectSpec", &format!("cpres:{spec}"))
                    .link("cpmeta:wasAcquiredBy", &part("acq"))
                    .link("cpmeta:wasProducedBy", &part("prod"));
                let centre = match &station[..2] {
                    "AS" => "res:organizations/ATC",
                    "ES" => "res:organizations/ETC",
                    _ => "res:organizations/OTC",
                };
                let mut acquisition = SubjectTriples::new(triples, &part("acq"));
                acquisition
                    .link("rdf:type", "cpmeta:DataAcquisition")
                    .link("prov:wasAssociatedWith", &format!("res:stations/{station}"))
                    .time("prov:startedAtTime", time[0])
                    .time("prov:endedAtTime", time[1]);
                if let Some(height) = height {
                    acquisition.typed("cpmeta:hasSamplingHeight", height, "float");
                }
                if *station == "AS_HTM" {
                    acquisition
                        .link("cpmeta:wasPerformedWith", "res:instruments/ATC_181")
                        .link("cpmeta:wasPerformedWith", "res:instruments/ATC_505");
                }
                SubjectTriples::new(triples, &part("prod"))
                    .link("rdf:type", "cpmeta:DataProduction")
                    .link("cpmeta:wasPerformedBy", centre)
                    .time("cpmeta:hasEndTime", self.submitted);
                centre
            }
            Kind::Field { spec, title, time } => {
                object
                    .link("rdf:type", "cpmeta:DataObject")
                    .link("cpmeta:hasObjectSpec", &format!("cpres:{spec}"))
                    .text("dcterms:title", title)
                    .text("dcterms:description", "Made for the demo portal")
                    .time("cpmeta:hasStartTime", time[0])
                    .time("cpmeta:hasEndTime", time[1])
                    .text("cpmeta:hasTemporalResolution", "1 month")
                    .link(
                        "cpmeta:hasSpatialCoverage",
                        "res:latlonboxes/globalLatLonBox",
                    )
                    .link("cpmeta:wasProducedBy", &part("prod"));
                SubjectTriples::new(triples, &part("prod"))
                    .link("rdf:type", "cpmeta:DataProduction")
                    .link("cpmeta:wasPerformedBy", "res:people/Ada_Lindqvist")
                    .link("cpmeta:wasParticipatedInBy", "res:people/Bo_Virtanen")
                    .link("cpmeta:wasHostedBy", "res:organizations/CP")
                    .time("cpmeta:hasEndTime", self.submitted);
                "res:organizations/CP"
            }
            Kind::Document { title } => {
                object
                    .link("rdf:type", "cpmeta:DocumentObject")
                    .text("dcterms:title", title)
                    .link("dcterms:creator", "res:people/Ada_Lindqvist");
                "res:organizations/CP"
            }
        }
    }
}

/// A collection.
pub(crate) struct DemoCollection {
    pub(crate) title: &'static str,
    pub(crate) objects: Vec<ObjectId>,
    pub(crate) collections: Vec<ObjectId>,
    pub(crate) previous: Option<ObjectId>,
}

impl DemoCollection {
    /// The hash of the members' ids.
    pub(crate) fn id(&self) -> ObjectId {
        let members = self.objects.iter().chain(&self.collections);
        let bytes: Vec<u8> = members.flat_map(|id| *id.as_bytes()).collect();
        ObjectId::of_content(&bytes)
    }

    pub(crate) fn triples(&self, envri: Envri, id: &ObjectId) -> Vec<Triple> {
        let iri = |id: &ObjectId| format!("{}/collections/{id}", envri.meta_url());
        let mut triples = Vec::new();
        let mut about = SubjectTriples::new(&mut triples, &iri(id));
        about
            .link("rdf:type", "cpmeta:Collection")
            .link("dcterms:creator", "res:organizations/CP")
            .text("dcterms:title", self.title)
            .text("dcterms:description", "Made for the demo portal");
        for object in &self.objects {
            about.link(
                "dcterms:hasPart",
                &format!("{}{object}", envri.landing_prefix()),
            );
        }
        for collection in &self.collections {
            about.link("dcterms:hasPart", &iri(collection));
        }
        if let Some(previous) = &self.previous {
            about.link("cpmeta:isNextVersionOf", &iri(previous));
        }
        triples
    }
}

/// Adds triples about one subject.
struct SubjectTriples<'a> {
    subject: String,
    triples: &'a mut Vec<Triple>,
}

impl<'a> SubjectTriples<'a> {
    fn new(triples: &'a mut Vec<Triple>, subject: &str) -> Self {
        Self {
            subject: iri(subject),
            triples,
        }
    }

    fn say(&mut self, property: &str, object: impl Into<Term>) -> &mut Self {
        let node = |name: &str| NamedNode::new_unchecked(iri(name));
        self.triples
            .push(Triple::new(node(&self.subject), node(property), object));
        self
    }

    fn link(&mut self, property: &str, object: &str) -> &mut Self {
        self.say(property, NamedNode::new_unchecked(iri(object)))
    }

    fn text(&mut self, property: &str, text: &str) -> &mut Self {
        self.say(property, Literal::new_simple_literal(text))
    }

    fn typed(&mut self, property: &str, text: &str, datatype: &str) -> &mut Self {
        let datatype = NamedNode::new_unchecked(iri(&format!("xsd:{datatype}")));
        self.say(property, Literal::new_typed_literal(text, datatype))
    }

    fn time(&mut self, property: &str, time: &str) -> &mut Self {
        self.typed(property, time, "dateTime")
    }
}
