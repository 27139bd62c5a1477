//! Data objects and documents.

use regex::Regex;
use serde_json::{Value, json};

use super::access::{access_url, is_under_moratorium, own_access_url, submission_end};
use super::fields::{
    JsonFields, MetadataError, expected_one, hash, keywords, one_or_many, plain_object, resource,
    single, single_text,
};
use super::people::{agent, contributors, organization};
use super::references::references;
use super::station::{data_theme, location, own_coverage, position_json, site, station};
use super::versions::{parent_collections, versions};
use crate::geo::{GeoFeature, Geometry};
use crate::graph::{Graph, RdfNode};
use icos_portal::Envri;

/// The landing page of an object or a document; `iri` may be unknown.
pub(crate) fn object(graph: &Graph, envri: Envri, iri: &str) -> Result<Value, MetadataError> {
    let unknown = || expected_one(iri, "cpmeta:hasObjectSpec", 0);
    let object = graph.node(iri).ok_or_else(unknown)?;
    if object.is_a("cpmeta:DocumentObject") {
        document(graph, envri, object)
    } else {
        data_object(graph, envri, object)
    }
}

fn data_object(graph: &Graph, envri: Envri, object: RdfNode<'_>) -> Result<Value, MetadataError> {
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

fn document(graph: &Graph, envri: Envri, document: RdfNode<'_>) -> Result<Value, MetadataError> {
    let fields = common(document)?
        .with("accessUrl", own_access_url(envri, document))
        .maybe("description", document.text("dcterms:description"))
        .with("references", references(graph, envri, document)?);
    Ok(versions(document, fields).json())
}

/// The fields that objects and documents share.
fn common(object: RdfNode<'_>) -> Result<JsonFields, MetadataError> {
    let no_hash = || expected_one(object.iri(), "cpmeta:hasSha256sum", 0);
    let size = object.number::<u64>("cpmeta:hasSizeInBytes");
    let pid = size.map(|_| format!("11676/{}", object.local_name()));
    Ok(JsonFields::default()
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

fn submission(submission: RdfNode<'_>) -> Result<Value, MetadataError> {
    let submitter = single(submission, "prov:wasAssociatedWith")?;
    Ok(JsonFields::default()
        .with("submitter", organization(submitter)?)
        .with("start", single_text(submission, "prov:startedAtTime")?)
        .maybe("stop", submission.text("prov:endedAtTime"))
        .json())
}

fn is_time_series(spec: RdfNode<'_>) -> Result<bool, MetadataError> {
    let kind = single(spec, "cpmeta:hasSpecificDatasetType")?;
    Ok(kind.local_name() == "stationTimeSeriesDataset")
}

pub(super) fn specification(spec: RdfNode<'_>) -> Result<Value, MetadataError> {
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
        JsonFields::default()
            .with("self", resource(dataset))
            .maybe("resolution", dataset.text("cpmeta:hasTemporalResolution"))
            .json()
    });
    let documents = spec.nodes("cpmeta:hasDocumentationObject");
    let documents: Vec<_> = documents.into_iter().map(plain_object).collect();
    Ok(JsonFields::default()
        .with("self", resource(spec))
        .with(
            "project",
            JsonFields::default()
                .with("self", resource(project))
                .non_empty("keywords", keywords(project))
                .json(),
        )
        .with("theme", data_theme(single(spec, "cpmeta:hasDataTheme")?))
        .with(
            "format",
            JsonFields::default()
                .with("self", resource(format))
                .non_empty("goodFlagValues", good_flags)
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
        .non_empty("keywords", keywords(spec))
        .json())
}

fn time_series(
    graph: &Graph,
    object: RdfNode<'_>,
    spec: RdfNode<'_>,
) -> Result<Value, MetadataError> {
    let acquisition = single(object, "cpmeta:wasAcquiredBy")?;
    let station = station(graph, single(acquisition, "prov:wasAssociatedWith")?)?;
    let interval = interval(acquisition, "prov:startedAtTime", "prov:endedAtTime");
    let instruments = acquisition.nodes("cpmeta:wasPerformedWith");
    let instruments = instruments.into_iter().map(instrument).collect();
    let acquired = JsonFields::default()
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
    Ok(JsonFields::default()
        .with("acquisition", acquired.json())
        .maybe("productionInfo", production(object)?)
        .maybe("nRows", object.number::<i64>("cpmeta:hasNumberOfRows"))
        .maybe("coverage", own_coverage)
        .non_empty("columns", columns(object, spec))
        .json())
}

fn spatio_temporal(graph: &Graph, object: RdfNode<'_>) -> Result<Value, MetadataError> {
    let no_place = || expected_one(object.iri(), "cpmeta:hasSpatialCoverage", 0);
    let no_time = || expected_one(object.iri(), "cpmeta:hasStartTime", 0);
    let no_production =
        || MetadataError("Production info must be provided for a spatial data object".to_owned());
    let place = coverage(object).ok_or_else(no_place)?;
    let interval =
        interval(object, "cpmeta:hasStartTime", "cpmeta:hasEndTime").ok_or_else(no_time)?;
    let acquisition = object.one("cpmeta:wasAcquiredBy");
    let stat = acquisition.and_then(|a| a.one("prov:wasAssociatedWith"));
    let temporal = JsonFields::default()
        .with("interval", interval)
        .maybe("resolution", object.text("cpmeta:hasTemporalResolution"));
    Ok(JsonFields::default()
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
        .non_empty("variables", variables(object))
        .json())
}

fn interval(subject: RdfNode<'_>, start: &str, stop: &str) -> Option<Value> {
    let (start, stop) = (subject.text(start)?, subject.text(stop)?);
    Some(json!({"start": start, "stop": stop}))
}

fn instrument(instrument: RdfNode<'_>) -> Value {
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

fn production(object: RdfNode<'_>) -> Result<Option<Value>, MetadataError> {
    let Some(production) = object.one("cpmeta:wasProducedBy") else {
        return Ok(None);
    };
    let host = production.one("cpmeta:wasHostedBy");
    let sources = object.nodes("prov:hadPrimarySource");
    let sources: Vec<_> = sources.into_iter().map(plain_object).collect();
    let json = JsonFields::default()
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

fn sampling_point(acquisition: RdfNode<'_>) -> Option<GeoFeature> {
    GeoFeature::of(acquisition.one("cpmeta:hasSamplingPoint")?)
}

/// The area that an object covers: its own, or that of its sampling point, site
/// or station.
pub(crate) fn coverage(object: RdfNode<'_>) -> Option<GeoFeature> {
    let acquisition = object.one("cpmeta:wasAcquiredBy");
    let stat = acquisition.and_then(|a| a.one("prov:wasAssociatedWith"));
    if let Some(mut place) = object
        .one("cpmeta:hasSpatialCoverage")
        .and_then(GeoFeature::of)
    {
        place.label = place.label.or_else(|| {
            stat.and_then(|s| s.text("cpmeta:hasName"))
                .map(str::to_owned)
        });
        return Some(place);
    }
    let site = || {
        let site = acquisition?.one("cpmeta:wasPerformedAt")?;
        GeoFeature::of(site.one("cpmeta:hasSpatialCoverage")?)
    };
    let all = |places: Vec<GeoFeature>| match places.len() {
        0 => None,
        1 => places.into_iter().next(),
        _ => Some(Geometry::FeatureCollection(places).labelled(None)),
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
struct VariableDefinition<'g> {
    node: RdfNode<'g>,
    title: &'g str,
    optional: bool,
    regex: Option<Regex>,
}

impl<'g> VariableDefinition<'g> {
    fn all(spec: RdfNode<'g>, kind: &str) -> Vec<Self> {
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

    fn json(&self, label: &str) -> JsonFields {
        let flags_for = (self.node.nodes("cpmeta:isQualityFlagFor").iter())
            .map(|column| column.iri().into())
            .collect();
        JsonFields::default()
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
            .non_empty("isFlagFor", flags_for)
    }
}

fn value_type(value_type: RdfNode<'_>) -> Value {
    JsonFields::default()
        .with("self", resource(value_type))
        .maybe(
            "quantityKind",
            value_type.one("cpmeta:hasQuantityKind").map(resource),
        )
        .maybe("unit", value_type.text("cpmeta:hasUnit"))
        .json()
}

fn columns(object: RdfNode<'_>, spec: RdfNode<'_>) -> Vec<Value> {
    let known: Vec<_> = VariableDefinition::all(spec, "Variable")
        .into_iter()
        .chain(VariableDefinition::all(spec, "Column"))
        .collect();
    let actual: Option<Vec<String>> = object
        .text("cpmeta:hasActualColumnNames")
        .and_then(|json| serde_json::from_str(json).ok());
    match actual {
        Some(names) => (names.iter())
            .filter_map(|name| Some(VariableDefinition::lookup(&known, name)?.json(name).json()))
            .collect(),
        None => (known.iter())
            .filter(|d| !d.optional && d.regex.is_none())
            .map(|d| d.json(d.title).json())
            .collect(),
    }
}

fn variables(object: RdfNode<'_>) -> Vec<Value> {
    let Some(spec) = object.one("cpmeta:hasObjectSpec") else {
        return Vec::new();
    };
    let known = VariableDefinition::all(spec, "Variable");
    (object.nodes("cpmeta:hasActualVariable").into_iter())
        .filter_map(|variable| {
            let name = variable.text("rdfs:label")?;
            let min = variable.number::<f64>("cpmeta:hasMinValue");
            let max = variable.number::<f64>("cpmeta:hasMaxValue");
            let range = min.zip(max).map(|(min, max)| json!([min, max]));
            let definition = VariableDefinition::lookup(&known, name)?;
            Some(definition.json(name).maybe("minMax", range).json())
        })
        .collect()
}
