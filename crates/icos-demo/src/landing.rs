//! Landing pages as JSON: the meta service's description of an object, a
//! document, a collection or a station, read from the metadata graph.
//!
//! The JSON follows the portal's `core/data` classes, which `icoscp_core`
//! mirrors in `metacore.py`. Unknown fields are left out.

mod access;
mod collection;
mod fields;
mod object;
mod people;
mod references;
mod station;
mod versions;

use serde_json::Value;

use super::graph::RdfNode;
use fields::resource;

pub(crate) use access::{inaccessible, is_under_moratorium};
pub(crate) use collection::collection;
pub(crate) use fields::{MetadataError, expected_one};
pub(crate) use object::{coverage, object};
pub(crate) use references::{biblio_info, citation, licence};
pub(crate) use station::station_page;

/// The page of a data type, an organisation, a person, or any other resource
/// with a label; `None` for a resource without one.
pub(crate) fn resource_page(node: RdfNode<'_>) -> Option<Result<Value, MetadataError>> {
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
