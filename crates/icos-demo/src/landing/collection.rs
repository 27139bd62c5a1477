//! Collections.

use serde_json::{Value, json};

use super::fields::{JsonFields, MetadataError, plain_object, single, single_text};
use super::people::organization;
use super::references::collection_references;
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
    let mut members: Vec<_> = (collection.nodes("dcterms:hasPart").into_iter())
        .map(member)
        .collect();
    members.sort_by_key(|member| member["name"].as_str().unwrap_or_default().to_owned());
    let creator = single(collection, "dcterms:creator")?;
    let coverage = collection
        .one("cpmeta:hasSpatialCoverage")
        .and_then(GeoFeature::of);
    let fields = JsonFields::default()
        .with("res", iri)
        .with("hash", collection.local_name())
        .with("members", members)
        .with("creator", organization(creator)?)
        .with("title", title)
        .maybe("description", collection.text("dcterms:description"))
        .with("parentCollections", parent_collections(collection))
        .maybe("doi", collection.text("cpmeta:hasDoi"))
        .maybe("coverage", coverage.map(|place| place.json()))
        .maybe(
            "documentation",
            collection.one("rdfs:seeAlso").map(plain_object),
        )
        .with("references", collection_references(collection, title));
    let mut json = versions(collection, fields).json();
    // Unlike an object, a collection has one previous version at most.
    if let Some(previous) = previous_versions(collection).first() {
        json["previousVersion"] = previous.iri().into();
    }
    Ok(json)
}

fn member(item: RdfNode<'_>) -> Value {
    if !item.is_a("cpmeta:Collection") {
        return plain_object(item);
    }
    let title = item.text("dcterms:title").unwrap_or_default();
    json!({
        "res": item.iri(),
        "hash": item.local_name(),
        "title": title,
        "name": title,
    })
}
