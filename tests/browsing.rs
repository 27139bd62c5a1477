//! Browsing: names, archives, the commands that search, and other programs that
//! walk the tree.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService};
use serde_json::Value;

use crate::support::{
    Home, TestMount, co2, eventually, interpreter, portal, said, write_credentials,
};

/// Runs `icosfs` and returns its standard output.
fn icosfs(home: &Home, portal: &DemoPortal, arguments: &[&str]) -> String {
    let output = home.run(portal, arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn archive_entries_are_read_one_by_one() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = (portal.repository())
        .find("demo_inversion_supplement.zip")
        .unwrap();
    let folder = format!("objects/{id}.contents");
    assert!(mount.list("objects").contains(&format!("{id}.contents")));
    let archive = mount.home().path().join("whole.zip");
    std::fs::write(&archive, mount.read(&format!("objects/{id}.zip"))).unwrap();
    let script = "import sys, zipfile\n\
        archive = zipfile.ZipFile(sys.argv[1])\n\
        for name in archive.namelist():\n\
        \x20   if name.endswith('/') or '+' in name or '..' in name: continue\n\
        \x20   if open(f'{sys.argv[2]}/{name}', 'rb').read() != archive.read(name): sys.exit(name)\n\
        print(len(archive.namelist()))";
    let output = interpreter()
        .args(["-c", script])
        .args([archive, mount.path(&folder)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let files = mount.run("find", &[&folder, "-type", "f"]).stdout;
    assert!(!files.is_empty());

    portal.go_offline(DemoService::Data);
    mount.run(
        "sh",
        &[
            "-c",
            &format!("find {folder} -type f -exec cat {{}} + | wc -c"),
        ],
    );
}

#[test]
fn invalid_archive_is_an_empty_folder() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal);
    let names = mount.list(&format!("objects/{id}.contents"));
    assert!(names.is_empty() || mount.run("ls", &["objects"]).status.success());
    assert!(
        !mount.list("objects").contains(&format!("{id}.contents")),
        "a table's"
    );
}

#[test]
fn collection_lists_objects_by_name_and_nested_collections() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let collections = mount.list("collections");
    let collections: Vec<_> = (collections.into_iter())
        .filter(|name| !name.starts_with("by-"))
        .collect();
    assert_eq!(collections.len(), 2, "the current ones");
    let mut found = 0;
    for id in &collections {
        let folder = format!("collections/{id}");
        let json: Value =
            serde_json::from_slice(&mount.read(&format!("{folder}/collection.json"))).unwrap();
        let members = json["members"].as_array().unwrap();
        let names = mount.list(&folder);
        for member in members {
            let within = member["res"].as_str().unwrap();
            let (_, last) = within.rsplit_once('/').unwrap();
            if within.contains("/collections/") {
                assert!(names.contains(&last.to_owned()), "{last} in {names:?}");
                found += 1;
                continue;
            }
            let sidecar = std::fs::metadata(mount.path(&format!("objects/{last}.json"))).unwrap();
            let same = names.iter().any(|name| {
                let path = mount.path(&format!("{folder}/{name}"));
                std::fs::metadata(path).unwrap().ino() == sidecar.ino()
            });
            assert!(same, "{last} in {names:?}");
        }
    }
    assert_eq!(found, 1, "one is in another");
}

#[test]
fn documents_and_tables_have_the_paths_of_the_portals_disk() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let document = portal.repository().find("demo handbook.pdf").unwrap();
    assert!(mount.list("documents").contains(&document.to_string()));
    let bytes = mount.read(&format!("documents/{document}"));
    assert_eq!(Some(bytes), portal.repository().original(&document));
    let table = co2(&portal);
    let stored = mount.read(&format!(
        "dataAppStorage/asciiAtcProductTimeSer/{table}.cpb"
    ));
    assert_eq!(Some(stored), portal.repository().cpb(&table));
}

