//! The JSON forms that several landing pages share.

use serde_json::{Map, Value, json};

use crate::graph::RdfNode;
use crate::vocabulary::iri;

/// Why there is no landing page, as the meta service reports it.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct MetadataError(pub(crate) String);

/// A JSON object that is being built.
#[derive(Default)]
pub(super) struct JsonFields(Map<String, Value>);

impl JsonFields {
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a field if it has a value.
    pub(super) fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a field if it is not empty.
    pub(super) fn non_empty(self, key: &str, values: Vec<Value>) -> Self {
        if values.is_empty() {
            self
        } else {
            self.with(key, values)
        }
    }

    pub(super) fn json(self) -> Value {
        Value::Object(self.0)
    }
}

/// Returns the one resource that `property` leads to.
pub(super) fn single<'g>(
    subject: RdfNode<'g>,
    property: &str,
) -> Result<RdfNode<'g>, MetadataError> {
    expect_one(subject, property, subject.nodes(property))
}

/// Returns the one text that `property` leads to.
pub(super) fn single_text<'g>(
    subject: RdfNode<'g>,
    property: &str,
) -> Result<&'g str, MetadataError> {
    let values = subject
        .literals(property)
        .iter()
        .map(|l| l.value())
        .collect();
    expect_one(subject, property, values)
}

pub(super) fn expect_one<T>(
    subject: RdfNode<'_>,
    property: &str,
    values: Vec<T>,
) -> Result<T, MetadataError> {
    let count = values.len();
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(expected_one(subject.iri(), property, count)),
    }
}

/// The error for a resource that lacks a property or has several values.
pub(crate) fn expected_one(subject: &str, property: &str, count: usize) -> MetadataError {
    MetadataError(format!(
        "Expected exactly one values of property {} for resource {subject}, but got {count}",
        iri(property)
    ))
}

/// `{uri, label?, comments}`.
pub(super) fn resource(node: RdfNode<'_>) -> Value {
    let comments: Vec<_> = node
        .literals("rdfs:comment")
        .iter()
        .map(|l| l.value())
        .collect();
    JsonFields::default()
        .with("uri", node.iri())
        .maybe("label", node.text("rdfs:label"))
        .with("comments", comments)
        .json()
}

/// `{res, hash, name}` of an object that another item refers to.
pub(super) fn plain_object(object: RdfNode<'_>) -> Value {
    let name = object
        .text("dcterms:title")
        .or_else(|| object.text("cpmeta:hasName"));
    json!({
        "res": object.iri(),
        "hash": hash(object).unwrap_or_else(|| object.local_name().to_owned()),
        "name": name.unwrap_or_default(),
    })
}

/// The SHA-256 in base64url without padding, as in JSON.
pub(super) fn hash(object: RdfNode<'_>) -> Option<String> {
    let base64 = object.text("cpmeta:hasSha256sum")?.trim_end_matches('=');
    Some(base64.replace('+', "-").replace('/', "_"))
}

/// Comma-separated keywords.
pub(super) fn keywords(node: RdfNode<'_>) -> Vec<Value> {
    let list = node.text("cpmeta:hasKeywords").unwrap_or_default();
    (list.split(',').map(str::trim))
        .filter(|keyword| !keyword.is_empty())
        .map(Value::from)
        .collect()
}

/// A single value as itself, several as an array.
pub(super) fn one_or_many(mut values: Vec<Value>) -> Option<Value> {
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(values.into()),
    }
}
