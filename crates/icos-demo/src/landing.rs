//! Landing pages as JSON: what the meta service says about an object, a
//! document, a collection or a station, read from the metadata's graph.
//!
//! Shapes are those of the portal's `core/data` classes, which `icoscp_core`
//! mirrors in `metacore.py`. What is not known is left out.

mod collection;
mod object;
mod people;
mod references;
mod station;

use serde_json::{Map, Value, json};

use super::graph::Node;
use super::vocab::iri;

pub(crate) use collection::collection;
pub(crate) use object::{coverage, inaccessible, is_under_moratorium, object};
pub(crate) use references::{biblio_info, citation, licence};
pub(crate) use station::station_page;

/// Why there is no landing page, in the meta service's words.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadMetadata(pub(crate) String);

/// A JSON object in the making.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Leaves out what is not there.
    fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Leaves out what is empty.
    fn some(self, key: &str, values: Vec<Value>) -> Self {
        if values.is_empty() {
            self
        } else {
            self.with(key, values)
        }
    }

    fn json(self) -> Value {
        Value::Object(self.0)
    }
}

/// Exactly one resource, or the meta service's complaint.
fn single<'g>(subject: Node<'g>, property: &str) -> Result<Node<'g>, BadMetadata> {
    expect_one(subject, property, subject.nodes(property))
}

/// Exactly one text, or the meta service's complaint.
fn single_text<'g>(subject: Node<'g>, property: &str) -> Result<&'g str, BadMetadata> {
    let values = subject
        .literals(property)
        .iter()
        .map(|l| l.value())
        .collect();
    expect_one(subject, property, values)
}

fn expect_one<T>(subject: Node<'_>, property: &str, values: Vec<T>) -> Result<T, BadMetadata> {
    let count = values.len();
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(expected_one(subject.iri(), property, count)),
    }
}

/// What the meta service says of a resource that lacks a property.
pub(crate) fn expected_one(subject: &str, property: &str, count: usize) -> BadMetadata {
    BadMetadata(format!(
        "Expected exactly one values of property {} for resource {subject}, but got {count}",
        iri(property)
    ))
}

/// The page of a data type, an organisation, a person, or of anything with a
/// label; nothing for what has none.
pub(crate) fn resource_page(node: Node<'_>) -> Option<Result<Value, BadMetadata>> {
    if node.text("cpmeta:hasDataLevel").is_some() {
        return Some(object::specification(node));
    }
    if node.text("cpmeta:hasLastName").is_some() {
        return Some(people::person(node));
    }
    if node.iri().contains("/resources/organizations/") {
        return Some(people::organization(node).map(|mut org| {
            org["staff"] = people::staff(node).into();
            org
        }));
    }
    node.text("rdfs:label").map(|_| Ok(resource(node)))
}

/// `{uri, label?, comments}`.
fn resource(node: Node<'_>) -> Value {
    let comments: Vec<_> = node
        .literals("rdfs:comment")
        .iter()
        .map(|l| l.value())
        .collect();
    Fields::default()
        .with("uri", node.iri())
        .maybe("label", node.text("rdfs:label"))
        .with("comments", comments)
        .json()
}

/// `{res, hash, name}` of an object named by another item.
fn plain_object(object: Node<'_>) -> Value {
    let name = object
        .text("dcterms:title")
        .or_else(|| object.text("cpmeta:hasName"));
    json!({
        "res": object.iri(),
        "hash": hash(object).unwrap_or_else(|| object.local_name().to_owned()),
        "name": name.unwrap_or_default(),
    })
}

/// The SHA-256 in base64url without padding, as JSON shows hashes.
fn hash(object: Node<'_>) -> Option<String> {
    let base64 = object.text("cpmeta:hasSha256sum")?.trim_end_matches('=');
    Some(base64.replace('+', "-").replace('/', "_"))
}

/// Comma-separated keywords.
fn keywords(node: Node<'_>) -> Vec<Value> {
    let list = node.text("cpmeta:hasKeywords").unwrap_or_default();
    (list.split(',').map(str::trim))
        .filter(|keyword| !keyword.is_empty())
        .map(Value::from)
        .collect()
}

/// One value alone, several as an array, none not at all.
fn one_or_many(mut values: Vec<Value>) -> Option<Value> {
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(values.into()),
    }
}

/// Next, latest and previous versions of an item (protocol page, section 4).
fn versions(item: Node<'_>, fields: Fields) -> Fields {
    let iris = |nodes: Vec<Node<'_>>| nodes.iter().map(|n| n.iri().into()).collect();
    let latest = one_or_many(iris(latest_versions(item, &mut vec![item])));
    fields
        .maybe("nextVersion", one_or_many(iris(next_versions(item))))
        .with("latestVersion", latest.unwrap_or_else(|| item.iri().into()))
        .maybe(
            "previousVersion",
            one_or_many(iris(previous_versions(item))),
        )
}

fn previous_versions(item: Node<'_>) -> Vec<Node<'_>> {
    let of_plain_collections = (item.holders("dcterms:hasPart").into_iter())
        .filter(|collection| collection.is_a("cpmeta:PlainCollection"))
        .flat_map(|collection| collection.nodes("cpmeta:isNextVersionOf"));
    let mut versions = item.nodes("cpmeta:isNextVersionOf");
    versions.extend(of_plain_collections);
    versions
}

fn next_versions(item: Node<'_>) -> Vec<Node<'_>> {
    (item.holders("cpmeta:isNextVersionOf").into_iter())
        .flat_map(|next| {
            if next.is_a("cpmeta:PlainCollection") {
                next.nodes("dcterms:hasPart")
            } else {
                vec![next]
            }
        })
        .filter(|next| next.is_a("cpmeta:Collection") || is_published(*next))
        .collect()
}

fn latest_versions<'g>(item: Node<'g>, seen: &mut Vec<Node<'g>>) -> Vec<Node<'g>> {
    let mut latest = Vec::new();
    for next in next_versions(item) {
        if !seen.contains(&next) {
            seen.push(next);
            latest.extend(latest_versions(next, seen));
        }
    }
    if latest.is_empty() {
        vec![item]
    } else {
        latest
    }
}

/// Whether an object has been uploaded and is not under moratorium.
fn is_published(object: Node<'_>) -> bool {
    let uploaded = object.text("cpmeta:hasSizeInBytes").is_some();
    uploaded && !object::is_under_moratorium(object)
}

/// The collections an item is in, as resources, without deprecated ones.
fn parent_collections(item: Node<'_>) -> Vec<Value> {
    let parents: Vec<_> = (item.holders("dcterms:hasPart").into_iter())
        .filter(|parent| parent.is_a("cpmeta:Collection"))
        .collect();
    let deprecated: Vec<_> = parents.iter().flat_map(|p| previous_versions(*p)).collect();
    (parents.iter())
        .filter(|parent| !deprecated.contains(parent))
        .map(|parent| {
            let title = parent.text("dcterms:title").unwrap_or_default();
            json!({"uri": parent.iri(), "label": title, "comments": []})
        })
        .collect()
}
