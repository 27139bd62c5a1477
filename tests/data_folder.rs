//! The portal's own data folder, on machines that have it (Jupyter).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use icos_demo::DemoPortal;
use icos_portal::ObjectId;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Home, SilentPortal, TestMount, co2, eventually, feed, get, portal, said, services_of,
};

/// Creates the table and the original of `id` at their paths on the portal's disk.
fn data_folder(portal: &DemoPortal, id: ObjectId, home: &Home) -> PathBuf {
    let folder = home.path().join("dataAppStorage");
    let formats = folder.join("asciiAtcProductTimeSer");
    fs::create_dir_all(&formats).unwrap();
    let repository = portal.repository();
    fs::write(
        formats.join(format!("{id}.cpb")),
        repository.cpb(&id).unwrap(),
    )
    .unwrap();
    fs::write(
        formats.join(id.to_string()),
        repository.original(&id).unwrap(),
    )
    .unwrap();
    folder
}

fn reports(portal: &DemoPortal) -> Vec<Value> {
    let requests = portal.requests();
    let reports = requests.iter().filter(|r| r.path == "/logs/portaluse");
    reports
        .map(|r| serde_json::from_str(&r.body).unwrap())
        .collect()
}

fn downloads(portal: &DemoPortal) -> usize {
    let requests = portal.requests();
    let routes = ["cpb", "csv", "objects"];
    let of_data = requests
        .iter()
        .filter(|r| r.service == icos_demo::DemoService::Data);
    of_data.filter(|r| routes.contains(&&*r.route)).count()
}

#[test]
fn link_out_of_the_data_folder_is_not_followed() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal);
    let folder = data_folder(&portal, id, &home);
    let original = portal.repository().original(&id).unwrap();
    let inside = folder.join("asciiAtcProductTimeSer").join(id.to_string());
    // Of the same length, but not for users of the mount.
    let outside = home.path().join("outside");
    fs::write(&outside, vec![b'!'; original.len()]).unwrap();
    fs::remove_file(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    let variables = [
        ("PORTAL_DATA_PATH_ICOS", &*folder.display().to_string()),
        ("ICOSFS_TOKEN", &portal.token()),
    ];
    let mount = TestMount::at(home, &portal, &[], &variables, "");
    let path = format!("objects/{id}.original.zip");
    assert!(mount.read(&path) == original, "it is downloaded instead");
}

#[test]
fn data_folder_needs_no_login_and_its_use_is_reported() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal);
    let folder = data_folder(&portal, id, &home).display().to_string();
    let mount = TestMount::at(
        home,
        &portal,
        &[],
        &[("PORTAL_DATA_PATH_ICOS", &folder)],
        "",
    );

    let csv = mount.read(&format!("objects/{id}.csv"));
    let original = mount.read(&format!("objects/{id}.original.zip"));
    assert_eq!(Some(original), portal.repository().original(&id));
    assert_eq!(downloads(&portal), 0);
    assert!(csv == get(&portal, &format!("/csv/{id}")));

    assert!(eventually(Duration::from_secs(5), || reports(&portal)
        .len()
        == 2));
    for report in reports(&portal) {
        let access = &report["cpbFileAccess"];
        assert_eq!(access["objects"], serde_json::json!([id.to_string()]));
        assert_eq!(access["client"], "icosfs");
        assert_eq!(access["version"], env!("CARGO_PKG_VERSION"));
    }
    assert!(
        portal
            .requests()
            .iter()
            .all(|r| r.path != "/logs/portaluse" || !r.cookie)
    );
}

#[test]
fn usage_reports_contain_the_user_and_can_be_turned_off() {
    for (options, expected) in [(&[][..], 1), (&["--no-usage-report"], 0)] {
        let (portal, home) = (portal(), Home::new());
        let id = co2(&portal);
        let folder = data_folder(&portal, id, &home).display().to_string();
        let mut options = options.to_vec();
        options.extend(["--data-path", &folder]);
        let token = portal.token();
        let mount = TestMount::at(home, &portal, &options, &[("ICOSFS_TOKEN", &token)], "");
        mount.read(&format!("objects/{id}.csv"));
        let reported = || reports(&portal).len() == expected;
        if expected == 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
        assert!(eventually(Duration::from_secs(5), reported));
        let by_name = portal.requests();
        assert!(
            by_name
                .iter()
                .all(|r| r.path != "/logs/portaluse" || r.cookie)
        );
    }
}

