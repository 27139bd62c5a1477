//! Stations.

use serde_json::{Value, json};

use super::fields::{JsonFields, MetadataError, plain_object, resource, single_text};
use super::people::{organization, staff};
use crate::geo::{GeoFeature, Geometry, Position};
use crate::graph::{Graph, RdfNode};

/// The landing page of a station: the station and its staff.
pub(crate) fn station_page(graph: &Graph, stat: RdfNode<'_>) -> Result<Value, MetadataError> {
    let mut json = station(graph, stat)?;
    json["staff"] = staff(stat).into();
    Ok(json)
}

/// A station as part of an object's page.
pub(super) fn station(graph: &Graph, stat: RdfNode<'_>) -> Result<Value, MetadataError> {
    let org = organization(stat)?;
    let id = single_text(stat, "cpmeta:hasStationId")?;
    let responsible = stat.one("cpmeta:hasResponsibleOrganization");
    let networks: Vec<_> = (stat.nodes("cpmeta:hasAssociatedNetwork").into_iter())
        .map(|network| json!({"self": resource(network)}))
        .collect();
    Ok(JsonFields::default()
        .with("org", org)
        .with("id", id)
        .maybe(
            "location",
            location(stat).map(|place| position_json(&place)),
        )
        .maybe("coverage", own_coverage(stat).map(|place| place.json()))
        .maybe(
            "responsibleOrganization",
            responsible.map(organization).transpose()?,
        )
        .with("pictures", texts(stat, "cpmeta:hasDepiction"))
        .with("specificInfo", specifics(graph, stat))
        .maybe("countryCode", stat.text("cpmeta:countryCode"))
        .non_empty("funding", fundings(stat)?)
        .with("networks", networks)
        .json())
}

/// The location of a station as a labelled point.
pub(super) fn location(stat: RdfNode<'_>) -> Option<GeoFeature> {
    let label = stat
        .text("rdfs:label")
        .or_else(|| stat.text("cpmeta:hasName"));
    Some(Geometry::Position(Position::of(stat)?).labelled(label))
}

/// The area that a station covers, if it is not a point.
pub(super) fn own_coverage(stat: RdfNode<'_>) -> Option<GeoFeature> {
    let mut place = GeoFeature::of(stat.one("cpmeta:hasSpatialCoverage")?)?;
    place.label = place
        .label
        .or_else(|| stat.text("cpmeta:hasName").map(str::to_owned));
    Some(place)
}

/// A point without `_type` and `geo`, as stations and sampling points have it.
pub(super) fn position_json(place: &GeoFeature) -> Value {
    let mut json = place.json();
    if let Value::Object(fields) = &mut json {
        fields.remove("_type");
        fields.remove("geo");
    }
    json
}

fn texts(node: RdfNode<'_>, property: &str) -> Vec<Value> {
    let literals = node.literals(property);
    literals.iter().map(|l| l.value().into()).collect()
}

fn documentation(node: RdfNode<'_>) -> Vec<Value> {
    let documents = node.nodes("cpmeta:hasDocumentationObject");
    documents.into_iter().map(plain_object).collect()
}

fn specifics(graph: &Graph, stat: RdfNode<'_>) -> Value {
    let labelled = |property| stat.one(property).map(resource);
    let climate = |fields: JsonFields| {
        fields
            .maybe("climateZone", labelled("cpmeta:hasClimateZone"))
            .maybe(
                "meanAnnualTemp",
                stat.number::<f64>("cpmeta:hasMeanAnnualTemp"),
            )
            .maybe(
                "meanAnnualPrecip",
                stat.number::<f64>("cpmeta:hasMeanAnnualPrecip"),
            )
    };
    if stat.is_a("sites:Station") {
        let sites: Vec<_> = stat
            .nodes("cpmeta:operatesOn")
            .into_iter()
            .map(site)
            .collect();
        let ecosystems: Vec<_> = (stat.nodes("cpmeta:hasEcosystemType").into_iter())
            .map(resource)
            .collect();
        climate(JsonFields::default().with("_type", "sites"))
            .with("sites", sites)
            .with("ecosystems", ecosystems)
            .maybe(
                "operationalPeriod",
                stat.text("cpmeta:hasOperationalPeriod"),
            )
            .with("discontinued", stat.flag("cpmeta:isDiscontinued"))
            .with("documentation", documentation(stat))
            .json()
    } else if stat.is_a("cpmeta:ES") {
        climate(icos_specifics(graph, stat, "etc"))
            .maybe("ecosystemType", labelled("cpmeta:hasEcosystemType"))
            .maybe(
                "meanAnnualRad",
                stat.number::<f64>("cpmeta:hasMeanAnnualRadiation"),
            )
            .with("stationDocs", texts(stat, "cpmeta:hasDocumentationUri"))
            .with(
                "stationPubs",
                texts(stat, "cpmeta:hasAssociatedPublication"),
            )
            .json()
    } else if stat.is_a("cpmeta:AS") {
        icos_specifics(graph, stat, "atc")
            .maybe("wigosId", stat.text("cpmeta:hasWigosId"))
            .json()
    } else if stat.is_a("cpmeta:OS") {
        icos_specifics(graph, stat, "otc").json()
    } else if stat.is_a("cpmeta:IcosCitiesStation") {
        JsonFields::default()
            .with("_type", "cities")
            .maybe(
                "timeZoneOffset",
                stat.number::<i64>("cpmeta:hasTimeZoneOffset"),
            )
            .with(
                "network",
                stat.text("cpmeta:belongsToNetwork")
                    .unwrap_or("Unspecified"),
            )
            .json()
    } else {
        json!({})
    }
}

