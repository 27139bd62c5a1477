//! Cached files and how they are read again.

use std::time::Duration;

use icos_portal::ObjectId;

use crate::support::{TestMount, co2, eventually, portal};

#[test]
fn complete_original_is_read_by_passthrough() {
    let portal = portal();
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let path = format!("objects/{id}.nc");
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let mount = || TestMount::with(&portal, &[&cache_dir], &[("ICOSFS_TOKEN", &portal.token())]);
    mount().read(&path);
    let mount = mount();
    let counts = || {
        let served = &mount.status()["served"];
        let count = |key: &str| served[key].as_u64().unwrap();
        (count("reads"), count("passed_through"))
    };
    mount.read(&path);
    // The file is verified in the background first.
    let verified = eventually(Duration::from_secs(20), || {
        mount.read(&path);
        counts().1 > 0
    });
    assert!(verified);
    let (reads, passed) = counts();

    let again = mount.read(&path);

    assert_eq!(ObjectId::of_content(&again), id);
    assert_eq!(counts(), (reads, passed + 1), "no READ reached the daemon");
}

#[test]
fn modified_cached_original_is_never_returned() {
    let portal = portal();
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let path = format!("objects/{id}.nc");
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let mount = || TestMount::with(&portal, &[&cache_dir], &[("ICOSFS_TOKEN", &portal.token())]);
    mount().read(&path);
    let output = std::process::Command::new("find")
        .arg(cache.path())
        .args(["-path", &format!("*/dataAppStorage/*/{id}")])
        .output()
        .unwrap();
    let file = String::from_utf8(output.stdout).unwrap();
    let mut bytes = std::fs::read(file.trim()).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(file.trim(), bytes).unwrap();

    assert_eq!(ObjectId::of_content(&mount().read(&path)), id);
}

#[test]
fn reads_work_without_a_cache_folder() {
    let portal = portal();
    let nowhere = tempfile::NamedTempFile::new().unwrap();
    let cache_dir = format!("--cache-dir={}", nowhere.path().display());
    let mount = TestMount::with(&portal, &[&cache_dir], &[("ICOSFS_TOKEN", &portal.token())]);
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    assert_eq!(
        ObjectId::of_content(&mount.read(&format!("objects/{id}.nc"))),
        id
    );
    // Regression: a query for the age of an in-memory catalog deadlocked.
    assert!(mount.list("objects").len() > 10);
    let table = co2(&portal);
    let csv = mount.read(&format!("objects/{table}.csv"));
    assert_eq!(csv, portal.repository().csv(&table).unwrap().into_bytes());

    let errors = String::from_utf8(mount.read(".icosfs/errors")).unwrap();
    let told = errors.lines().filter(|line| line.contains("keep cache: "));
    assert_eq!(told.count(), 1, "one warning: {errors}");
    assert!(errors.contains("reads continue"), "{errors}");
}

#[test]
fn table_larger_than_the_cache_is_read_completely() {
    let portal = portal();
    let env = [("ICOSFS_TOKEN", &*portal.token())];
    let mount = TestMount::with(&portal, &["--cache-size=1M", "--memory=1M"], &env);
    let table = portal
        .repository()
        .find("ICOSETC_SE-Htm_FLUXES_L2.csv")
        .unwrap();
    let csv = mount.read(&format!("objects/{table}.csv"));
    assert_eq!(csv, portal.repository().csv(&table).unwrap().into_bytes());
}
