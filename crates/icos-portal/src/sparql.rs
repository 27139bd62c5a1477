//! SPARQL results (W3C "SPARQL 1.1 Query Results JSON Format") as rows with
//! typed values.

use std::collections::HashMap;
use std::str::FromStr;

use serde::Deserialize;

use super::error::parse_json;
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
        let document: ResultsDocument = parse_json(Service::Meta, "SPARQL results", json)?;
        Ok(Self(document.results.bindings))
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
    pub fn text(self, variable: &str) -> Result<String, PortalError> {
        self.parsed(variable, |text| Some(text.to_owned()))
    }

    /// Returns the value of `variable`, converted by `parse`.
    pub(crate) fn parsed<T>(
        self,
        variable: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, PortalError> {
        let text = self.get(variable).ok_or_else(|| {
            PortalError::bad_response(
                Service::Meta,
                format_args!("expected a value for ?{variable}, found none"),
            )
        })?;
        parse(text).ok_or_else(|| {
            PortalError::bad_response(
                Service::Meta,
                format_args!("cannot parse the value of ?{variable}: {text:?}"),
            )
        })
    }

    /// Returns the number in `variable`.
    ///
    /// # Errors
    ///
    /// [`PortalError::BadResponse`] if it is unbound or not a number.
    pub fn number<T: FromStr>(self, variable: &str) -> Result<T, PortalError> {
        self.parsed(variable, |text| text.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_fails_on_text_after_the_results_and_on_truncated_results() {
        let good = br#"{"head":{"vars":["a"]},"results":{"bindings":[{"a":{"type":"literal","value":"7"}}]}}"#;
        let rows = QueryRows::parse(good).unwrap();
        let row = rows.iter().next().unwrap();
        assert_eq!(row.number::<u8>("a").unwrap(), 7);
        let mut late = good.to_vec();
        late.extend(b" query timed out");
        assert!(QueryRows::parse(&late).is_err());
        assert!(QueryRows::parse(&good[..40]).is_err());
    }
}
