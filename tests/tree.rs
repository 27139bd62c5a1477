//! The complete tree, with the real repository's metadata (../shared/portal-rdf).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use icos_demo::{DemoPortal, DemoService};

use crate::shared_rdf::real_metadata;
use crate::support::{Home, TestMount};

/// Returns when each SPARQL query to `portal` started and ended.
fn queries(portal: &DemoPortal) -> Vec<(Duration, Option<Duration>)> {
    let requests = portal.requests();
    let queries = requests.iter().filter(|r| r.path == "/sparql");
    queries.map(|r| (r.started, r.ended)).collect()
}

/// Returns the names of the JSON sidecars in a folder, without extension.
fn sidecars(mount: &TestMount, folder: &str) -> BTreeSet<String> {
    let names = mount.list(folder);
    let sidecars = names.iter().filter_map(|name| name.strip_suffix(".json"));
    sidecars.map(str::to_owned).collect()
}

/// Returns names by inode number, as readdir lists them.
fn by_inode(mount: &TestMount, folder: &str) -> BTreeMap<u64, String> {
    std::fs::read_dir(mount.path(folder))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.ino(), entry.file_name().into_string().unwrap())
        })
        .collect()
}

/// Returns all paths below `folder` with their inode numbers.
fn walk(mount: &TestMount, folder: &str) -> BTreeMap<String, u64> {
    let output = mount.run("find", &[folder, "-printf", "%i %p\n"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let (inode, path) = line.split_once(' ').unwrap();
            (path.to_owned(), inode.parse().unwrap())
        })
        .collect()
}

#[test]
fn real_repository_is_listed_completely() {
    let portal = real_metadata();
    let mount = TestMount::anonymous(&portal);
    assert_eq!(sidecars(&mount, "objects").len(), 584);
    // 24 of them are not of the class of ICOS stations, but have objects.
    assert_eq!(mount.list("stations").len(), 165);
    let folders = [
        ".nomedia",
        "README.md",
        "collections",
        "dataAppStorage",
        "datatypes",
        "documents",
        "objects",
        "stations",
    ];
    assert_eq!(mount.list(""), folders);

    // One inode under all its names.
    let objects = by_inode(&mount, "objects");
    let by_type = walk(&mount, "datatypes");
    let in_types: BTreeSet<u64> = by_type.values().copied().collect();
    assert!(objects.keys().all(|inode| in_types.contains(inode)));

    let output = mount.run(
        "find",
        &[
            "objects",
            "datatypes",
            "-type",
            "f",
            "-links",
            "+1",
            "-printf",
            "%s\n",
        ],
    );
    assert!(output.stdout.len() > 5000);
}

#[test]
fn levels_and_versions_are_selected_at_mount() {
    let portal = real_metadata();
    let all = TestMount::with(&portal, &["--level=0,1,2,3"], &[]);
    assert_eq!(sidecars(&all, "objects").len(), 677);
    assert_eq!(all.tables().len(), 577);
    assert_eq!(all.list("datatypes").len(), 74);
    let options = ["--level=0,1,2,3", "--include-deprecated"];
    let versions = TestMount::with(&portal, &options, &[]);
    assert_eq!(sidecars(&versions, "objects").len(), 1387);
}

/// Objects are identified by inode number, their data type by the folder.
#[test]
fn station_folders_equal_the_lists_of_icoscp_core() {
    let portal = real_metadata();
    let home = Home::new();
    let python = crate::python::python(&portal, &home);
    let script = "import runpy; runpy.run_module('stations')";
    let theirs: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&crate::python::printed(python, script, &[])).unwrap();
    assert_eq!(theirs.len(), 141);

    let mount = TestMount::with(&portal, &["--level=0,1,2,3"], &[]);
    let objects: BTreeMap<u64, String> = by_inode(&mount, "objects")
        .into_iter()
        .filter_map(|(inode, name)| Some((inode, name.strip_suffix(".json")?.to_owned())))
        .collect();
    let mut ours: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for station in mount.list("stations") {
        ours.insert(station, Vec::new());
    }
    for (path, inode) in walk(&mount, "stations") {
        let parts: Vec<&str> = path.split('/').collect();
        if let (&[_, station, data_type, _], Some(id)) = (&*parts, objects.get(&inode)) {
            let listed = ours.get_mut(station).unwrap();
            listed.push((id.clone(), data_type.to_owned()));
        }
    }
    for listed in ours.values_mut() {
        listed.sort();
    }
    // The library's list lacks stations of other classes, although they have objects.
    let others = ours.extract_if(.., |station, _| !theirs.contains_key(station));
    let others: Vec<_> = others.collect();
    assert_eq!(others.len(), 24, "{:?}", others.first());
    assert!(others.iter().all(|(_, listed)| !listed.is_empty()));
    assert_eq!(ours, theirs);
    assert!(ours.values().map(Vec::len).sum::<usize>() > 500);
}

