//! Secrets stay where they belong.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use icosfs::demo::{DemoPortal, RecordedRequest, Service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Home, co2, eventually, portal, services_of, write_credentials};

/// Long enough not to occur by chance, with letters that forms escape.
const PASSWORD: &str = "correct horse & battery staple";

/// A whole session by every kind of login, logged at trace level: logging in,
/// renewing, being refused, reading tables, originals and metadata. Then every
/// place where a secret might have been left is searched.
#[test]
fn a_session_leaves_its_secrets_in_the_credentials_file_alone() {
    let portal = portal();
    portal.set_password(PASSWORD);
    let home = Home::new();
    let tokens = [portal.token(), portal.token()];
    let user = portal.user();
    let log = home.path().join("log");
    let mountpoint = home.path().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    write_credentials(&portal, &home.credentials(), Some(&tokens[0]));
    let mut cmdlines = Vec::new();
    for env in [
        vec![],
        vec![("ICOSFS_TOKEN", &*tokens[1])],
        vec![("ICOSFS_USER", &*user), ("ICOSFS_PASSWORD", PASSWORD)],
        vec![
            ("ICOSFS_USER", &*user),
            ("ICOSFS_PASSWORD", "not this one, though"),
        ],
    ] {
        cmdlines.push(session(&portal, &home, &mountpoint, &log, &env));
    }
    let login = ["-vvv", "login", "--user", &user, "--password-stdin"];
    let output = home.run(&portal, &login, PASSWORD);
    assert!(output.status.success(), "{output:?}");
    let status = home.run(&portal, &["-vvv", "auth", "status", "--json"], "");

    let mut secrets = secrets_in(&portal.requests());
    secrets.extend(
        tokens
            .iter()
            .map(|token| token.split_once('=').unwrap().1.to_owned()),
    );
    secrets.extend(
        [
            "correct+horse",
            "correct%20horse",
            "correct horse",
            "not this one",
        ]
        .map(str::to_owned),
    );
    let file: serde_json::Value =
        serde_json::from_slice(&fs::read(home.credentials()).unwrap()).unwrap();
    secrets.push(file["password"].as_str().unwrap().to_owned());
    assert!(secrets.len() >= 9, "tokens of several logins: {secrets:?}");

    let log = fs::read(&log).unwrap();
    assert!(
        find(&log, "TRACE") && find(&log, "logged in"),
        "it was a session, at trace level"
    );
    let mut places = vec![
        ("the log".to_owned(), log),
        (
            "what login said".to_owned(),
            [output.stdout, output.stderr].concat(),
        ),
        (
            "what status said".to_owned(),
            [status.stdout, status.stderr].concat(),
        ),
    ];
    places.extend(cmdlines.into_iter().flatten());
    files(home.path(), &mut places);
    let searched = places.len();
    for (place, content) in places {
        for secret in &secrets {
            let belongs = place == home.credentials().display().to_string();
            assert!(belongs || !find(&content, secret), "{secret} in {place}");
        }
    }
    assert!(
        searched > 20,
        "the cache was searched too: {searched} places"
    );
    on_the_wire(&portal.requests(), &secrets);
}

/// One mount and what it is used for; returns what it says about itself.
fn session(
    portal: &DemoPortal,
    home: &Home,
    mountpoint: &Path,
    log: &Path,
    env: &[(&str, &str)],
) -> Vec<(String, Vec<u8>)> {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let mut daemon = home
        .icosfs()
        .args(["-vvv", "mount", "--foreground"])
        .args(services_of(portal, &[]))
        .arg(mountpoint)
        .env("ICOSFS_CACHE_DIR", home.path().join("cache"))
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let objects = mountpoint.join("objects");
    assert!(eventually(Duration::from_secs(10), || objects.exists()));
    let read = |file: &str| fs::read(objects.join(file)).is_ok();
    let id = co2(portal);
    let fluxes = portal
        .repository()
        .find("ICOSETC_SE-Htm_FLUXES_L2.csv")
        .unwrap();
    read(&format!("{id}.json"));
    read(&format!("{id}.csv"));
    portal.revoke_tokens();
    read(&format!("{fluxes}.csv"));
    read(&format!("{fluxes}.original.csv"));
    let about = |path: String| (path.clone(), fs::read(path).unwrap());
    let pid = daemon.id();
    let control = mountpoint.join(".icosfs").display().to_string();
    let places = vec![
        about(format!("/proc/{pid}/cmdline")),
        about(format!("{control}/status.json")),
        about(format!("{control}/errors")),
    ];
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGTERM).unwrap();
    daemon.wait().unwrap();
    places
}

/// The tokens that were sent.
fn secrets_in(requests: &[RecordedRequest]) -> Vec<String> {
    let mut tokens: Vec<String> = requests
        .iter()
        .flat_map(|request| request.headers.lines())
        .filter_map(|line| line.split_once("cpauthToken="))
        .map(|(_, token)| token.trim_end_matches(';').to_owned())
        .collect();
    tokens.sort();
    tokens.dedup();
    tokens
}

/// The metadata service gets no secret, the data service no password, and the
/// password goes nowhere but where one logs in.
fn on_the_wire(requests: &[RecordedRequest], secrets: &[String]) {
    let mut logins = 0;
    for request in requests {
        let is_login = request.service == Service::Auth && request.path == "/password/login";
        logins += usize::from(is_login);
        for secret in secrets {
            let in_body =
                find(request.body.as_bytes(), secret) || find(request.path.as_bytes(), secret);
            assert!(is_login || !in_body, "{request:?}");
            let in_headers = find(request.headers.as_bytes(), secret);
            assert!(
                !in_headers || request.cookie && request.service != Service::Meta,
                "{request:?}"
            );
        }
    }
    assert!(logins > 1);
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

fn find(content: &[u8], text: &str) -> bool {
    content
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
