//! Whatever names an object, a collection or a station, for one that exists and one that
//! does not.

use std::process::Output;

use serde_json::Value;

use crate::support::{Home, TestMount, co2, portal, said};

#[test]
fn each_form_of_a_name_leads_to_its_object_or_to_the_right_message() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let json = home.run(&portal, &["info", "--json", &id], "").stdout;
    let page: Value = serde_json::from_slice(&json).unwrap();
    let hash = page["hash"].as_str().unwrap();
    let name = page["fileName"].as_str().unwrap();
    let unknown = "AAAAAAAAAAAAAAAAAAAAAAAA";
    let forms = [
        "ID",
        "<ID>",
        "11676/ID",
        "hdl:11676/ID",
        "https://hdl.handle.net/11676/ID",
        "https://meta.icos-cp.eu/objects/ID",
        "<https://meta.icos-cp.eu/objects/ID>",
        "https://meta.icos-cp.eu/objects/ID/",
        "https://meta.icos-cp.eu/objects/ID/meta.json",
        "https://data.icos-cp.eu/csv/ID?limit=5",
        "https://data.icos-cp.eu/cpb/ID",
        "https://data.icos-cp.eu/objects/ID",
        "https://data.icos-cp.eu/zip/ID/header.csv",
        "https://data.icos-cp.eu/licence_accept?ids=[%22ID%22]",
        "https://data.icos-cp.eu/objects?ids=[%22ID%22]",
        "https://data.icos-cp.eu/portal/#%7B%22preview%22:%5B%22ID%22%5D%7D",
        "https://data.icos-cp.eu/dygraph-light/?objId=ID&x=TIMESTAMP&y=co2",
        "/data/dataAppStorage/asciiAtcProductTimeSer/ID.cpb",
    ];
    let info = |text: &str| home.run(&portal, &["info", "--json", text], "");
    for form in forms {
        let found = info(&form.replace("ID", &id));
        assert!(found.stdout == json, "{form}: {}", said(&found));
        let missing = info(&form.replace("ID", unknown));
        assert_eq!(missing.status.code(), Some(3), "{form}");
        let reason = format!("the repository has no object {unknown}, and no collection");
        assert!(
            said(&missing).contains(&reason),
            "{form}: {}",
            said(&missing)
        );
    }
    for form in [hash, name] {
        let found = info(form);
        assert!(found.stdout == json, "{form}: {}", said(&found));
    }
    for (text, reason) in [
        (
            "no such file.csv",
            "the repository has no station and no file with the name \"no such file.csv\"",
        ),
        (
            "doi:10.18160/NONE",
            "the repository has nothing with the DOI 10.18160/NONE",
        ),
        (
            "https://doi.org/10.18160/NONE",
            "the repository has nothing with the DOI 10.18160/NONE",
        ),
        (
            "https://meta.icos-cp.eu/collections/AAAAAAAAAAAAAAAAAAAAAAAA",
            "the repository has no collection AAAAAAAAAAAAAAAAAAAAAAAA",
        ),
        (
            "nonsense",
            "the repository has no station and no file with the name \"nonsense\"\nhint: expected an \
             object, a collection or a station: its id, PID, DOI, landing page, data URL or name",
        ),
        (
            "https://data.icos-cp.eu/objects?ids=[\"AAAAAAAAAAAAAAAAAAAAAAAA\",\"BAAAAAAAAAAAAAAAAAAAAAAA\"]",
            "expected one object, found 2 of them",
        ),
    ] {
        let missing = info(text);
        assert!(!missing.status.success(), "{text}");
        assert!(
            said(&missing).contains(reason),
            "{text}: {}",
            said(&missing)
        );
    }
}