#[test]
fn usage_report_does_not_delay_reads() {
    let (portal, home, silent) = (portal(), Home::new(), SilentPortal::new());
    let id = co2(&portal);
    let folder = data_folder(&portal, id, &home).display().to_string();
    let auth = format!("--auth-url={}", silent.url());
    let options = [&*auth, "--data-path", &folder];
    let mount = TestMount::at(home, &portal, &options, &[], "");
    mount.list("objects");
    let start = Instant::now();
    mount.read(&format!("objects/{id}.original.zip"));
    mount.read(&format!("objects/{id}.csv"));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn missing_or_truncated_data_folder_files_come_from_the_data_service() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal);
    let folder = data_folder(&portal, id, &home);
    let formats = folder.join("asciiAtcProductTimeSer");
    fs::remove_file(formats.join(id.to_string())).unwrap();
    fs::write(formats.join(format!("{id}.cpb")), "short").unwrap();
    let folder = folder.display().to_string();
    let token = portal.token();
    let env = [("ICOSFS_TOKEN", &*token)];
    let mount = TestMount::at(home, &portal, &["--data-path", &folder], &env, "");
    let csv = mount.read(&format!("objects/{id}.csv"));
    assert!(csv == get(&portal, &format!("/csv/{id}")));
    mount.read(&format!("objects/{id}.original.zip"));
    assert!(reports(&portal).is_empty());
}

#[test]
fn missing_data_folder_is_an_error_only_if_given_explicitly() {
    let (portal, home) = (portal(), Home::new());
    let nowhere = home.path().join("nowhere").display().to_string();
    let mountpoint = home.path().join("m");
    fs::create_dir(&mountpoint).unwrap();
    let output = mount_there(&home, &portal, &mountpoint, Some(&nowhere));
    assert!(!output.status.success());
    assert!(said(&output).contains(&nowhere), "{output:?}");
    TestMount::at(
        home,
        &portal,
        &[],
        &[("PORTAL_DATA_PATH_ICOS", &nowhere)],
        "",
    );
}

/// Users may set the variable to their own mount, which has the same folders.
#[test]
fn data_folder_inside_an_icosfs_mount_is_ignored_with_a_warning() {
    let portal = portal();
    let other = TestMount::of(&portal);
    let home = Home::new();
    let mountpoint = home.path().join("m");
    fs::create_dir(&mountpoint).unwrap();
    std::os::unix::fs::symlink(other.path("objects"), home.path().join("link")).unwrap();
    // The check must not wait even for a mount that does not respond.
    other.stop();
    for inside in [
        mountpoint.clone(),
        mountpoint.join("dataAppStorage"),
        other.path(""),
        other.path("dataAppStorage"),
        home.path().join("link"),
    ] {
        let inside = inside.display().to_string();
        let start = Instant::now();
        let output = mount_there(&home, &portal, &mountpoint, Some(&inside));
        let text = said(&output);
        assert!(output.status.success(), "{inside}: {text}");
        assert!(start.elapsed() < Duration::from_secs(20), "{inside}");
        assert!(
            text.contains("left out") && text.contains("inside the icosfs mount at"),
            "{inside}: {text}"
        );
        let table = mountpoint.join(format!("objects/{}.csv", co2(&portal)));
        assert!(fs::metadata(table).unwrap().len() > 0);
        let unmount = home.run(&portal, &["unmount", &mountpoint.display().to_string()], "");
        assert!(unmount.status.success(), "{unmount:?}");
    }
    other.signal(Signal::SIGCONT);
}

fn mount_there(
    home: &Home,
    portal: &DemoPortal,
    mountpoint: &Path,
    data_path: Option<&str>,
) -> std::process::Output {
    let mut command = home.icosfs();
    command.arg("mount").args(services_of(portal, &[]));
    if let Some(path) = data_path {
        command.args(["--data-path", path]);
    }
    command.arg(mountpoint);
    feed(command, "")
}
