//! `icosfs login`, `logout` and `auth`, and the shared credentials file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use icos_demo::DemoPortal;
use jiff::SignedDuration;
use serde_json::Value;

use crate::support::{
    Home, SilentPortal, TestMount, co2, eventually, feed, portal, said, services_of,
    write_credentials,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn logins(portal: &DemoPortal) -> usize {
    let requests = portal.requests();
    requests
        .iter()
        .filter(|r| r.path == "/password/login")
        .count()
}

fn reads(mount: &TestMount, portal: &DemoPortal) -> Result<(), i32> {
    let table = mount.try_read(&format!("objects/{}.csv", co2(portal)));
    table
        .map(|_| ())
        .map_err(|error| error.raw_os_error().unwrap_or(0))
}

#[test]
fn login_is_tested_before_it_is_saved_and_reports_the_licence() {
    let (portal, home) = (portal(), Home::new());
    let login = ["login", "--user", &portal.user(), "--password-stdin"];

    let output = home.run(&portal, &login, "wrong\n");
    assert!(!output.status.success());
    assert!(said(&output).contains("nothing was saved"), "{output:?}");
    assert!(!home.credentials().exists());

    portal.accept_licence(false);
    let output = home.run(&portal, &login, &format!("{}\n", portal.password()));
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        &*portal.user(),
        &home.credentials().display().to_string(),
        "obfuscated, not encrypted",
        "licence is not accepted yet",
        &portal.auth_url(),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains(&portal.password()));
    assert_eq!(mode(&home.credentials()), 0o600);
    let file = json(&home.credentials());
    let cookie = file["cookie_value"].as_str().unwrap();
    assert!(cookie.starts_with("cpauthToken=") && cookie.ends_with("=;") || cookie.ends_with(';'));
    assert!(!cookie.ends_with(";;") && !text.contains(cookie.trim_end_matches(';')));

    portal.accept_licence(true);
    let output = home.run(&portal, &login, &portal.password());
    assert!(said(&output).contains("the data licence is accepted"));
}

/// With a full home folder, for example, each mount logs in again and data stays
/// readable.
#[test]
fn token_that_cannot_be_saved_is_used_all_the_same() {
    let (portal, home) = (portal(), Home::new());
    write_credentials(&portal, &home.credentials(), None);
    let before = fs::read(home.credentials()).unwrap();
    let name = home.credentials().file_name().unwrap().to_owned();
    let new = format!(".{}.new/full", name.display());
    fs::create_dir_all(home.credentials().with_file_name(new)).unwrap();
    let mount = TestMount::at(home, &portal, &[], &[], "");
    assert_eq!(reads(&mount, &portal), Ok(()));
    assert_eq!(logins(&portal), 1);
    assert_eq!(fs::read(mount.home().credentials()).unwrap(), before);
}

#[test]
fn corrupt_credentials_file_is_reported_with_its_line_and_not_modified() {
    let (portal, home) = (portal(), Home::new());
    let damaged = "{\"user_id\": \"a\",\n\"password\": nonsense}";
    fs::create_dir(home.path().join(".icoscp")).unwrap();
    fs::write(home.credentials(), damaged).unwrap();
    let login = ["login", "--user", &portal.user(), "--password-stdin"];
    for (arguments, input) in [
        (&["auth", "status"][..], ""),
        (&["auth", "token"], ""),
        (&login, "let me in"),
    ] {
        let output = home.run(&portal, arguments, input);
        let place = format!("{} is damaged in line 2", home.credentials().display());
        assert!(!output.status.success());
        assert!(said(&output).contains(&place), "{arguments:?}: {output:?}");
    }
    let mount = TestMount::at(home, &portal, &[], &[], "");
    mount.list("objects");
    assert_eq!(reads(&mount, &portal), Err(libc::EACCES));
    assert!(mount.last_reason().contains("is damaged in line 2"));
    assert_eq!(
        fs::read_to_string(mount.home().credentials()).unwrap(),
        damaged
    );
}

#[test]
fn credentials_readable_by_others_get_mode_0600_with_a_warning() {
    let (portal, home) = (portal(), Home::new());
    write_credentials(&portal, &home.credentials(), None);
    fs::set_permissions(home.credentials(), fs::Permissions::from_mode(0o644)).unwrap();
    let output = home.run(&portal, &["auth", "status"], "");
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output).contains("had mode 0644"), "{output:?}");
    assert_eq!(mode(&home.credentials()), 0o600);
}

