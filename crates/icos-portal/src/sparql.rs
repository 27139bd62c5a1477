//! SPARQL results (W3C "SPARQL 1.1 Query Results JSON Format") as rows with
//! typed values.
//!
//! The input is untrusted: what a row takes in memory is proportional to its
//! text, and rows, cells and variables are limited. The limits are far above
//! the results of any query of [`lists`](crate::lists).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{PortalError, Service};

/// Maximum number of rows.
const MAX_ROWS: usize = 1_000_000;
/// Maximum number of cells of all rows.
const MAX_CELLS: usize = 4_000_000;
/// Maximum number of variables.
const MAX_VARIABLES: usize = 64;

/// The rows of the result of a SELECT query.
#[derive(Debug, Default)]
pub struct QueryRows {
    variables: Vec<String>,
    rows: Vec<Box<[BoundValue]>>,
    cells: usize,
}

#[derive(Debug)]
struct BoundValue {
    /// Its position in `variables`.
    variable: u8,
    value: Box<str>,
}

impl QueryRows {
    /// Parses a JSON results document. A server that exceeds its time limit may
    /// append text to the document or truncate it; both are errors.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, PortalError> {
        let mut rows = Self::default();
        let bindings = Member {
            key: "bindings",
            value: BindingsSeed(&mut rows),
        };
        let results = Member {
            key: "results",
            value: bindings,
        };
        let mut json = serde_json::Deserializer::from_slice(json);
        let parsed = results.deserialize(&mut json).and_then(|()| json.end());
        parsed.map_err(|error| {
            let reason = format_args!("expected SPARQL results, found {error}");
            PortalError::bad_response(Service::Meta, reason)
        })?;
        Ok(rows)
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Iterates over the rows in order.
    pub fn iter(&self) -> impl Iterator<Item = QueryRow<'_>> {
        let variables = &self.variables;
        (self.rows.iter()).map(move |cells| QueryRow { variables, cells })
    }

    /// Returns the position of `variable`; `None` if there are too many.
    fn position_of(&mut self, variable: &str) -> Option<u8> {
        let known = self.variables.iter().position(|known| known == variable);
        let position = known.unwrap_or(self.variables.len());
        if position >= MAX_VARIABLES {
            return None;
        }
        if known.is_none() {
            self.variables.push(variable.to_owned());
        }
        u8::try_from(position).ok()
    }
}

/// The value of `key` of an object, deserialized by `value`. Other members are
/// skipped.
struct Member<S> {
    key: &'static str,
    value: S,
}

/// Deserializes the bindings: a list of rows.
struct BindingsSeed<'a>(&'a mut QueryRows);

/// Deserializes one row: an object of cells.
struct RowSeed<'a>(&'a mut QueryRows);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Member<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Member<S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<S::Value, A::Error> {
        let (mut seed, mut value) = (Some(self.value), None);
        while let Some(key) = members.next_key::<String>()? {
            match seed.take_if(|_| key == self.key) {
                Some(seed) => value = Some(members.next_value_seed(seed)?),
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        value.ok_or_else(|| A::Error::missing_field(self.key))
    }
}

impl<'de> DeserializeSeed<'de> for BindingsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for BindingsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(cells) = rows.next_element_seed(RowSeed(self.0))? {
            if self.0.rows.len() == MAX_ROWS {
                return Err(A::Error::custom(format_args!("more than {MAX_ROWS} rows")));
            }
            self.0.rows.push(cells);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Box<[BoundValue]>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Box<[BoundValue]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut cells = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = Member {
                key: "value",
                value: PhantomData::<Box<str>>,
            };
            let value = members.next_value_seed(value)?;
            self.0.cells += 1;
            if self.0.cells > MAX_CELLS {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_CELLS} cells"
                )));
            }
            let variable = self.0.position_of(&key).ok_or_else(|| {
                A::Error::custom(format_args!("more than {MAX_VARIABLES} variables"))
            })?;
            cells.push(BoundValue { variable, value });
        }
        Ok(cells.into_boxed_slice())
    }
}

/// One row. A variable may be unbound.
#[derive(Clone, Copy, Debug)]
pub struct QueryRow<'a> {
    variables: &'a [String],
    cells: &'a [BoundValue],
}

impl<'a> QueryRow<'a> {
    /// Returns the text or IRI of `variable`, if it is bound.
    #[must_use]
    pub fn get(self, variable: &str) -> Option<&'a str> {
        let position = self.variables.iter().position(|known| known == variable)?;
        let cell = (self.cells.iter()).find(|cell| usize::from(cell.variable) == position)?;
        Some(&cell.value)
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

    /// Regression: a row of many variables, or an endless list of short rows, took
    /// 27 times its text in memory.
    #[test]
    fn parse_refuses_more_rows_cells_and_variables_than_any_list_has() {
        let document = |rows: &str| format!("{{\"results\":{{\"bindings\":[{rows}]}}}}");
        let row = |variables: usize| {
            let cells: Vec<String> = (0..variables)
                .map(|n| format!("\"v{n}\":{{\"value\":\"\"}}"))
                .collect();
            format!("{{{}}}", cells.join(","))
        };
        let parse = |rows: &str| QueryRows::parse(document(rows).as_bytes());
        assert_eq!(parse(&row(MAX_VARIABLES)).unwrap().len(), 1);
        for (rows, expected) in [
            (row(MAX_VARIABLES + 1), "more than 64 variables"),
            (vec!["{}"; MAX_ROWS + 1].join(","), "more than 1000000 rows"),
            (
                vec![row(MAX_VARIABLES); MAX_CELLS / MAX_VARIABLES + 1].join(","),
                "more than 4000000 cells",
            ),
        ] {
            let error = parse(&rows).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let nested = "[".repeat(100_000);
        assert!(parse(&format!("{{\"a\":{{\"value\":{nested}")).is_err());
        assert!(parse(&format!("{{\"a\":{{\"type\":{nested}")).is_err());
    }
}
