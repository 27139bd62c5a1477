//! Organisations and persons.

use serde_json::{Value, json};

use super::fields::{JsonFields, MetadataError, resource, single_text};
use crate::graph::RdfNode;

pub(super) fn organization(org: RdfNode<'_>) -> Result<Value, MetadataError> {
    Ok(JsonFields::default()
        .with("self", resource(org))
        .with("name", single_text(org, "cpmeta:hasName")?)
        .maybe("email", org.text("cpmeta:hasEmail"))
        .maybe("website", org.one("rdfs:seeAlso").map(|site| site.iri()))
        .json())
}

pub(super) fn person(person: RdfNode<'_>) -> Result<Value, MetadataError> {
    Ok(JsonFields::default()
        .with("self", resource(person))
        .with("firstName", single_text(person, "cpmeta:hasFirstName")?)
        .with("lastName", single_text(person, "cpmeta:hasLastName")?)
        .maybe("email", person.text("cpmeta:hasEmail"))
        .maybe("orcid", person.text("cpmeta:hasOrcidId"))
        .json())
}

pub(super) fn agent(agent: RdfNode<'_>) -> Result<Value, MetadataError> {
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
            let member = membership
                .holders("cpmeta:hasMembership")
                .into_iter()
                .next()?;
            let role = JsonFields::default()
                .with("role", resource(membership.one("cpmeta:hasRole")?))
                .maybe("start", membership.text("cpmeta:hasStartTime"))
                .maybe("end", membership.text("cpmeta:hasEndTime"))
                .maybe(
                    "weight",
                    membership.number::<i64>("cpmeta:hasAttributionWeight"),
                )
                .maybe("extra", membership.text("cpmeta:hasExtraRoleInfo"));
            Some(json!({"person": person(member).ok()?, "role": role.json()}))
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
        return (1..)
            .map_while(|n| sequence.one(&format!("rdf:_{n}")))
            .map(agent)
            .collect();
    }
    let mut agents: Vec<_> = named.into_iter().map(agent).collect::<Result<_, _>>()?;
    agents.sort_by_key(|a| {
        let text = |key: &str| a[key].as_str().unwrap_or_default().to_owned();
        (text("lastName"), text("firstName"), text("name"))
    });
    Ok(agents)
}
