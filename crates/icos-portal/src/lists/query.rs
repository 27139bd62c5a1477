//! The text of the SPARQL queries.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Cursor, ObjectScope, Versions};
use crate::{Envri, ObjectId};

const PREFIXES: &str = "\
prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/>
prefix dcterms: <http://purl.org/dc/terms/>
prefix prov: <http://www.w3.org/ns/prov#>
prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#>
prefix xsd: <http://www.w3.org/2001/XMLSchema#>
";

const OBJECT: &str = "select ?dobj ?spec ?station ?samplingHeight ?fileName ?size ?submTime \
    ?timeStart ?timeEnd ?nRows ?colNames ?doi ?next where {\n";

const FILE: &str = "	?dobj cpmeta:hasSizeInBytes ?size .
	?dobj cpmeta:hasName ?fileName .
	?dobj cpmeta:wasSubmittedBy/prov:endedAtTime ?submTime .
";

const TABLE: &str = "	OPTIONAL{ ?dobj cpmeta:hasNumberOfRows ?nRows }
	OPTIONAL{ ?dobj cpmeta:hasActualColumnNames ?colNames }
	OPTIONAL{ ?dobj cpmeta:hasDoi ?doi }
";

const NEXT: &str = "\tOPTIONAL{ ?next cpmeta:isNextVersionOf ?dobj }\n";

const SPEC: &str = "select ?spec ?specLabel ?level ?format ?dataset ?theme ?themeLabel ?project ?projectLabel where {";

/// Queries the objects of `scope`, oldest submission first, `limit` from
/// `cursor` on.
pub(crate) fn objects(scope: ObjectScope<'_>, cursor: Cursor, limit: usize) -> String {
    let mut query = format!("{PREFIXES}{OBJECT}");
    values(&mut query, "spec", scope.specs);
    query.push_str("\t?dobj cpmeta:hasObjectSpec ?spec .\n");
    let station = "?dobj cpmeta:wasAcquiredBy/prov:wasAssociatedWith ?station .";
    values(&mut query, "station", scope.stations);
    let _ = if scope.stations.is_empty() {
        writeln!(query, "\tOPTIONAL{{ {station} }}")
    } else {
        writeln!(query, "\t{station}")
    };
    let versions = match scope.versions {
        Versions::Current => "\tFILTER NOT EXISTS {[] cpmeta:isNextVersionOf ?dobj}\n",
        Versions::All => NEXT,
    };
    let _ = write!(
        query,
        "	OPTIONAL{{ ?dobj cpmeta:wasAcquiredBy/cpmeta:hasSamplingHeight ?samplingHeight . }}
{FILE}	?dobj cpmeta:hasStartTime | (cpmeta:wasAcquiredBy / prov:startedAtTime) ?timeStart .
	?dobj cpmeta:hasEndTime | (cpmeta:wasAcquiredBy / prov:endedAtTime) ?timeEnd .
{TABLE}{versions}"
    );
    paged(query, scope.before, cursor, limit)
}

/// Queries the documents, oldest submission first, `limit` from `cursor` on.
pub(crate) fn documents(before: Option<Timestamp>, cursor: Cursor, limit: usize) -> String {
    let query = format!(
        "{PREFIXES}{OBJECT}	?dobj a cpmeta:DocumentObject .
{FILE}	OPTIONAL{{ ?dobj cpmeta:hasDoi ?doi }}
{NEXT}"
    );
    paged(query, before, cursor, limit)
}

fn paged(mut query: String, before: Option<Timestamp>, cursor: Cursor, limit: usize) -> String {
    if let Some(since) = cursor.since {
        let _ = writeln!(query, "\tFILTER(?submTime >= \"{since}\"^^xsd:dateTime)");
    }
    if let Some(before) = before {
        let _ = writeln!(query, "\tFILTER(?submTime < \"{before}\"^^xsd:dateTime)");
    }
    let _ = write!(
        query,
        "}}\norder by ?submTime offset {} limit {limit}",
        cursor.seen
    );
    query
}

