//! Loads real metadata from RDF files.

use std::fs;
use std::path::{Path, PathBuf};

use oxrdf::{NamedNode, Triple};
use oxrdfxml::RdfXmlParser;

use super::error::DemoError;
use super::graph::{Graph, RdfNode};
use super::repository::DemoRepository;
use super::vocabulary::iri;
use icos_portal::Envri;

impl DemoRepository {
    /// Real metadata: all `.rdf` and `.owl` files of `folder`, with generated
    /// contents.
    ///
    /// Tables have the real columns, formats and number of rows. Originals have
    /// the real length but do not hash to their ids, so a client that verifies
    /// originals must refuse them.
    ///
    /// # Errors
    ///
    /// [`DemoError::Metadata`] if the folder or a file cannot be read.
    pub fn from_rdf(folder: &Path) -> Result<Self, DemoError> {
        let mut repository = Self::new(Envri::Icos, 0);
        for file in files(folder)? {
            let text = read(&file).map_err(|e| DemoError::metadata(&file, &e))?;
            let triples: Result<Vec<_>, _> =
                RdfXmlParser::new().for_slice(text.as_bytes()).collect();
            repository.insert(triples.map_err(|e| DemoError::metadata(&file, &e))?);
        }
        repository.insert(missing_dataset_types(repository.graph()));
        if repository.graph().instances("cpmeta:DataObject").is_empty() {
            return Err(DemoError::metadata(
                folder,
                &"expected .rdf files that describe data objects, found none",
            ));
        }
        Ok(repository)
    }
}

/// Reads a regular file whose entities are plain texts: those that consist of others grow
/// without bound when they are expanded.
fn read(file: &Path) -> std::io::Result<String> {
    if !fs::metadata(file)?.is_file() {
        return Err(std::io::Error::other("expected a regular file"));
    }
    let text = fs::read_to_string(file)?;
    let entities = text.split("<!ENTITY").skip(1);
    let is_nested = |entity: &str| {
        let declaration = entity.split('>').next();
        declaration.is_some_and(|text| text.contains(['&', '%']))
    };
    if entities.into_iter().any(is_nested) {
        let reason = "expected entities that are plain texts, found one that contains another";
        return Err(std::io::Error::other(reason));
    }
    Ok(text)
}

/// The files to load, sorted, so that the order is the same on each machine.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DemoError> {
    let paths = || {
        (fs::read_dir(folder)?)
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()
    };
    let mut files = paths().map_err(|e| DemoError::metadata(folder, &e))?;
    files.retain(|path| path.extension().is_some_and(|e| e == "rdf" || e == "owl"));
    files.sort();
    Ok(files)
}

/// Returns `hasSpecificDatasetType` for the data types that lack it, as older
/// metadata does (protocol page, section 7): a station's time series if the
/// dataset has columns, or if the objects come from stations and have no title
/// of their own. A data type without objects stays as it is, which keeps it out
/// of the list of data types.
fn missing_dataset_types(graph: &Graph) -> Vec<Triple> {
    let objects = graph.instances("cpmeta:DataObject");
    let mut untyped: Vec<_> = (objects.into_iter())
        .filter_map(|object| object.one("cpmeta:hasObjectSpec"))
        .filter(|spec| spec.one("cpmeta:hasSpecificDatasetType").is_none())
        .collect();
    untyped.sort_by_key(RdfNode::iri);
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
    use crate::vocabulary::read_turtle;

    fn graph(turtle: &str) -> Graph {
        let text = format!(
            "@prefix : <{}> . @prefix prov: <http://www.w3.org/ns/prov#> .
            @prefix dct: <http://purl.org/dc/terms/> . {turtle}",
            super::super::vocabulary::CPMETA
        );
        Graph::default().extended(read_turtle(&text))
    }

    /// Regression: a file of 400 bytes took 2 GB.
    #[test]
    fn nested_entities_and_pipes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |folder: &Path| match DemoRepository::from_rdf(folder) {
            Ok(_) => panic!("it is loaded"),
            Err(error) => error.to_string(),
        };
        let load = |entities: &str| {
            let text = format!(
                "<?xml version=\"1.0\"?><!DOCTYPE rdf:RDF [{entities}]>\
                 <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"/>"
            );
            fs::write(folder.path().join("a.rdf"), text).unwrap();
            refused(folder.path())
        };
        let plain = load("<!ENTITY owl \"http://www.w3.org/2002/07/owl#\">");
        assert!(plain.contains("that describe data objects"), "{plain}");
        let nested = load("<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">");
        assert!(nested.contains("plain texts"), "{nested}");
        fs::remove_file(folder.path().join("a.rdf")).unwrap();
        fs::create_dir(folder.path().join("a.rdf")).unwrap();
        let reason = refused(folder.path());
        assert!(reason.contains("a regular file"), "{reason}");
    }

    #[test]
    fn missing_dataset_types_are_derived_from_columns_and_objects() {
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
