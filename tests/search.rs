//! `find`, `stations` and `datatypes`: names as people type them, and searches without
//! results.

use std::process::Output;

use icos_demo::DemoPortal;

use crate::support::{Home, TestMount, portal, said};

/// The exit code of an invalid command line, and of a search without results.
const USAGE: Option<i32> = Some(2);
const NO_MATCH: Option<i32> = Some(3);

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// Returns the lines that a successful command prints.
fn lines(home: &Home, portal: &DemoPortal, arguments: &[&str]) -> Vec<String> {
    let output = home.run(portal, arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn assert_fails(output: &Output, code: Option<i32>, message: &str) {
    assert_eq!(output.status.code(), code, "{}", said(output));
    assert_eq!(text(&output.stdout), "");
    let message = message.replace("; ", "\nhint: ");
    assert_eq!(text(&output.stderr), format!("icosfs: {message}\n"));
}

#[test]
fn unknown_name_is_an_error_with_suggestions() {
    let (portal, home) = (portal(), Home::new());
    let types = "`icosfs datatypes` lists the data types with theme and columns";
    let stations = "`icosfs stations` lists the stations";
    for (option, name, message) in [
        (
            "--theme",
            "atmsphere",
            format!(
                "the repository has no theme \"atmsphere\"; did you mean atmosphere or Atmospheric data?; {types}"
            ),
        ),
        (
            "--project",
            "foo",
            format!(
                "the repository has no project \"foo\"; did you mean ICOS or Miscellaneous?; {types}"
            ),
        ),
        (
            "--variable",
            "nosuch",
            format!("the repository has no table with a column or quantity \"nosuch\"; {types}"),
        ),
        (
            "--station",
            "Hyltemosa",
            format!(
                "the repository has no station \"Hyltemosa\"; did you mean HTM (Hyltemossa) or SE-Htm (Hyltemossa)?; {stations}"
            ),
        ),
        (
            "--station",
            "Swedn",
            format!("the repository has no station \"Swedn\"; did you mean Sweden?; {stations}"),
        ),
        (
            "--datatype",
            "atcCo2L2DataObjekt",
            format!(
                "the repository has no data type \"atcCo2L2DataObjekt\"; did you mean atcCo2L2DataObject, atcCoL2DataObject or atcCh4L2DataObject?; {types}"
            ),
        ),
    ] {
        let output = home.run(&portal, &["find", option, name], "");
        assert_fails(&output, NO_MATCH, &message);
    }
}

#[test]
fn misspelled_words_of_a_search_get_suggestions() {
    let (portal, home) = (portal(), Home::new());
    for (arguments, code, message) in [
        (
            &["stations", "swedn"][..],
            NO_MATCH,
            "no stations match; did you mean Sweden?",
        ),
        (
            &["datatypes", "etcl2flxes"],
            NO_MATCH,
            "no data types match; did you mean etcL2Fluxes?",
        ),
        (
            &["find", "hyltmossa", "co2"],
            NO_MATCH,
            "no objects match; did you mean Hyltemossa?",
        ),
        (
            &["find", "--datatype", "co2"],
            NO_MATCH,
            "the repository has no data type \"co2\"; did you mean atcCo2L2DataObject or \
             inversionProduct?; `icosfs datatypes` lists the data types with theme and columns",
        ),
        (
            &["find", "--variable", "c02"],
            NO_MATCH,
            "the repository has no table with a column or quantity \"c02\"; did you mean co2?; \
             `icosfs datatypes` lists the data types with theme and columns",
        ),
        (
            &["find", "--collection", "foo"],
            NO_MATCH,
            "the repository has no collection \"foo\"; `icosfs collections` lists the collections",
        ),
    ] {
        assert_fails(&home.run(&portal, arguments, ""), code, message);
    }
    let output = home.run(&portal, &["collections", "atmosfere"], "");
    let message = said(&output);
    assert_eq!(output.status.code(), NO_MATCH, "{message}");
    assert!(
        message.contains("\nhint: did you mean atmospher"),
        "{message}"
    );
}

#[test]
fn contradictory_bounds_are_an_error() {
    let (portal, home) = (portal(), Home::new());
    for (first, second) in [
        ("--from", "--to"),
        ("--submitted-after", "--submitted-before"),
    ] {
        let output = home.run(&portal, &["find", first, "2023", second, "2021"], "");
        let message = format!("{first} exceeds {second}, so no object can match; exchange them");
        assert_fails(&output, USAGE, &message);
    }
    // A year counts from its start to its end.
    assert!(!lines(&home, &portal, &["find", "--from", "2023", "--to", "2023"]).is_empty());
}

#[test]
fn valid_search_without_results_says_so_and_ends_with_3() {
    let (portal, home) = (portal(), Home::new());
    for arguments in [
        &["find", "--from", "2100"][..],
        &["find", "--station", "HTM", "--theme", "ocean"],
        &["find", "--variable", "TS_9_9_9"],
        &["find", "--name", "nosuchname"],
        &["find", "--json", "--level", "L1", "--station", "HTM"],
    ] {
        assert_fails(
            &home.run(&portal, arguments, ""),
            NO_MATCH,
            "no objects match",
        );
    }
    let stations = home.run(&portal, &["stations", "atlantis"], "");
    assert_fails(&stations, NO_MATCH, "no stations match");
    let types = home.run(&portal, &["datatypes", "atlantis"], "");
    assert_fails(&types, NO_MATCH, "no data types match");
}

#[test]
fn names_are_found_without_regard_to_case_accents_and_form() {
    let (portal, home) = (portal(), Home::new());
    let find = |option: &str, name: &str| lines(&home, &portal, &["find", option, name]);
    for (option, same) in [
        (
            "--station",
            &[
                "SE-Htm",
                "se-htm",
                "ES_SE-Htm",
                "http://meta.icos-cp.eu/resources/stations/ES_SE-Htm",
            ][..],
        ),
        (
            "--station",
            &["Siikaneva", "siikan\u{e9}va", "FI", "Finland", "finland"],
        ),
        (
            "--theme",
            &[
                "ocean",
                "Ocean data",
                "http://meta.icos-cp.eu/resources/themes/ocean",
            ],
        ),
        (
            "--project",
            &[
                "misc",
                "Miscellaneous",
                "http://meta.icos-cp.eu/resources/projects/misc",
            ],
        ),
        (
            "--datatype",
            &[
                "atcCo2L2DataObject",
                "ICOS ATC CO2 Release",
                "icos atc co2 release",
            ],
        ),
        ("--level", &["3", "L3", "l3"]),
        (
            "--from",
            &["2023", "2023-01", "2023-01-01", "2023-01-01T00:00:00Z"],
        ),
    ] {
        let first = find(option, same[0]);
        assert!(!first.is_empty(), "{option}");
        for name in same {
            assert_eq!(find(option, name), first, "{option} {name}");
        }
    }
    // Two stations have this name.
    let both = find("--station", "hyltemossa");
    let of = |name| find("--station", name);
    assert_eq!(both.len(), of("HTM").len() + of("SE-Htm").len());
    let sweden = lines(&home, &portal, &["stations", "sweden"]);
    assert_eq!(sweden.len(), 4, "{sweden:?}");
    assert_eq!(lines(&home, &portal, &["stations", "SE"]), sweden);
}

#[test]
fn mount_refuses_names_that_nothing_has() {
    let portal = portal();
    let home = Home::new();
    let folder = home.path().join("mnt");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    let output = home.run(&portal, &["mount", "--station", "Hyltemosa", folder], "");
    assert!(!output.status.success());
    assert!(
        said(&output).contains("did you mean HTM (Hyltemossa) or SE-Htm (Hyltemossa)?"),
        "{}",
        said(&output)
    );
    let mount = TestMount::with(&portal, &["--station=finland", "--level=L2"], &[]);
    assert_eq!(mount.list("stations"), ["FI-Sii"]);
}

#[test]
fn words_are_found_in_all_texts_of_an_object() {
    let (portal, home) = (portal(), Home::new());
    let find = |words: &[&str]| {
        let lines = lines(&home, &portal, &[&["find"], words].concat());
        lines
            .iter()
            .map(|line| line.split('\t').nth(1).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let co2 = ["ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip"];
    assert_eq!(find(&["hyltemossa", "co2", "release", "2023"]), co2);
    assert_eq!(find(&["HYLTEMOSSA co2 Release", "2023-05"]), co2);
    let searched = lines(&home, &portal, &["search", "hyltemossa", "co2", "release"]);
    assert_eq!(searched.len(), 1, "{searched:?}");
    for (words, name) in [
        // Country, theme, and column.
        (
            &["finland", "ecosystem", "TS_1_1_1"][..],
            "ICOSETC_FI-Sii_METEOSENS_L2.csv.gz",
        ),
        // A title, which only some objects have.
        (&["monthly", "inversion"], "demo_inversion_2023.nc"),
        // A keyword of the data type.
        (
            &["concentration", "svartberget"],
            "ICOS_ATC_L2_L2-2024.1_SVB_150.0_CTS.CO2.zip",
        ),
        // A part of a file name.
        (&["11SS20230410"], "11SS20230410_SOOP_OTC.csv"),
    ] {
        assert_eq!(find(words), [name], "{words:?}");
    }
    assert_fails(
        &home.run(&portal, &["find", "hyltemossa", "1999"], ""),
        NO_MATCH,
        "no objects match",
    );
    // The titles are stored.
    let queries = || {
        portal
            .requests()
            .iter()
            .filter(|r| r.path == "/sparql")
            .count()
    };
    let before = queries();
    find(&["monthly", "inversion"]);
    assert_eq!(queries(), before);
}

#[test]
fn collections_are_listed_by_title() {
    let (portal, home) = (portal(), Home::new());
    let all = lines(&home, &portal, &["collections"]);
    assert_eq!(all.len(), 2, "current ones: {all:?}");
    let one = lines(&home, &portal, &["collections", "atmosphere", "RELEASE"]);
    assert_eq!(one.len(), 1);
    assert!(
        one[0].contains("\tDemo Atmosphere Release 2024\t"),
        "{one:?}"
    );
    let json = lines(&home, &portal, &["collections", "--json", "atmosphere"]);
    let json: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!(json["title"], "Demo Atmosphere Release 2024");
    assert_eq!(json["doi"], "10.5072/DEMO-2024");
    assert_fails(
        &home.run(&portal, &["collections", "atlantis"], ""),
        NO_MATCH,
        "no collections match",
    );
}

/// The bars of the issue, with the real repository's metadata.
#[cfg(feature = "shared-tests")]
#[test]
fn real_stations_are_found_by_country_and_name() {
    let (portal, home) = (crate::shared_rdf::real_metadata(), Home::new());
    let stations = |text: &str| lines(&home, &portal, &["stations", text]);
    // One of them is of another network, but has objects.
    assert_eq!(stations("sweden").len(), 11);
    assert_eq!(stations("germany"), stations("DE"));
    let find = |name: &str| lines(&home, &portal, &["find", "--station", name]);
    let all = find("Hyltemossa");
    assert!(!all.is_empty());
    assert_eq!(find("ES_SE-Htm"), all);
    assert_eq!(find("SE-Htm"), all);
}
