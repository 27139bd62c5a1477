//! Real programs on the machines of a cluster.

use super::{SharedStore, small_tables};
use crate::support::home::ICOSFS;
use crate::support::{interpreter, said, services_of, slices};

/// pandas and xarray in four worker processes, each with a mount and a cache of its own.
#[test]
fn workers_of_dask_with_mounts_of_their_own_download_each_table_once() {
    let (portal, files) = small_tables(6);
    let store = SharedStore::keyed();
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<_> = (files.iter())
        .map(|(path, _)| path.rsplit('/').next().unwrap())
        .collect();
    let output = interpreter()
        .arg("tests/python/dask_cluster.py")
        .arg(ICOSFS)
        .arg(folder.path())
        .arg(serde_json::to_string(&names).unwrap())
        .args(services_of(&portal, &[]))
        .args(&store.options)
        .env("ICOSFS_TOKEN", portal.token())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let results: Vec<(String, String, usize)> = serde_json::from_slice(&output.stdout).unwrap();
    let rows = files.iter().map(|(_, csv)| {
        let csv = String::from_utf8_lossy(csv);
        csv.lines().count() - 1
    });
    assert!(
        rows.eq(results.iter().map(|result| result.2)),
        "{results:?}"
    );
    assert_eq!(slices(&portal), files.len());
}
