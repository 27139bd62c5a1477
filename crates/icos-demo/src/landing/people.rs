//! Organisations and persons.

use serde_json::{Value, json};

use super::fields::{JsonFields, MetadataError, resource, values};
use crate::graph::RdfNode;

pub(super) fn organization(org: RdfNode<'_>) -> JsonFields<'_> {
    JsonFields::described(org)
        .required_text("name", "cpmeta:hasName")
        .text("email", "cpmeta:hasEmail")
        .iri("website", "rdfs:seeAlso")
}

pub(super) fn person(person: RdfNode<'_>) -> JsonFields<'_> {
    JsonFields::described(person)
        .required_text("firstName", "cpmeta:hasFirstName")
        .required_text("lastName", "cpmeta:hasLastName")
        .text("email", "cpmeta:hasEmail")
        .text("orcid", "cpmeta:hasOrcidId")
}

pub(super) fn agent(agent: RdfNode<'_>) -> JsonFields<'_> {
    if agent.text("cpmeta:hasFirstName").is_some() {
        person(agent)
    } else {
        organization(agent)
    }
}

/// The members of an organisation, with their roles.
pub(super) fn staff(org: RdfNode<'_>) -> Vec<Value> {
    (org.holders("cpmeta:atOrganization").into_iter())
        .filter_map(|membership| {
            let members = membership.holders("cpmeta:hasMembership");
            let person = person(*members.first()?).json().ok()?;
            let role = JsonFields::of(membership)
                .required("role", "cpmeta:hasRole", resource)
                .text("start", "cpmeta:hasStartTime")
                .text("end", "cpmeta:hasEndTime")
                .int("weight", "cpmeta:hasAttributionWeight")
                .text("extra", "cpmeta:hasExtraRoleInfo");
            Some(json!({"person": person, "role": role.json().ok()?}))
        })
        .collect()
}

/// The contributors of an item: a sequence keeps its order, separate values are
/// sorted by name.
pub(super) fn contributors(item: RdfNode<'_>, property: &str) -> Result<Vec<Value>, MetadataError> {
    let named = item.nodes(property);
    if let [sequence] = named[..]
        && sequence.is_a("rdf:Seq")
    {
        let members = (1..).map_while(|n| sequence.one(&format!("rdf:_{n}")));
        return values(members.collect(), agent);
    }
    let mut agents = values(named, agent)?;
    agents.sort_by_key(|a| {
        let text = |key: &str| a[key].as_str().unwrap_or_default().to_owned();
        (text("lastName"), text("firstName"), text("name"))
    });
    Ok(agents)
}
