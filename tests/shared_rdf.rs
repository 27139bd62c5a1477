//! Against the real repository's metadata (../shared/portal-rdf), in CI.

use std::collections::BTreeMap;
use std::path::PathBuf;

use icosfs::demo::{DemoOptions, DemoPortal, Repository};
use serde_json::Value;

use crate::support::{TestMount, get};

fn real_metadata() -> DemoPortal {
    let shared = std::env::var_os("ICOSFS_SHARED")
        .expect("ICOSFS_SHARED names the shared folder; .ci/run sets it");
    let repository = Repository::from_rdf(&PathBuf::from(shared).join("portal-rdf")).unwrap();
    DemoPortal::start(repository, DemoOptions::default()).unwrap()
}

#[test]
fn fifty_tables_of_many_data_types_are_the_portals_csv() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    // Of each data type the smallest tables, since the demo writes its CSV
    // slowly; the landing pages tell the type.
    let mut by_type: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for id in mount.tables() {
        let json: Value =
            serde_json::from_slice(&mount.read(&format!("objects/{id}.json"))).unwrap();
        let spec = json["specification"]["self"]["uri"].as_str().unwrap();
        let bound = mount
            .path(&format!("objects/{id}.csv"))
            .metadata()
            .unwrap()
            .len();
        by_type
            .entry(spec.to_owned())
            .or_default()
            .push((bound, id));
    }
    let (mut compared, mut types) = (0, 0);
    for tables in by_type.values_mut() {
        tables.sort();
        for (_, id) in tables.iter().take(50_usize.div_ceil(5)) {
            let csv = mount.read(&format!("objects/{id}.csv"));
            assert!(csv == get(&portal, &format!("/csv/{id}")), "{id} differs");
            compared += 1;
        }
        types += 1;
    }
    assert!(
        compared >= 50 && types >= 5,
        "{compared} tables of {types} types"
    );
}

#[test]
fn the_object_of_the_issue_is_there_by_name() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    let csv = mount.read("objects/ahVixHqAZvFrgX0iJwMMp__l.csv");
    assert!(csv == get(&portal, "/csv/ahVixHqAZvFrgX0iJwMMp__l"));
}
