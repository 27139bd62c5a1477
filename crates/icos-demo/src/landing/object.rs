//! Data objects and documents.

use regex::Regex;
use serde_json::{Value, json};

use super::people::{agent, contributors, organization};
use super::references::references;
use super::station::{data_theme, location, own_coverage, position_json, site, station};
use super::{
    BadMetadata, Fields, expected_one, hash, keywords, one_or_many, parent_collections,
    plain_object, resource, single, single_text, versions,
};
use crate::geo::{Place, Shape};
use crate::graph::{Graph, Node};
use icos_portal::Envri;

/// The landing page of an object or a document; `iri` may be unknown.
pub(crate) fn object(graph: &Graph, envri: Envri, iri: &str) -> Result<Value, BadMetadata> {
    let unknown = || expected_one(iri, "cpmeta:hasObjectSpec", 0);
    let object = graph.node(iri).ok_or_else(unknown)?;
    if object.is_a("cpmeta:DocumentObject") {
        document(graph, envri, object)
    } else {
        data_object(graph, envri, object)
    }
}

fn data_object(graph: &Graph, envri: Envri, object: Node<'_>) -> Result<Value, BadMetadata> {
    let spec = single(object, "cpmeta:hasObjectSpec")?;
    let info = if is_time_series(spec)? {
        time_series(graph, object, spec)?
    } else {
        spatio_temporal(graph, object)?
    };
    let published = submission_end(object).is_some() && !is_under_moratorium(object);
    let access_url = access_url(envri, object).filter(|_| published);
    let fields = common(object)?
        .maybe("accessUrl", access_url)
        .with("specification", specification(spec)?)
        .with("specificInfo", info)
        .with("references", references(graph, envri, object)?)
        .maybe("coverageGeo", coverage(object).map(|p| p.geo_json()));
    Ok(versions(object, fields).json())
}

fn document(graph: &Graph, envri: Envri, document: Node<'_>) -> Result<Value, BadMetadata> {
    let fields = common(document)?
        .with("accessUrl", own_access_url(envri, document))
        .maybe("description", document.text("dcterms:description"))
        .with("references", references(graph, envri, document)?);
    Ok(versions(document, fields).json())
}

/// What objects and documents share.
fn common(object: Node<'_>) -> Result<Fields, BadMetadata> {
    let no_hash = || expected_one(object.iri(), "cpmeta:hasSha256sum", 0);
    let size = object.number::<u64>("cpmeta:hasSizeInBytes");
    let pid = size.map(|_| format!("11676/{}", object.local_name()));
    Ok(Fields::default()
        .with("hash", hash(object).ok_or_else(no_hash)?)
        .maybe("pid", pid)
        .maybe("doi", object.text("cpmeta:hasDoi"))
        .with("fileName", single_text(object, "cpmeta:hasName")?)
        .maybe("size", size)
        .with(
            "submission",
            submission(single(object, "cpmeta:wasSubmittedBy")?)?,
        )
        .with("parentCollections", parent_collections(object)))
}

fn submission(submission: Node<'_>) -> Result<Value, BadMetadata> {
    let submitter = single(submission, "prov:wasAssociatedWith")?;
    Ok(Fields::default()
        .with("submitter", organization(submitter)?)
        .with("start", single_text(submission, "prov:startedAtTime")?)
        .maybe("stop", submission.text("prov:endedAtTime"))
        .json())
}

/// When the upload of an object was completed, or its moratorium ends.
pub(super) fn submission_end(object: Node<'_>) -> Option<jiff::Timestamp> {
    let submission = object.one("cpmeta:wasSubmittedBy")?;
    submission.text("prov:endedAtTime")?.parse().ok()
}

/// Whether an object's content is kept back for now.
pub(crate) fn is_under_moratorium(object: Node<'_>) -> bool {
    submission_end(object).is_some_and(|end| end > jiff::Timestamp::now())
}

fn own_access_url(envri: Envri, object: Node<'_>) -> String {
    format!("{}/objects/{}", envri.data_url(), object.local_name())
}

/// Where the content of an object is said to be; nowhere if policy forbids.
fn access_url(envri: Envri, object: Node<'_>) -> Option<String> {
    if let Some(elsewhere) = object.one("rdfs:seeAlso") {
        return Some(elsewhere.iri().to_owned());
    }
    let spec = object.one("cpmeta:hasObjectSpec")?;
    let level = spec.number::<i64>("cpmeta:hasDataLevel").unwrap_or(0);
    let theme = spec
        .one("cpmeta:hasDataTheme")
        .map(|theme| theme.local_name());
    let withheld = level < 1 && theme == Some("atmosphere");
    (!withheld).then(|| own_access_url(envri, object))
}

