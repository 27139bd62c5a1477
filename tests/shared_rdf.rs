//! Tests with the real repository's metadata (../shared/portal-rdf), in CI.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository};

use crate::support::{TestContents, TestMount, get};

/// Number of tables compared; `scripts/compare-tables` compares all.
const TABLES: usize = 200;
/// Tables with at most this much CSV are compared completely.
const WHOLE: u64 = 600 << 10;

pub(crate) fn real_metadata() -> DemoPortal {
    let shared = std::env::var_os("ICOSFS_SHARED")
        .expect("ICOSFS_SHARED names the shared folder; .ci/run sets it");
    let repository = DemoRepository::from_rdf(&PathBuf::from(shared).join("portal-rdf")).unwrap();
    DemoPortal::start(repository, DemoOptions::default()).unwrap()
}

#[test]
fn two_hundred_tables_of_many_data_types_equal_the_portals_csv() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    let folder = tempfile::tempdir().unwrap();
    let lists = TestContents::of(&portal, &folder);
    lists.take_lists();
    let bounds: Vec<(u64, String)> = mount
        .tables()
        .into_iter()
        .map(|id| {
            let path = mount.path(&format!("objects/{id}.csv"));
            (path.metadata().unwrap().len(), id)
        })
        .collect();
    let mut by_type: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for (bound, id) in bounds {
        let object = lists.object(id.parse().unwrap());
        let spec = object.spec().unwrap().iri().to_owned();
        by_type.entry(spec).or_default().push((bound, id));
    }
    for tables in by_type.values_mut() {
        tables.sort();
    }
    let mut sample = Vec::new();
    for nth in 0.. {
        let before = sample.len();
        let of_each_type = by_type.values().filter_map(|tables| tables.get(nth));
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
                while let Some((bound, id)) = sample.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let file = mount.path(&format!("objects/{id}.csv"));
                    // The demo writes CSV slowly, so only the start of long tables is compared.
                    let (csv, expected) = if *bound <= WHOLE {
                        (fs::read(file).unwrap(), get(&portal, &format!("/csv/{id}")))
                    } else {
                        let expected = get(&portal, &format!("/csv/{id}?limit=1000"));
                        let mut csv = vec![0; expected.len()];
                        File::open(file).unwrap().read_exact(&mut csv).unwrap();
                        (csv, expected)
                    };
                    assert!(csv == expected, "{id} differs");
                }
            });
        }
    });
}

#[test]
fn object_of_the_original_issue_is_found_by_name() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    let csv = mount.read("objects/ahVixHqAZvFrgX0iJwMMp__l.csv");
    assert!(csv == get(&portal, "/csv/ahVixHqAZvFrgX0iJwMMp__l"));
}
