//! The namespaces of the portal's metadata, and Turtle that uses them.

use oxrdf::Triple;
use oxttl::TurtleParser;

/// The ontology's namespace.
pub(crate) const CPMETA: &str = "http://meta.icos-cp.eu/ontologies/cpmeta/";

const PREFIXES: [(&str, &str); 14] = [
    ("cpmeta", CPMETA),
    ("cpres", "http://meta.icos-cp.eu/resources/cpmeta/"),
    ("res", "http://meta.icos-cp.eu/resources/"),
    ("dcterms", "http://purl.org/dc/terms/"),
    ("geo", "http://www.opengis.net/ont/geosparql#"),
    ("owl", "http://www.w3.org/2002/07/owl#"),
    ("prov", "http://www.w3.org/ns/prov#"),
    ("rdf", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"),
    ("rdfs", "http://www.w3.org/2000/01/rdf-schema#"),
    ("sites", "https://meta.fieldsites.se/ontologies/sites/"),
    ("skos", "http://www.w3.org/2004/02/skos/core#"),
    ("ssn", "http://www.w3.org/ns/ssn/"),
    (
        "stationentry",
        "http://meta.icos-cp.eu/ontologies/stationentry/",
    ),
    ("xsd", "http://www.w3.org/2001/XMLSchema#"),
];

/// The IRI of `prefix:name`. An IRI is returned as it is.
pub(crate) fn iri(name: &str) -> String {
    let Some((prefix, local)) = name.split_once(':') else {
        return name.to_owned();
    };
    if local.starts_with("//") {
        return name.to_owned();
    }
    PREFIXES
        .iter()
        .find(|(known, _)| *known == prefix)
        .map_or_else(|| name.to_owned(), |(_, space)| format!("{space}{local}"))
}

/// Parses Turtle that is part of this crate.
pub(crate) fn read_turtle(text: &str) -> impl Iterator<Item = Triple> {
    TurtleParser::new()
        .for_slice(text)
        .map(|triple| triple.expect("a test reads all Turtle in this crate"))
}
