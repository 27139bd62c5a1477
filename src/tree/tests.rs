//! The tree against a simple model of it, and against arbitrary file names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{Directory, Listing, Node, Tree, TreeError};
use crate::catalog::{Catalog, ObjectSelection, Walk};
use icos_portal::http::{Http, Timeouts};
use icos_portal::lists::{ObjectRow, SpecRow, SuccessionRow};
use icos_portal::{Envri, MetadataClient, ObjectId, Services};

const SPEC: &str = "http://meta.icos-cp.eu/resources/cpmeta/aType";

/// A repository with one data type, which never sends a request.
struct TestTree {
    catalog: Catalog,
    tree: Tree,
    /// File names of the objects that are listed, in order of submission.
    model: Vec<(ObjectId, String)>,
    submitted: i64,
    _folder: tempfile::TempDir,
}

impl TestTree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let http = Http::new(Timeouts::default()).unwrap();
        let meta = MetadataClient::new(http, Services::of(Envri::Icos));
        let selection = ObjectSelection::default();
        let catalog = Catalog::open(meta, folder.path(), Duration::MAX, selection).unwrap();
        let spec = SpecRow {
            iri: SPEC.to_owned(),
            label: "A type".to_owned(),
            level: 2,
            format: "http://meta.icos-cp.eu/ontologies/cpmeta/netcdf".to_owned(),
            ..SpecRow::default()
        };
        catalog.insert_for_test(&[spec], &[], &[]).unwrap();
        Self {
            tree: Tree::new(catalog.clone()),
            catalog,
            model: Vec::new(),
            submitted: 0,
            _folder: folder,
        }
    }

    fn add(&mut self, file_name: &str) {
        self.submitted += 1;
        let id = ObjectId::of_content(&self.submitted.to_be_bytes());
        let time = Timestamp::from_second(self.submitted).unwrap();
        let row = ObjectRow {
            id,
            file_name: file_name.to_owned(),
            size: 1,
            submitted: time,
            spec: Some(SPEC.to_owned()),
            station: None,
            rows: None,
            column_names: None,
            doi: None,
            next: None,
            span: Some((time, time)),
            height: None,
        };
        self.catalog.insert_for_test(&[], &[row], &[]).unwrap();
        self.model.push((id, file_name.to_owned()));
    }

    fn supersede(&mut self, number: usize) {
        let (old, _) = self.model.remove(number);
        let new = ObjectId::of_content(b"newer");
        let row = SuccessionRow { old, new };
        self.catalog.insert_for_test(&[], &[], &[row]).unwrap();
    }

    fn data_type(&self) -> Node {
        let vocabulary = self.catalog.vocabulary();
        Node::Directory(Directory::DataType(Arc::clone(
            vocabulary.specs().next().unwrap(),
        )))
    }

    fn listing(&self, node: &Node) -> Listing {
        let Node::Directory(directory) = node else {
            panic!("a directory")
        };
        Listing::of(self.catalog.clone(), directory).unwrap()
    }

    /// The names in a directory. Asserts that each can be looked up.
    fn names(&self, node: &Node) -> BTreeMap<String, u64> {
        let mut names = BTreeMap::new();
        let mut from = 0;
        loop {
            let page = page(&self.listing(node), from, 7);
            let Some((_, _, next)) = page.last() else {
                break;
            };
            from = *next;
            for (name, inode, _) in page {
                let found = self.tree.lookup_cached(node, OsStr::new(&name));
                let found = found.expect("it is known").expect("it is there");
                assert_eq!(found.inode().0, inode, "{name:?}");
                assert!(
                    names.insert(name.clone(), inode).is_none(),
                    "{name:?} twice"
                );
            }
        }
        names
    }
}

#[test]
fn lookup_of_impossible_name_fails_without_a_request() {
    let mut repository = TestTree::new();
    repository.add("a.nc");
    let (data_type, lookup) = (repository.data_type(), |parent: &Node, name: &[u8]| {
        let found = repository
            .tree
            .lookup_cached(parent, OsStr::from_bytes(name));
        found.expect("no request is needed")
    });
    let file = lookup(&data_type, b"a.nc").unwrap();
    assert!(matches!(lookup(&file, b"x"), Err(TreeError::NotADirectory)));
    assert!(matches!(
        lookup(&data_type, b"\xff.nc"),
        Err(TreeError::NoSuchName)
    ));
    let objects = lookup(&Node::Directory(Directory::Root), b"objects").unwrap();
    assert!(matches!(
        lookup(&objects, b"no id"),
        Err(TreeError::NoSuchName)
    ));
    assert!(matches!(
        lookup(&Node::Directory(Directory::Root), b"x"),
        Err(TreeError::NoSuchName)
    ));
}

