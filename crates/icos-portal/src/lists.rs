//! The lists of the metadata service: objects, data types, columns of datasets,
//! stations, collections. `query` writes the SPARQL queries, `parse` reads
//! their results.
//!
//! The queries have the shapes of those in the `queries/` package of
//! `icoscp_core`, which the service handles fast. A row that does not parse is
//! skipped with a warning, so that a mistake in one entry does not hide the
//! list.

use jiff::Timestamp;

use super::ObjectId;
use super::sparql::QueryRows;

mod parse;
mod query;

pub(super) use parse::ListEntry;
pub(super) use query::{
    collections, columns, documents, members, objects, objects_by_id, spec, specs, stations,
    subjects as subjects_query, successions, texts, within,
};

/// Parses results as every kind of list, for [`crate::fuzzing`].
pub(crate) fn parse_as_every_list(json: &[u8]) {
    let Ok(rows) = QueryRows::parse(json) else {
        return;
    };
    let parsed = [
        parse_page::<ObjectRow>(&rows).rows.len(),
        parse_page::<SpecRow>(&rows).rows.len(),
        parse_page::<ColumnRow>(&rows).rows.len(),
        parse_page::<StationRow>(&rows).rows.len(),
        parse_page::<CollectionRow>(&rows).rows.len(),
        parse_page::<MemberRow>(&rows).rows.len(),
        parse_page::<SuccessionRow>(&rows).rows.len(),
        parse_page::<ObjectId>(&rows).rows.len(),
    ];
    assert!(parsed.iter().all(|&parsed| parsed <= rows.len()));
}

/// A data object or document.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectRow {
    /// Its id.
    pub id: ObjectId,
    /// Its file name; untrusted and not unique.
    pub file_name: String,
    /// Length of the original in bytes.
    pub size: u64,
    /// The time when its submission was completed.
    pub submitted: Timestamp,
    /// IRI of its data type; absent for a document.
    pub spec: Option<String>,
    /// IRI of the station that acquired it.
    pub station: Option<String>,
    /// Number of rows, if it is a table that was ingested.
    pub rows: Option<u64>,
    /// Labels of its columns, if the data type does not determine them.
    pub column_names: Option<Vec<String>>,
    /// Its DOI, without the address of a resolver.
    pub doi: Option<String>,
    /// The version that supersedes it.
    pub next: Option<ObjectId>,
    /// Start and end of the time that its data cover.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Height of the sampling, in metres above ground.
    pub height: Option<f64>,
}

/// A data type ("object specification").
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SpecRow {
    /// Its IRI.
    pub iri: String,
    /// Its display name.
    pub label: String,
    /// 0 (raw) to 3 (elaborated).
    pub level: u8,
    /// IRI of the file format.
    pub format: String,
    /// IRI of the dataset that defines the columns of its tables.
    pub dataset: Option<String>,
    /// The label of its theme, e.g. `Ocean data`.
    pub theme: Option<String>,
    /// IRI of its theme.
    pub theme_iri: Option<String>,
    /// The label of the project it belongs to.
    pub project: Option<String>,
    /// IRI of the project.
    pub project_iri: Option<String>,
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
    /// Display name of the measured quantity.
    pub value: Option<String>,
    /// The unit of measurement.
    pub unit: Option<String>,
}

/// A station.
#[derive(Clone, Debug, PartialEq)]
pub struct StationRow {
    /// Its IRI.
    pub iri: String,
    /// Its id within its network, e.g. `FI-Sii`.
    pub code: String,
    /// Its display name.
    pub name: String,
    /// Country, as ISO 3166-1 alpha-2.
    pub country: String,
    /// Its class: the last segment of the IRI.
    pub class: String,
    /// WGS 84 latitude and longitude, in degrees.
    pub position: Option<(f64, f64)>,
    /// Elevation, in metres above sea level.
    pub elevation: Option<f64>,
}

/// A collection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CollectionRow {
    /// Its id.
    pub id: ObjectId,
    /// Its title.
    pub title: String,
    /// Its DOI.
    pub doi: Option<String>,
    /// The version that supersedes it.
    pub next: Option<ObjectId>,
}

/// A member of a collection: an object, a document or another collection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemberRow {
    /// The collection.
    pub collection: ObjectId,
    /// The member.
    pub item: ObjectId,
}

/// A title, or a list of keywords separated by commas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TextRow {
    /// IRI of the object, collection, data type or project that has it.
    pub item: String,
    /// The text.
    pub text: String,
}