fn icos_specifics(graph: &Graph, stat: RdfNode<'_>, kind: &str) -> JsonFields {
    let centre = format!("res:organizations/{}", kind.to_uppercase());
    let theme = graph
        .node(&centre)
        .and_then(|c| c.one("cpmeta:hasDataTheme"));
    JsonFields::default()
        .with("_type", kind)
        .maybe("theme", theme.map(data_theme))
        .maybe("stationClass", stat.text("cpmeta:hasStationClass"))
        .maybe("labelingDate", labelling_date(graph, stat))
        .with("discontinued", stat.flag("cpmeta:isDiscontinued"))
        .maybe(
            "timeZoneOffset",
            stat.number::<i64>("cpmeta:hasTimeZoneOffset"),
        )
        .with("documentation", documentation(stat))
}

/// The labelling application stores the date in a separate station entry, which
/// refers to the station by a literal.
fn labelling_date<'g>(graph: &'g Graph, stat: RdfNode<'g>) -> Option<&'g str> {
    let entry = graph
        .literal_holders("stationentry:hasProductionCounterpart", stat.iri())
        .into_iter()
        .find(|entry| entry.text("stationentry:hasApplicationStatus") == Some("STEP3APPROVED"))?;
    let date = entry.text("stationentry:hasAppStatusDate")?;
    date.split('T').next()
}

pub(super) fn data_theme(theme: RdfNode<'_>) -> Value {
    JsonFields::default()
        .with("self", resource(theme))
        .maybe("icon", theme.text("cpmeta:hasIcon"))
        .maybe("markerIcon", theme.text("cpmeta:hasMarkerIcon"))
        .json()
}

/// A site that a station operates on.
pub(super) fn site(site: RdfNode<'_>) -> Value {
    JsonFields::default()
        .with("self", resource(site))
        .maybe(
            "ecosystem",
            site.one("cpmeta:hasEcosystemType").map(resource),
        )
        .maybe(
            "location",
            site.one("cpmeta:hasSpatialCoverage")
                .and_then(GeoFeature::of)
                .map(|place| place.json()),
        )
        .json()
}

fn fundings(stat: RdfNode<'_>) -> Result<Vec<Value>, MetadataError> {
    (stat.nodes("cpmeta:hasFunding").into_iter())
        .map(|funding| {
            let funder = super::fields::single(funding, "cpmeta:hasFunder")?;
            let id = funder.text("cpmeta:funderIdentifier");
            let id_type = funder.text("cpmeta:funderIdentifierType");
            let funder = JsonFields::default()
                .with("org", organization(funder)?)
                .maybe("id", id.zip(id_type).map(|(id, kind)| json!([id, kind])));
            Ok(JsonFields::default()
                .with("self", resource(funding))
                .with("funder", funder.json())
                .maybe("awardTitle", funding.text("cpmeta:awardTitle"))
                .maybe("awardNumber", funding.text("cpmeta:awardNumber"))
                .maybe("awardUrl", funding.text("cpmeta:awardURI"))
                .maybe("start", funding.text("cpmeta:hasStartDate"))
                .maybe("stop", funding.text("cpmeta:hasEndDate"))
                .json())
        })
        .collect()
}
