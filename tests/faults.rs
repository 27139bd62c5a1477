//! Faults of the portal and the network, as a reader sees them.

use std::io::Read as _;
use std::time::{Duration, Instant};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService, FaultRule};
use icos_portal::ObjectId;
use serde_json::json;

use crate::support::{TestMount, co2, contents, eventually, portal, said};

fn rule(json: serde_json::Value) -> FaultRule {
    serde_json::from_value(json).expect("a rule as `icosfs demo --faults` takes it")
}

/// A wrong byte near the start is detected only at the end of the file. The
/// kernel repeats a failed read page by page and must not get the end of a good
/// copy after the start of the corrupt one.
#[test]
fn corrupt_original_is_never_read_to_its_end() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let path = format!("objects/{id}.nc");
    portal.add_fault(rule(
        json!({"object": id.to_string(), "fault": {"corrupt": {"at": 1000}}}),
    ));
    let error = mount.try_read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(
        mount.last_reason().contains("do not match its id"),
        "{}",
        mount.last_reason()
    );

    portal.clear_faults();
    assert_eq!(
        ObjectId::of_content(&mount.read(&path)),
        id,
        "right once the fault is gone"
    );
}

/// Regression: a part was read from a corrupt copy, which was not detected since
/// the rest was not read, and the cache evicted it. The kernel still had the
/// page cached and returned it as part of the good copy.
#[test]
fn cached_page_of_a_corrupt_copy_is_dropped_with_it() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_original("large.bin", 9 << 20);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    // A small limit, so that the mount forgets this file.
    let mount = TestMount::with_few_descriptors(&portal);
    let path = format!("objects/{id}.bin");
    portal.add_fault(rule(
        json!({"object": id.to_string(), "fault": {"corrupt": {"at": 1000}}}),
    ));
    let mut start = [0; 4096];
    let mut file = std::fs::File::open(mount.path(&path)).unwrap();
    file.read_exact(&mut start).unwrap();
    drop(file);
    portal.clear_faults();
    let evicted = || {
        for (other, expected) in contents(&portal) {
            assert!(!other.contains(&id.to_string()) || other == path);
            if other != path {
                assert!(mount.read(&other) == expected);
            }
        }
        let cache = mount.cache().display().to_string();
        let arguments = ["--cache-dir", &cache, "cache", "evict", &id.to_string()];
        let output = mount.home().run(&portal, &arguments, "");
        said(&output).contains("removed 1 file,")
    };
    assert!(eventually(Duration::from_secs(20), evicted));

    assert_eq!(ObjectId::of_content(&mount.read(&path)), id);
}

/// Regression: an original that never is completely in the cache was never
/// verified, and a corrupt one could be read to its end.
#[test]
fn original_larger_than_the_cache_is_still_verified() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_original("large.bin", 40 << 20);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let token = portal.token();
    let options = ["--cache-size=12M"];
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &token)]);
    let path = format!("objects/{id}.bin");
    portal.add_fault(rule(
        json!({"object": id.to_string(), "fault": {"corrupt": {"at": 1000}}}),
    ));
    let error = mount.try_read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));

    portal.clear_faults();
    assert_eq!(ObjectId::of_content(&mount.read(&path)), id);
    let requests = portal.requests();
    let fetches: Vec<_> = requests
        .iter()
        .filter(|r| r.path.starts_with("/objects/") && r.service == DemoService::Data)
        .collect();
    assert!(
        fetches.len() <= 4,
        "the proof costs no further download: {fetches:#?}"
    );
}

/// Regression: the kernel shares cached pages between all readers, so pages of
/// a good copy completed a read that had started in the corrupt one.
#[test]
fn reader_of_a_corrupt_copy_does_not_continue_in_a_good_one() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_original("large.bin", 9 << 20);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let mount = TestMount::of(&portal);
    let path = format!("objects/{id}.bin");
    portal.add_fault(rule(
        json!({"object": id.to_string(), "fault": {"corrupt": {"at": 1000}}}),
    ));
    let mut file = std::fs::File::open(mount.path(&path)).unwrap();
    let mut bytes = vec![0; 4096];
    file.read_exact(&mut bytes).unwrap();
    mount.try_read(&path).unwrap_err();
    portal.clear_faults();
    assert_eq!(ObjectId::of_content(&mount.read(&path)), id, "read anew");

    let rest = file.read_to_end(&mut bytes);
    assert_eq!(rest.unwrap_err().raw_os_error(), Some(libc::EIO));
}

/// A listing returns attributes too. For an open file of unknown size they must
/// not restore the estimate.
#[test]
fn readdirplus_does_not_restore_an_estimated_size_of_an_open_file() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let path = mount.path(&format!("objects/{}.csv", co2(&portal)));
    let file = std::fs::File::open(&path).unwrap();
    for entry in std::fs::read_dir(mount.path("objects")).unwrap() {
        entry.unwrap().metadata().unwrap();
    }
    let exact = portal.repository().csv(&co2(&portal)).unwrap().len() as u64;
    assert_eq!(file.metadata().unwrap().len(), exact);
    drop(file);
    assert_eq!(path.metadata().unwrap().len(), exact);
}

/// Regression: while such a file was open, its entry had inode number 0, which C
/// libraries skip.
#[test]
fn open_file_of_unknown_size_stays_in_its_listing() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let name = format!("{}.csv", co2(&portal));
    let file = std::fs::File::open(mount.path(&format!("objects/{name}"))).unwrap();
    assert!(mount.list("objects").contains(&name));
    let exact = portal.repository().csv(&co2(&portal)).unwrap().len() as u64;
    assert_eq!(file.metadata().unwrap().len(), exact);
}

#[test]
fn reader_waiting_for_a_silent_portal_can_be_killed() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.list("objects");
    portal.add_fault(FaultRule {
        route: Some("cpb".to_owned()),
        ..rule(json!({"fault": {"stall": {"after": 0}}}))
    });
    let path = mount.path(&format!("objects/{}.csv", co2(&portal)));
    let mut cat = std::process::Command::new("cat").arg(path).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(cat.try_wait().unwrap().is_none(), "it waits");
    let start = Instant::now();
    cat.kill().unwrap();
    assert!(eventually(Duration::from_secs(3), || cat
        .try_wait()
        .unwrap()
        .is_some()));
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// `head` needs the first rows only; the rest is not downloaded.
#[test]
fn first_rows_are_read_without_downloading_the_rest() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let table = portal
        .repository()
        .find("ICOSETC_SE-Htm_FLUXES_L2.csv")
        .unwrap();
    let mut start = [0; 2000];
    let mut file = std::fs::File::open(mount.path(&format!("objects/{table}.csv"))).unwrap();
    file.read_exact(&mut start).unwrap();
    drop(file);
    let requests = portal.requests();
    let slices: Vec<_> = requests.iter().filter(|r| r.path == "/cpb").collect();
    assert_eq!(slices.len(), 1);
    assert!(slices[0].bytes <= 256 << 10, "{} bytes", slices[0].bytes);
    assert!(
        portal
            .repository()
            .csv(&table)
            .unwrap()
            .as_bytes()
            .starts_with(&start)
    );
}
