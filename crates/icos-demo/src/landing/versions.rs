//! Versions of objects and collections, and the collections they belong to.

use serde_json::{Value, json};

use super::access::is_under_moratorium;
use super::fields::{JsonFields, one_or_many};
use crate::graph::RdfNode;

/// Next, latest and previous versions of an item (protocol page, section 4).
pub(super) fn versions<'g>(item: RdfNode<'g>, fields: JsonFields<'g>) -> JsonFields<'g> {
    let iris = |nodes: Vec<RdfNode<'_>>| nodes.iter().map(|n| n.iri().into()).collect();
    let latest = one_or_many(iris(latest_versions(item, &mut vec![item])));
    fields
        .maybe("nextVersion", one_or_many(iris(next_versions(item))))
        .with("latestVersion", latest.unwrap_or_else(|| item.iri().into()))
        .maybe(
            "previousVersion",
            one_or_many(iris(previous_versions(item))),
        )
}

pub(super) fn previous_versions(item: RdfNode<'_>) -> Vec<RdfNode<'_>> {
    let of_plain_collections = (item.holders("dcterms:hasPart").into_iter())
        .filter(|collection| collection.is_a("cpmeta:PlainCollection"))
        .flat_map(|collection| collection.nodes("cpmeta:isNextVersionOf"));
    let mut versions = item.nodes("cpmeta:isNextVersionOf");
    versions.extend(of_plain_collections);
    versions
}

fn next_versions(item: RdfNode<'_>) -> Vec<RdfNode<'_>> {
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

fn latest_versions<'g>(item: RdfNode<'g>, seen: &mut Vec<RdfNode<'g>>) -> Vec<RdfNode<'g>> {
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
fn is_published(object: RdfNode<'_>) -> bool {
    let uploaded = object.text("cpmeta:hasSizeInBytes").is_some();
    uploaded && !is_under_moratorium(object)
}

/// The collections an item is in, as resources, without deprecated ones.
pub(super) fn parent_collections(item: RdfNode<'_>) -> Vec<Value> {
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
