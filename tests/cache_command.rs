//! `icosfs cache`: its output, and that it does not disturb a mount.

use std::fs;
use std::path::Path;
use std::process::Output;

use icos_demo::{DemoPortal, DemoService};
use icos_portal::ObjectId;

use crate::support::{Home, TestMount, co2, portal, said};

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