/// Regression: of two mounts that share a catalog, one showed the stations'
/// objects by the other's selection.
#[test]
fn selection_of_one_mount_does_not_affect_another() {
    let portal = real_metadata();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let few = TestMount::with(&portal, &[&cache_dir, "--level=3"], &[]);
    let all = ["--level=0,1,2,3", "--include-deprecated"];
    let many = TestMount::with(&portal, &[&*cache_dir, all[0], all[1]], &[]);
    let alone = TestMount::with(&portal, &all, &[]);
    // A station with objects that only one of the mounts lists.
    let counted = |mount: &TestMount| -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for path in walk(mount, "stations").into_keys() {
            let station = path.split('/').nth(1).unwrap_or_default().to_owned();
            *counts.entry(station).or_default() += 1;
        }
        counts
    };
    let whole = counted(&alone);
    let part = counted(&TestMount::with(&portal, &["--level=3"], &[]));
    let (station, _) = (whole.iter())
        .find(|&(station, count)| part[station] < *count)
        .unwrap();
    for folder in [&*format!("stations/{station}"), "objects"] {
        let seen_by_few = few.list(folder);
        let seen = many.list(folder);
        assert_eq!(seen, alone.list(folder), "{folder}");
        assert!(seen_by_few.len() < seen.len(), "{folder}: {seen:?}");
    }

    // A mount does not query again what the other has stored.
    let before = queries(&portal).len();
    let again = TestMount::with(&portal, &[&cache_dir, "--include-deprecated"], &[]);
    assert!(!again.list("objects").is_empty());
    assert_eq!(queries(&portal).len(), before);
}

#[test]
fn complete_walk_and_fifty_files_stay_within_the_sparql_quota() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    let all = walk(&mount, ".");
    assert!(all.len() > 5000, "{} names", all.len());
    let tables = mount.tables();
    for id in tables.iter().take(50) {
        mount.read(&format!("objects/{id}.json"));
    }
    let queries = queries(&portal);
    assert!(queries.len() < 30, "{} queries", queries.len());
    for pair in queries.windows(2) {
        assert!(pair[0].1.unwrap() <= pair[1].0, "two at once");
    }
}

#[test]
fn listed_names_and_inodes_are_the_same_offline_and_after_a_remount() {
    let portal = real_metadata();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let token = portal.token();
    let mount = || TestMount::with(&portal, &[&*cache_dir], &[("ICOSFS_TOKEN", &token)]);
    let before = walk(&mount(), ".");
    assert!(before.len() > 5000, "{} names", before.len());

    for service in [DemoService::Auth, DemoService::Meta, DemoService::Data] {
        portal.go_offline(service);
    }

    let again = mount();
    let after = walk(&again, ".");
    assert!(before == after, "names and inode numbers");
    assert_eq!(sidecars(&again, "objects").len(), 584);
}

#[test]
fn single_station_is_queried_separately() {
    let portal = real_metadata();
    let mount = TestMount::anonymous(&portal);
    let htm = mount.list("stations/HTM");
    assert!(htm.contains(&"station.json".to_owned()), "{htm:?}");
    let requests = portal.requests();
    let objects = requests.iter().filter(|r| r.body.contains("hasObjectSpec"));
    let narrow: Vec<_> = objects
        .map(|r| r.body.contains("VALUES ?station"))
        .collect();
    assert_eq!(narrow, [true], "one narrow query");
}

/// Regression: each was a query of its own.
#[test]
fn lookups_of_many_unlisted_ids_take_few_queries() {
    const IDS: usize = 1000;
    let portal = real_metadata();
    let queries_of = |readers: usize| {
        let mount = TestMount::with(&portal, &["--station=HTM"], &[]);
        let (before, found) = (queries(&portal).len(), AtomicUsize::new(0));
        let ids = portal.repository().objects();
        std::thread::scope(|scope| {
            for part in ids[..IDS].chunks(IDS.div_ceil(readers)) {
                let (mount, found) = (&mount, &found);
                scope.spawn(move || {
                    for id in part {
                        let name = mount.path(&format!("objects/{id}.json"));
                        found.fetch_add(usize::from(name.exists()), Ordering::Relaxed);
                    }
                });
            }
        });
        // The metadata of a few are incomplete.
        assert!(found.into_inner() > IDS - 20);
        queries(&portal).len() - before
    };
    let (one_by_one, at_once) = (queries_of(1), queries_of(32));
    assert!(
        one_by_one <= 150 && at_once <= 30,
        "{one_by_one} and {at_once} queries"
    );
}