#[test]
fn icoscp_core_reads_the_same_columns_from_the_mount_as_over_http() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    write_credentials(&portal, &mount.home().credentials(), None);
    let tables = [
        "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
        "ICOSETC_SE-Htm_FLUXES_L2.csv",
    ];
    let pages = tables.map(|name| {
        let id = portal.repository().find(name).unwrap();
        format!("https://meta.icos-cp.eu/objects/{id}")
    });
    let columns = |data_path: &str, data_url: &str| {
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
        let output = interpreter()
            .arg(format!("{scripts}/columns.py"))
            .args(&pages)
            .env("PYTHONPATH", scripts)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOME", mount.home().path())
            .env("ICOS_AUTH", portal.auth_url())
            .env("ICOS_META", portal.meta_url())
            .env("ICOS_DATA", data_url)
            .env("PORTAL_DATA_PATH_ICOS", data_path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let by_http = columns("", &portal.data_url());
    let folder = mount.path("dataAppStorage").display().to_string();
    let by_file = columns(&folder, "http://127.0.0.1:9");
    assert_eq!(by_http.lines().count(), 2);
    assert_eq!(by_file, by_http);
}

/// The library has the path of its data folder built in, so the test creates
/// that path in a mount namespace of its own.
#[test]
fn older_icoscp_reads_the_same_columns_from_the_mount_as_over_http() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    write_credentials(&portal, &mount.home().credentials(), None);
    let program = interpreter().get_program().to_owned();
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
    let read = |prelude: &str, data_url: &str| {
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg(format!(
                "{prelude} exec \"$2\" \"$3/old_columns.py\" \"$4\""
            ))
            .arg("sh")
            .arg(mount.path("dataAppStorage"))
            .arg(&program)
            .args([scripts, &co2(&portal).to_string()])
            .env("PYTHONPATH", scripts)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONWARNINGS", "ignore")
            .env("HOME", mount.home().path())
            .env("ICOS_AUTH", portal.auth_url())
            .env("ICOS_META", portal.meta_url())
            .env("ICOS_DATA", data_url)
            .output()
            .unwrap();
        let text = said(&output);
        assert!(output.status.success(), "this test needs root: {text}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let folder = "mkdir -p /data && mount -t tmpfs none /data \
        && ln -s \"$1\" /data/dataAppStorage &&";
    let by_file = read(folder, "http://127.0.0.1:9");
    let by_http = read("", &portal.data_url());
    // The last word names the source that it was read from.
    let rest = by_http.strip_suffix(" False").expect(&by_http);
    assert_eq!(by_file, format!("{rest} True"));
}

#[test]
fn repeated_stat_and_open_send_only_the_requests_that_the_kernel_must_send() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let path = mount.path(&format!("objects/{id}.nc"));
    std::fs::read(&path).unwrap();
    std::fs::metadata(&path).unwrap();
    let requests = || {
        let status = mount.status();
        let count = |what: &str| status["requests"][what].as_u64().unwrap();
        (count("lookup"), count("getattr"), count("open"))
    };
    let (lookups, attributes, opens) = requests();
    for _ in 0..50 {
        std::fs::metadata(&path).unwrap();
    }
    for _ in 0..20 {
        std::fs::File::open(&path).unwrap();
    }
    let (later_lookups, later_attributes, later_opens) = requests();
    // Reading the status sends requests too, since its TTL is zero.
    assert!(later_lookups - lookups <= 4, "{lookups} {later_lookups}");
    assert!(
        later_attributes - attributes <= 4,
        "{attributes} {later_attributes}"
    );
    assert_eq!(
        later_opens - opens,
        20 + 1,
        "the kernel must send each open"
    );
}

#[test]
fn find_selects_objects_by_type_place_and_time() {
    let (portal, home) = (portal(), Home::new());
    let find = |arguments: &[&str]| {
        let mut all = vec!["find", "--json"];
        all.extend(arguments);
        let lines = icosfs(&home, &portal, &all);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    };
    let all = find(&[]);
    assert!(all.len() > 10);
    let htm = find(&["--station", "htm"]);
    assert!(!htm.is_empty() && htm.len() < all.len());
    assert!(
        htm.iter()
            .all(|o| o["station"].as_str().unwrap().ends_with("AS_HTM"))
    );
    let co2s = find(&["--variable", "co2", "--theme", "atmos"]);
    assert!(!co2s.is_empty() && co2s.iter().all(|o| o["rows"].is_u64()));
    let ordered = find(&["--order", "size", "--descending", "--limit", "3"]);
    let sizes: Vec<u64> = ordered
        .iter()
        .map(|o| o["size"].as_u64().unwrap())
        .collect();
    assert!(
        sizes.len() == 3 && sizes.is_sorted_by(|a, b| a >= b),
        "{sizes:?}"
    );
    let smallest = sizes[2].to_string();
    assert!(find(&["--larger", &smallest]).len() >= 3);
    let near = find(&["--bbox", "12,55,14,57"]);
    assert!(
        !near.is_empty() && near.len() < all.len(),
        "{} of {}",
        near.len(),
        all.len()
    );
    assert!(find(&["--include-deprecated"]).len() > all.len());
    let output = home.run(&portal, &["find", "--paths", "/m", "--station=HTM"], "");
    let reason = "icosfs: no icosfs is mounted at /m\nhint: ";
    assert!(said(&output).contains(reason), "{}", said(&output));
    let output = home.run(&portal, &["find", "--station", "NOWHERE"], "");
    assert!(
        said(&output).contains("icosfs stations"),
        "{}",
        said(&output)
    );
}

#[test]
fn mount_lists_its_selection_and_resolves_other_objects_by_name() {
    let portal = portal();
    let ids = |options: &[&str]| -> BTreeSet<String> {
        let mount = TestMount::with(&portal, options, &[]);
        let names = mount.list("objects");
        // Regardless of what is listed.
        let co2 = format!("objects/{}.csv", co2(&portal));
        assert!(mount.path(&co2).exists(), "{options:?}");
        let ids = names.iter().filter_map(|name| name.strip_suffix(".json"));
        ids.map(str::to_owned).collect()
    };
    let all = ids(&[]);
    let co2 = co2(&portal).to_string();
    assert!(all.contains(&co2));
    let found = icosfs(&Home::new(), &portal, &["find", "--json"]);
    let mut times: Vec<String> = (found.lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|object| object["submitted"].as_str().unwrap().to_owned())
        .collect();
    times.sort();
    let since = format!("--since={}", times.last().unwrap());
    for options in [
        &["--station=htm"][..],
        &["--datatype=atcCo2L2DataObject"],
        &["--datatype=atcCo2L2DataObject", "--station=HTM"],
        &[&*since],
        &["--level=2"],
    ] {
        let some = ids(options);
        assert!(
            some.is_subset(&all) && some.len() < all.len(),
            "{options:?}"
        );
        assert!(!some.is_empty(), "{options:?}");
    }
    assert!(ids(&["--station=HTM"]).contains(&co2));
    assert!(!ids(&["--level=3"]).contains(&co2));
    assert!(ids(&["--since=2100-01-01"]).is_empty());
    let older = ids(&["--include-deprecated"]);
    assert!(older.is_superset(&all) && older.len() > all.len());
}

#[test]
fn stations_datatypes_and_info_print_readable_tables() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let home = mount.home();
    assert!(icosfs(home, &portal, &["stations"]).contains("HTM"));
    assert!(icosfs(home, &portal, &["datatypes", "co2"]).contains("atcCo2L2DataObject"));
    let id = co2(&portal);
    let in_mount = mount
        .path(&format!("objects/{id}.csv"))
        .display()
        .to_string();
    std::fs::metadata(&in_mount).unwrap();
    let cache = format!("--cache-dir={}", mount.cache().display());
    let by_id = icosfs(home, &portal, &["info", &cache, &id.to_string()]);
    assert!(
        by_id.contains("cite") && by_id.contains("licence"),
        "{by_id}"
    );
    for name in [
        in_mount,
        format!("11676/{id}"),
        format!("https://hdl.handle.net/11676/{id}"),
        format!("https://meta.icos-cp.eu/objects/{id}"),
    ] {
        assert_eq!(
            icosfs(home, &portal, &["info", &cache, &name]),
            by_id,
            "{name}"
        );
    }
}