/// Why the data service would not hand out an object's content, in its words.
/// Whether the file is there is for the caller to know.
pub(crate) fn inaccessible(envri: Envri, object: Node<'_>) -> Option<String> {
    if object.text("cpmeta:hasSizeInBytes").is_none() {
        return Some("Uploading of this object has not been completed.".to_owned());
    }
    if is_under_moratorium(object) {
        let end = submission_end(object)?;
        return Some(format!(
            "Data object is under moratorium, will be available at {end}"
        ));
    }
    let document = object.is_a("cpmeta:DocumentObject");
    let Some(url) = access_url(envri, object).filter(|_| !document) else {
        return (!document).then(|| {
            format!("Data object is not distributed by the Data Portal due to {envri} policies")
        });
    };
    let second_level = |url: &str| {
        let host = url.split('/').nth(2).unwrap_or_default();
        let labels: Vec<_> = host.rsplit('.').take(2).map(str::to_owned).collect();
        labels
    };
    (second_level(&url) != second_level(envri.data_url()))
        .then(|| "Data object is distributed by third parties".to_owned())
}

fn is_time_series(spec: Node<'_>) -> Result<bool, BadMetadata> {
    let kind = single(spec, "cpmeta:hasSpecificDatasetType")?;
    Ok(kind.local_name() == "stationTimeSeriesDataset")
}

pub(super) fn specification(spec: Node<'_>) -> Result<Value, BadMetadata> {
    let project = single(spec, "cpmeta:hasAssociatedProject")?;
    let format = single(spec, "cpmeta:hasFormat")?;
    let level_lacking = || expected_one(spec.iri(), "cpmeta:hasDataLevel", 0);
    let kind = if is_time_series(spec)? {
        "StationTimeSeries"
    } else {
        "SpatioTemporal"
    };
    let good_flags = (format.literals("cpmeta:hasGoodFlagValue").iter())
        .map(|flag| flag.value().into())
        .collect();
    let dataset = spec.one("cpmeta:containsDataset").map(|dataset| {
        Fields::default()
            .with("self", resource(dataset))
            .maybe("resolution", dataset.text("cpmeta:hasTemporalResolution"))
            .json()
    });
    let documents = spec.nodes("cpmeta:hasDocumentationObject");
    let documents: Vec<_> = documents.into_iter().map(plain_object).collect();
    Ok(Fields::default()
        .with("self", resource(spec))
        .with(
            "project",
            Fields::default()
                .with("self", resource(project))
                .some("keywords", keywords(project))
                .json(),
        )
        .with("theme", data_theme(single(spec, "cpmeta:hasDataTheme")?))
        .with(
            "format",
            Fields::default()
                .with("self", resource(format))
                .some("goodFlagValues", good_flags)
                .with("uri", format.iri())
                .json(),
        )
        .with("encoding", resource(single(spec, "cpmeta:hasEncoding")?))
        .with(
            "dataLevel",
            spec.number::<i64>("cpmeta:hasDataLevel")
                .ok_or_else(level_lacking)?,
        )
        .with("specificDatasetType", kind)
        .maybe("datasetSpec", dataset)
        .with("documentation", documents)
        .some("keywords", keywords(spec))
        .json())
}

fn time_series(graph: &Graph, object: Node<'_>, spec: Node<'_>) -> Result<Value, BadMetadata> {
    let acquisition = single(object, "cpmeta:wasAcquiredBy")?;
    let station = station(graph, single(acquisition, "prov:wasAssociatedWith")?)?;
    let interval = interval(acquisition, "prov:startedAtTime", "prov:endedAtTime");
    let instruments = acquisition.nodes("cpmeta:wasPerformedWith");
    let instruments = instruments.into_iter().map(instrument).collect();
    let acquired = Fields::default()
        .with("station", station)
        .maybe("site", acquisition.one("cpmeta:wasPerformedAt").map(site))
        .maybe("interval", interval)
        .maybe("instrument", one_or_many(instruments))
        .maybe(
            "samplingPoint",
            sampling_point(acquisition).map(|place| position_json(&place)),
        )
        .maybe(
            "samplingHeight",
            acquisition.number::<f64>("cpmeta:hasSamplingHeight"),
        );
    let own_coverage = object
        .one("cpmeta:hasSpatialCoverage")
        .and_then(|_| coverage(object))
        .map(|place| place.json());
    Ok(Fields::default()
        .with("acquisition", acquired.json())
        .maybe("productionInfo", production(object)?)
        .maybe("nRows", object.number::<i64>("cpmeta:hasNumberOfRows"))
        .maybe("coverage", own_coverage)
        .some("columns", columns(object, spec))
        .json())
}