/// An object and its successor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SuccessionRow {
    /// The superseded object.
    pub old: ObjectId,
    /// The object that supersedes it.
    pub new: ObjectId,
}

/// A part of a list.
#[derive(Debug)]
pub struct ResultPage<T> {
    /// The rows that were parsed.
    pub rows: Vec<T>,
    /// Number of rows that the service sent.
    pub sent: usize,
}

/// Selects objects.
#[derive(Clone, Copy, Debug)]
pub struct ObjectScope<'a> {
    /// IRIs of the data types; any data type if empty.
    pub specs: &'a [&'a str],
    /// IRIs of the stations; any or no station if empty.
    pub stations: &'a [&'a str],
    /// Whether to include superseded objects.
    pub versions: Versions,
    /// Only objects submitted before this time. A new time also makes a
    /// repeated query differ from the previous one; the service would otherwise
    /// send a result that it may have cached for up to an hour.
    pub before: Option<Timestamp>,
}

/// Selects versions of objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versions {
    /// The latest versions only.
    Current,
    /// All versions.
    All,
}

/// The position in a paged list: after the objects submitted before `since`,
/// and after `seen` of those submitted at that instant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    since: Option<Timestamp>,
    seen: usize,
}

impl Cursor {
    /// Starts with the objects submitted at `since`.
    #[must_use]
    pub fn since(since: Option<Timestamp>) -> Self {
        Self { since, seen: 0 }
    }

    /// Returns the last time that was reached.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        self.since
    }

    /// Advances past `rows`, which are ordered by submission.
    pub fn advance(&mut self, rows: &[ObjectRow]) {
        let Some(last) = rows.last().map(|row| row.submitted) else {
            return;
        };
        let at_last = rows
            .iter()
            .rev()
            .take_while(|r| r.submitted == last)
            .count();
        let seen_before = if self.since == Some(last) {
            self.seen
        } else {
            0
        };
        *self = Self {
            since: Some(last),
            seen: seen_before + at_last,
        };
    }
}

/// Parses the entries of a list, without those that are invalid.
pub(super) fn parse_page<T: ListEntry>(rows: &QueryRows) -> ResultPage<T> {
    let mut page = ResultPage {
        rows: Vec::with_capacity(rows.len()),
        sent: rows.len(),
    };
    let mut bad = 0_usize;
    for row in rows.iter() {
        match T::parse(row) {
            Ok(row) => page.rows.push(row),
            Err(error) => {
                // The first error is enough to find the cause.
                if bad == 0 {
                    tracing::warn!(%error, "skipping a row of a list");
                }
                bad += 1;
            }
        }
    }
    if bad > 1 {
        tracing::warn!(bad, sent = page.sent, "skipped rows of a list");
    }
    page
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
            doi: None,
            next: None,
            span: None,
            height: None,
        }
    }

    #[test]
    fn cursor_skips_rows_already_seen_at_its_last_instant() {
        let scope = ObjectScope {
            specs: &["http://a"],
            stations: &[],
            versions: Versions::Current,
            before: None,
        };
        let mut cursor = Cursor::default();
        cursor.advance(&[submitted_at(1), submitted_at(2), submitted_at(2)]);
        let query = objects(scope, cursor, 3);
        assert!(query.contains("1970-01-01T00:00:02Z"), "{query}");
        assert!(query.contains("offset 2"), "{query}");
        cursor.advance(&[submitted_at(2), submitted_at(2)]);
        assert_eq!(cursor.seen, 4);
        cursor.advance(&[submitted_at(3)]);
        assert_eq!(cursor.seen, 1);
    }

    #[test]
    fn query_escapes_brackets_in_an_iri() {
        let query = spec("http://a> } drop <b");
        assert!(query.contains("<http://adropb>"), "{query}");
    }

    #[test]
    fn parse_skips_only_invalid_rows() {
        let row = |time: &str| {
            serde_json::json!({
                "dobj": {"type": "uri", "value": "https://meta.icos-cp.eu/objects/ahVixHqAZvFrgX0iJwMMp__l"},
                "fileName": {"type": "literal", "value": "a"},
                "size": {"type": "literal", "value": "1"},
                "submTime": {"type": "literal", "value": time},
            })
        };
        let json = serde_json::json!({"results": {"bindings": [
            row("2020-01-01T00:00:00Z"), row("yesterday"), row("2020-01-02T00:00:00Z"),
        ]}});
        let rows = crate::sparql::QueryRows::parse(json.to_string().as_bytes()).unwrap();
        let page = parse_page::<ObjectRow>(&rows);
        assert_eq!((page.rows.len(), page.sent), (2, 3));
    }
}
