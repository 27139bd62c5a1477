//! The lists that the metadata service answers by SPARQL: objects, data types,
//! datasets' columns, stations.
//!
//! The queries keep to the shapes of `icoscp_core`'s `queries/` package, which
//! the service answers quickly.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::sparql::{Row, Rows};
use super::{Envri, ObjectId, PortalError};

const PREFIXES: &str = "\
prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/>
prefix prov: <http://www.w3.org/ns/prov#>
prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#>
prefix xsd: <http://www.w3.org/2001/XMLSchema#>
";

/// A data object or document as the lists know it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectRow {
    /// Its id.
    pub id: ObjectId,
    /// Its own file name; not unique, and written by strangers.
    pub file_name: String,
    /// Length of the original in bytes.
    pub size: u64,
    /// When its submission was complete.
    pub submitted: Timestamp,
    /// IRI of its data type; a document has none.
    pub spec: Option<String>,
    /// IRI of the station that acquired it.
    pub station: Option<String>,
    /// Number of rows, if it is a table that was ingested.
    pub rows: Option<u64>,
    /// The labels of its columns, where the data type leaves them open.
    pub column_names: Option<Vec<String>>,
}

/// A data type ("object specification").
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpecRow {
    /// Its IRI.
    pub iri: String,
    /// Its name for people.
    pub label: String,
    /// 0 (raw) to 3 (elaborated).
    pub level: u8,
    /// IRI of the file format.
    pub format: String,
    /// IRI of the dataset whose columns its tables have.
    pub dataset: Option<String>,
}

/// A column of a dataset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ColumnRow {
    /// IRI of the dataset.
    pub dataset: String,
    /// The label, or a regular expression for labels.
    pub title: String,
    /// IRI of the value format.
    pub format: String,
    /// Whether a table may lack it.
    pub optional: bool,
    /// Whether `title` is a regular expression.
    pub regex: bool,
}

/// Where a paged list goes on: after the objects submitted until `since`, of
/// which `seen` were at that very instant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    since: Option<Timestamp>,
    seen: usize,
}

impl Cursor {
    /// Moves past `rows`, which are in order of submission.
    pub fn advance(&mut self, rows: &[ObjectRow]) {
        let Some(last) = rows.last().map(|row| row.submitted) else {
            return;
        };
        let at_last = rows
            .iter()
            .rev()
            .take_while(|r| r.submitted == last)
            .count();
        if self.since == Some(last) {
            self.seen += at_last;
        } else {
            *self = Self {
                since: Some(last),
                seen: at_last,
            };
        }
    }
}

/// The current objects of `specs`, oldest submission first, `limit` from
/// `cursor` on.
pub(super) fn objects_query(specs: &[&str], cursor: Cursor, limit: usize) -> String {
    let mut query = String::from(PREFIXES);
    query.push_str(
        "select ?dobj ?spec ?station ?fileName ?size ?submTime ?nRows ?colNames where {\n\tVALUES ?spec {",
    );
    for spec in specs {
        let _ = write!(query, " <{}>", iri(spec));
    }
    query.push_str(
        " }
	?dobj cpmeta:hasObjectSpec ?spec .
	OPTIONAL{ ?dobj cpmeta:wasAcquiredBy/prov:wasAssociatedWith ?station . }
	?dobj cpmeta:hasSizeInBytes ?size .
	?dobj cpmeta:hasName ?fileName .
	?dobj cpmeta:wasSubmittedBy/prov:endedAtTime ?submTime .
	?dobj cpmeta:hasStartTime | (cpmeta:wasAcquiredBy / prov:startedAtTime) ?timeStart .
	?dobj cpmeta:hasEndTime | (cpmeta:wasAcquiredBy / prov:endedAtTime) ?timeEnd .
	OPTIONAL{ ?dobj cpmeta:hasNumberOfRows ?nRows }
	OPTIONAL{ ?dobj cpmeta:hasActualColumnNames ?colNames }
	FILTER NOT EXISTS {[] cpmeta:isNextVersionOf ?dobj}
",
    );
    if let Some(since) = cursor.since {
        let _ = writeln!(query, "\tFILTER(?submTime >= \"{since}\"^^xsd:dateTime)");
    }
    let _ = write!(
        query,
        "}}\norder by ?submTime offset {} limit {limit}",
        cursor.seen
    );
    query
}

/// One object or document, whatever its type and version.
pub(super) fn object_query(envri: Envri, id: ObjectId) -> String {
    let landing = envri.landing_prefix();
    format!(
        "{PREFIXES}select ?dobj ?spec ?station ?fileName ?size ?submTime ?nRows ?colNames where {{
	VALUES ?dobj {{ <{landing}{id}> }}
	?dobj cpmeta:hasSizeInBytes ?size .
	?dobj cpmeta:hasName ?fileName .
	?dobj cpmeta:wasSubmittedBy/prov:endedAtTime ?submTime .
	OPTIONAL{{ ?dobj cpmeta:hasObjectSpec ?spec }}
	OPTIONAL{{ ?dobj cpmeta:wasAcquiredBy/prov:wasAssociatedWith ?station }}
	OPTIONAL{{ ?dobj cpmeta:hasNumberOfRows ?nRows }}
	OPTIONAL{{ ?dobj cpmeta:hasActualColumnNames ?colNames }}
}}"
    )
}

