//! Attributes of files and folders: link counts, names, handles, extended attributes,
//! and the figures of the file system.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use icos_demo::{Fault, FaultRule};

use crate::support::{TestMount, co2, interpreter, portal, python_script, said};

/// Calls `visit` with each path below `folder`, folders included.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        visit(&path);
        if path.is_dir() {
            walk(&path, visit);
        }
    }
}

/// Regression: each file had one link and each folder two, whatever they contained.
/// So `rsync -H` copied a file once for each of its names, and programs that count
/// sub-folders by links, such as those of Perl, found none.
#[test]
fn link_count_of_a_file_is_the_number_of_its_names_and_that_of_a_folder_is_unknown() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    let mut names: BTreeMap<u64, (u64, Vec<PathBuf>)> = BTreeMap::new();
    for folder in [
        "objects",
        "stations",
        "datatypes",
        "dataAppStorage",
        "documents",
    ] {
        let root = mount.path(folder);
        walk(&root, &mut |path| {
            let found = path.symlink_metadata().unwrap();
            if found.is_dir() {
                assert_eq!(found.nlink(), 1, "{}", path.display());
            } else {
                let (_, paths) = (names.entry(found.ino())).or_insert((found.nlink(), Vec::new()));
                paths.push(path.to_owned());
            }
        });
    }
    assert!(names.len() > 40, "only {} files", names.len());
    assert!(names.values().any(|(_, paths)| paths.len() == 4));
    for (links, paths) in names.values() {
        // A document has a name in the folder of objects, which does not list it.
        let listed = paths
            .iter()
            .any(|path| path.starts_with(mount.path("objects")));
        let cpb = paths
            .iter()
            .any(|path| path.extension().is_some_and(|end| end == "cpb"));
        let unlisted = u64::from(!listed && !cpb && paths[0].starts_with(mount.path("documents")));
        assert_eq!(*links, paths.len() as u64 + unlisted, "{paths:#?}");
    }
}

#[test]
fn disk_usage_counts_a_file_with_several_names_once() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    let sum = |folders: &[&str]| -> u64 {
        let mut du = Command::new("du");
        du.args([
            "--summarize",
            "--total",
            "--apparent-size",
            "--block-size=1",
        ]);
        du.args(folders.iter().map(|folder| mount.path(folder)));
        let output = du.output().expect("coreutils are installed");
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let total = text.lines().last().unwrap().split('\t').next().unwrap();
        total.parse().unwrap()
    };
    let (objects, types) = (sum(&["objects"]), sum(&["datatypes"]));
    let both = sum(&["objects", "datatypes"]);
    assert!(
        types > 0 && both < objects + types / 2,
        "{both}: {objects} and {types}"
    );
}

/// Regression: once the kernel had forgotten an inode, its handles failed with ESTALE.
#[test]
fn file_handle_stays_valid_after_the_kernel_has_forgotten_the_inode() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    let station = mount.list("stations").remove(0);
    let data_type = (mount.list(&format!("stations/{station}")).into_iter())
        .find(|name| name != "station.json")
        .unwrap();
    let id = co2(&portal);
    let paths = [
        "README.md".to_owned(),
        "objects".to_owned(),
        format!("objects/{id}.json"),
        format!("stations/{station}"),
        format!("stations/{station}/{data_type}"),
        format!("stations/{station}/station.json"),
        "datatypes".to_owned(),
        format!("collections/{}", mount.list("collections")[0]),
    ];
    let mut arguments = vec![mount.path("")];
    arguments.extend(paths.iter().map(|path| mount.path(path)));
    let said = python_script("handles.py", &arguments);
    assert!(said.contains("8 opened"), "{said}");
}

/// Regression: a lookup of such a name failed with ENOENT, or asked the portal.
#[test]
fn name_longer_than_255_bytes_is_too_long() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    for folder in ["", "objects/", "stations/", "collections/"] {
        for (len, errno) in [
            (255, libc::ENOENT),
            (256, libc::ENAMETOOLONG),
            (900, libc::ENAMETOOLONG),
        ] {
            let path = mount.path(&format!("{folder}{}", "x".repeat(len)));
            let error = path.metadata().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{folder} {len}");
        }
    }
}

