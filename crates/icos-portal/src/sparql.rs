//! SPARQL results (W3C "SPARQL 1.1 Query Results JSON Format") as rows with
//! typed values.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{PortalError, Service};

/// The rows of the result of a SELECT query.
#[derive(Debug)]
pub struct QueryRows(Vec<HashMap<String, BoundValue>>);

#[derive(Debug, Deserialize)]
struct BoundValue {
    value: String,
}

#[derive(Deserialize)]
struct ResultsDocument {
    results: Bindings,
}

#[derive(Deserialize)]
struct Bindings {
    bindings: Vec<HashMap<String, BoundValue>>,
}

impl QueryRows {
    /// Parses a JSON results document. A server that exceeds its time limit may
    /// append text to the document or truncate it; both are errors.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, PortalError> {
        serde_json::from_slice::<ResultsDocument>(json)
            .map(|document| Self(document.results.bindings))
            .map_err(|error| {
                PortalError::bad_response(
                    Service::Meta,
                    format_args!("expected SPARQL results, found {error}"),
                )
            })
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the rows in order.
    pub fn iter(&self) -> impl Iterator<Item = QueryRow<'_>> {
        self.0.iter().map(QueryRow)
    }
}

/// One row. A variable may be unbound.
#[derive(Clone, Copy, Debug)]
pub struct QueryRow<'a>(&'a HashMap<String, BoundValue>);

impl<'a> QueryRow<'a> {
    /// Returns the text or IRI of `variable`, if it is bound.
    #[must_use]
    pub fn get(self, variable: &str) -> Option<&'a str> {
        self.0.get(variable).map(|cell| cell.value.as_str())
    }

    /// Returns the text or IRI of `variable`.
    ///
    /// # Errors
    ///
    /// [`PortalError::BadResponse`] if it is unbound.
    pub fn text(self, variable: &str) -> Result<&'a str, PortalError> {
        self.get(variable).ok_or_else(|| {
            PortalError::bad_response(
                Service::Meta,
                format_args!("expected a value for ?{variable}, found none"),
            )
        })
    }

    /// Returns the value of `variable`, converted by `parse`.
    pub(crate) fn parsed<T>(
        self,
        variable: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, PortalError> {
        let text = self.text(variable)?;
        parse(text).ok_or_else(|| {
            PortalError::bad_response(
                Service::Meta,
                format_args!("cannot parse the value of ?{variable}: {text:?}"),
            )
        })
    }

    /// Returns the number in `variable`, or `None` if it is unbound.
    pub fn number<T: std::str::FromStr>(self, variable: &str) -> Result<Option<T>, PortalError> {
        self.get(variable)
            .map(|_| self.parsed(variable, |text| text.parse().ok()))
            .transpose()
    }

    /// Returns the `xsd:dateTime` in `variable`.
    pub fn instant(self, variable: &str) -> Result<Timestamp, PortalError> {
        self.parsed(variable, |text| text.parse().ok())
    }

    /// Returns whether `variable` is bound and true.
    #[must_use]
    pub fn is_true(self, variable: &str) -> bool {
        matches!(self.get(variable), Some("true" | "1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_fails_on_text_after_the_results_and_on_truncated_results() {
        let good = br#"{"head":{"vars":["a"]},"results":{"bindings":[{"a":{"type":"literal","value":"7"}}]}}"#;
        let rows = QueryRows::parse(good).unwrap();
        assert_eq!(rows.iter().next().unwrap().number("a").unwrap(), Some(7));
        let mut late = good.to_vec();
        late.extend(b" query timed out");
        assert!(QueryRows::parse(&late).is_err());
        assert!(QueryRows::parse(&good[..40]).is_err());
    }
}