#[test]
fn find_rsync_tar_and_tree_walk_the_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.run("find", &[".", "-ls"]);
    mount.run("du", &["-s", "stations"]);
    mount.run("tree", &["stations"]);
    mount.run("gio", &["list", "objects"]);
    mount.run("ls", &["-lR", "datatypes"]);
    let copy = mount.home().path().join("copy");
    let copy = copy.display().to_string();
    mount.run("rsync", &["-a", "--dry-run", "stations/", &copy]);
    let table = format!("objects/{}.csv", co2(&portal));
    let archive = mount.home().path().join("a.tar").display().to_string();
    mount.run("tar", &["-cf", &archive, &table]);
    let output = Command::new("tar")
        .args(["-xOf", &archive])
        .output()
        .unwrap();
    assert!(output.stdout == mount.read(&table));
    let df = String::from_utf8(mount.run("df", &["."]).stdout).unwrap();
    assert!(df.contains("127.0.0.1_"), "{df}");
    for (program, arguments) in [
        ("mkdir", &["stations/new"][..]),
        ("touch", &["stations/new"]),
        ("rm", &[&*table]),
        ("ln", &["-s", "a", "b"]),
        ("mv", &[&*table, "x"]),
    ] {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(mount.path(""))
            .output()
            .unwrap();
        let text = said(&output);
        assert!(text.contains("Read-only file system"), "{program}: {text}");
    }
}

