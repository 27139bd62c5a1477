//! Citations, queries, and what the commands say of tables.

use serde_json::Value;

use crate::support::{Home, TestMount, co2, portal, said};

fn run(home: &Home, portal: &icos_demo::DemoPortal, arguments: &[&str]) -> String {
    let output = home.run(portal, arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn citations_are_the_portals_own_in_four_formats_and_merged() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let json = run(&home, &portal, &["info", "--json", &id]);
    let page: Value = serde_json::from_str(&json).unwrap();
    let text = page["references"]["citationString"].as_str().unwrap();
    let pid = format!("11676/{id}");
    let cited = run(&home, &portal, &["cite", &id, &pid, &id]);
    assert_eq!(cited, format!("{text}\n"));
    let bibtex = run(&home, &portal, &["cite", "--format", "bibtex", &id]);
    assert!(bibtex.starts_with(&format!("@misc{{cp_{id},")), "{bibtex}");
    let ris = run(&home, &portal, &["cite", "--format", "ris", &id]);
    assert!(ris.starts_with("TY  - DATA\r\n"), "{ris}");
    let csl = run(&home, &portal, &["cite", "--format", "csl-json", &id]);
    let items: Value = serde_json::from_str(&csl).unwrap();
    assert_eq!(items[0]["id"], format!("cp_{id}"));
    assert_eq!(items[0]["type"], "dataset");
    let unknown = home.run(&portal, &["cite", "AAAAAAAAAAAAAAAAAAAAAAAA"], "");
    assert!(
        said(&unknown)
            .contains("the repository has no object AAAAAAAAAAAAAAAAAAAAAAAA, and no collection"),
        "{}",
        said(&unknown)
    );
}

#[test]
fn mount_knows_which_objects_were_read_and_how_to_cite_them() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal).to_string();
    let other = portal
        .repository()
        .find("demo handbook.pdf")
        .unwrap()
        .to_string();
    mount.read(&format!("objects/{other}.json"));
    let cite = |format: &str| {
        let mut command = mount.icosfs();
        command
            .arg("cite")
            .args(crate::support::services_of(&portal, &[]))
            .env("ICOSFS_CACHE_DIR", mount.cache())
            .args(["--format", format, "--read"])
            .arg(mount.path(""));
        command.output().unwrap()
    };
    let none = said(&cite("text"));
    assert!(none.contains("no data were read in"), "{none}");
    mount.run("head", &["-1", &format!("objects/{id}.csv")]);
    mount.read(&format!("objects/{id}.nc"));
    assert_eq!(mount.read(".icosfs/read"), format!("{id}\n").into_bytes());
    let bibtex = said(&cite("bibtex"));
    assert!(bibtex.contains(&format!("@misc{{cp_{id},")), "{bibtex}");
    let attribute = mount.run(
        "getfattr",
        &[
            "--only-values",
            "-n",
            "user.icos.bibtex",
            &format!("objects/{id}.csv"),
        ],
    );
    assert_eq!(
        String::from_utf8(attribute.stdout).unwrap().trim(),
        bibtex.trim()
    );
}

#[test]
fn sparql_prints_tables_json_and_csv() {
    let (portal, home) = (portal(), Home::new());
    let query = "prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/> \
        select ?name ?id where { ?s cpmeta:hasStationId ?id ; cpmeta:hasName ?name } order by ?id";
    let csv = run(&home, &portal, &["sparql", "--csv", query]);
    assert!(
        csv.starts_with("name,id\n") && csv.contains("Hyltemossa,HTM\n"),
        "{csv}"
    );
    let json = run(&home, &portal, &["sparql", "--json", query]);
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert!(
        first["id"].is_string() && first["name"].is_string(),
        "{first}"
    );
    let tabbed = run(&home, &portal, &["sparql", query]);
    assert!(tabbed.contains("Hyltemossa\tHTM\n"), "{tabbed}");
    let file = home.path().join("query.rq");
    std::fs::write(&file, query).unwrap();
    assert_eq!(
        run(&home, &portal, &["sparql", file.to_str().unwrap()]),
        tabbed
    );
    // The portal says what it does not support.
    let ask = home.run(&portal, &["sparql", "ask { ?s ?p ?o }"], "");
    assert!(
        said(&ask).contains("Boolean queries are not supported"),
        "{}",
        said(&ask)
    );
    let wrong = home.run(&portal, &["sparql", "select {"], "");
    assert!(!wrong.status.success());
}

#[test]
fn columns_flags_and_times_of_a_table_are_shown_without_reading_it() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let types = run(
        &home,
        &portal,
        &["datatypes", "--columns", "atcCo2L2DataObject"],
    );
    assert!(
        types.contains("atcCo2L2DataObject\tco2\tfloat32\t"),
        "{types}"
    );
    let found = run(&home, &portal, &["find", "--columns", "--variable", "co2"]);
    assert!(
        found.contains("TIMESTAMP") && found.contains(&id),
        "{found}"
    );
    let info = run(&home, &portal, &["info", &id]);
    for line in [
        "time step  hourly",
        "rows       from 2023-01-01T00:00:00Z to 2023-12-31T23:00:00Z",
        "flags      good values have O, R, U",
        &format!(
            "original   objects/{id}.contents/ has the files in it, such as the header metadata"
        ),
        "quality flag of co2",
    ] {
        assert!(info.contains(line), "no {line:?} in\n{info}");
    }
    assert_eq!(crate::support::slices(&portal), 0);
}
