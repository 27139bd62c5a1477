//! Data objects and documents.

use serde_json::{Value, json};

use super::access::{access_url, is_under_moratorium, own_access_url, submission_end};
use super::fields::{
    JsonFields, MetadataError, expected_one, hash, keywords, one_or_many, plain_object, resource,
    single, texts, values,
};
use super::people::{agent, contributors, organization};
use super::references::references;
use super::station::{data_theme, location, own_coverage, site, station};
use super::versions::{parent_collections, versions};
use crate::definition::{Matching, VariableDefinition};
use crate::geo::{GeoFeature, Geometry};
use crate::graph::{Graph, RdfNode};
use icos_portal::Envri;

/// The landing page of an object or a document; `iri` may be unknown.
pub(crate) fn object(graph: &Graph, envri: Envri, iri: &str) -> Result<Value, MetadataError> {
    let unknown = || expected_one(iri, "cpmeta:hasObjectSpec", 0);
    let object = graph.node(iri).ok_or_else(unknown)?;
    let fields = if object.is_a("cpmeta:DocumentObject") {
        JsonFields::of(object)
            .with("accessUrl", own_access_url(envri, object))
            .text("description", "dcterms:description")
    } else {
        data_object(envri, object)
    };
    let size = object.number::<u64>("cpmeta:hasSizeInBytes");
    let pid = size.map(|_| format!("11676/{}", object.local_name()));
    let no_hash = || expected_one(iri, "cpmeta:hasSha256sum", 0);
    let fields = fields
        .require("hash", hash(object).ok_or_else(no_hash))
        .maybe("pid", pid)
        .text("doi", "cpmeta:hasDoi")
        .required_text("fileName", "cpmeta:hasName")
        .maybe("size", size)
        .required("submission", "cpmeta:wasSubmittedBy", submission)
        .with("parentCollections", parent_collections(object))
        .require("references", references(envri, object));
    versions(object, fields).json()
}