/// Metadata needs no login.
#[test]
fn without_login_stations_are_listed_and_sidecars_are_readable() {
    let portal = real_metadata();
    let mount = TestMount::anonymous(&portal);
    let listing = mount.run("ls", &["-R", "stations"]).stdout;
    assert!(String::from_utf8(listing).unwrap().lines().count() > 500);
    let output = mount.run(
        "sh",
        &["-c", "find stations -name '*.json' -exec cat {} + | wc -c"],
    );
    let bytes: u64 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(bytes > 1_000_000, "{bytes} bytes");
    let mut asked = portal.requests();
    // `icosfs status` of other tests probes the services of all mounts.
    asked.retain(|r| r.service == DemoService::Auth && r.path != "/whoami");
    assert!(asked.is_empty(), "{asked:#?}");
}

#[test]
fn corrupt_catalog_is_rebuilt() {
    let portal = crate::support::portal();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let mount = || TestMount::with(&portal, &[&*cache_dir], &[]);
    let before = mount().list("objects");
    let files = walkdir(cache.path());
    let catalog = files
        .iter()
        .find(|path| path.ends_with("catalog.sqlite"))
        .unwrap();
    let len = std::fs::metadata(catalog).unwrap().len();
    std::fs::write(catalog, vec![0xa5; usize::try_from(len).unwrap()]).unwrap();

    assert_eq!(mount().list("objects"), before);
    assert!(catalog.with_extension("damaged").exists());
}

fn walkdir(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn extended_attributes_contain_the_citation() {
    let portal = crate::support::portal();
    let mount = TestMount::anonymous(&portal);
    let id = crate::support::co2(&portal);
    let path = format!("objects/{id}.csv");
    // Names are listed once the landing page is cached.
    mount.read(&format!("objects/{id}.json"));
    let output = mount.run("getfattr", &["-d", &path]);
    let text = String::from_utf8(output.stdout).unwrap();
    for name in [
        "citation",
        "landing_page",
        "level",
        "licence",
        "pid",
        "sha256",
        "station",
        "units",
    ] {
        assert!(
            text.contains(&format!("user.icos.{name}=")),
            "{name} in {text}"
        );
    }
    assert!(text.contains(&format!("11676/{id}")), "{text}");
    // So `ls -l` asks for labels and access lists once, not for every file.
    for (name, why) in [
        ("system.posix_acl_access", "Operation not supported"),
        ("security.selinux", "Operation not supported"),
        ("user.nothing", "No such attribute"),
    ] {
        let output = Command::new("getfattr")
            .args(["-n", name, &path])
            .current_dir(mount.path(""))
            .output()
            .unwrap();
        assert!(crate::support::said(&output).contains(why), "{name}");
    }

    let without = TestMount::with(&portal, &["--no-xattr", "--uid=12", "--gid=34"], &[]);
    let output = Command::new("getfattr")
        .args(["-d", &path])
        .current_dir(without.path(""))
        .output()
        .unwrap();
    assert!(crate::support::said(&output).contains("Operation not supported"));
    let found = std::fs::metadata(without.path(&path)).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o7777),
        (12, 34, 0o444)
    );
}

#[test]
fn every_spelling_of_an_id_resolves() {
    let portal = crate::support::portal();
    let mount = TestMount::anonymous(&portal);
    let id = crate::support::co2(&portal);
    let json = mount.read(&format!("objects/{id}.json"));
    let page: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let whole = page["hash"].as_str().unwrap();
    assert_eq!(whole.len(), 43);
    let hex = (id.as_bytes().iter()).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let inode = |name: &str| std::fs::metadata(mount.path(name)).unwrap().ino();
    for name in [whole, &hex] {
        assert_eq!(
            inode(&format!("objects/{name}.json")),
            inode(&format!("objects/{id}.json")),
            "{name}"
        );
    }
    let unknown = icos_portal::ObjectId::of_content(b"no object has this content");
    let before = portal.requests().len();
    for _ in 0..3 {
        let path = format!("objects/{unknown}.json");
        let error = mount.try_read(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
    assert_eq!(portal.requests().len(), before + 1, "asked once");
}
