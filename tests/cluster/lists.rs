//! The lists of the portal, which one machine of a cluster requests.

use std::collections::BTreeMap;

use icos_demo::{DemoPortal, DemoService};

use super::{SOON, SharedStore, shared_status, small_tables};
use crate::support::{TestMount, eventually, files_below, portal, slices};

/// Returns how often each query was sent.
fn queries(portal: &DemoPortal) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in portal.requests() {
        if request.service == DemoService::Meta && request.path.ends_with("/sparql") {
            *counts.entry(request.body).or_default() += 1;
        }
    }
    counts
}

fn list_everything(mount: &TestMount) -> Vec<Vec<String>> {
    let folders = [
        "objects",
        "stations",
        "collections",
        "documents",
        "datatypes",
    ];
    folders.map(|folder| mount.list(folder)).to_vec()
}

#[test]
fn lists_are_requested_once_by_machines_that_start_at_once() {
    let (portal, store) = (portal(), SharedStore::keyed());
    let mounts = std::thread::scope(|scope| {
        let mount = || {
            let mount = store.mount(&portal);
            let lists = list_everything(&mount);
            (mount, lists)
        };
        let mounts = [(); 4].map(|()| scope.spawn(mount));
        mounts.map(|mount| mount.join().unwrap())
    });
    assert!(mounts.windows(2).all(|pair| pair[0].1 == pair[1].1));
    assert!(mounts[0].1.iter().all(|list| !list.is_empty()));
    let queries = queries(&portal);
    assert!(queries.len() > 5, "{queries:?}");
    assert!(queries.values().all(|&count| count == 1), "{queries:?}");

    portal.clear_requests();
    let refresh = mounts[0]
        .0
        .icosfs()
        .arg("refresh")
        .arg(mounts[0].0.path(""))
        .output();
    assert!(refresh.unwrap().status.success());
    let refreshed = self::queries(&portal).len();
    assert!(
        refreshed > 3,
        "a refresh by the user asks the portal: {refreshed}"
    );
}

#[test]
fn forged_lists_are_rejected_and_requested_again() {
    let (portal, store) = (portal(), SharedStore::keyed());
    let lists = list_everything(&store.mount(&portal));
    let files = files_below(&store.path());
    let answers = (files.iter())
        .filter(|path| path.components().any(|part| part.as_os_str() == "list"))
        .filter(|path| path.ends_with("0"));
    let mut forged = 0;
    for answer in answers {
        let mut bytes = std::fs::read(answer).unwrap();
        bytes[7] ^= 1;
        std::fs::write(answer, bytes).unwrap();
        forged += 1;
    }
    assert!(forged > 5, "{files:?}");
    let second = store.mount(&portal);
    assert_eq!(list_everything(&second), lists);
    assert_eq!(shared_status(&second)["rejected"], forged);
    assert!(queries(&portal).values().all(|&count| count == 2));
}

#[test]
fn lists_are_not_shared_without_a_key() {
    let (portal, store) = (portal(), SharedStore::without_key());
    let mounts = [(); 2].map(|()| store.mount(&portal));
    assert_eq!(list_everything(&mounts[0]), list_everything(&mounts[1]));
    assert!(queries(&portal).values().all(|&count| count == 2));
}

/// The size of a table's CSV is known once a machine has rendered it.
#[test]
fn sizes_that_one_machine_found_out_are_known_to_another() {
    let (portal, files) = small_tables(3);
    let store = SharedStore::keyed();
    let first = store.mount(&portal);
    for (path, right) in &files {
        assert!(first.read(path) == *right);
    }
    let unmount = first.icosfs().arg("unmount").arg(first.path("")).output();
    assert!(unmount.unwrap().status.success());
    let has_sizes = || {
        let mut files = files_below(&store.path()).into_iter();
        files.any(|path| path.ends_with("sizes/1/0"))
    };
    assert!(eventually(SOON, has_sizes));
    portal.clear_requests();
    let second = store.mount(&portal);
    for (path, right) in &files {
        let is_known = || second.path(path).metadata().unwrap().len() == right.len() as u64;
        assert!(eventually(SOON, is_known), "{path}");
    }
    assert_eq!(slices(&portal), 0);
}