/// Regression: names of attributes on the landing page were listed although the object
/// had no such attribute, and `getxattr` failed with ENODATA. A program that copies all
/// attributes skipped the file (`rsync -X`), or downloaded a page per file (Samba).
#[test]
fn listed_extended_attributes_can_all_be_read_without_a_request() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    let read_all = "import os, sys\n\
        for name in os.listdir(sys.argv[1]):\n    \
            path = os.path.join(sys.argv[1], name)\n    \
            for key in os.listxattr(path): os.getxattr(path, key); print(key)\n";
    let read_all = || {
        let mut python = interpreter();
        python.args(["-c", read_all]).arg(mount.path("objects"));
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    mount.list("objects");
    let before = portal.requests().len();
    let names = read_all();
    assert!(names.contains("user.icos.landing_page"), "{names}");
    assert_eq!(portal.requests().len(), before, "no request");

    // With the landing pages at hand, there are more attributes.
    for name in mount.list("objects") {
        if name.ends_with(".json") {
            mount.read(&format!("objects/{name}"));
        }
    }
    let names = read_all();
    assert!(names.contains("user.icos.citation"), "{names}");
}

/// Regression: `fstat` failed with the reason for which a table could not be read, and
/// rsync gave up with code 11 before it copied the rest.
#[test]
fn folder_with_an_unreadable_table_is_copied_but_for_that_table() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal);
    let fault = FaultRule::always(Fault::Status {
        code: 404,
        retry_after: None,
    });
    portal.add_fault(FaultRule {
        object: Some(id.to_string()),
        service: Some(icos_demo::DemoService::Data),
        ..fault
    });
    let copy = tempfile::tempdir().unwrap();
    let mut rsync = Command::new("rsync");
    rsync.args(["-a", "--exclude=*.parquet", "--exclude=*.contents"]);
    rsync.arg(mount.path("objects")).arg(copy.path());
    let output = rsync
        .output()
        .expect("rsync is installed (scripts/setup tests)");
    // Some files could not be transferred.
    assert_eq!(output.status.code(), Some(23), "{}", said(&output));
    let mut missing = mount.list("objects");
    missing.retain(|name| {
        let skipped = name.ends_with(".parquet") || name.ends_with(".contents");
        !skipped && !copy.path().join("objects").join(name).exists()
    });
    let unreadable = |name: &String| mount.try_read(&format!("objects/{name}")).is_err();
    assert!(missing.contains(&format!("{id}.csv")), "{missing:?}");
    assert!(missing.iter().all(unreadable), "{missing:?}");
}

/// Regression: `df` does not list a file system without blocks.
#[test]
fn file_system_of_a_fresh_mount_has_blocks_and_files_of_which_none_is_free() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    let figures = nix::sys::statfs::statfs(&mount.path("")).unwrap();
    assert!(figures.blocks() > 0 && figures.files() > 0);
    assert_eq!((figures.blocks_free(), figures.blocks_available()), (0, 0));
    assert_eq!(figures.files_free(), 0);
}

/// Regression: programs that cannot use inode numbers of more than 32 bits failed with
/// EOVERFLOW, and no option helped them.
#[test]
fn inode_numbers_of_32_bits_are_distinct_and_the_same_for_all_names() {
    let portal = portal();
    let mount = TestMount::with(
        &portal,
        &["--inode32"],
        &[("ICOSFS_TOKEN", &portal.token())],
    );
    let mut paths: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for folder in ["objects", "datatypes"] {
        walk(&mount.path(folder), &mut |path| {
            let inode = path.symlink_metadata().unwrap().ino();
            assert!(inode < 1 << 32, "{inode}");
            paths.entry(inode).or_default().push(path.to_owned());
        });
    }
    assert!(paths.len() > 40 && paths.values().any(|paths| paths.len() == 2));
    for paths in paths.values().filter(|paths| paths[0].is_file()) {
        let links = paths[0].symlink_metadata().unwrap().nlink();
        assert!(paths.len() as u64 <= links, "{paths:?}");
    }
    let id = co2(&portal);
    let csv = portal.repository().csv(&id).unwrap();
    assert!(mount.read(&format!("objects/{id}.csv")) == csv.as_bytes());
}
