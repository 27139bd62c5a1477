//! `icosfs cache`: its output, and that it does not disturb a mount.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService};
use icos_portal::ObjectId;

use crate::support::{Home, TestMount, co2, eventually, files_below, portal, said};

const FILE: &str = "demo_inversion_2023.nc";

fn mount_in(portal: &DemoPortal, cache: &Path) -> TestMount {
    let cache_dir = format!("--cache-dir={}", cache.display());
    TestMount::with(portal, &[&cache_dir], &[("ICOSFS_TOKEN", &portal.token())])
}

fn cache_command(portal: &DemoPortal, cache: &Path, arguments: &[&str]) -> Output {
    let cache = cache.display().to_string();
    let all: Vec<&str> = ["--cache-dir", &cache, "cache"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    Home::new().run(portal, &all, "")
}

#[test]
fn cache_verify_finds_and_removes_corrupt_files() {
    let portal = portal();
    let id = portal.repository().find(FILE).unwrap();
    let path = format!("objects/{id}.nc");
    let cache = tempfile::tempdir().unwrap();
    let mount = mount_in(&portal, cache.path());
    mount.read(&path);
    let right = cache_command(&portal, cache.path(), &["verify"]);
    assert!(right.status.success(), "{}", said(&right));

    // The daemon closes files that no reader has open.
    let reader = fs::File::open(mount.path(&path)).unwrap();
    let file = mount.kept_file(id);
    let mut bytes = fs::read(&file).unwrap();
    bytes[77] ^= 1;
    fs::write(&file, bytes).unwrap();
    let in_use = cache_command(&portal, cache.path(), &["verify"]);
    assert!(!in_use.status.success());
    assert!(
        said(&in_use).contains("a mount has it open"),
        "{}",
        said(&in_use)
    );
    assert!(file.exists());

    drop((reader, mount));
    let found = cache_command(&portal, cache.path(), &["verify"]);
    assert!(!found.status.success());
    assert!(said(&found).contains("removed"), "{}", said(&found));
    assert!(!file.exists());
    let mount = mount_in(&portal, cache.path());
    assert_eq!(ObjectId::of_content(&mount.read(&path)), id);
}

#[test]
fn cache_clear_and_evict_leave_open_files() {
    let portal = portal();
    let id = portal.repository().find(FILE).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mount = mount_in(&portal, cache.path());
    let path = format!("objects/{id}.nc");
    mount.read(&path);
    let reader = fs::File::open(mount.path(&path)).unwrap();
    let file = mount.kept_file(id);

    for arguments in [
        &["clear"][..],
        &["evict", "--to", "0"],
        &["evict", &id.to_string()],
    ] {
        let output = cache_command(&portal, cache.path(), arguments);
        assert!(output.status.success(), "{}", said(&output));
        assert!(file.exists(), "{arguments:?}");
    }
    let info = cache_command(&portal, cache.path(), &["info"]);
    assert!(said(&info).contains("originals"), "{}", said(&info));

    drop((reader, mount));
    let cleared = cache_command(&portal, cache.path(), &["clear"]);
    assert!(said(&cleared).contains("removed"), "{}", said(&cleared));
    assert!(!file.exists());
}

#[test]
fn prefetched_files_are_read_offline_with_one_download() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let mount = mount_in(&portal, cache.path());
    let file = portal.repository().find(FILE).unwrap();
    let table = co2(&portal);
    let csv = mount.path(&format!("objects/{table}.csv"));
    let prefetch = || {
        let arguments = ["prefetch", &file.to_string(), csv.to_str().unwrap()];
        let output = Home::new().run(&portal, &arguments, "");
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("2 of 2 files"), "{}", said(&output));
    };
    let downloads = || {
        let requests = portal.requests();
        let of_data = requests.iter().filter(|r| r.service == DemoService::Data);
        of_data.filter(|r| r.route != "whoami").count()
    };
    prefetch();
    assert_eq!(downloads(), 2, "one for each");
    prefetch();
    assert_eq!(downloads(), 2, "none is fetched twice");

    portal.go_offline(DemoService::Data);
    let bytes = mount.read(&format!("objects/{file}.nc"));
    assert_eq!(ObjectId::of_content(&bytes), file);
    let expected = portal.repository().csv(&table).unwrap().into_bytes();
    assert!(mount.read(&format!("objects/{table}.csv")) == expected);
}

/// A mount with so small a cache that each original displaces the others, but for the
/// pinned one.
#[test]
fn pinned_files_are_not_evicted_by_a_mount_nor_by_commands() {
    let mut repository = DemoRepository::builtin(1);
    let ids = [1, 2, 3, 4].map(|n| repository.add_original(&format!("{n}.bin"), 4 << 20));
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let options = [&*cache_dir, "--cache-size=12M"];
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
    let path = |id: ObjectId| format!("objects/{id}.bin");
    let shown = mount.path(&path(ids[0])).display().to_string();
    let command = |arguments: &[&str]| {
        let output = cache_command(&portal, cache.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    assert!(command(&["pin", &shown]).contains("pinned 1 object in"));
    assert!(command(&["pin", &ids[0].to_string()]).contains("pinned 0 objects"));
    let read = |ids: &[ObjectId]| {
        for id in ids {
            assert_eq!(ObjectId::of_content(&mount.read(&path(*id))), *id);
        }
    };
    read(&ids[..2]);
    // Open files are not evicted.
    let closed = || {
        let info: serde_json::Value =
            serde_json::from_str(&command(&["info", "--json"])).expect("JSON");
        info["inUse"] == 0 && info["files"] == 2
    };
    assert!(eventually(Duration::from_secs(40), closed));
    read(&ids[2..]);
    let files = files_below(cache.path());
    let is_kept = |id: &ObjectId| {
        let name = id.to_string();
        files.iter().any(|file| file.ends_with(&name))
    };
    assert!(is_kept(&ids[0]), "the least recently used one");
    assert!(!ids.iter().all(is_kept), "another one was evicted");

    assert!(command(&["info"]).contains("of these pinned         1 file "));
    let listed = command(&["pins"]);
    assert!(
        listed.contains(&ids[0].to_string()) && listed.contains(" 1 file "),
        "{listed}"
    );
    assert!(command(&["clear"]).contains("kept 1 file, which `icosfs cache pin` protects"));
    assert!(command(&["evict", "--to=0"]).contains("removed 0 files"));
    assert!(mount.kept_file(ids[0]).exists());
    assert!(command(&["unpin", &shown]).contains("unpinned 1 object in"));
    let evicted = command(&["evict", "--to=0"]);
    assert!(evicted.contains("removed 1 file,"), "{evicted}");
    assert!(command(&["pins"]).contains("nothing is pinned"));
}

#[test]
fn prefetch_pins_the_objects_of_a_folder() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let mount = mount_in(&portal, cache.path());
    let station = mount.path("stations/HTM").display().to_string();
    let output = Home::new().run(&portal, &["prefetch", "--pin", &station], "");
    assert!(output.status.success(), "{}", said(&output));
    let output = cache_command(&portal, cache.path(), &["pins", "--json"]);
    let pins: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let pins = pins.as_array().unwrap();
    assert!(pins.len() >= 3, "{pins:#?}");
    let id = co2(&portal).to_string();
    let pin = pins.iter().find(|pin| pin["id"] == id).unwrap();
    assert!(pin["files"].as_u64() > Some(0), "{pins:#?}");
}