fn spatio_temporal(graph: &Graph, object: Node<'_>) -> Result<Value, BadMetadata> {
    let no_place = || expected_one(object.iri(), "cpmeta:hasSpatialCoverage", 0);
    let no_time = || expected_one(object.iri(), "cpmeta:hasStartTime", 0);
    let no_production =
        || BadMetadata("Production info must be provided for a spatial data object".to_owned());
    let place = coverage(object).ok_or_else(no_place)?;
    let interval =
        interval(object, "cpmeta:hasStartTime", "cpmeta:hasEndTime").ok_or_else(no_time)?;
    let acquisition = object.one("cpmeta:wasAcquiredBy");
    let stat = acquisition.and_then(|a| a.one("prov:wasAssociatedWith"));
    let temporal = Fields::default()
        .with("interval", interval)
        .maybe("resolution", object.text("cpmeta:hasTemporalResolution"));
    Ok(Fields::default()
        .with("title", single_text(object, "dcterms:title")?)
        .maybe("description", object.text("dcterms:description"))
        .with("spatial", place.json())
        .with("temporal", temporal.json())
        .maybe(
            "station",
            stat.filter(|s| s.text("cpmeta:hasStationId").is_some())
                .map(|s| station(graph, s))
                .transpose()?,
        )
        .maybe(
            "samplingHeight",
            acquisition.and_then(|a| a.number::<f64>("cpmeta:hasSamplingHeight")),
        )
        .with(
            "productionInfo",
            production(object)?.ok_or_else(no_production)?,
        )
        .some("variables", variables(object))
        .json())
}

fn interval(subject: Node<'_>, start: &str, stop: &str) -> Option<Value> {
    let (start, stop) = (subject.text(start)?, subject.text(stop)?);
    Some(json!({"start": start, "stop": stop}))
}

fn instrument(instrument: Node<'_>) -> Value {
    let model = instrument.text("cpmeta:hasModel").filter(|m| *m != "N/A");
    let number = instrument
        .text("cpmeta:hasSerialNumber")
        .filter(|n| *n != "N/A");
    let label = instrument
        .text("cpmeta:hasName")
        .map(str::to_owned)
        .or_else(|| match (model, number) {
            (Some(model), Some(number)) => Some(format!("{model} ({number})")),
            (one, other) => one.or(other).map(str::to_owned),
        });
    let mut json = resource(instrument);
    json["label"] = label
        .unwrap_or_else(|| instrument.local_name().to_owned())
        .into();
    json
}

fn production(object: Node<'_>) -> Result<Option<Value>, BadMetadata> {
    let Some(production) = object.one("cpmeta:wasProducedBy") else {
        return Ok(None);
    };
    let host = production.one("cpmeta:wasHostedBy");
    let sources = object.nodes("prov:hadPrimarySource");
    let sources: Vec<_> = sources.into_iter().map(plain_object).collect();
    let json = Fields::default()
        .with(
            "creator",
            agent(single(production, "cpmeta:wasPerformedBy")?)?,
        )
        .with(
            "contributors",
            contributors(production, "cpmeta:wasParticipatedInBy")?,
        )
        .maybe("host", host.map(organization).transpose()?)
        .maybe("comment", production.text("rdfs:comment"))
        .with("sources", sources)
        .maybe(
            "documentation",
            production.one("rdfs:seeAlso").map(plain_object),
        )
        .with("dateTime", single_text(production, "cpmeta:hasEndTime")?)
        .json();
    Ok(Some(json))
}

fn sampling_point(acquisition: Node<'_>) -> Option<Place> {
    Place::of(acquisition.one("cpmeta:hasSamplingPoint")?)
}

