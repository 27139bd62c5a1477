//! Secrets appear only in the credentials file and in the requests that need them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use icos_demo::{DemoPortal, DemoService, RecordedRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{
    Front, Home, TestMount, co2, eventually, feed, portal, said, services_of, write_credentials,
};

/// Long enough not to occur by chance, with characters that forms escape.
const PASSWORD: &str = "correct horse & battery staple";

/// Runs complete sessions with every kind of login at log level trace: login,
/// renewal, refusal, reads of tables, originals and metadata. Then searches every
/// place where a secret could have been left.
#[test]
fn session_leaves_secrets_in_the_credentials_file_only() {
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

/// A service, or a proxy before it, that repeats requests in its responses.
fn echo(status: &'static str) -> Front {
    Front::behaving(move |request, stream| {
        let text = String::from_utf8_lossy(request).replace(['\r', '\n'], " ");
        let body = format!("refused: {text} {}", STANDARD.encode(request));
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    })
}

/// Fails if `text` contains a piece of `secret`.
fn assert_without(text: &[u8], secret: &str, what: &str) {
    let pieces = secret.as_bytes().windows(12);
    let found = pieces.filter(|piece| text.windows(12).any(|window| window == *piece));
    let found = found.map(String::from_utf8_lossy).next();
    let shown = String::from_utf8_lossy(text);
    assert!(found.is_none(), "{what} has {found:?} of a secret: {shown}");
}

#[test]
fn secrets_that_services_return_are_redacted() {
    for status in ["400 Bad", "403 Forbidden", "431 Large", "500 Broken"] {
        let portal = portal();
        let service = echo(status);
        let token = portal.token();
        let log = tempfile::NamedTempFile::new().unwrap();
        let options = [
            format!("--data-url={}", service.url()),
            format!("--log-file={}", log.path().display()),
            "--timeout=2".to_owned(),
            "-vvv".to_owned(),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &token)]);
        let table = co2(&portal);
        mount.try_read(&format!("objects/{table}.csv")).unwrap_err();
        let secret = token.split_once('=').unwrap().1;
        let asked = service.asked().concat();
        assert!(find(&asked, secret), "{status}: the cookie was sent");
        let encoded = ["", "a", "ab"].map(|before| {
            let text = STANDARD.encode(format!("{before}{secret}"));
            text[8..text.len() - 8].to_owned()
        });
        let said = mount.icosfs().arg("status").arg(mount.path("")).output();
        for (what, text) in [
            ("errors", mount.read(".icosfs/errors")),
            ("status.json", mount.read(".icosfs/status.json")),
            ("status", said.unwrap().stdout),
            ("the log", fs::read(log.path()).unwrap()),
        ] {
            let what = format!("{status}: {what}");
            assert_without(&text, secret, &what);
            for encoded in &encoded {
                assert_without(&text, encoded, &what);
            }
        }
    }
    for status in ["400 Bad", "500 Broken"] {
        let (portal, home) = (portal(), Home::new());
        let service = echo(status);
        let mut login = home.icosfs();
        login.arg(format!("--auth-url={}", service.url()));
        login.args([
            "-vvv",
            "login",
            "--user",
            &portal.user(),
            "--password-stdin",
        ]);
        let output = feed(login, PASSWORD);
        assert!(!output.status.success());
        assert!(find(&service.asked().concat(), "correct+horse"));
        for secret in [PASSWORD, "correct+horse+%26+battery+staple"] {
            assert_without(said(&output).as_bytes(), secret, status);
        }
    }
}

#[test]
fn user_agent_is_program_version_and_contact() {
    let portal = portal();
    let program = concat!("icosfs/", env!("CARGO_PKG_VERSION"));
    for (contact, expected) in [
        (None, program.to_owned()),
        (
            Some("it@example.org"),
            format!("{program} (it@example.org)"),
        ),
    ] {
        let home = Home::new();
        let config = home.path().join(".config/icosfs");
        fs::create_dir_all(&config).unwrap();
        if let Some(contact) = contact {
            let setting = format!("contact = \"{contact}\"\n");
            fs::write(config.join("config.toml"), setting).unwrap();
        }
        portal.clear_requests();
        let output = home.run(&portal, &["stations"], "");
        assert!(output.status.success(), "{}", said(&output));
        let requests = portal.requests();
        assert!(!requests.is_empty());
        for request in requests {
            assert_eq!(request.user_agent.as_deref(), Some(&*expected));
        }
    }
}

/// Mounts, reads and unmounts; returns the daemon's status texts.
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
    let mut places = vec![about(format!("/proc/{pid}/cmdline"))];
    // Only the user can read the daemon's environment, and it has only the
    // secrets that the user put there.
    let environ = format!("/proc/{pid}/environ");
    assert_eq!(fs::metadata(&environ).unwrap().mode() & 0o077, 0);
    if env.is_empty() {
        places.push(about(environ));
    }
    let control = mountpoint.join(".icosfs");
    for file in fs::read_dir(&control).unwrap() {
        places.push(about(file.unwrap().path().display().to_string()));
    }
    for file in ["status.json", "errors"] {
        let path = control.join(file).display().to_string();
        assert!(places.iter().any(|(place, _)| *place == path), "{path}");
    }
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGTERM).unwrap();
    daemon.wait().unwrap();
    places
}

/// Returns the tokens that were sent.
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

/// Asserts that the metadata service gets no secret, the data service no
/// password, and that the password is sent only to the login route.
fn on_the_wire(requests: &[RecordedRequest], secrets: &[String]) {
    let mut logins = 0;
    for request in requests {
        let is_login = request.service == DemoService::Auth && request.path == "/password/login";
        logins += usize::from(is_login);
        for secret in secrets {
            let in_body =
                find(request.body.as_bytes(), secret) || find(request.path.as_bytes(), secret);
            assert!(is_login || !in_body, "{request:?}");
            let in_headers = find(request.headers.as_bytes(), secret);
            assert!(
                !in_headers || request.cookie && request.service != DemoService::Meta,
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

/// A server that is faulty or not the portal must not send control characters to
/// the user's terminal.
#[test]
fn control_characters_in_server_responses_do_not_reach_the_terminal() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let body = "\u{1B}]0;mine\u{7}\u{1B}[2Jdown \u{9B}31mfor repair\u{202E}\r\n";
            write!(
                stream,
                "HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    let home = Home::new();
    let mut login = home.icosfs();
    login.arg(format!("--auth-url={url}")).args([
        "-vvv",
        "login",
        "--user",
        "a@b.se",
        "--password-stdin",
    ]);
    let output = feed(login, "let me in");
    let shown = said(&output);
    assert!(!output.status.success() && shown.contains("for repair"));
    let obeyed = |c: char| c != '\n' && (c.is_control() || c == '\u{202E}');
    assert!(!shown.contains(obeyed), "{shown:?}");
}
