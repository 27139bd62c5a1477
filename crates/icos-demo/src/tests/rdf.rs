//! Real metadata (protocol page, section 7).

use std::path::Path;
use std::time::Duration;

use crate::sparql::{QueryResultsFormat, answer};
use crate::{DemoRepository, landing};

fn repository() -> DemoRepository {
    let shared = std::env::var_os("ICOSFS_SHARED")
        .expect("ICOSFS_SHARED names the shared folder; .ci/run sets it");
    DemoRepository::from_rdf(&Path::new(&shared).join("portal-rdf")).unwrap()
}

/// The number of rows of a query's answer.
fn count(repository: &DemoRepository, query: &str) -> usize {
    let prefixes = "prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/>
        prefix prov: <http://www.w3.org/ns/prov#>
        prefix xsd: <http://www.w3.org/2001/XMLSchema#>\n";
    let query = format!("{prefixes}{query}");
    let csv = answer(
        repository,
        &query,
        QueryResultsFormat::Csv,
        Duration::from_secs(9),
    )
    .unwrap();
    String::from_utf8(csv).unwrap().lines().count() - 1
}

#[test]
fn list_lengths_match_protocol_page() {
    let repository = repository();
    let objects = "select ?dobj where {
        ?dobj cpmeta:hasObjectSpec ?spec ; cpmeta:hasSizeInBytes ?size ; cpmeta:hasName ?name ;
            cpmeta:wasSubmittedBy/prov:endedAtTime ?submTime .
        ?dobj cpmeta:hasStartTime | (cpmeta:wasAcquiredBy / prov:startedAtTime) ?timeStart .
        ?dobj cpmeta:hasEndTime | (cpmeta:wasAcquiredBy / prov:endedAtTime) ?timeEnd .";
    assert_eq!(count(&repository, &format!("{objects} }}")), 1387);
    let current = "filter not exists {[] cpmeta:isNextVersionOf ?dobj}";
    assert_eq!(count(&repository, &format!("{objects} {current} }}")), 677);
    let stations = |class| {
        format!(
            "select * where {{ ?type rdfs:subClassOf* cpmeta:{class} .
            ?station a ?type ; cpmeta:hasStationId ?id ; cpmeta:hasName ?name ; cpmeta:countryCode ?c .
            filter(strstarts(str(?station), \"http://meta.icos-cp.eu/\")) }}"
        )
    };
    assert_eq!(count(&repository, &stations("IcosStation")), 141);
    assert_eq!(count(&repository, &stations("Station")), 212);
    let types = "select * where { ?spec cpmeta:hasDataLevel ?level ;
        cpmeta:hasAssociatedProject ?project ; cpmeta:hasFormat ?format ;
        cpmeta:hasSpecificDatasetType ?type ; cpmeta:hasDataTheme ?theme .
        filter not exists { ?project cpmeta:hasHideFromSearchPolicy \"true\"^^xsd:boolean }
        filter(strstarts(str(?spec), \"http://meta.icos-cp.eu/\"))
        ?spec rdfs:label ?l . ?theme rdfs:label ?m . ?project rdfs:label ?n . ?format rdfs:label ?o }";
    assert_eq!(count(&repository, types), 74);
}

#[test]
fn each_object_has_landing_page_and_each_table_layout() {
    let repository = repository();
    let (mut tables, mut pages) = (0, 0);
    let mut failures = Vec::new();
    for id in repository.objects() {
        let iri = format!("{}{id}", repository.envri().landing_prefix());
        match landing::object(repository.graph(), repository.envri(), &iri) {
            Ok(_) => pages += 1,
            Err(e) => failures.push(e.to_string()),
        }
        if let Some(table) = repository.table(&id) {
            tables += 1;
            assert!(!table.select(None).is_empty(), "{id}");
        }
    }
    assert_eq!((pages, tables, failures), (1565, 1291, Vec::new()));
}
