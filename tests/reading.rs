//! File contents equal the portal's.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use icos_portal::ObjectId;
use serde_json::Value;

use crate::support::{TestMount, co2, get, portal, serves_csv, serves_original};

#[test]
fn listed_tables_equal_the_portals_csv_byte_for_byte() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let mut compared = 0;
    for id in mount.tables() {
        let name = format!("{id}.csv");
        if serves_csv(&portal, id.parse().unwrap()) {
            let csv = mount.read(&format!("objects/{name}"));
            assert!(csv == get(&portal, &format!("/csv/{id}")), "{name} differs");
            compared += 1;
        } else {
            let error = mount.try_read(&format!("objects/{name}")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}");
        }
    }
    assert!(compared >= 10, "only {compared} tables");
}

#[test]
fn table_of_unknown_size_has_its_exact_size_once_open() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let table = a_table(&mount);
    let path = mount.path(&table);

    let bound = std::fs::metadata(&path).unwrap().len();
    let mut file = std::fs::File::open(&path).unwrap();
    let exact = file.metadata().unwrap().len();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();

    assert_eq!(exact, bytes.len() as u64);
    assert!(bound >= exact, "{bound} >= {exact}");
    drop(file);
    assert_eq!(
        std::fs::metadata(&path).unwrap().len(),
        exact,
        "exact for ever"
    );
}

#[test]
fn end_of_a_table_can_be_read_first() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let table = a_table(&mount);
    let mut file = std::fs::File::open(mount.path(&table)).unwrap();
    file.seek(SeekFrom::End(-100)).unwrap();
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).unwrap();
    let whole = mount.read(&table);
    assert!(whole.ends_with(&tail) && tail.len() == 100);
}

#[test]
fn table_with_many_readers_is_downloaded_once() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let table = a_table(&mount);
    portal.clear_requests();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| mount.read(&table));
        }
    });
    mount.read(&table);
    let slices = portal
        .requests()
        .iter()
        .filter(|r| r.path == "/cpb")
        .count();
    assert_eq!(slices, 1);
}

/// The size of a reader's first read shows whether it needs the complete file.
#[test]
fn small_first_read_requests_a_slice_and_a_large_one_the_complete_table() {
    let received = |program, arguments: &[&str]| {
        let portal = portal();
        let mount = TestMount::of(&portal);
        let table = a_table(&mount);
        let arguments = [arguments, &[&table]].concat();
        mount.run(program, &arguments);
        let requests = portal.requests();
        let columns = requests.iter().filter(|r| r.path == "/cpb");
        columns.map(|r| r.bytes).collect::<Vec<_>>()
    };
    let (look, all) = (received("head", &["-1"]), received("cat", &[]));
    assert!(look.len() == 1 && look[0] <= 256 << 10, "{look:?}");
    assert!(all.len() == 1 && all[0] > 512 << 10, "{all:?}");
}

#[test]
fn originals_hash_to_their_ids() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let mut checked = 0;
    for name in mount.list("objects") {
        let (id, ending) = name.split_once('.').unwrap_or((&name, ""));
        let id: ObjectId = id.parse().unwrap();
        let is_table = portal.repository().cpb(&id).is_some();
        if ["json", "csv", "parquet", "contents"].contains(&ending)
            || (ending == "nc" && is_table)
            || !serves_original(&portal, id)
        {
            continue;
        }
        let bytes = mount.read(&format!("objects/{name}"));
        assert_eq!(ObjectId::of_content(&bytes), id, "{name}");
        let size = mount
            .path(&format!("objects/{name}"))
            .metadata()
            .unwrap()
            .len();
        assert_eq!(size, bytes.len() as u64, "{name}");
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} originals");
}

#[test]
fn sidecars_equal_the_landing_pages_byte_for_byte() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal).to_string();
    let sidecar = mount.read(&format!("objects/{id}.json"));
    let page = std::process::Command::new("curl")
        .args(["-s", "-H", "Accept: application/json"])
        .arg(format!("{}/objects/{id}", portal.meta_url()))
        .output()
        .unwrap();
    assert_eq!(sidecar, page.stdout);
    let json: Value = serde_json::from_slice(&sidecar).unwrap();
    assert!(json["hash"].as_str().unwrap().starts_with(&id));
}

#[test]
fn deprecated_version_is_readable_by_name_though_not_listed() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let listed = mount.list("objects");
    let is_listed = |id: &ObjectId| listed.contains(&format!("{id}.json"));
    let old = portal
        .repository()
        .objects()
        .into_iter()
        .find(|id| !is_listed(id) && serves_csv(&portal, *id))
        .expect("an older version of a table");
    assert_eq!(
        mount.read(&format!("objects/{old}.csv")),
        get(&portal, &format!("/csv/{old}"))
    );
    let ino = |stem: &str| {
        mount
            .path(&format!("objects/{stem}.csv"))
            .metadata()
            .unwrap()
            .ino()
    };
    let landing: Value =
        serde_json::from_slice(&mount.read(&format!("objects/{old}.json"))).unwrap();
    let hash = landing["hash"].as_str().unwrap();
    assert_eq!(
        ino(hash),
        ino(&old.to_string()),
        "the whole hash names it too"
    );
}

#[test]
fn unknown_names_return_enoent() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let unknown = ObjectId::of_content(b"unknown to the portal");
    for name in [
        format!("objects/{unknown}.csv"),
        "objects/x".into(),
        "nothing".into(),
    ] {
        let error = mount.try_read(&name).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{name}");
    }
}

#[test]
fn cached_files_survive_a_remount() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let token = portal.token();
    let mount = || TestMount::with(&portal, &[&cache_dir], &[("ICOSFS_TOKEN", &token)]);
    let (table, first) = {
        let mount = mount();
        let table = a_table(&mount);
        let bytes = mount.read(&table);
        (table, bytes)
    };
    portal.clear_requests();
    assert_eq!(mount().read(&table), first);
    assert!(!portal.requests().iter().any(|r| r.path == "/cpb"));
}

/// Returns the largest table, which needs only `/cpb`.
fn a_table(mount: &TestMount) -> String {
    let path = |id: &String| format!("objects/{id}.csv");
    let bound = |id: &String| mount.path(&path(id)).metadata().unwrap().len();
    let tables = mount.tables();
    path(tables.iter().max_by_key(|id| bound(id)).unwrap())
}
