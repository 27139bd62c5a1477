//! Collections.

use serde_json::{Value, json};

use super::fields::{JsonFields, MetadataError, plain_object, single_text, values};
use super::people::organization;
use super::versions::{parent_collections, previous_versions, versions};
use crate::geo::GeoFeature;
use crate::graph::{Graph, RdfNode};

/// The landing page of a collection; `iri` may be unknown.
pub(crate) fn collection(graph: &Graph, iri: &str) -> Result<Value, MetadataError> {
    let collection = graph
        .node(iri)
        .filter(|c| c.is_a("cpmeta:Collection"))
        .ok_or_else(|| MetadataError(format!("Collection {iri} does not exist")))?;
    let title = single_text(collection, "dcterms:title")?;
    let mut members = values(collection.nodes("dcterms:hasPart"), member)?;
    members.sort_by_key(|member| member["name"].as_str().unwrap_or_default().to_owned());
    let coverage = collection.one("cpmeta:hasSpatialCoverage");
    let coverage = coverage.and_then(GeoFeature::of);
    let fields = JsonFields::of(collection)
        .with("res", iri)
        .with("hash", collection.local_name())
        .with("members", members)
        .required("creator", "dcterms:creator", organization)
        .with("title", title)
        .text("description", "dcterms:description")
        .with("parentCollections", parent_collections(collection))
        .text("doi", "cpmeta:hasDoi")
        .maybe("coverage", coverage.map(|place| place.json()))
        .one("documentation", "rdfs:seeAlso", plain_object)
        .with("references", references(collection, title));
    // Unlike an object, a collection has one previous version at most.
    let previous = previous_versions(collection);
    versions(collection, fields)
        .maybe("previousVersion", previous.first().map(RdfNode::iri))
        .json()
}

fn member(item: RdfNode<'_>) -> JsonFields<'_> {
    if !item.is_a("cpmeta:Collection") {
        return plain_object(item);
    }
    let title = item.text("dcterms:title").unwrap_or_default();
    JsonFields::of(item)
        .with("res", item.iri())
        .with("hash", item.local_name())
        .with("title", title)
        .with("name", title)
}

fn references(collection: RdfNode<'_>, title: &str) -> Value {
    match collection.text("cpmeta:hasDoi") {
        Some(doi) => {
            let citation = format!("{title}. https://doi.org/{doi}");
            json!({"title": title, "citationString": citation})
        }
        None => json!({"title": title}),
    }
}
