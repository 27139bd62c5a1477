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
mod structured_citation;
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
    let fields = if node.text("cpmeta:hasDataLevel").is_some() {
        object::specification(node)
    } else if node.text("cpmeta:hasLastName").is_some() {
        people::person(node)
    } else if node.iri().contains("/resources/organizations/") {
        people::organization(node).with("staff", people::staff(node))
    } else {
        node.text("rdfs:label")?;
        resource(node)
    };
    Some(fields.json())
}