pub(super) fn parse_objects(rows: &Rows) -> Result<Vec<ObjectRow>, PortalError> {
    rows.iter().map(object).collect()
}

fn object(row: Row<'_>) -> Result<ObjectRow, PortalError> {
    Ok(ObjectRow {
        id: row.parsed("dobj", |iri| iri.rsplit('/').next()?.parse().ok())?,
        file_name: row.text("fileName")?.to_owned(),
        size: row.parsed("size", |text| text.parse().ok())?,
        submitted: row.instant("submTime")?,
        spec: row.get("spec").map(str::to_owned),
        station: row.get("station").map(str::to_owned),
        rows: row.number("nRows")?,
        column_names: row
            .get("colNames")
            .map(|_| row.parsed("colNames", |json| serde_json::from_str(json).ok()))
            .transpose()?,
    })
}

/// Every data type that may hold data, of whatever level.
pub(super) fn specs_query(envri: Envri) -> String {
    let prefix = envri.instance_prefix();
    format!(
        "{PREFIXES}select ?spec ?specLabel ?level ?format ?dataset where {{
	?spec cpmeta:hasDataLevel ?level ;
		cpmeta:hasAssociatedProject ?project ;
		cpmeta:hasFormat ?format ;
		cpmeta:hasSpecificDatasetType ?dsType .
	FILTER NOT EXISTS {{?project cpmeta:hasHideFromSearchPolicy \"true\"^^xsd:boolean}}
	FILTER(STRSTARTS(str(?spec), \"{prefix}\"))
	?spec rdfs:label ?specLabel .
	OPTIONAL{{ ?spec cpmeta:containsDataset ?dataset }}
}}
order by ?specLabel"
    )
}

/// One data type, listed or not.
pub(super) fn spec_query(spec: &str) -> String {
    format!(
        "{PREFIXES}select ?spec ?specLabel ?level ?format ?dataset where {{
	VALUES ?spec {{ <{}> }}
	?spec cpmeta:hasDataLevel ?level ; cpmeta:hasFormat ?format ; rdfs:label ?specLabel .
	OPTIONAL{{ ?spec cpmeta:containsDataset ?dataset }}
}}",
        iri(spec)
    )
}

pub(super) fn parse_specs(rows: &Rows) -> Result<Vec<SpecRow>, PortalError> {
    rows.iter()
        .map(|row| {
            Ok(SpecRow {
                iri: row.text("spec")?.to_owned(),
                label: row.text("specLabel")?.to_owned(),
                level: row.parsed("level", |text| text.parse().ok())?,
                format: row.text("format")?.to_owned(),
                dataset: row.get("dataset").map(str::to_owned),
            })
        })
        .collect()
}

/// The columns of every dataset.
pub(super) fn columns_query() -> String {
    format!(
        "{PREFIXES}select ?dataset ?colTitle ?valFormat ?isOptional ?isRegex where {{
	?dataset cpmeta:hasColumn ?col .
	?col cpmeta:hasColumnTitle ?colTitle ; cpmeta:hasValueFormat ?valFormat .
	OPTIONAL{{ ?col cpmeta:isOptionalColumn ?isOptional }}
	OPTIONAL{{ ?col cpmeta:isRegexColumn ?isRegex }}
}}"
    )
}

pub(super) fn parse_columns(rows: &Rows) -> Result<Vec<ColumnRow>, PortalError> {
    rows.iter()
        .map(|row| {
            Ok(ColumnRow {
                dataset: row.text("dataset")?.to_owned(),
                title: row.text("colTitle")?.to_owned(),
                format: row.text("valFormat")?.to_owned(),
                optional: row.is_true("isOptional"),
                regex: row.is_true("isRegex"),
            })
        })
        .collect()
}

/// IRIs come from the service's own answers; this keeps a hostile one from
/// ending the IRI early and writing a query of its own.
fn iri(text: &str) -> String {
    text.replace(
        |c: char| c.is_control() || c.is_whitespace() || "<>\"{}|\\^`".contains(c),
        "",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted_at(seconds: i64) -> ObjectRow {
        ObjectRow {
            id: ObjectId::of_content(b""),
            file_name: String::new(),
            size: 0,
            submitted: Timestamp::from_second(seconds).unwrap(),
            spec: None,
            station: None,
            rows: None,
            column_names: None,
        }
    }

    #[test]
    fn a_cursor_skips_what_it_has_seen_at_its_last_instant() {
        let mut cursor = Cursor::default();
        cursor.advance(&[submitted_at(1), submitted_at(2), submitted_at(2)]);
        let query = objects_query(&["http://a"], cursor, 3);
        assert!(query.contains("1970-01-01T00:00:02Z"), "{query}");
        assert!(query.contains("offset 2"), "{query}");
        cursor.advance(&[submitted_at(2), submitted_at(2)]);
        assert_eq!(cursor.seen, 4);
        cursor.advance(&[submitted_at(3)]);
        assert_eq!(cursor.seen, 1);
    }

    #[test]
    fn a_hostile_iri_cannot_leave_its_brackets() {
        let query = spec_query("http://a> } drop <b");
        assert!(query.contains("<http://adropb>"), "{query}");
    }
}