/// The fields that documents lack.
fn data_object(envri: Envri, object: RdfNode<'_>) -> JsonFields<'_> {
    let published = submission_end(object).is_some() && !is_under_moratorium(object);
    let access_url = access_url(envri, object).filter(|_| published);
    let info = single(object, "cpmeta:hasObjectSpec").and_then(|spec| {
        match dataset_type(spec)? {
            "StationTimeSeries" => time_series(object, spec),
            _ => spatio_temporal(object),
        }
        .json()
    });
    JsonFields::of(object)
        .maybe("accessUrl", access_url)
        .require("specificInfo", info)
        .required("specification", "cpmeta:hasObjectSpec", specification)
        .maybe("coverageGeo", coverage(object).map(|p| p.geo_json()))
}

fn submission(submission: RdfNode<'_>) -> JsonFields<'_> {
    JsonFields::of(submission)
        .required("submitter", "prov:wasAssociatedWith", organization)
        .required_text("start", "prov:startedAtTime")
        .text("stop", "prov:endedAtTime")
}

fn dataset_type(spec: RdfNode<'_>) -> Result<&'static str, MetadataError> {
    let kind = single(spec, "cpmeta:hasSpecificDatasetType")?;
    Ok(match kind.local_name() {
        "stationTimeSeriesDataset" => "StationTimeSeries",
        _ => "SpatioTemporal",
    })
}

pub(super) fn specification(spec: RdfNode<'_>) -> JsonFields<'_> {
    let level = spec.number::<i64>("cpmeta:hasDataLevel");
    let no_level = || expected_one(spec.iri(), "cpmeta:hasDataLevel", 0);
    JsonFields::described(spec)
        .required("project", "cpmeta:hasAssociatedProject", |project| {
            JsonFields::described(project).non_empty("keywords", keywords(project))
        })
        .required("theme", "cpmeta:hasDataTheme", data_theme)
        .required("format", "cpmeta:hasFormat", |format| {
            JsonFields::described(format)
                .non_empty("goodFlagValues", texts(format, "cpmeta:hasGoodFlagValue"))
                .with("uri", format.iri())
        })
        .required("encoding", "cpmeta:hasEncoding", resource)
        .require("dataLevel", level.ok_or_else(no_level))
        .require("specificDatasetType", dataset_type(spec))
        .one("datasetSpec", "cpmeta:containsDataset", |dataset| {
            JsonFields::described(dataset).text("resolution", "cpmeta:hasTemporalResolution")
        })
        .all(
            "documentation",
            "cpmeta:hasDocumentationObject",
            plain_object,
        )
        .non_empty("keywords", keywords(spec))
}

fn time_series<'g>(object: RdfNode<'g>, spec: RdfNode<'g>) -> JsonFields<'g> {
    let own_coverage = object
        .one("cpmeta:hasSpatialCoverage")
        .and_then(|_| coverage(object))
        .map(|place| place.json());
    with_production(object)
        .required("acquisition", "cpmeta:wasAcquiredBy", acquisition)
        .int("nRows", "cpmeta:hasNumberOfRows")
        .maybe("coverage", own_coverage)
        .non_empty("columns", columns(object, spec))
}

fn acquisition(acquisition: RdfNode<'_>) -> JsonFields<'_> {
    let interval = interval(acquisition, "prov:startedAtTime", "prov:endedAtTime");
    let instruments = acquisition.nodes("cpmeta:wasPerformedWith");
    let point = sampling_point(acquisition).map(|place| place.point_json());
    JsonFields::of(acquisition)
        .required("station", "prov:wasAssociatedWith", station)
        .one("site", "cpmeta:wasPerformedAt", site)
        .maybe("interval", interval)
        .maybe(
            "instrument",
            values(instruments, instrument).ok().and_then(one_or_many),
        )
        .maybe("samplingPoint", point)
        .float("samplingHeight", "cpmeta:hasSamplingHeight")
}

fn spatio_temporal(object: RdfNode<'_>) -> JsonFields<'_> {
    let no_place = || expected_one(object.iri(), "cpmeta:hasSpatialCoverage", 0);
    let no_time = || expected_one(object.iri(), "cpmeta:hasStartTime", 0);
    let place = coverage(object).map(|place| place.json());
    let interval = interval(object, "cpmeta:hasStartTime", "cpmeta:hasEndTime");
    let acquisition = object.one("cpmeta:wasAcquiredBy");
    let height = acquisition.and_then(|a| a.number::<f64>("cpmeta:hasSamplingHeight"));
    let temporal = JsonFields::of(object)
        .require("interval", interval.ok_or_else(no_time))
        .text("resolution", "cpmeta:hasTemporalResolution");
    let fields = with_production(object)
        .require("spatial", place.ok_or_else(no_place))
        .part("temporal", temporal)
        .required_text("title", "dcterms:title")
        .text("description", "dcterms:description")
        .maybe("samplingHeight", height)
        .non_empty("variables", variables(object));
    let fields = match object.one("cpmeta:wasProducedBy") {
        Some(_) => fields,
        None => fields.require("productionInfo", no_production()),
    };
    match acquisition.and_then(|a| a.one("prov:wasAssociatedWith")) {
        Some(stat) if stat.text("cpmeta:hasStationId").is_some() => {
            fields.part("station", station(stat))
        }
        _ => fields,
    }
}

fn no_production() -> Result<Value, MetadataError> {
    Err(MetadataError(
        "Production info must be provided for a spatial data object".to_owned(),
    ))
}

fn interval(subject: RdfNode<'_>, start: &str, stop: &str) -> Option<Value> {
    let (start, stop) = (subject.text(start)?, subject.text(stop)?);
    Some(json!({"start": start, "stop": stop}))
}

fn instrument(instrument: RdfNode<'_>) -> JsonFields<'_> {
    let known = |property| instrument.text(property).filter(|text| *text != "N/A");
    let model = known("cpmeta:hasModel");
    let number = known("cpmeta:hasSerialNumber");
    let label = match (model, number) {
        (Some(model), Some(number)) => format!("{model} ({number})"),
        (one, other) => one.or(other).unwrap_or(instrument.local_name()).to_owned(),
    };
    resource(instrument)
        .with("label", label)
        .text("label", "cpmeta:hasName")
}

fn with_production(object: RdfNode<'_>) -> JsonFields<'_> {
    let sources = values(object.nodes("prov:hadPrimarySource"), plain_object);
    let sources = sources.unwrap_or_default();
    JsonFields::of(object).one("productionInfo", "cpmeta:wasProducedBy", |production| {
        JsonFields::of(production)
            .required("creator", "cpmeta:wasPerformedBy", agent)
            .require(
                "contributors",
                contributors(production, "cpmeta:wasParticipatedInBy"),
            )
            .one("host", "cpmeta:wasHostedBy", organization)
            .text("comment", "rdfs:comment")
            .with("sources", sources.clone())
            .one("documentation", "rdfs:seeAlso", plain_object)
            .required_text("dateTime", "cpmeta:hasEndTime")
    })
}

fn sampling_point(acquisition: RdfNode<'_>) -> Option<GeoFeature> {
    GeoFeature::of(acquisition.one("cpmeta:hasSamplingPoint")?)
}

/// The area that an object covers: its own, or that of its sampling point, site
/// or station.
pub(crate) fn coverage(object: RdfNode<'_>) -> Option<GeoFeature> {
    let acquisition = object.one("cpmeta:wasAcquiredBy");
    let stat = acquisition.and_then(|a| a.one("prov:wasAssociatedWith"));
    let own = object.one("cpmeta:hasSpatialCoverage");
    if let Some(place) = own.and_then(GeoFeature::of) {
        return Some(place.or_labelled(stat.and_then(|s| s.text("cpmeta:hasName"))));
    }
    let site = acquisition
        .and_then(|a| a.path(&["cpmeta:wasPerformedAt", "cpmeta:hasSpatialCoverage"]))
        .and_then(GeoFeature::of);
    let all = |mut places: Vec<GeoFeature>| match places.len() {
        0 | 1 => places.pop(),
        _ => Some(Geometry::FeatureCollection { features: places }.labelled(None)),
    };
    let sampled = acquisition.and_then(sampling_point).into_iter();
    all(sampled.chain(site).collect()).or_else(|| {
        let located = location(stat?).into_iter();
        all(located.chain(own_coverage(stat?)).collect())
    })
}

/// A column or variable called `name`.
fn variable<'g>(definition: &VariableDefinition<'g>, name: &str) -> JsonFields<'g> {
    let node = definition.node;
    let flagged = node.nodes("cpmeta:isQualityFlagFor");
    JsonFields::of(node)
        .part("model", resource(node))
        .with("label", name)
        .one("valueType", "cpmeta:hasValueType", |value_type| {
            JsonFields::described(value_type)
                .one("quantityKind", "cpmeta:hasQuantityKind", resource)
                .text("unit", "cpmeta:hasUnit")
        })
        .iri("valueFormat", "cpmeta:hasValueFormat")
        .non_empty(
            "isFlagFor",
            flagged.iter().map(|column| column.iri().into()).collect(),
        )
}

fn columns(object: RdfNode<'_>, spec: RdfNode<'_>) -> Vec<Value> {
    let mut known = VariableDefinition::all(spec, "Variable", Matching::WholeName);
    known.extend(VariableDefinition::all(spec, "Column", Matching::WholeName));
    let names = VariableDefinition::names(&known, object);
    // Mandatory columns are preferred to optional ones.
    known.sort_by_key(|definition| definition.optional);
    (names.iter())
        .filter_map(|name| {
            let definition = VariableDefinition::lookup(&known, name)?;
            variable(definition, name).json().ok()
        })
        .collect()
}

fn variables(object: RdfNode<'_>) -> Vec<Value> {
    let spec = object.one("cpmeta:hasObjectSpec");
    let mut known = spec.map_or_else(Vec::new, |spec| {
        VariableDefinition::all(spec, "Variable", Matching::WholeName)
    });
    known.sort_by_key(|definition| definition.optional);
    (object.nodes("cpmeta:hasActualVariable").into_iter())
        .filter_map(|actual| {
            let name = actual.text("rdfs:label")?;
            let min = actual.number::<f64>("cpmeta:hasMinValue");
            let max = actual.number::<f64>("cpmeta:hasMaxValue");
            let range = min.zip(max).map(|(min, max)| json!([min, max]));
            let definition = VariableDefinition::lookup(&known, name)?;
            let fields = variable(definition, name).maybe("minMax", range);
            fields.json().ok()
        })
        .collect()
}