/// Queries objects and documents by id, of any type and version.
pub(crate) fn objects_by_id(envri: Envri, ids: &[ObjectId]) -> String {
    let landing = envri.landing_prefix();
    let mut query = format!("{PREFIXES}{OBJECT}\tVALUES ?dobj {{");
    for id in ids {
        let _ = write!(query, " <{landing}{id}>");
    }
    let _ = write!(
        query,
        " }}
{FILE}	OPTIONAL{{ ?dobj cpmeta:hasObjectSpec ?spec }}
	OPTIONAL{{ ?dobj cpmeta:wasAcquiredBy/prov:wasAssociatedWith ?station }}
	OPTIONAL{{ ?dobj cpmeta:wasAcquiredBy/cpmeta:hasSamplingHeight ?samplingHeight }}
	OPTIONAL{{ ?dobj cpmeta:hasStartTime | (cpmeta:wasAcquiredBy / prov:startedAtTime) ?timeStart }}
	OPTIONAL{{ ?dobj cpmeta:hasEndTime | (cpmeta:wasAcquiredBy / prov:endedAtTime) ?timeEnd }}
{TABLE}{NEXT}}}"
    );
    query
}

/// Queries which objects were superseded by objects submitted from `since`
/// until `before`.
pub(crate) fn successions(since: Timestamp, before: Timestamp) -> String {
    format!(
        "{PREFIXES}select ?old ?new where {{
	{{ ?new cpmeta:isNextVersionOf ?old }} UNION
	{{ ?plain cpmeta:isNextVersionOf ?old ; dcterms:hasPart ?new }}
	?new cpmeta:wasSubmittedBy/prov:endedAtTime ?submTime .
	FILTER(?submTime >= \"{since}\"^^xsd:dateTime)
	FILTER(?submTime < \"{before}\"^^xsd:dateTime)
}}"
    )
}

/// Queries all data types that may have data, of any level.
pub(crate) fn specs(envri: Envri) -> String {
    let prefix = envri.instance_prefix();
    format!(
        "{PREFIXES}{SPEC}
	?spec cpmeta:hasDataLevel ?level ;
		cpmeta:hasAssociatedProject ?project ;
		cpmeta:hasFormat ?format ;
		cpmeta:hasSpecificDatasetType ?dsType .
	FILTER NOT EXISTS {{?project cpmeta:hasHideFromSearchPolicy \"true\"^^xsd:boolean}}
	FILTER(STRSTARTS(str(?spec), \"{prefix}\"))
	?spec rdfs:label ?specLabel .
	OPTIONAL{{ ?spec cpmeta:hasDataTheme ?theme . ?theme rdfs:label ?themeLabel }}
	OPTIONAL{{ ?project rdfs:label ?projectLabel }}
	OPTIONAL{{ ?spec cpmeta:containsDataset ?dataset }}
}}
order by ?specLabel"
    )
}

/// Queries one data type, of any project.
pub(crate) fn spec(spec: &str) -> String {
    format!(
        "{PREFIXES}{SPEC}
	VALUES ?spec {{ <{}> }}
	?spec cpmeta:hasDataLevel ?level ; cpmeta:hasFormat ?format ; rdfs:label ?specLabel .
	OPTIONAL{{ ?spec cpmeta:hasDataTheme ?theme . ?theme rdfs:label ?themeLabel }}
	OPTIONAL{{ ?spec cpmeta:hasAssociatedProject ?project . ?project rdfs:label ?projectLabel }}
	OPTIONAL{{ ?spec cpmeta:containsDataset ?dataset }}
}}",
        iri(spec)
    )
}

/// Queries the columns of all datasets.
pub(crate) fn columns() -> String {
    format!(
        "{PREFIXES}select ?dataset ?colTitle ?valFormat ?isOptional ?isRegex ?valType ?unit where {{
	?dataset cpmeta:hasColumn ?col .
	?col cpmeta:hasColumnTitle ?colTitle ; cpmeta:hasValueFormat ?valFormat .
	OPTIONAL{{ ?col cpmeta:isOptionalColumn ?isOptional }}
	OPTIONAL{{ ?col cpmeta:isRegexColumn ?isRegex }}
	OPTIONAL{{ ?col cpmeta:hasValueType ?type .
		?type rdfs:label ?valType
		OPTIONAL{{ ?type cpmeta:hasUnit ?unit }} }}
}}"
    )
}

