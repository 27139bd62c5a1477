//! Stations.

use serde_json::{Value, json};

use super::fields::{JsonFields, MetadataError, plain_object, resource};
use super::people::{organization, staff};
use crate::geo::{GeoFeature, Geometry, Position};
use crate::graph::RdfNode;

/// The landing page of a station: the station and its staff.
pub(crate) fn station_page(stat: RdfNode<'_>) -> Result<Value, MetadataError> {
    station(stat).with("staff", staff(stat)).json()
}

/// A station as part of an object's page.
pub(super) fn station(stat: RdfNode<'_>) -> JsonFields<'_> {
    let fields = JsonFields::of(stat)
        .part("org", organization(stat))
        .required_text("id", "cpmeta:hasStationId")
        .maybe("location", location(stat).map(|place| place.point_json()))
        .maybe("coverage", own_coverage(stat).map(|place| place.json()))
        .one(
            "responsibleOrganization",
            "cpmeta:hasResponsibleOrganization",
            organization,
        )
        .texts("pictures", "cpmeta:hasDepiction")
        .part("specificInfo", specifics(stat))
        .text("countryCode", "cpmeta:countryCode")
        .all(
            "networks",
            "cpmeta:hasAssociatedNetwork",
            JsonFields::described,
        );
    match stat.one("cpmeta:hasFunding") {
        Some(_) => fields.all("funding", "cpmeta:hasFunding", funding),
        None => fields,
    }
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
    let place = GeoFeature::of(stat.one("cpmeta:hasSpatialCoverage")?)?;
    Some(place.or_labelled(stat.text("cpmeta:hasName")))
}

fn specifics(stat: RdfNode<'_>) -> JsonFields<'_> {
    if stat.is_a("sites:Station") {
        climate(JsonFields::of(stat).with("_type", "sites"))
            .all("sites", "cpmeta:operatesOn", site)
            .all("ecosystems", "cpmeta:hasEcosystemType", resource)
            .text("operationalPeriod", "cpmeta:hasOperationalPeriod")
            .flag("discontinued", "cpmeta:isDiscontinued")
            .all(
                "documentation",
                "cpmeta:hasDocumentationObject",
                plain_object,
            )
    } else if stat.is_a("cpmeta:ES") {
        climate(icos_specifics(stat, "etc"))
            .one("ecosystemType", "cpmeta:hasEcosystemType", resource)
            .float("meanAnnualRad", "cpmeta:hasMeanAnnualRadiation")
            .texts("stationDocs", "cpmeta:hasDocumentationUri")
            .texts("stationPubs", "cpmeta:hasAssociatedPublication")
    } else if stat.is_a("cpmeta:AS") {
        icos_specifics(stat, "atc").text("wigosId", "cpmeta:hasWigosId")
    } else if stat.is_a("cpmeta:OS") {
        icos_specifics(stat, "otc")
    } else if stat.is_a("cpmeta:IcosCitiesStation") {
        JsonFields::of(stat)
            .with("_type", "cities")
            .int("timeZoneOffset", "cpmeta:hasTimeZoneOffset")
            .with("network", "Unspecified")
            .text("network", "cpmeta:belongsToNetwork")
    } else {
        JsonFields::of(stat)
    }
}

fn climate(fields: JsonFields<'_>) -> JsonFields<'_> {
    fields
        .one("climateZone", "cpmeta:hasClimateZone", resource)
        .float("meanAnnualTemp", "cpmeta:hasMeanAnnualTemp")
        .float("meanAnnualPrecip", "cpmeta:hasMeanAnnualPrecip")
}

fn icos_specifics<'g>(stat: RdfNode<'g>, kind: &str) -> JsonFields<'g> {
    let centre = format!("res:organizations/{}", kind.to_uppercase());
    let centre = stat.graph().node(&centre);
    let theme = centre.and_then(|centre| centre.one("cpmeta:hasDataTheme"));
    let fields = JsonFields::of(stat)
        .with("_type", kind)
        .text("stationClass", "cpmeta:hasStationClass")
        .maybe("labelingDate", labelling_date(stat))
        .flag("discontinued", "cpmeta:isDiscontinued")
        .int("timeZoneOffset", "cpmeta:hasTimeZoneOffset")
        .all(
            "documentation",
            "cpmeta:hasDocumentationObject",
            plain_object,
        );
    match theme {
        Some(theme) => fields.part("theme", data_theme(theme)),
        None => fields,
    }
}

/// The labelling application stores the date in a separate station entry, which
/// refers to the station by a literal.
fn labelling_date(stat: RdfNode<'_>) -> Option<&str> {
    let entry = (stat.graph())
        .literal_holders("stationentry:hasProductionCounterpart", stat.iri())
        .into_iter()
        .find(|entry| entry.text("stationentry:hasApplicationStatus") == Some("STEP3APPROVED"))?;
    let date = entry.text("stationentry:hasAppStatusDate")?;
    date.split('T').next()
}

pub(super) fn data_theme(theme: RdfNode<'_>) -> JsonFields<'_> {
    JsonFields::described(theme)
        .text("icon", "cpmeta:hasIcon")
        .text("markerIcon", "cpmeta:hasMarkerIcon")
}

/// A site that a station operates on.
pub(super) fn site(site: RdfNode<'_>) -> JsonFields<'_> {
    let coverage = site.one("cpmeta:hasSpatialCoverage");
    let place = coverage.and_then(GeoFeature::of);
    JsonFields::described(site)
        .one("ecosystem", "cpmeta:hasEcosystemType", resource)
        .maybe("location", place.map(|place| place.json()))
}

fn funding(funding: RdfNode<'_>) -> JsonFields<'_> {
    JsonFields::described(funding)
        .required("funder", "cpmeta:hasFunder", funder)
        .text("awardTitle", "cpmeta:awardTitle")
        .text("awardNumber", "cpmeta:awardNumber")
        .text("awardUrl", "cpmeta:awardURI")
        .text("start", "cpmeta:hasStartDate")
        .text("stop", "cpmeta:hasEndDate")
}

fn funder(funder: RdfNode<'_>) -> JsonFields<'_> {
    let id = funder.text("cpmeta:funderIdentifier");
    let kind = funder.text("cpmeta:funderIdentifierType");
    JsonFields::of(funder)
        .part("org", organization(funder))
        .maybe("id", id.zip(kind).map(|(id, kind)| json!([id, kind])))
}
