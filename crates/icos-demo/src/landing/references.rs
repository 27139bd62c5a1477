//! Licence and citation.

use serde::Serialize;
use serde_json::{Value, json};

use super::access::submission_end;
use super::fields::{JsonFields, MetadataError, keywords};
use super::people::{agent, contributors, staff};
use super::structured_citation::StructuredCitation;
use crate::graph::RdfNode;
use icos_portal::Envri;

/// The licence of an object.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct DemoLicence {
    pub(crate) url: String,
    name: String,
    webpage: String,
    #[serde(rename = "baseLicence", skip_serializing_if = "Option::is_none")]
    base: Option<String>,
}

impl DemoLicence {
    /// Whether the object is available without login or acceptance.
    pub(crate) fn is_public_domain(&self) -> bool {
        self.url == "https://creativecommons.org/publicdomain/zero/1.0/"
    }

    /// The licence that users accept in their profile.
    pub(crate) fn main(envri: Envri) -> Self {
        let (url, name, page) = match envri {
            Envri::Icos | Envri::IcosCities => (
                "http://meta.icos-cp.eu/ontologies/cpmeta/icosLicence",
                "ICOS CCBY4 Data Licence",
                "https://data.icos-cp.eu/licence",
            ),
            Envri::Sites => (
                "https://meta.fieldsites.se/ontologies/sites/sitesLicence",
                "SITES CCBY4 Data Licence",
                "https://data.fieldsites.se/licence",
            ),
        };
        Self {
            url: url.to_owned(),
            name: name.to_owned(),
            webpage: page.to_owned(),
            base: Some("https://creativecommons.org/licenses/by/4.0".to_owned()),
        }
    }

    fn of(licence: RdfNode<'_>) -> Self {
        let iri = licence.iri();
        Self {
            url: iri.to_owned(),
            name: licence.text("rdfs:label").unwrap_or(iri).to_owned(),
            webpage: licence
                .one("rdfs:seeAlso")
                .map_or(iri, |page| page.iri())
                .to_owned(),
            base: licence.one("skos:exactMatch").map(|b| b.iri().to_owned()),
        }
    }
}

/// An object's own licence, or that of its data type, or of its project, or
/// the repository's.
pub(crate) fn licence(envri: Envri, object: RdfNode<'_>) -> DemoLicence {
    let implied = |node: RdfNode<'_>| {
        node.one("cpmeta:impliesDefaultLicence")
            .map(DemoLicence::of)
    };
    let spec = object.one("cpmeta:hasObjectSpec");
    (object.one("dcterms:license").map(DemoLicence::of))
        .or_else(|| implied(spec?))
        .or_else(|| implied(spec?.one("cpmeta:hasAssociatedProject")?))
        .unwrap_or_else(|| DemoLicence::main(envri))
}

/// The `references` of a landing page.
pub(super) fn references(envri: Envri, object: RdfNode<'_>) -> Result<Value, MetadataError> {
    let authors = authors(object)?;
    let title = title(object);
    let citation = citation_of(object, &authors, title.as_deref());
    let structured = StructuredCitation {
        authors: authors.iter().filter_map(full_name).collect(),
        title: title.clone().zip(period(object)),
        year: year(object),
        note: object.text("dcterms:description"),
        keywords: texts_of(&keywords(object)),
        url: pid_url(object),
        publisher: submitter(object),
        licence: licence(envri, object).url,
        doi: object.text("cpmeta:hasDoi"),
        pid: format!("11676/{}", object.local_name()),
    };
    JsonFields::of(object)
        .maybe("citationString", citation)
        .with("citationBibTex", structured.bibtex())
        .with("citationRis", structured.ris())
        .non_empty("keywords", keywords(object))
        .non_empty("authors", authors)
        .maybe("title", title)
        .maybe("temporalCoverageDisplay", period(object))
        .with("licence", json!(licence(envri, object)))
        .json()
}

/// The citation of an object, as in the virtual property `hasCitationString`.
pub(crate) fn citation(object: RdfNode<'_>) -> Option<String> {
    let authors = authors(object).ok()?;
    citation_of(object, &authors, title(object).as_deref())
}

/// The virtual property `hasBiblioInfo`: the references as JSON text.
pub(crate) fn biblio_info(envri: Envri, object: RdfNode<'_>) -> Option<String> {
    Some(references(envri, object).ok()?.to_string())
}

