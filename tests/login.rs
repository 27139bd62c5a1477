//! Access to data and metadata with and without a login.

use std::time::{Duration, Instant};

use icos_demo::DemoService;

use crate::support::{TestMount, co2, portal};

#[test]
fn metadata_requests_carry_no_cookie() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    for name in mount.list("objects") {
        if name.ends_with(".json") || name.ends_with(".csv") {
            let _ = mount.try_read(&format!("objects/{name}"));
        }
    }
    let requests = portal.requests();
    let (meta, others): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|r| r.service == DemoService::Meta);
    assert!(
        meta.len() > 10 && others.iter().any(|r| r.cookie),
        "both were asked"
    );
    for request in meta {
        assert!(!request.cookie, "{request:?}");
    }
}

#[test]
fn without_login_metadata_is_readable_and_tables_are_not() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    let names = mount.run("ls", &["objects"]);
    let names = String::from_utf8(names.stdout).unwrap();
    let sidecars: Vec<_> = names.lines().filter(|n| n.ends_with(".json")).collect();
    assert!(sidecars.len() > 10, "{names}");
    for name in sidecars {
        mount.read(&format!("objects/{name}"));
    }
    // The fastest of several, since the machine may be busy.
    let fastest = (0..5)
        .map(|_| {
            let start = Instant::now();
            let path = format!("objects/{}.csv", co2(&portal));
            let error = mount.try_read(&path).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    eprintln!("a table is refused in {fastest:?}");
    let output = mount.icosfs().arg("status").output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(
        status.contains("icosfs login") && status.contains("needs a login"),
        "{status}"
    );
}

#[test]
fn unaccepted_licence_is_reported_with_its_page_and_accepting_it_needs_no_remount() {
    let portal = portal();
    portal.accept_licence(false);
    let mount = TestMount::of(&portal);
    let table = co2(&portal);
    // The data service responds in two ways: a 302 to the licence page, or a 403.
    let files = [
        format!("objects/{table}.original.zip"),
        format!("objects/{table}.csv"),
    ];
    for file in &files {
        let error = mount.try_read(file).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{file}");
        let reason = mount.last_reason();
        assert!(
            reason.contains("licence") && reason.contains(&portal.auth_url()),
            "{file}: {reason}"
        );
    }

    portal.accept_licence(true);
    for file in &files {
        mount.read(file);
    }
}

#[test]
fn many_readers_cause_one_password_login() {
    let portal = portal();
    let (user, password) = (portal.user(), portal.password());
    let env = [
        ("ICOSFS_USER", user.as_str()),
        ("ICOSFS_PASSWORD", password.as_str()),
    ];
    let mount = TestMount::with(&portal, &[], &env);
    let tables = mount.tables();
    std::thread::scope(|scope| {
        for table in &tables {
            let mount = &mount;
            scope.spawn(move || mount.try_read(&format!("objects/{table}.csv")));
        }
    });
    let logins = portal
        .requests()
        .iter()
        .filter(|r| r.path == "/password/login")
        .count();
    assert_eq!(logins, 1);
}

#[test]
fn malformed_token_is_refused_before_mounting_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_icosfs"))
        .arg("mount")
        .arg(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        .env("ICOSFS_TOKEN", "cpauthToken=hunter2hunter2")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("ICOSFS_TOKEN") && !message.contains("hunter2"),
        "{message}"
    );
}
