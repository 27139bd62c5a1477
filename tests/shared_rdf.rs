//! Against the real repository's metadata (../shared/portal-rdf), in CI.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use icosfs::demo::{DemoOptions, DemoPortal, Repository};

use crate::support::{TestContents, TestMount, get};

/// How many tables are compared; `scripts/compare-tables` does all.
const TABLES: usize = 200;

fn real_metadata() -> DemoPortal {
    let shared = std::env::var_os("ICOSFS_SHARED")
        .expect("ICOSFS_SHARED names the shared folder; .ci/run sets it");
    let repository = Repository::from_rdf(&PathBuf::from(shared).join("portal-rdf")).unwrap();
    DemoPortal::start(repository, DemoOptions::default()).unwrap()
}

#[test]
fn two_hundred_tables_of_many_data_types_are_the_portals_csv() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    let folder = tempfile::tempdir().unwrap();
    let lists = TestContents::of(&portal, &folder);
    let mut smallest_first: Vec<(u64, String)> = mount
        .tables()
        .into_iter()
        .map(|id| {
            let path = mount.path(&format!("objects/{id}.csv"));
            (path.metadata().unwrap().len(), id)
        })
        .collect();
    smallest_first.sort();
    // The demo writes its CSV slowly: small tables, some of each data type.
    let mut by_type: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, id) in smallest_first {
        let object = lists.object(id.parse().unwrap());
        let spec = object.spec().unwrap().iri().to_owned();
        by_type.entry(spec).or_default().push(id);
    }
    let mut sample = Vec::new();
    for nth in 0.. {
        let before = sample.len();
        let of_each_type = by_type.values().filter_map(|ids| ids.get(nth));
        sample.extend(of_each_type.take(TABLES - before));
        assert!(sample.len() > before, "only {before} tables");
        if sample.len() == TABLES {
            break;
        }
    }
    assert!(by_type.len() >= 5, "{} data types", by_type.len());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(id) = sample.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let csv = mount.read(&format!("objects/{id}.csv"));
                    assert!(csv == get(&portal, &format!("/csv/{id}")), "{id} differs");
                }
            });
        }
    });
}

#[test]
fn the_object_of_the_issue_is_there_by_name() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    let csv = mount.read("objects/ahVixHqAZvFrgX0iJwMMp__l.csv");
    assert!(csv == get(&portal, "/csv/ahVixHqAZvFrgX0iJwMMp__l"));
}