fn authors(object: RdfNode<'_>) -> Result<Vec<Value>, MetadataError> {
    if object.is_a("cpmeta:DocumentObject") {
        return contributors(object, "dcterms:creator");
    }
    let spec = object.one("cpmeta:hasObjectSpec");
    let level = spec.and_then(|s| s.number::<i64>("cpmeta:hasDataLevel"));
    let stat = object.path(&["cpmeta:wasAcquiredBy", "prov:wasAssociatedWith"]);
    if let (Some(stat), Some(0..=2)) = (stat, level) {
        let mut members = staff(stat);
        members.retain(|member| member["role"]["weight"].is_number());
        members.sort_by_key(|member| {
            let weight = member["role"]["weight"].as_i64().unwrap_or(0);
            let name = member["person"]["lastName"].as_str().unwrap_or_default();
            (-weight, name.to_uppercase())
        });
        let mut authors: Vec<Value> = members.iter().map(|m| m["person"].clone()).collect();
        authors.dedup();
        return Ok(authors);
    }
    let Some(production) = object.one("cpmeta:wasProducedBy") else {
        return Ok(Vec::new());
    };
    let mut authors = contributors(production, "cpmeta:wasParticipatedInBy")?;
    if let Some(creator) = production.one("cpmeta:wasPerformedBy") {
        let creator = agent(creator).json()?;
        if !authors.contains(&creator) {
            authors.insert(0, creator);
        }
    }
    Ok(authors)
}

fn title(object: RdfNode<'_>) -> Option<String> {
    if let Some(title) = object.text("dcterms:title") {
        return Some(title.to_owned());
    }
    let spec = object.one("cpmeta:hasObjectSpec")?.text("rdfs:label")?;
    let acquisition = object.one("cpmeta:wasAcquiredBy")?;
    let stat = acquisition.one("prov:wasAssociatedWith")?;
    let name = stat.text("cpmeta:hasName")?;
    Some(match acquisition.text("cpmeta:hasSamplingHeight") {
        Some(height) => format!("{spec} from {name} ({height} m)"),
        None => format!("{spec} from {name}"),
    })
}

fn period(object: RdfNode<'_>) -> Option<String> {
    let day = |text: Option<&str>| Some(text?.split('T').next()?.to_owned());
    let acquisition = object.one("cpmeta:wasAcquiredBy");
    let of = |own: &str, acquired: &str| {
        day(object.text(own)).or_else(|| day(acquisition.and_then(|a| a.text(acquired))))
    };
    let start = of("cpmeta:hasStartTime", "prov:startedAtTime")?;
    let end = of("cpmeta:hasEndTime", "prov:endedAtTime")?;
    Some(format!("{start}\u{2013}{end}"))
}

/// The address of the DOI, or of the handle.
fn pid_url(object: RdfNode<'_>) -> String {
    match object.text("cpmeta:hasDoi") {
        Some(doi) => format!("https://doi.org/{doi}"),
        None => format!("https://hdl.handle.net/11676/{}", object.local_name()),
    }
}

/// The year of the production, or else of the end of the data; of a document, that of
/// the submission.
fn year(object: RdfNode<'_>) -> Option<String> {
    if object.is_a("cpmeta:DocumentObject") {
        return Some(submission_end(object)?.to_string()[..4].to_owned());
    }
    let produced = object.one("cpmeta:wasProducedBy");
    let acquired = object.one("cpmeta:wasAcquiredBy");
    let time = produced
        .and_then(|p| p.text("cpmeta:hasEndTime"))
        .or_else(|| acquired.and_then(|a| a.text("prov:endedAtTime")))?;
    time.get(..4).map(str::to_owned)
}

/// The name of the organisation that submitted the object.
fn submitter(object: RdfNode<'_>) -> Option<&str> {
    let path = ["cpmeta:wasSubmittedBy", "prov:wasAssociatedWith"];
    object.path(&path)?.text("cpmeta:hasName")
}

/// An author as `Last, First`, or the name of an organisation.
fn full_name(author: &Value) -> Option<String> {
    match (&author["lastName"], &author["firstName"]) {
        (Value::String(last), Value::String(first)) => Some(format!("{last}, {first}")),
        _ => author["name"].as_str().map(str::to_owned),
    }
}

fn texts_of(values: &[Value]) -> Vec<String> {
    let texts = values.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn citation_of(object: RdfNode<'_>, authors: &[Value], title: Option<&str>) -> Option<String> {
    let names: Vec<_> = (authors.iter())
        .filter_map(|author| match (&author["lastName"], &author["firstName"]) {
            (Value::String(last), Value::String(first)) => {
                Some(format!("{last}, {}.", first.chars().next()?))
            }
            _ => author["name"].as_str().map(str::to_owned),
        })
        .collect();
    let names = names.join(", ");
    let pid = pid_url(object);
    if object.is_a("cpmeta:DocumentObject") {
        let year = year(object)?;
        let title = title.or_else(|| object.text("cpmeta:hasName"))?;
        let names = if names.is_empty() { "ICOS RI" } else { &names };
        return Some(format!("{names}, {year}. {title}, {pid}"));
    }
    let year = year(object)?;
    let project = object.path(&["cpmeta:hasObjectSpec", "cpmeta:hasAssociatedProject"])?;
    let project = match (project.local_name(), project.text("rdfs:label")) {
        ("icos", _) => "ICOS RI,".to_owned(),
        ("misc", _) | (_, None) => String::new(),
        (_, Some(label)) => format!("{label},"),
    };
    Some(format!(
        "{names} ({year}). {}, {}, {project} {pid}",
        title?,
        period(object)?
    ))
}
