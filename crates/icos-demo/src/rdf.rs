//! Loads real metadata from RDF files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use oxrdf::{NamedNode, Triple};
use oxrdfio::{RdfFormat, RdfParser};

use super::DemoError;
use super::graph::{Graph, GraphBuilder, Node};
use super::repository::{Parts, Repository};
use super::vocab::iri;
use icos_portal::Envri;

/// The repository of all `.rdf` and `.owl` files of `folder`.
pub(crate) fn repository(folder: &Path) -> Result<Repository, DemoError> {
    let mut builder = GraphBuilder::default();
    for file in files(folder)? {
        let text = fs::read(&file).map_err(|e| DemoError::metadata(&file, &e))?;
        for quad in RdfParser::from_format(RdfFormat::RdfXml).for_slice(&text) {
            builder.insert(quad.map_err(|e| DemoError::metadata(&file, &e))?.into());
        }
    }
    let graph = builder.build();
    let missing = missing_dataset_types(&graph);
    let graph = graph.extended(missing);
    if graph.instances("cpmeta:DataObject").is_empty() {
        return Err(DemoError::metadata(
            folder,
            &"expected .rdf files that describe data objects, found none",
        ));
    }
    Ok(Repository::of(Parts {
        envri: Envri::Icos,
        graph,
        seed: 0,
        originals: HashMap::new(),
        values: HashMap::new(),
    }))
}

/// The files to load, in an order that does not depend on the machine.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DemoError> {
    let entries = fs::read_dir(folder).map_err(|e| DemoError::metadata(folder, &e))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| DemoError::metadata(folder, &e))?.path();
        if path.extension().is_some_and(|e| e == "rdf" || e == "owl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The `hasSpecificDatasetType` that the ontology asks for but older metadata
/// lacks (protocol page, section 7), for the data types that objects have: a
/// station's time series if the dataset has columns, or else if the objects
/// come from stations and do not cover space and time of their own. A type that
/// no object has stays as it is, and so out of the list of data types.
fn missing_dataset_types(graph: &Graph) -> Vec<Triple> {
    let objects = graph.instances("cpmeta:DataObject");
    let mut untyped: Vec<_> = (objects.into_iter())
        .filter_map(|object| object.one("cpmeta:hasObjectSpec"))
        .filter(|spec| spec.one("cpmeta:hasSpecificDatasetType").is_none())
        .collect();
    untyped.sort_by_key(Node::iri);
    untyped.dedup();
    untyped
        .into_iter()
        .map(|spec| {
            let tabular = spec
                .one("cpmeta:containsDataset")
                .is_some_and(|dataset| dataset.one("cpmeta:hasColumn").is_some());
            let from_station = spec.holders("cpmeta:hasObjectSpec").iter().any(|o| {
                o.one("cpmeta:wasAcquiredBy").is_some() && o.text("dcterms:title").is_none()
            });
            let kind = if tabular || from_station {
                "cpmeta:stationTimeSeriesDataset"
            } else {
                "cpmeta:spatioTemporalDataset"
            };
            let node = |name| NamedNode::new_unchecked(iri(name));
            Triple::new(
                node(spec.iri()),
                node("cpmeta:hasSpecificDatasetType"),
                node(kind),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(turtle: &str) -> Graph {
        let text = format!(
            "@prefix : <{}> . @prefix prov: <http://www.w3.org/ns/prov#> .
            @prefix dct: <http://purl.org/dc/terms/> . {turtle}",
            super::super::vocab::CPMETA
        );
        let mut builder = GraphBuilder::default();
        for quad in RdfParser::from_format(RdfFormat::Turtle).for_slice(text.as_bytes()) {
            builder.insert(quad.unwrap().into());
        }
        builder.build()
    }

    #[test]
    fn missing_dataset_types_are_told_from_columns_and_objects() {
        let graph = graph(
            ":tabular :containsDataset :d . :d :hasColumn :c . :o1 a :DataObject ; :hasObjectSpec :tabular .
            :raw :hasFormat :f . :o2 a :DataObject ; :hasObjectSpec :raw ; :wasAcquiredBy :acq .
            :field :hasFormat :f . :o3 a :DataObject ; :hasObjectSpec :field ; dct:title \"t\" .
            :typed :hasSpecificDatasetType :x . :o4 a :DataObject ; :hasObjectSpec :typed .
            :unused :containsDataset :d .",
        );
        let graph = graph_with_types(graph);
        for (spec, kind) in [
            ("cpmeta:tabular", Some("stationTimeSeriesDataset")),
            ("cpmeta:raw", Some("stationTimeSeriesDataset")),
            ("cpmeta:field", Some("spatioTemporalDataset")),
            ("cpmeta:typed", Some("x")),
            ("cpmeta:unused", None),
        ] {
            let found = graph
                .node(spec)
                .unwrap()
                .one("cpmeta:hasSpecificDatasetType");
            assert_eq!(found.map(|kind| kind.local_name()), kind, "{spec}");
        }
    }

    fn graph_with_types(graph: Graph) -> Graph {
        let missing = missing_dataset_types(&graph);
        graph.extended(missing)
    }
}