#[test]
fn collections_and_stations_are_shown_and_searched() {
    let (portal, home) = (portal(), Home::new());
    let run = |arguments: &[&str]| {
        let output = home.run(&portal, arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let query = "prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/> \
        prefix dcterms: <http://purl.org/dc/terms/> \
        select ?c where { ?c a cpmeta:Collection ; dcterms:hasPart ?o . \
        ?o cpmeta:hasObjectSpec ?s } limit 1";
    let page = run(&["sparql", query]);
    let page = page.trim();
    let id = page.rsplit('/').next().unwrap();
    for form in [id, page] {
        let shown = run(&["info", form]);
        assert!(
            shown.starts_with(&format!("collection {id}\ntitle      ")),
            "{shown}"
        );
        assert!(shown.contains("\nmembers    "), "{shown}");
    }
    let found = run(&["find", "--collection", id, "--json"]);
    let members: Value = serde_json::from_str(&run(&["info", "--json", id])).unwrap();
    let members = members["members"].to_string();
    assert!(!found.is_empty());
    for line in found.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        assert!(members.contains(object["id"].as_str().unwrap()), "{object}");
    }
    let station = run(&["info", "http://meta.icos-cp.eu/resources/stations/AS_HTM"]);
    assert!(station.contains("name       Hyltemossa"), "{station}");
    assert!(station.contains("position   56.0976 13.4189"), "{station}");
    assert_eq!(run(&["info", "htm"]), station);
    assert_eq!(
        run(&["info", "https://meta.icos-cp.eu/resources/stations/AS_HTM/"]),
        station
    );
    let get = home.run(&portal, &["get", page], "");
    assert!(
        said(&get).contains(&format!("expected an object, found collection {id}")),
        "{}",
        said(&get)
    );
    let cite = |name: &str| said(&home.run(&portal, &["cite", name], ""));
    assert_eq!(
        cite("10.5072/DEMO-2024"),
        "Demo Atmosphere Release 2024. https://doi.org/10.5072/DEMO-2024\n"
    );
    assert_eq!(cite(id), cite("10.5072/DEMO-2024"));
    let without = run(&["collections", "--json", "Demo Release"]);
    let without: Value = serde_json::from_str(without.lines().next().unwrap()).unwrap();
    let without = without["id"].as_str().unwrap();
    let reason =
        format!("collection {without} has no citation of its own\nhint: cite the objects in it");
    let refused = cite(without);
    assert!(refused.contains(&reason), "{refused}");
}

#[test]
fn paths_in_a_mount_name_objects_collections_and_stations() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal).to_string();
    let info = |path: &str| {
        let mut command = mount.icosfs();
        let output = command
            .args(["info", "--json"])
            .arg(mount.path(path))
            .output();
        output.unwrap()
    };
    let name = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2";
    let same = |found: &Output, page: &[u8]| found.stdout.trim_ascii() == page.trim_ascii();
    let page = mount.read(&format!("objects/{id}.json"));
    for path in [
        format!("objects/{id}.csv"),
        format!("objects/{id}.nc"),
        format!("objects/{id}.good.parquet"),
        format!("stations/HTM/atcCo2L2DataObject/{name}.nc"),
        format!("datatypes/atcCo2L2DataObject/{name}.original.zip"),
        format!("dataAppStorage/asciiAtcProductTimeSer/{id}.cpb"),
    ] {
        let found = info(&path);
        assert!(same(&found, &page), "{path}: {}", said(&found));
    }
    let collection = mount.list("collections/by-title").remove(0);
    for (path, json) in [
        (
            format!("collections/by-title/{collection}"),
            "collection.json",
        ),
        (
            format!("collections/by-title/{collection}/collection.json"),
            "",
        ),
        ("stations/HTM".to_owned(), "station.json"),
    ] {
        let found = info(&path);
        let page = mount.read(format!("{path}/{json}").trim_end_matches('/'));
        assert!(same(&found, &page), "{path}: {}", said(&found));
    }
    for (path, reason) in [
        (
            format!("objects/{}.csv", "A".repeat(24)),
            "there is no file",
        ),
        (
            "datatypes".to_owned(),
            "belongs to no object, no collection and no station",
        ),
        (
            ".icosfs/errors".to_owned(),
            "belongs to no object, no collection and no station",
        ),
    ] {
        let failed = info(&path);
        assert!(said(&failed).contains(reason), "{path}: {}", said(&failed));
    }
}