#[test]
fn busy_metadata_service_gets_no_further_queries() {
    let portal = portal();
    let busy = serde_json::json!({
        "service": "meta", "route": "sparql",
        "fault": {"status": {"code": 503, "retryAfter": 600}}
    });
    portal.add_fault(serde_json::from_value(busy).unwrap());
    let mount = TestMount::of(&portal);
    for _ in 0..5 {
        let error = std::fs::read_dir(mount.path("objects")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }
    let queries = portal
        .requests()
        .into_iter()
        .filter(|r| r.route == "sparql");
    assert_eq!(queries.count(), 1);
}

#[test]
fn expired_lists_are_shown_at_once_and_refreshed_in_the_background() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let mount = |ttl: &str| TestMount::with(&portal, &[&*cache_dir, ttl], &[]);
    let before: BTreeSet<String> = mount("--metadata-ttl=600")
        .list("objects")
        .into_iter()
        .collect();
    let queries = || {
        let requests = portal.requests();
        requests.iter().filter(|r| r.route == "sparql").count()
    };
    let first = queries();

    let never = mount("--metadata-ttl=indefinite");
    assert_eq!(never.list("objects").len(), before.len());
    assert_eq!(queries(), first, "nothing is too old");

    std::thread::sleep(Duration::from_millis(1100));
    let soon = mount("--metadata-ttl=1");
    assert_eq!(soon.list("objects").len(), before.len());
    assert!(eventually(Duration::from_secs(5), || queries() > first));

    let always = mount("--metadata-ttl=0");
    let asked = queries();
    always.list("objects");
    assert!(queries() > asked, "asked before it was shown");
}

/// Programs that list a large folder in loops while its list is replaced again and again
/// see each name once, at any moment. `ICOSFS_NAMES=100000` makes the folder larger.
#[test]
fn listings_are_complete_while_the_list_is_refreshed() {
    let names = std::env::var("ICOSFS_NAMES").map_or(6000, |names| names.parse().unwrap());
    let mut repository = DemoRepository::builtin(1);
    // Two names each: the original and its landing page.
    repository.add_small_files(names / 2);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let mount = TestMount::with(&portal, &["--metadata-ttl=1"], &[]);
    let all = mount.list("objects");
    assert!(all.len() >= names, "{} names", all.len());
    let requests = portal.requests().len();
    let until = Instant::now() + Duration::from_secs(6);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (mount, all) = (&mount, &all);
            scope.spawn(move || {
                while Instant::now() < until {
                    if reader == 3 {
                        let name = &all[all.len() / 2];
                        assert!(mount.path(&format!("objects/{name}")).exists(), "{name}");
                        continue;
                    }
                    assert!(mount.list("objects") == *all, "a name is missing or twice");
                }
            });
        }
    });
    assert!(portal.requests().len() > requests, "the list was refreshed");
}