/// Some entries from a position on.
fn page(listing: &Listing, from: u64, len: usize) -> Vec<(String, u64, u64)> {
    let mut page = Vec::new();
    let walk = listing.entries(from, |entry| {
        if page.len() == len {
            return ControlFlow::Break(());
        }
        page.push((entry.name, entry.node.inode().0, entry.next));
        ControlFlow::Continue(())
    });
    assert!(matches!(walk, Ok(Walk::Stopped | Walk::AtEnd)), "{walk:?}");
    page
}

/// Arbitrary file names, often the same or nearly.
fn file_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab.~]{0,4}",
        "[ab](\\.original|\\.contents|\\.json|\\.csv|\\.nc|\\.gz){0,3}",
        "\\PC{0,300}",
        any::<String>(),
        (0_i64..9).prop_map(|n| format!("a~{}.nc", ObjectId::of_content(&n.to_be_bytes()))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_file_names_yield_valid_unique_names_that_resolve(
        names in prop::collection::vec(file_name(), 1..25),
    ) {
        let mut repository = TestTree::new();
        for name in &names {
            repository.add(name);
        }
        let node = repository.data_type();
        let listed = repository.names(&node);
        // `datatype.json`, and for each object the original and its sidecar.
        prop_assert_eq!(listed.len(), 1 + 2 * names.len());
        for name in listed.keys() {
            prop_assert!(!name.contains(['/', '\0']) && name.len() <= 255, "{:?}", name);
            prop_assert!(!name.is_empty() && name != "." && name != "..");
            prop_assert!(!name.chars().any(char::is_control), "{:?}", name);
        }
        // New objects never change an existing name, whatever their file names.
        repository.add(&names[0]);
        let later = repository.names(&node);
        prop_assert!(listed.iter().all(|(name, inode)| later.get(name) == Some(inode)));
    }

    #[test]
    fn tree_agrees_with_its_model_after_any_changes(
        steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>(), "[abc]\\.nc"), 1..40),
    ) {
        let mut repository = TestTree::new();
        // A listing that is read while the repository changes.
        let mut reading: Option<(Listing, u64, BTreeSet<u64>, BTreeSet<u64>)> = None;
        for (step, which, name) in steps {
            let node = repository.data_type();
            match step {
                0 | 1 => repository.add(&name),
                2 if !repository.model.is_empty() => {
                    let number = which.index(repository.model.len());
                    repository.supersede(number);
                    if let Some((_, _, _, listed_throughout)) = &mut reading {
                        let still: BTreeSet<u64> =
                            repository.names(&node).into_values().collect();
                        listed_throughout.retain(|inode| still.contains(inode));
                    }
                }
                _ => {
                    let (listing, from, mut seen, there) = reading.take().unwrap_or_else(|| {
                        let there = repository.names(&node).into_values().collect();
                        (repository.listing(&node), 0, BTreeSet::new(), there)
                    });
                    let page = page(&listing, from, 1 + which.index(5));
                    match page.last() {
                        Some((_, _, next)) => {
                            let next = *next;
                            for (name, inode, _) in page {
                                prop_assert!(seen.insert(inode), "{} twice", name);
                            }
                            reading = Some((listing, next, seen, there));
                        }
                        None => prop_assert!(there.is_subset(&seen), "an entry was dropped"),
                    }
                }
            }
            // The first object with a file name has that name, the others also
            // their ids.
            let mut expected = BTreeSet::from(["datatype.json".to_owned()]);
            for (id, file_name) in &repository.model {
                let stem = file_name.strip_suffix(".nc").unwrap();
                let name = if expected.contains(file_name) {
                    format!("{stem}~{id}")
                } else {
                    stem.to_owned()
                };
                expected.insert(format!("{name}.nc"));
                expected.insert(format!("{name}.json"));
            }
            let names: BTreeSet<String> = repository.names(&node).into_keys().collect();
            prop_assert_eq!(names, expected);
        }
    }
}
