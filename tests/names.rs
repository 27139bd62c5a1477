//! Names of files and folders: stable, and marked by an id only if they must be.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::support::{TestMount, co2, portal, python_script};

#[test]
fn good_values_are_files_of_their_own_in_every_folder_and_are_not_listed() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal).to_string();
    let output = mount
        .icosfs()
        .arg("get")
        .args(crate::support::services_of(&portal, &[]))
        .env("ICOSFS_TOKEN", portal.token())
        .env("ICOSFS_CACHE_DIR", mount.cache())
        .args([&*id, "--good-only"])
        .output()
        .unwrap();
    let expected = output.stdout;
    assert_ne!(expected, mount.read(&format!("objects/{id}.csv")));
    let name = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2";
    for stem in [
        format!("objects/{id}"),
        format!("datatypes/atcCo2L2DataObject/{name}"),
        format!("stations/HTM/atcCo2L2DataObject/{name}"),
    ] {
        assert!(
            mount.read(&format!("{stem}.good.csv")) == expected,
            "{stem}"
        );
        let all = mount.path(&format!("{stem}.nc")).metadata().unwrap();
        let good = mount.path(&format!("{stem}.good.nc")).metadata().unwrap();
        assert_eq!((all.len(), good.len() - all.len()), (good.len(), 0));
        assert_ne!(all.ino(), good.ino());
        let (folder, _) = stem.rsplit_once('/').unwrap();
        let listed = mount.list(folder);
        assert!(
            !listed.iter().any(|name| name.contains(".good")),
            "{listed:?}"
        );
    }
    let file = |ending: &str| mount.path(&format!("objects/{id}.good.{ending}"));
    python_script("netcdf_equals_csv.py", &[file("csv"), file("nc")]);
    python_script("parquet_equals_csv.py", &[file("csv"), file("parquet")]);
    for missing in ["objects/x.good.csv", "objects/README.good.csv"] {
        assert!(mount.path(missing).metadata().is_err(), "{missing}");
    }
}

#[test]
fn collections_have_links_by_title_and_doi() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    for folder in ["collections/by-title", "collections/by-doi"] {
        let links = mount.list(folder);
        assert!(!links.is_empty(), "{folder}");
        for name in links {
            let link = mount.path(&format!("{folder}/{name}"));
            let target = link.read_link().unwrap();
            assert_eq!(
                link.symlink_metadata().unwrap().len(),
                target.as_os_str().len() as u64
            );
            let json = mount.read(&format!("{folder}/{name}/collection.json"));
            let page: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let (title, doi) = (page["title"].as_str().unwrap(), page["doi"].as_str());
            let expected = match folder {
                "collections/by-title" => title.to_owned(),
                _ => doi.unwrap().replace('/', "_"),
            };
            assert_eq!(name, expected);
            let id = page["res"].as_str().unwrap().rsplit('/').next().unwrap();
            assert_eq!(target, PathBuf::from(format!("../{id}")));
        }
    }
    assert!(
        mount
            .path("collections/by-title/nothing")
            .symlink_metadata()
            .is_err()
    );
    assert!(
        mount
            .path("collections/by-doi/..")
            .join("by-title")
            .is_dir()
    );
}

/// The demo has several versions and collections, and names that look like ids.
#[test]
fn names_are_marked_only_where_two_objects_of_a_folder_have_the_same() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let mut marked = Vec::new();
    for folder in folders(&mount) {
        marked.extend(wrongly_marked(&mount, &folder));
    }
    assert!(marked.is_empty(), "{marked:#?}");
}

/// The folders in which objects have their file names.
fn folders(mount: &TestMount) -> Vec<String> {
    let within = |folder: &str| {
        let names = mount.list(folder);
        let names = names.into_iter().filter(|name| !name.ends_with(".json"));
        names
            .map(|name| format!("{folder}/{name}"))
            .collect::<Vec<_>>()
    };
    let stations = within("stations");
    let by_type = stations.iter().flat_map(|station| within(station));
    by_type.chain(within("datatypes")).collect()
}

/// The names in `folder` that have an id although no other object has the same name, or
/// that look like a CSV of a CSV.
fn wrongly_marked(mount: &TestMount, folder: &str) -> Vec<String> {
    let names = mount.list(folder);
    let stems: BTreeSet<&str> = (names.iter())
        .filter_map(|name| name.strip_suffix(".json"))
        .collect();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for stem in &stems {
        let plain = stem.split('~').next().unwrap();
        *count.entry(plain).or_default() += 1;
    }
    (names.iter())
        .filter(|name| {
            let plain = name.split('~').next().unwrap();
            let is_alone = count.get(plain) == Some(&1) || !count.contains_key(plain);
            name.contains(".csv.csv") || (name.contains('~') && is_alone)
        })
        .map(|name| format!("{folder}/{name}"))
        .collect()
}

#[cfg(feature = "shared-tests")]
mod shared {
    use icos_demo::DemoPortal;
    use serde_json::Value;