/// What an object covers: a place of its own, or that of its sampling point,
/// site or station.
pub(crate) fn coverage(object: Node<'_>) -> Option<Place> {
    let acquisition = object.one("cpmeta:wasAcquiredBy");
    let stat = acquisition.and_then(|a| a.one("prov:wasAssociatedWith"));
    if let Some(mut place) = object.one("cpmeta:hasSpatialCoverage").and_then(Place::of) {
        place.label = place.label.or_else(|| {
            stat.and_then(|s| s.text("cpmeta:hasName"))
                .map(str::to_owned)
        });
        return Some(place);
    }
    let site = || {
        let site = acquisition?.one("cpmeta:wasPerformedAt")?;
        Place::of(site.one("cpmeta:hasSpatialCoverage")?)
    };
    let all = |places: Vec<Place>| match places.len() {
        0 => None,
        1 => places.into_iter().next(),
        _ => Some(Shape::FeatureCollection(places).labelled(None)),
    };
    let sampled: Vec<_> = (acquisition.and_then(sampling_point).into_iter())
        .chain(site())
        .collect();
    all(sampled).or_else(|| {
        let stat = stat?;
        all(location(stat)
            .into_iter()
            .chain(own_coverage(stat))
            .collect())
    })
}

/// A column or variable of a data type.
struct Definition<'g> {
    node: Node<'g>,
    title: &'g str,
    optional: bool,
    regex: Option<Regex>,
}

impl<'g> Definition<'g> {
    fn all(spec: Node<'g>, kind: &str) -> Vec<Self> {
        let dataset = spec.one("cpmeta:containsDataset");
        let nodes = dataset.map(|d| d.nodes(&format!("cpmeta:has{kind}")));
        (nodes.unwrap_or_default().into_iter())
            .filter_map(|node| {
                let title = node.text(&format!("cpmeta:has{kind}Title"))?;
                let is_regex = node.flag(&format!("cpmeta:isRegex{kind}"));
                Some(Self {
                    node,
                    title,
                    optional: node.flag(&format!("cpmeta:isOptional{kind}")),
                    // Unlike the ingestion, landing pages match whole names.
                    regex: is_regex
                        .then(|| Regex::new(&format!("^(?:{title})$")))
                        .transpose()
                        .ok()?,
                })
            })
            .collect()
    }

    fn lookup<'a>(all: &'a [Self], name: &str) -> Option<&'a Self> {
        let plain = all.iter().rfind(|d| d.regex.is_none() && d.title == name);
        let matching = |d: &&Self| d.regex.as_ref().is_some_and(|r| r.is_match(name));
        plain
            .or_else(|| all.iter().filter(|d| !d.optional).find(matching))
            .or_else(|| all.iter().filter(|d| d.optional).find(matching))
    }

    fn json(&self, label: &str) -> Fields {
        let flags_for = (self.node.nodes("cpmeta:isQualityFlagFor").iter())
            .map(|column| column.iri().into())
            .collect();
        Fields::default()
            .with("model", resource(self.node))
            .with("label", label)
            .maybe(
                "valueType",
                self.node.one("cpmeta:hasValueType").map(value_type),
            )
            .maybe(
                "valueFormat",
                self.node.one("cpmeta:hasValueFormat").map(|f| f.iri()),
            )
            .some("isFlagFor", flags_for)
    }
}

fn value_type(value_type: Node<'_>) -> Value {
    Fields::default()
        .with("self", resource(value_type))
        .maybe(
            "quantityKind",
            value_type.one("cpmeta:hasQuantityKind").map(resource),
        )
        .maybe("unit", value_type.text("cpmeta:hasUnit"))
        .json()
}

fn columns(object: Node<'_>, spec: Node<'_>) -> Vec<Value> {
    let known: Vec<_> = Definition::all(spec, "Variable")
        .into_iter()
        .chain(Definition::all(spec, "Column"))
        .collect();
    let actual: Option<Vec<String>> = object
        .text("cpmeta:hasActualColumnNames")
        .and_then(|json| serde_json::from_str(json).ok());
    match actual {
        Some(names) => (names.iter())
            .filter_map(|name| Some(Definition::lookup(&known, name)?.json(name).json()))
            .collect(),
        None => (known.iter())
            .filter(|d| !d.optional && d.regex.is_none())
            .map(|d| d.json(d.title).json())
            .collect(),
    }
}

fn variables(object: Node<'_>) -> Vec<Value> {
    let Some(spec) = object.one("cpmeta:hasObjectSpec") else {
        return Vec::new();
    };
    let known = Definition::all(spec, "Variable");
    (object.nodes("cpmeta:hasActualVariable").into_iter())
        .filter_map(|variable| {
            let name = variable.text("rdfs:label")?;
            let min = variable.number::<f64>("cpmeta:hasMinValue");
            let max = variable.number::<f64>("cpmeta:hasMaxValue");
            let range = min.zip(max).map(|(min, max)| json!([min, max]));
            let definition = Definition::lookup(&known, name)?;
            Some(definition.json(name).maybe("minMax", range).json())
        })
        .collect()
}
