//! SPARQL results (W3C "SPARQL 1.1 Query Results JSON Format") as rows with
//! typed cells.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{PortalError, Service};

/// The rows of a SELECT.
#[derive(Debug)]
pub struct QueryRows(Vec<HashMap<String, BoundValue>>);

#[derive(Debug, Deserialize)]
struct BoundValue {
    value: String,
}

#[derive(Deserialize)]
struct Document {
    results: Results,
}

#[derive(Deserialize)]
struct Results {
    bindings: Vec<HashMap<String, BoundValue>>,
}

impl QueryRows {
    /// Reads a JSON results document. A server that runs out of time may
    /// append text to it, or cut it: both are errors.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, PortalError> {
        serde_json::from_slice::<Document>(json)
            .map(|document| Self(document.results.bindings))
            .map_err(|error| {
                PortalError::bad_response(
                    Service::Meta,
                    format_args!("expected SPARQL results, found {error}"),
                )
            })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = QueryRow<'_>> {
        self.0.iter().map(QueryRow)
    }
}

/// One row; a variable may be unbound.
#[derive(Clone, Copy, Debug)]
pub struct QueryRow<'a>(&'a HashMap<String, BoundValue>);

impl<'a> QueryRow<'a> {
    /// The text or IRI of `variable`, if bound.
    #[must_use]
    pub fn get(self, variable: &str) -> Option<&'a str> {
        self.0.get(variable).map(|cell| cell.value.as_str())
    }

    /// The text or IRI of `variable`.
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

    /// The value of `variable`, which `parse` understands.
    pub(crate) fn parsed<T>(
        self,
        variable: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, PortalError> {
        let text = self.text(variable)?;
        parse(text).ok_or_else(|| {
            PortalError::bad_response(
                Service::Meta,
                format_args!("?{variable} is unintelligible: {text:?}"),
            )
        })
    }

    /// The number in `variable`; `None` if unbound.
    pub fn number<T: std::str::FromStr>(self, variable: &str) -> Result<Option<T>, PortalError> {
        self.get(variable)
            .map(|_| self.parsed(variable, |text| text.parse().ok()))
            .transpose()
    }

    /// The `xsd:dateTime` in `variable`.
    pub fn instant(self, variable: &str) -> Result<Timestamp, PortalError> {
        self.parsed(variable, |text| text.parse().ok())
    }

    /// Whether `variable` is bound and true.
    #[must_use]
    pub fn is_true(self, variable: &str) -> bool {
        matches!(self.get(variable), Some("true" | "1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_behind_the_results_is_an_error() {
        let good = br#"{"head":{"vars":["a"]},"results":{"bindings":[{"a":{"type":"literal","value":"7"}}]}}"#;
        let rows = QueryRows::parse(good).unwrap();
        assert_eq!(rows.iter().next().unwrap().number("a").unwrap(), Some(7));
        let mut late = good.to_vec();
        late.extend(b" query timed out");
        assert!(QueryRows::parse(&late).is_err());
        assert!(QueryRows::parse(&good[..40]).is_err());
    }
}