#[test]
fn login_token_is_tested_saved_separately_and_preferred_until_it_expires() {
    let (portal, home) = (portal(), Home::new());
    let save = |token: &str| home.run(&portal, &["login", "--token-stdin"], token);

    let revoked = portal.token();
    portal.revoke_tokens();
    let output = save(&revoked);
    assert!(!output.status.success());
    let text = said(&output);
    assert!(
        text.contains("nothing was saved") && text.contains(&portal.auth_url()),
        "{text}"
    );
    assert!(!home.saved_token().exists());

    write_credentials(&portal, &home.credentials(), None);
    let token = portal.token();
    let value = token.split_once('=').unwrap().1;
    let output = save(&format!("{value};\n"));
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output).contains(&portal.auth_url()) && !said(&output).contains(value));
    assert_eq!(mode(&home.saved_token()), 0o600);
    let source = |home: &Home| {
        let output = home.run(&portal, &["auth", "status", "--json"], "");
        let status: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        status["login"]["source"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(source(&home), home.saved_token().display().to_string());

    let expired = portal.mint_token(SignedDuration::from_secs(-1));
    fs::write(home.saved_token(), expired).unwrap();
    assert_eq!(source(&home), home.credentials().display().to_string());

    // The newest login takes precedence.
    assert!(save(&portal.token()).status.success());
    let login = ["login", "--user", &portal.user(), "--password-stdin"];
    assert!(
        home.run(&portal, &login, &portal.password())
            .status
            .success()
    );
    assert_eq!(source(&home), home.credentials().display().to_string());
}

#[test]
fn logout_removes_the_saved_login() {
    let (portal, home) = (portal(), Home::new());
    write_credentials(&portal, &home.credentials(), None);
    assert!(
        home.run(&portal, &["login", "--token-stdin"], &portal.token())
            .status
            .success()
    );
    let output = home.run(&portal, &["logout"], "");
    assert!(output.status.success());
    for path in [home.credentials(), home.saved_token()] {
        assert!(!path.exists() && said(&output).contains(&path.display().to_string()));
    }
    let output = home.run(&portal, &["logout"], "");
    assert!(
        output.status.success() && said(&output).contains("no login"),
        "{output:?}"
    );
}

#[test]
fn auth_status_shows_user_source_expiry_and_licence_but_no_secret() {
    let (portal, home) = (portal(), Home::new());
    let output = home.run(&portal, &["auth", "status"], "");
    assert!(!output.status.success());
    assert!(said(&output).contains("icosfs login"), "{output:?}");

    let token = portal.token();
    write_credentials(&portal, &home.credentials(), Some(&token));
    let output = home.run(&portal, &["auth", "status"], "");
    assert!(output.status.success(), "{output:?}");
    let text = said(&output);
    for part in [
        &*portal.user(),
        &home.credentials().display().to_string(),
        "27 h left",
        "licence accepted",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let output = home.run(&portal, &["auth", "status", "--json"], "");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let login = &status["login"];
    assert_eq!(status["portal"], "ICOS");
    assert_eq!(login["user"], portal.user());
    assert_eq!(login["method"], "Password");
    assert_eq!(login["licence"], "accepted");
    assert!((99_000..=100_000).contains(&login["seconds_left"].as_i64().unwrap()));
    let secret = token.split_once('=').unwrap().1;
    assert!(!text.contains(secret) && !said(&output).contains(secret));
    assert_eq!(logins(&portal), 0);

    portal.accept_licence(false);
    let output = home.run(&portal, &["auth", "status"], "");
    assert!(!output.status.success() && said(&output).contains("licence is not accepted"));
}

#[test]
fn auth_token_prints_the_token_that_mounts_use() {
    let (portal, home) = (portal(), Home::new());
    write_credentials(&portal, &home.credentials(), None);
    let token = || {
        let output = home.run(&portal, &["auth", "token"], "");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = token();
    assert_eq!(token(), first);
    assert_eq!(logins(&portal), 1);
    let whoami = std::process::Command::new("curl")
        .args(["--silent", "--cookie", first.trim()])
        .arg(format!("{}/whoami", portal.auth_url()))
        .output()
        .unwrap();
    let whoami = String::from_utf8(whoami.stdout).unwrap();
    assert!(whoami.contains(&portal.user()), "{whoami}");
}

#[test]
fn login_and_logout_take_effect_in_a_running_mount_at_once() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    assert!(mount.status()["login"].is_null());
    assert_eq!(reads(&mount, &portal), Err(libc::EACCES));

    let user = portal.user();
    let login = ["login", "--user", &user, "--password-stdin"];
    let output = mount.home().run(&portal, &login, &portal.password());
    assert!(output.status.success(), "{output:?}");
    assert!(eventually(Duration::from_secs(2), || {
        !mount.status()["login"].is_null()
    }));
    assert_eq!(mount.status()["login"]["user"], user);
    assert_eq!(reads(&mount, &portal), Ok(()));

    assert!(mount.home().run(&portal, &["logout"], "").status.success());
    assert!(eventually(Duration::from_secs(2), || {
        mount.status()["login"].is_null()
    }));
    let flux = portal
        .repository()
        .find("ICOSETC_SE-Htm_FLUXES_L2.csv")
        .unwrap();
    let error = mount.try_read(&format!("objects/{flux}.csv")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}

#[test]
fn replaced_token_file_is_read_again() {
    let (portal, home) = (portal(), Home::new());
    let file = home.path().join("token");
    fs::write(&file, portal.mint_token(SignedDuration::from_secs(-1))).unwrap();
    let option = file.display().to_string();
    let mount = TestMount::at(home, &portal, &["--token-file", &option], &[], "");
    assert_eq!(reads(&mount, &portal), Err(libc::EACCES));

    fs::write(&file, format!("{};\n", portal.token())).unwrap();
    assert_eq!(reads(&mount, &portal), Ok(()));
}

/// Regression: the daemon changes its working directory, could not find a
/// relative path again and took the file for removed.
#[test]
fn relative_credentials_path_works_after_daemonizing() {
    let (portal, home) = (portal(), Home::new());
    let file = home.path().join("token");
    fs::write(&file, portal.mint_token(SignedDuration::from_secs(-1))).unwrap();
    let mount = TestMount::at(home, &portal, &["--token-file", "token"], &[], "");
    assert_eq!(reads(&mount, &portal), Err(libc::EACCES));
    fs::write(&file, portal.token()).unwrap();
    assert_eq!(reads(&mount, &portal), Ok(()));
    drop(mount);

    let home = Home::new();
    let file = home.path().join("login.json");
    write_credentials(&portal, &file, None);
    let mount = TestMount::at(home, &portal, &["--credentials", "login.json"], &[], "");
    assert_eq!(reads(&mount, &portal), Ok(()));
    let kept = json(&file)["cookie_value"].as_str().map(str::to_owned);
    assert!(kept.is_some_and(|cookie| cookie.starts_with("cpauthToken=")));
}

#[test]
fn token_flag_takes_precedence_over_credentials_in_the_environment() {
    let (portal, home) = (portal(), Home::new());
    let token = home.path().join("token");
    fs::write(&token, portal.token()).unwrap();
    let token = token.display().to_string();
    let user = portal.user();
    for (arguments, input) in [
        (&["auth", "status", "--token-file", &token][..], ""),
        (
            &["auth", "status", "--user", &user, "--password-stdin"],
            &*portal.password(),
        ),
        (&["login", "--token-stdin"], &portal.token()),
    ] {
        let mut command = home.icosfs();
        command.args(services_of(&portal, &[])).args(arguments);
        command.env("ICOSFS_CREDENTIALS", home.path().join("nowhere"));
        let output = feed(command, input);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn corrected_password_is_used_and_a_wrong_one_is_not_retried() {
    let (portal, home) = (portal(), Home::new());
    write_credentials(&portal, &home.credentials(), None);
    portal.set_password("new password");
    let mount = TestMount::at(home, &portal, &[], &[], "");
    for _ in 0..5 {
        assert_eq!(reads(&mount, &portal), Err(libc::EACCES));
    }
    assert_eq!(logins(&portal), 1, "an account is not locked by reading");

    write_credentials(&portal, &mount.home().credentials(), None);
    assert_eq!(reads(&mount, &portal), Ok(()));
    assert_eq!(logins(&portal), 2);
}

#[test]
fn fifty_concurrent_first_readers_cause_one_login() {
    let (portal, home) = (portal(), Home::new());
    write_credentials(&portal, &home.credentials(), None);
    let mount = TestMount::at(home, &portal, &[], &[], "");
    let names = mount.list("objects");
    let (tables, rest): (Vec<_>, Vec<_>) = names
        .iter()
        .filter(|name| !name.ends_with(".json"))
        .partition(|name| name.ends_with(".csv") && !name.contains(".original."));
    let all_read = |files: &[&String]| {
        std::thread::scope(|scope| {
            for reader in 0..50 {
                let (mount, file) = (&mount, files[reader % files.len()]);
                scope.spawn(move || mount.try_read(&format!("objects/{file}")));
            }
        });
    };
    all_read(&tables);
    assert_eq!(reads(&mount, &portal), Ok(()));
    assert_eq!(logins(&portal), 1);

    // The same holds when the portal rejects a token that all believed valid.
    portal.revoke_tokens();
    portal.clear_requests();
    all_read(&rest);
    assert_eq!(logins(&portal), 1);
}

#[test]
fn valid_token_is_used_while_the_auth_service_is_silent() {
    let (portal, home, silent) = (portal(), Home::new(), SilentPortal::new());
    let nearly_expired = portal.mint_token(SignedDuration::from_mins(30));
    write_credentials(&portal, &home.credentials(), Some(&nearly_expired));
    let auth = format!("--auth-url={}", silent.url());
    let mount = TestMount::at(home, &portal, &[&auth], &[], "");
    mount.list("objects");
    let start = Instant::now();
    assert_eq!(reads(&mount, &portal), Ok(()));
    mount.read(&format!("objects/{}.original.zip", co2(&portal)));
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn each_repository_has_its_own_credentials_file() {
    let home = Home::new();
    fs::create_dir(home.path().join(".icoscp")).unwrap();
    for (repository, name) in [
        ("icos", "cpauthToken_auth_conf.json"),
        ("sites", "fieldsitesToken_auth_conf.json"),
        // That file has the login of ICOS.
        ("cities", "cpauthToken_auth_conf.json"),
    ] {
        let file = home.path().join(".icoscp").join(name);
        fs::write(&file, "{").unwrap();
        let status = ["--portal", repository, "auth", "status"];
        let output = home.icosfs().args(status).output().unwrap();
        assert!(
            said(&output).contains(&file.display().to_string()),
            "{output:?}"
        );
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn several_mounts_share_one_login_and_renew_it_once() {
    let (portal, first) = (portal(), Home::new());
    let file = first.path().join("shared.json");
    let expired = portal.mint_token(SignedDuration::from_secs(-1));
    write_credentials(&portal, &file, Some(&expired));
    let option = ["--credentials", &*file.display().to_string()];
    let mounts: Vec<TestMount> = [Home::new(), Home::new(), Home::new()]
        .into_iter()
        .map(|home| TestMount::at(home, &portal, &option, &[], ""))
        .collect();
    for mount in &mounts {
        assert_eq!(reads(mount, &portal), Ok(()));
    }
    assert_eq!(logins(&portal), 1);
}

#[test]
fn clock_wrong_by_days_causes_no_logins() {
    for hours in [48, -48] {
        let (portal, home) = (portal(), Home::new());
        portal.set_clock_ahead(SignedDuration::from_hours(hours));
        write_credentials(&portal, &home.credentials(), None);
        let mount = TestMount::at(home, &portal, &[], &[], "");
        for table in mount.tables() {
            let _ = mount.try_read(&format!("objects/{table}.csv"));
        }
        assert_eq!(reads(&mount, &portal), Ok(()), "{hours} h");
        assert_eq!(logins(&portal), 1, "{hours} h");
    }
    // Only the portal decides whether a token is valid.
    let portal = portal();
    portal.set_clock_ahead(SignedDuration::from_hours(-48));
    let mount = TestMount::of(&portal);
    assert_eq!(reads(&mount, &portal), Ok(()));
}

/// Short by default; an environment variable sets a longer time in seconds.
fn long_enough() -> Duration {
    let seconds = std::env::var("ICOSFS_TEST_SECONDS").ok();
    let seconds = seconds.map_or(2, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

#[test]
fn file_written_by_twenty_processes_parses_at_any_moment() {
    const PROCESSES: usize = 20;
    let (portal, home) = (portal(), Home::new());
    let file = home.path().join("shared.json");
    write_credentials(&portal, &file, None);
    let mut with_more = json(&file);
    with_more["theirs"] = Value::from("kept");
    fs::write(&file, with_more.to_string()).unwrap();
    let (over, deadline) = (AtomicBool::new(false), Instant::now() + long_enough());
    let path = file.display().to_string();
    let user = portal.user();
    let login = [
        "login",
        "--credentials",
        &path,
        "--user",
        &user,
        "--password-stdin",
    ];
    let (written, parsed) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..PROCESSES)
            .map(|_| {
                scope.spawn(|| {
                    let mut written = 0;
                    while Instant::now() < deadline {
                        let output = home.run(&portal, &login, &portal.password());
                        assert!(output.status.success(), "{output:?}");
                        written += 1;
                    }
                    written
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut parsed = 0;
            while !over.load(Ordering::Relaxed) {
                let file: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
                assert_eq!(file["theirs"], "kept");
                assert_eq!(file["user_id"], *user);
                parsed += 1;
            }
            parsed
        });
        let written: usize = writers.into_iter().map(|w| w.join().unwrap()).sum();
        over.store(true, Ordering::Relaxed);
        (written, reader.join().unwrap())
    });
    eprintln!("{written} logins by {PROCESSES} processes, parsed {parsed} times");
    assert!(written > PROCESSES && parsed > 100, "{written}, {parsed}");
    assert_eq!(mode(&file), 0o600);
}
