//! Builds the JSON of landing pages from the metadata graph.

use oxrdf::Literal;
use serde_json::{Map, Value};

use crate::graph::RdfNode;
use crate::vocabulary::iri;

/// Why there is no landing page, as the meta service reports it.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct MetadataError(pub(crate) String);

/// A JSON object about a resource, whose properties become its fields.
pub(super) struct JsonFields<'g> {
    node: RdfNode<'g>,
    fields: Map<String, Value>,
    /// What is wrong with the first required field that is.
    error: Option<MetadataError>,
}

impl<'g> JsonFields<'g> {
    /// No fields yet.
    pub(super) fn of(node: RdfNode<'g>) -> Self {
        Self {
            node,
            fields: Map::new(),
            error: None,
        }
    }

    /// The resource as the field `self`.
    pub(super) fn described(node: RdfNode<'g>) -> Self {
        Self::of(node).part("self", resource(node))
    }

    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
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
        self.maybe(key, Some(values).filter(|values| !values.is_empty()))
    }

    /// Adds a required field.
    pub(super) fn require(
        mut self,
        key: &str,
        value: Result<impl Into<Value>, MetadataError>,
    ) -> Self {
        match value {
            Ok(value) => self.with(key, value),
            Err(error) => {
                self.error.get_or_insert(error);
                self
            }
        }
    }

    /// Adds an object as a field.
    pub(super) fn part(self, key: &str, part: JsonFields<'_>) -> Self {
        self.require(key, part.json())
    }

    /// Adds the first text of `property`, if there is one.
    pub(super) fn text(self, key: &str, property: &str) -> Self {
        let text = self.node.text(property);
        self.maybe(key, text)
    }

    /// Adds the only text of `property`.
    pub(super) fn required_text(self, key: &str, property: &str) -> Self {
        let text = single_text(self.node, property);
        self.require(key, text)
    }

    /// Adds all texts of `property`.
    pub(super) fn texts(self, key: &str, property: &str) -> Self {
        let texts = texts(self.node, property);
        self.with(key, texts)
    }

    /// Adds the first whole number of `property`, if there is one.
    pub(super) fn int(self, key: &str, property: &str) -> Self {
        let number = self.node.number::<i64>(property);
        self.maybe(key, number)
    }

    /// Adds the first number of `property`, if there is one.
    pub(super) fn float(self, key: &str, property: &str) -> Self {
        let number = self.node.number::<f64>(property);
        self.maybe(key, number)
    }

    /// Adds whether `property` is true.
    pub(super) fn flag(self, key: &str, property: &str) -> Self {
        let flag = self.node.flag(property);
        self.with(key, flag)
    }

    /// Adds the IRI of the first resource of `property`, if there is one.
    pub(super) fn iri(self, key: &str, property: &str) -> Self {
        let node = self.node.one(property);
        self.maybe(key, node.map(|node| node.iri()))
    }

    /// Adds the first resource of `property`, if there is one.
    pub(super) fn one(
        self,
        key: &str,
        property: &str,
        json: impl Fn(RdfNode<'g>) -> JsonFields<'g>,
    ) -> Self {
        match self.node.one(property) {
            Some(node) => self.part(key, json(node)),
            None => self,
        }
    }

    /// Adds the only resource of `property`.
    pub(super) fn required(
        self,
        key: &str,
        property: &str,
        json: impl Fn(RdfNode<'g>) -> JsonFields<'g>,
    ) -> Self {
        let json = single(self.node, property).and_then(|node| json(node).json());
        self.require(key, json)
    }

    /// Adds all resources of `property`.
    pub(super) fn all(
        self,
        key: &str,
        property: &str,
        json: impl Fn(RdfNode<'g>) -> JsonFields<'g>,
    ) -> Self {
        let values = values(self.node.nodes(property), json);
        self.require(key, values)
    }

    pub(super) fn json(self) -> Result<Value, MetadataError> {
        match self.error {
            None => Ok(Value::Object(self.fields)),
            Some(error) => Err(error),
        }
    }
}

/// The JSON of each of these resources.
pub(super) fn values<'g>(
    nodes: Vec<RdfNode<'g>>,
    json: impl Fn(RdfNode<'g>) -> JsonFields<'g>,
) -> Result<Vec<Value>, MetadataError> {
    nodes.into_iter().map(|node| json(node).json()).collect()
}

/// All texts of `property`.
pub(super) fn texts(node: RdfNode<'_>, property: &str) -> Vec<Value> {
    let literals = node.literals(property);
    literals.iter().map(|l| l.value().into()).collect()
}

/// Returns the one resource that `property` leads to.
pub(super) fn single<'g>(
    subject: RdfNode<'g>,
    property: &str,
) -> Result<RdfNode<'g>, MetadataError> {
    expect_one(subject, property, &subject.nodes(property))
}

/// Returns the one text that `property` leads to.
pub(super) fn single_text<'g>(
    subject: RdfNode<'g>,
    property: &str,
) -> Result<&'g str, MetadataError> {
    expect_one(subject, property, &subject.literals(property)).map(Literal::value)
}

fn expect_one<T: Copy>(
    subject: RdfNode<'_>,
    property: &str,
    values: &[T],
) -> Result<T, MetadataError> {
    match values {
        [value] => Ok(*value),
        _ => Err(expected_one(subject.iri(), property, values.len())),
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
pub(super) fn resource(node: RdfNode<'_>) -> JsonFields<'_> {
    JsonFields::of(node)
        .with("uri", node.iri())
        .text("label", "rdfs:label")
        .texts("comments", "rdfs:comment")
}

/// `{res, hash, name}` of an object that another item refers to.
pub(super) fn plain_object(object: RdfNode<'_>) -> JsonFields<'_> {
    let name = object
        .text("dcterms:title")
        .or_else(|| object.text("cpmeta:hasName"));
    JsonFields::of(object)
        .with("res", object.iri())
        .with("hash", object.local_name())
        .maybe("hash", hash(object))
        .with("name", name.unwrap_or_default())
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
