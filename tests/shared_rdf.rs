//! Against the real repository's metadata (../shared/portal-rdf), in CI.

use std::collections::BTreeMap;
use std::path::PathBuf;

use icosfs::demo::{DemoOptions, DemoPortal, Repository};
use serde_json::Value;

use crate::support::{TestMount, get};

pub(crate) fn real_metadata() -> DemoPortal {
    let shared = std::env::var_os("ICOSFS_SHARED")
        .expect("ICOSFS_SHARED names the shared folder; .ci/run sets it");
    let repository = Repository::from_rdf(&PathBuf::from(shared).join("portal-rdf")).unwrap();
    DemoPortal::start(repository, DemoOptions::default()).unwrap()
}

#[test]
fn fifty_tables_of_many_data_types_are_the_portals_csv() {
    let portal = real_metadata();
    let mount = TestMount::of(&portal);
    let mut smallest_first: Vec<(u64, String)> = mount
        .tables()
        .into_iter()
        .map(|id| {
            let path = mount.path(&format!("objects/{id}.csv"));
            (path.metadata().unwrap().len(), id)
        })
        .collect();
    smallest_first.sort();
    // The demo writes its CSV slowly: small tables, few of each data type.
    let mut by_type: BTreeMap<String, usize> = BTreeMap::new();
    let mut compared = 0;
    for (_, id) in smallest_first {
        let json: Value =
            serde_json::from_slice(&mount.read(&format!("objects/{id}.json"))).unwrap();
        let spec = json["specification"]["self"]["uri"].as_str().unwrap();
        let of_this_type = by_type.entry(spec.to_owned()).or_default();
        *of_this_type += 1;
        if *of_this_type > 8 {
            continue;
        }
        let csv = mount.read(&format!("objects/{id}.csv"));
        assert!(csv == get(&portal, &format!("/csv/{id}")), "{id} differs");
        compared += 1;
        if compared >= 60 && by_type.len() >= 8 {
            break;
        }
    }
    let types = by_type.len();
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
