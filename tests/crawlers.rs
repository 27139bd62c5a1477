//! Programs that read the first bytes of every file: indexers and thumbnailers.

use std::path::PathBuf;
use std::process::Command;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService};

use crate::support::{Home, TestMount};

/// A copy of `head` with the name of another program.
struct Program {
    path: PathBuf,
    _folder: Home,
}

impl Program {
    fn named(name: &str) -> Self {
        let folder = Home::new();
        let path = folder.path().join(name);
        std::fs::copy("/usr/bin/head", &path).expect("coreutils are installed");
        Self {
            path,
            _folder: folder,
        }
    }

    /// Reads the first bytes of each of these files, and returns how many could be read.
    fn reads(&self, mount: &TestMount, names: &[String]) -> usize {
        let read = |name: &&String| {
            let path = mount.path(&format!("objects/{name}"));
            let mut head = Command::new(&self.path);
            let output = head.arg("-c512").arg(path).output().expect("it runs");
            output.status.success() && !output.stdout.is_empty()
        };
        names.iter().filter(read).count()
    }
}

fn downloads(portal: &DemoPortal) -> usize {
    let requests = portal.requests();
    let data = requests.iter().filter(|r| r.service == DemoService::Data);
    data.filter(|r| r.path != "/whoami").count()
}

/// Forty tables, with their files.
fn forty_tables() -> (DemoPortal, Vec<String>) {
    let mut repository = DemoRepository::builtin(1);
    let ids: Vec<_> = (0..40)
        .map(|number| repository.add_table(&format!("table_{number}.csv"), 7, 100))
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let files = |id| ["csv", "json", "parquet"].map(|ending| format!("{id}.{ending}"));
    (portal, ids.into_iter().flat_map(files).collect())
}

/// Regression: an indexer in a folder of forty tables caused 42 downloads.
#[test]
fn indexer_reads_cached_files_only_and_other_programs_all() {
    let (portal, names) = forty_tables();
    let mount = TestMount::of(&portal);
    mount.list("objects");
    portal.clear_requests();
    // The kernel has 15 bytes of this name.
    for name in ["tumblerd", "localsearch-extractor-3"] {
        let crawler = Program::named(name);
        assert_eq!(crawler.reads(&mount, &names), 0, "{name}");
    }
    assert_eq!(portal.requests().len(), 0);
    assert_eq!(mount.status()["served"]["refused_crawlers"], 240);
    let status = mount.icosfs().arg("status").arg(mount.path("")).output();
    let text = String::from_utf8(status.unwrap().stdout).unwrap();
    assert!(text.contains("240 opens of uncached files"), "{text}");

    let some = &names[..6];
    assert_eq!(Program::named("cat").reads(&mount, some), 6);
    for name in some {
        mount.read(&format!("objects/{name}"));
    }
    let before = downloads(&portal);
    assert!(before > 0);
    let crawler = Program::named("tumblerd");
    assert_eq!(crawler.reads(&mount, some), 6, "they are in the cache");
    assert_eq!(crawler.reads(&mount, &names[6..]), 0);
    assert_eq!(downloads(&portal), before);
}

#[test]
fn list_of_crawlers_can_be_changed_and_emptied() {
    let (portal, names) = forty_tables();
    let token = portal.token();
    for (option, tumblerd, mine) in [("--crawlers=mine,other", 3, 0), ("--crawlers=", 3, 3)] {
        let mount = TestMount::with(&portal, &[option], &[("ICOSFS_TOKEN", &token)]);
        let some = &names[..3];
        assert_eq!(Program::named("mine").reads(&mount, some), mine, "{option}");
        assert_eq!(Program::named("tumblerd").reads(&mount, some), tumblerd);
    }
}

/// A crawler that lists sizes must not wait for them, nor download anything.
#[test]
fn indexer_gets_estimates_with_exact_size_always() {
    let (portal, names) = forty_tables();
    let token = portal.token();
    let options = ["--exact-size=always", "--crawlers=stat"];
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &token)]);
    mount.list("objects");
    portal.clear_requests();
    for name in &names {
        mount.run("stat", &[&format!("objects/{name}")]);
    }
    assert_eq!(portal.requests().len(), 0);
}

#[test]
fn root_has_a_marker_that_indexers_obey() {
    let (portal, _) = forty_tables();
    let mount = TestMount::anonymous(&portal);
    assert!(mount.list("").contains(&".nomedia".to_owned()));
    assert!(mount.read(".nomedia").is_empty());
}