    use super::*;
    use crate::shared_rdf::real_metadata;

    /// The objects that `icosfs find` lists, oldest first.
    fn objects(mount: &TestMount, portal: &DemoPortal, options: &[&str]) -> Vec<Value> {
        let output = mount
            .icosfs()
            .args(["find", "--json", "--order", "submitted"])
            .args(options)
            .args(crate::support::services_of(portal, &[]))
            .env("ICOSFS_CACHE_DIR", mount.cache())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let objects = text.lines().map(|line| serde_json::from_str(line).unwrap());
        objects.collect()
    }

    /// The names of the tables of each data type, by the rule in docs/semantics.md: that of
    /// the file without its ending; of several, the later ones have their ids.
    fn expected_names(objects: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for object in objects.iter().filter(|object| !object["rows"].is_null()) {
            let file = object["fileName"].as_str().unwrap();
            let (mut stem, ending) = file.rsplit_once('.').unwrap_or((file, ""));
            if matches!(ending, "zip" | "gz") {
                stem = stem.strip_suffix(".csv").unwrap_or(stem);
            }
            let kind = object["dataType"].as_str().unwrap();
            let folder = kind.rsplit('/').next().unwrap().to_owned();
            let names = names.entry(folder).or_default();
            if !names.insert(format!("{stem}.csv")) {
                let id = object["id"].as_str().unwrap();
                names.insert(format!("{stem}~{id}.csv"));
            }
        }
        names
    }

    /// All tables of the real repository, as they are now and with all their versions: the
    /// name of a table is the same whether or not a newer version is listed, unless both
    /// are.
    #[test]
    fn tables_of_the_real_repository_have_the_names_of_their_files() {
        let portal = real_metadata();
        for (options, count) in [
            (&[][..], 577),
            (&["--include-deprecated", "--level=0,1,2,3"], 1274),
        ] {
            let mount = TestMount::with(&portal, options, &[]);
            let expected = expected_names(&objects(&mount, &portal, options));
            assert_eq!(expected.values().map(BTreeSet::len).sum::<usize>(), count);
            for (folder, names) in &expected {
                let listed = mount.list(&format!("datatypes/{folder}")).into_iter();
                let csv = listed.filter(|name| {
                    let is_view = name.ends_with(".csv") && !name.contains(".original.");
                    // Other objects that are CSV files have no representations.
                    is_view && (names.contains(name) || name.contains('~'))
                });
                assert_eq!(csv.collect::<BTreeSet<_>>(), *names, "{folder}");
            }
        }
    }

    /// Each table of the real repository has the name of its file, also if that has as many
    /// characters as an id; each station of an object has a folder.
    #[test]
    fn tables_and_stations_of_the_real_repository_have_expected_names() {
        let portal = real_metadata();
        let mount = TestMount::of(&portal);
        let mut marked = Vec::new();
        let mut tables = BTreeSet::new();
        for folder in folders(&mount) {
            marked.extend(wrongly_marked(&mount, &folder));
            let names = mount.list(&folder);
            let csv = names
                .iter()
                .filter(|name| name.ends_with(".csv") && !name.contains(".original."));
            for name in csv {
                let file = mount.path(&format!("{folder}/{name}"));
                let metadata = file.metadata().unwrap();
                tables.insert(metadata.ino());
            }
        }
        assert!(marked.is_empty(), "{marked:#?}");
        let listed = mount.tables();
        assert_eq!(listed.len(), 577);
        let mut without_folder = Vec::new();
        for id in &listed {
            let json = mount.read(&format!("objects/{id}.json"));
            let page: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let inode = mount
                .path(&format!("objects/{id}.csv"))
                .metadata()
                .unwrap()
                .ino();
            assert!(tables.contains(&inode), "{id} is in no folder");
            let station = page.pointer("/specificInfo/acquisition/station/id");
            if let Some(station) = station.and_then(|id| id.as_str())
                && !mount.path(&format!("stations/{station}")).is_dir()
            {
                without_folder.push(station.to_owned());
            }
        }
        assert!(without_folder.is_empty(), "{without_folder:?}");
        // Versions of an object have the same file name.
        let all = ["--include-deprecated", "--level=0,1,2,3"];
        let versions = TestMount::with(&portal, &all, &[]);
        let marked: Vec<_> = (folders(&versions).iter())
            .flat_map(|folder| wrongly_marked(&versions, folder))
            .collect();
        assert!(marked.is_empty(), "{marked:#?}");
        assert_eq!(versions.tables().len(), 1274);
        let found = mount
            .icosfs()
            .arg("find")
            .args(crate::support::services_of(&portal, &[]))
            .env("ICOSFS_CACHE_DIR", mount.cache())
            .args(["--station", "CH-Fru"])
            .output()
            .unwrap();
        assert!(found.status.success(), "{}", crate::support::said(&found));
        let text = String::from_utf8(found.stdout).unwrap();
        assert!(text.contains("CH-Fru"), "{text}");
    }
}