/// Queries the repository's own stations, and all others at which it acquired data.
pub(crate) fn stations(envri: Envri) -> String {
    let (class, prefix) = (envri.station_class(), envri.instance_prefix());
    format!(
        "{PREFIXES}select ?station ?stType ?stId ?stationName ?cCode ?lat ?lon ?elevation where {{
	?station cpmeta:hasStationId ?stId ; a ?stType ; cpmeta:hasName ?stationName .
	FILTER(strstarts(str(?station), \"{prefix}\"))
	FILTER(EXISTS {{ ?stType rdfs:subClassOf* <{class}> }} || EXISTS {{
		?acquisition prov:wasAssociatedWith ?station . ?object cpmeta:wasAcquiredBy ?acquisition }})
	OPTIONAL{{?station cpmeta:countryCode ?cCode}}
	OPTIONAL{{?station cpmeta:hasLatitude ?lat ; cpmeta:hasLongitude ?lon}}
	OPTIONAL{{?station cpmeta:hasElevation ?elevation}}
}}
order by ?stId"
    )
}

/// Queries all collections.
pub(crate) fn collections() -> String {
    format!(
        "{PREFIXES}select ?coll ?title ?doi ?next where {{
	?coll a cpmeta:Collection ; dcterms:title ?title .
	OPTIONAL{{ ?coll cpmeta:hasDoi ?doi }}
	OPTIONAL{{ ?next cpmeta:isNextVersionOf ?coll }}
}}
order by ?coll"
    )
}

/// Queries the objects and collections with one of these values of a property of
/// `cpmeta`, and the versions that supersede them.
pub(crate) fn subjects(property: &str, wanted: &[String]) -> String {
    let literal = |value: &String| format!(" \"{}\"", literal(value));
    let wanted: String = wanted.iter().map(literal).collect();
    format!(
        "{PREFIXES}select ?subject ?next where {{
	VALUES ?value {{{wanted} }}
	?subject cpmeta:{property} ?value .
	OPTIONAL{{ ?next cpmeta:isNextVersionOf ?subject }}
}}
limit 100"
    )
}

/// Queries titles, of which few objects have one of their own, and keywords.
pub(crate) fn texts(offset: usize, limit: usize) -> String {
    format!(
        "{PREFIXES}select ?item ?text where {{
	{{ ?item dcterms:title ?text }} UNION {{ ?item cpmeta:hasKeywords ?text }}
}}
order by ?item ?text offset {offset} limit {limit}"
    )
}

/// Queries the members of all collections, or of the collection `of`: `limit`
/// rows from the row `offset` on.
pub(crate) fn members(envri: Envri, of: Option<ObjectId>, offset: usize, limit: usize) -> String {
    let which = of.map_or_else(String::new, |id| {
        format!(
            "\tVALUES ?coll {{ <{}/collections/{id}> }}\n",
            envri.meta_url()
        )
    });
    format!(
        "{PREFIXES}select ?coll ?item where {{
{which}	?coll a cpmeta:Collection ; dcterms:hasPart ?item .
}}
order by ?coll ?item offset {offset} limit {limit}"
    )
}

/// Queries the objects within west, south, east and north, in degrees.
pub(crate) fn within(bbox: [f64; 4], offset: usize, limit: usize) -> String {
    let [west, south, east, north] = bbox;
    format!(
        "{PREFIXES}prefix geo: <http://www.opengis.net/ont/geosparql#>
select ?dobj where {{
	?dobj cpmeta:hasObjectSpec ?spec .
	?dobj geo:sfIntersects/geo:asWKT \"POLYGON(({west} {south}, {east} {south}, {east} {north}, {west} {north}, {west} {south}))\"^^geo:wktLiteral .
}}
order by ?dobj offset {offset} limit {limit}"
    )
}

fn values(query: &mut String, variable: &str, iris: &[&str]) {
    if iris.is_empty() {
        return;
    }
    let _ = write!(query, "\tVALUES ?{variable} {{");
    for one in iris {
        let _ = write!(query, " <{}>", iri(one));
    }
    query.push_str(" }\n");
}

/// Removes characters that would end a literal, and those that no file name or DOI has.
fn literal(text: &str) -> String {
    text.replace(|c: char| c.is_control() || matches!(c, '"' | '\\'), "")
}

/// Removes characters that an IRI cannot contain. IRIs come from responses of
/// the service; a malicious one could otherwise end the IRI in the query and
/// add its own clauses.
fn iri(text: &str) -> String {
    text.replace(
        |c: char| c.is_control() || c.is_whitespace() || "<>\"{}|\\^`".contains(c),
        "",
    )
}
