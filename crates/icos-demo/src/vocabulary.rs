//! The namespaces of the portal's metadata, and Turtle that uses them.

use std::collections::HashMap;
use std::fmt::Display;

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

/// Parses Turtle that is part of this crate; it needs not declare the namespaces
/// above.
pub(crate) fn read_turtle(text: &str) -> Vec<Triple> {
    let parser = (PREFIXES.iter()).fold(TurtleParser::new(), |parser, (prefix, space)| {
        (parser.with_prefix(*prefix, *space)).expect("the namespaces above are valid IRIs")
    });
    (parser.for_slice(text))
        .map(|triple| triple.expect("a test reads all Turtle in this crate"))
        .collect()
}

/// Values to replace the names in braces of a Turtle template.
#[derive(Clone, Default)]
pub(crate) struct TemplateValues(HashMap<String, Vec<String>>);

impl TemplateValues {
    /// Adds a value of `name`, which may have others already.
    pub(crate) fn add(&mut self, name: &str, value: impl Display) {
        let values = self.0.entry(name.to_owned()).or_default();
        values.push(value.to_string());
    }

    /// The first value of `name`.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    /// Appends `rest`, a part of a line that follows `done`, once for each value of
    /// the names in it.
    fn fill(&self, done: &str, rest: &str, turtle: &mut String) {
        let name = rest
            .split_once('{')
            .and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
        let Some((before, (name, after))) = name else {
            turtle.extend([done, rest, "\n"]);
            return;
        };
        for value in self.0.get(name).into_iter().flatten() {
            // JSON escapes what Turtle has to escape, in the same way.
            let json = serde_json::json!(value).to_string();
            let escaped = &json[1..json.len() - 1];
            self.fill(&format!("{done}{before}{escaped}"), after, turtle);
        }
    }
}

/// Parses a Turtle template. A line is repeated for each value of the names in
/// it, and left out without one.
pub(crate) fn read_template(template: &str, values: &TemplateValues) -> Vec<Triple> {
    let mut turtle = String::new();
    for line in template.lines() {
        values.fill("", line, &mut turtle);
    }
    read_turtle(&turtle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_line_is_repeated_escaped_or_left_out() {
        let mut values = TemplateValues::default();
        values.add("name", "a \"{quoted}\"\n\\ name");
        values.add("part", "one");
        values.add("part", "two");
        let template = "cpmeta:s rdfs:label \"{name}\" .\n\
            cpmeta:s cpmeta:hasPart cpmeta:{part} .\n\
            cpmeta:s cpmeta:none cpmeta:{part}{missing} .\n";
        let triples = read_template(template, &values);
        let objects: Vec<_> = triples.iter().map(|t| t.object.to_string()).collect();
        assert_eq!(
            objects,
            [
                r#""a \"{quoted}\"\n\\ name""#.to_owned(),
                format!("<{CPMETA}one>"),
                format!("<{CPMETA}two>"),
            ]
        );
    }
}
