//! The lists that the metadata service answers by SPARQL: objects, data types,
//! datasets' columns, stations, collections.
//!
//! The queries keep to the shapes of `icoscp_core`'s `queries/` package, which
//! the service answers quickly. A row that cannot be understood is left out
//! with a warning: a stranger's typing error must not blank a list.

use jiff::Timestamp;

use super::sparql::QueryRows;
use super::{ObjectId, PortalError};

mod parse;
mod query;

pub(super) use parse::{
    parse_collections, parse_columns, parse_ids, parse_members, parse_objects, parse_specs,
    parse_stations, parse_successions,
};
pub(super) use query::{
    collections, columns, documents, members, objects, objects_by_id, spec, specs, stations,
    successions, within,
};

/// Reads results as every kind of list, for [`crate::fuzzing`].
pub(crate) fn read_every_way(json: &[u8]) {
    let Ok(rows) = QueryRows::parse(json) else {
        return;
    };
    let sent = [
        parse_objects(&rows).rows.len(),
        parse_specs(&rows).rows.len(),
        parse_columns(&rows).rows.len(),
        parse_stations(&rows).rows.len(),
        parse_collections(&rows).rows.len(),
        parse_members(&rows).rows.len(),
        parse_successions(&rows).rows.len(),
        parse_ids(&rows).rows.len(),
    ];
    assert!(sent.iter().all(|&understood| understood <= rows.len()));
}

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
    /// Its DOI, without a resolver's address.
    pub doi: Option<String>,
    /// The version that supersedes it.
    pub next: Option<ObjectId>,
    /// The time that its data span.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Metres above ground at which it was sampled.
    pub height: Option<f64>,
}

/// A data type ("object specification").
#[derive(Clone, Debug, Default, Eq, PartialEq)]
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
    /// What it is about, e.g. `Ocean`.
    pub theme: Option<String>,
    /// The project it belongs to.
    pub project: Option<String>,
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
    /// What is measured, for people.
    pub value: Option<String>,
    /// The unit of measurement.
    pub unit: Option<String>,
}

/// A station.
#[derive(Clone, Debug, PartialEq)]
pub struct StationRow {
    /// Its IRI.
    pub iri: String,
    /// Its id among its network's stations, e.g. `FI-Sii`.
    pub code: String,
    /// Its name for people.
    pub name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// The class it is of, the last segment of the IRI.
    pub class: String,
    /// WGS 84 latitude and longitude in degrees.
    pub position: Option<(f64, f64)>,
    /// Metres above sea level.
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

/// That a collection contains something: an object, a document or another
/// collection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemberRow {
    /// The collection.
    pub collection: ObjectId,
    /// What is in it.
    pub item: ObjectId,
}

/// That one object supersedes another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SuccessionRow {
    /// The older one.
    pub old: ObjectId,
    /// The newer one.
    pub new: ObjectId,
}

/// A piece of a list.
#[derive(Debug)]
pub struct ResultPage<T> {
    /// The rows that could be understood.
    pub rows: Vec<T>,
    /// How many the service sent.
    pub sent: usize,
}

/// Which objects a list is to have.
#[derive(Clone, Copy, Debug)]
pub struct ObjectScope<'a> {
    /// Of these data types, by IRI; of any, if empty.
    pub specs: &'a [&'a str],
    /// Of these stations, by IRI; of any or none, if empty.
    pub stations: &'a [&'a str],
    /// Whether those that have been superseded are wanted, too.
    pub versions: Versions,
    /// Those submitted before this. It makes a question that is asked again
    /// differ from the last: the service keeps answers for an hour.
    pub before: Option<Timestamp>,
}

/// Which versions of objects a list is to have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versions {
    /// Those that nothing supersedes.
    Current,
    /// All there ever were.
    All,
}

/// Where a paged list goes on: after the objects submitted until `since`, of
/// which `seen` were at that very instant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    since: Option<Timestamp>,
    seen: usize,
}

impl Cursor {
    /// A list that begins with what was submitted at `since`.
    #[must_use]
    pub fn since(since: Option<Timestamp>) -> Self {
        Self { since, seen: 0 }
    }

    /// The last instant that was reached.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        self.since
    }

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

impl<T> ResultPage<T> {
    fn of(
        rows: &super::sparql::QueryRows,
        mut parse: impl FnMut(super::sparql::QueryRow<'_>) -> Result<T, PortalError>,
    ) -> Self {
        let mut page = Self {
            rows: Vec::with_capacity(rows.len()),
            sent: rows.len(),
        };
        let mut bad = 0_usize;
        for row in rows.iter() {
            match parse(row) {
                Ok(row) => page.rows.push(row),
                Err(error) => {
                    // One is enough to see what is wrong.
                    if bad == 0 {
                        tracing::warn!(%error, "a row of a list is left out");
                    }
                    bad += 1;
                }
            }
        }
        if bad > 1 {
            tracing::warn!(bad, sent = page.sent, "rows of a list are left out");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envri;

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
    fn a_cursor_skips_what_it_has_seen_at_its_last_instant() {
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
    fn a_hostile_iri_cannot_leave_its_brackets() {
        let query = spec(Envri::Icos, "http://a> } drop <b");
        assert!(query.contains("<http://adropb>"), "{query}");
    }

    #[test]
    fn a_bad_row_does_not_cost_the_others() {
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
        let page = parse_objects(&rows);
        assert_eq!((page.rows.len(), page.sent), (2, 3));
    }
}
