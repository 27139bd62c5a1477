//! Commands that use a mount of the demo: its portal, cache and login come from the mount,
//! for a path in it and for `--portal demo`.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Home, TestMount, co2, portal, said, write_credentials};

/// A mount of the demo in a home of its own, unmounted on drop.
struct DemoMount {
    home: Home,
    id: String,
}

impl DemoMount {
    fn new() -> Self {
        let home = Home::new();
        std::fs::create_dir(home.path().join("icos")).unwrap();
        let mut demo = Self {
            home,
            id: String::new(),
        };
        demo.run(&["mount", "--demo", "icos"]);
        // Of the newest version.
        let found = demo.run(&["find", "--paths", "icos", "--name", "HTM_150.0_CTS.CO2"]);
        let name = found.trim().rsplit('/').next().unwrap();
        demo.id.push_str(name.trim_end_matches(".csv"));
        demo
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("icos")
    }

    /// Prepares the program with settings that lead nowhere, and another login.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.icosfs();
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("ICOSFS_META_URL", "http://127.0.0.1:1")
            .env("ICOSFS_DATA_URL", "http://127.0.0.1:1")
            .env("ICOSFS_CACHE_DIR", "/nowhere/at/all")
            .env("ICOSFS_CREDENTIALS", "/nowhere/login.json");
        // The demos of other tests have other cache folders.
        if arguments[0] == "mount" || arguments.contains(&"demo") {
            command.env_remove("ICOSFS_CACHE_DIR");
        }
        command
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for DemoMount {
    fn drop(&mut self) {
        let _ = self.try_run(&["unmount", "--lazy", "icos"]);
    }
}

#[test]
fn commands_with_a_path_use_the_portal_the_cache_and_the_login_of_its_mount() {
    let demo = DemoMount::new();
    let id = &demo.id;
    let table = format!("icos/objects/{id}.csv");
    assert!(demo.run(&["info", &table]).contains("Hyltemossa"));
    let rows = demo.run(&["get", &table, "--rows", "..2"]);
    assert_eq!(rows.lines().count(), 3, "{rows}");
    let named = "icos/stations/HTM/atcCo2L2DataObject";
    let named = std::fs::read_dir(demo.home.path().join(named))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "csv"))
        .unwrap();
    assert_eq!(
        demo.run(&["get", named.to_str().unwrap(), "--rows", "..2"]),
        rows
    );
    assert!(demo.run(&["prefetch", &table]).contains("1 file is cached"));
    assert!(
        demo.run(&["cache", "pin", &table])
            .contains("pinned 1 object")
    );
    assert!(
        demo.run(&["cache", "unpin", &table])
            .contains("unpinned 1 object")
    );
    assert!(demo.run(&["cache", "evict", &table]).starts_with("removed"));
}

#[test]
fn portal_of_a_mount_can_be_named() {
    let demo = DemoMount::new();
    let folder = demo.path().display().to_string();
    for portal in ["demo", &folder, "./icos"] {
        let run = |arguments: &[&str]| demo.run(&[arguments, &["--portal", portal]].concat());
        assert_eq!(run(&["stations", "finland"]).lines().count(), 1, "{portal}");
        assert!(run(&["datatypes", "co2"]).contains("atcCo2L2DataObject"));
        assert!(run(&["find", "--station", "HTM"]).contains(&demo.id));
        assert!(run(&["info", &demo.id]).contains("Hyltemossa"));
        assert_eq!(run(&["get", &demo.id, "--rows", "..2"]).lines().count(), 3);
        assert!(run(&["auth", "status"]).contains("demo@icosfs.example"));
        assert!(run(&["cache", "info"]).contains("total"));
        assert!(run(&["prefetch", &demo.id]).contains("1 file is cached"));
    }
    // The variable suffices for all commands, also for the mount itself.
    let mut command = demo.command(&["find", "--station", "HTM"]);
    command
        .env("ICOSFS_PORTAL", "demo")
        .env_remove("ICOSFS_CACHE_DIR");
    let output = command.output().unwrap();
    assert!(said(&output).contains(&demo.id), "{}", said(&output));
    let status: Value = serde_json::from_str(&demo.run(&["status", "--json", "icos"])).unwrap();
    assert_eq!(status[0]["login_from"], "demo");
}

#[test]
fn portal_that_is_not_mounted_is_an_error() {
    let home = Home::new();
    let folder = home.path().display().to_string();
    let output = home
        .icosfs()
        .args(["find", "--portal", &folder])
        .output()
        .unwrap();
    let expected = format!("icosfs: no icosfs is mounted at {folder} (--portal)\nhint: ");
    let message = said(&output);
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn login_file_of_a_mount_is_used_for_its_files() {
    let portal = portal();
    let home = Home::new();
    let login = home.path().join("login.json");
    write_credentials(&portal, &login, None);
    let option = format!("--credentials={}", login.display());
    let mount = TestMount::at(home, &portal, &[&option], &[], "");
    let table = mount.path(&format!("objects/{}.csv", co2(&portal)));
    let output = mount
        .icosfs()
        .args(["get", table.to_str().unwrap(), "--rows", "..1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}
