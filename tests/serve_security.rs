//! `icosfs serve` as its attackers use it: other users, other origins, other names, slow
//! and greedy clients.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;

use crate::support::home::ICOSFS;
use crate::support::{
    Home, TestCertificate, TestServer, co2, eventually, portal, said, services_of,
};

/// Another user of this machine.
const OTHER_USER: &str = "65534";

#[test]
fn request_without_the_secret_is_refused() {
    let portal = portal();
    let server = TestServer::of(&portal);
    for options in [
        &[][..],
        &["--user", "me:wrong"],
        &["--header", "Authorization: Bearer wrong"],
        &["--request", "OPTIONS"],
        &["--request", "PROPFIND"],
        &["--request", "DELETE"],
        &["--head"],
    ] {
        let reply = server.request("objects/", options);
        assert_eq!(reply.status, 401, "{options:?}");
        assert!(
            reply
                .header("www-authenticate")
                .unwrap()
                .starts_with("Basic ")
        );
        assert!(
            !reply.head.to_lowercase().contains("dav: 1"),
            "{}",
            reply.head
        );
    }
    // The same on the socket.
    let output = Command::new("curl")
        .args([
            "--silent",
            "--write-out",
            "%{http_code}",
            "--output",
            "/dev/null",
        ])
        .arg("--unix-socket")
        .arg(server.socket())
        .arg("http://localhost/")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"401");
    // With it, by either scheme.
    let user = format!("anyone:{}", server.secret());
    assert_eq!(server.request("objects/", &["--user", &user]).status, 200);
}

#[test]
fn secret_and_socket_are_the_owners_alone() {
    let portal = portal();
    let server = TestServer::of(&portal);
    for path in [server.secret_file(), server.socket()] {
        assert_eq!(
            std::fs::metadata(path).unwrap().mode() & 0o777,
            0o600,
            "{path:?}"
        );
    }
    assert!(server.secret().len() >= 40);
    let as_other = |arguments: &[&str]| {
        let user = format!("--reuid={OTHER_USER}");
        let group = format!("--regid={OTHER_USER}");
        Command::new("setpriv")
            .args([&user, &group, "--clear-groups"])
            .args(arguments)
            .output()
            .expect("util-linux is installed (scripts/setup)")
    };
    let read = as_other(&["cat", server.secret_file().to_str().unwrap()]);
    assert!(!read.status.success(), "{read:?}");
    let socket = server.socket().to_str().unwrap();
    let connected = as_other(&[
        "curl",
        "--silent",
        "--unix-socket",
        socket,
        "http://localhost/",
    ]);
    // 7: could not connect.
    assert_eq!(connected.status.code(), Some(7), "{connected:?}");
    let port = as_other(&[
        "curl",
        "--silent",
        "--write-out",
        "%{http_code}",
        "--output",
        "/dev/null",
        server.url(),
    ]);
    assert_eq!(port.stdout, b"401");
}

#[test]
fn request_by_another_name_is_refused() {
    let portal = portal();
    let server = TestServer::of(&portal);
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
        let reply = server.get("objects/", &["--header", &format!("Host: {host}")]);
        assert_eq!(reply.status, 421, "{host}");
    }
    let named = ["--port=0", "--host-name=hut.example"];
    let server = TestServer::with(&portal, &named, &[]);
    let reply = server.get("objects/", &["--header", "Host: hut.example:8080"]);
    assert_eq!(reply.status, 200);
}

#[test]
fn request_caused_by_another_origin_is_refused() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    let path = format!("objects/{id}.csv");
    for header in [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let reply = server.get(&path, &["--header", header]);
        assert_eq!(reply.status, 403, "{header}");
        let preflight = server.get(&path, &["--request", "OPTIONS", "--header", header]);
        assert_eq!(preflight.status, 403, "{header}");
        assert_eq!(preflight.header("access-control-allow-origin"), None);
    }
    assert_eq!(crate::support::slices(&portal), 0, "nothing was downloaded");
    let own = format!("Origin: {}", server.url().trim_end_matches('/'));
    let reply = server.get(
        "",
        &["--header", &own, "--header", "Sec-Fetch-Site: same-origin"],
    );
    assert_eq!(reply.status, 200);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
}

#[test]
fn other_addresses_are_refused_without_tls() {
    let portal = portal();
    let home = Home::new();
    for (arguments, reason) in [
        (
            &["--listen=0.0.0.0:0"][..],
            "add --allow-remote, --tls-cert and --tls-key",
        ),
        (
            &["--listen=[::]:0"],
            "add --allow-remote, --tls-cert and --tls-key",
        ),
        (
            &["--listen=0.0.0.0:0", "--allow-remote"],
            "--allow-remote needs --tls-cert and --tls-key",
        ),
        (&["--allow-remote"], "--listen"),
    ] {
        let output = home.run(&portal, &[&["serve"], arguments].concat(), "");
        assert!(!output.status.success());
        assert!(
            said(&output).contains(reason),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn other_machines_read_over_tls() {
    let portal = portal();
    let certificate = TestCertificate::of("localhost");
    let cert = format!("--tls-cert={}", certificate.path().display());
    let key = format!("--tls-key={}", certificate.key().display());
    let options = [
        "--listen=0.0.0.0:0",
        "--allow-remote",
        &cert,
        &key,
        "--host-name=localhost",
    ];
    // A key that others can read is refused, as every other secret.
    fs::set_permissions(certificate.key(), Permissions::from_mode(0o644)).unwrap();
    let home = Home::new();
    let mut command = home.icosfs();
    command
        .args(services_of(&portal, &options))
        .arg("serve")
        .args(options);
    let refused = said(&command.output().unwrap());
    assert!(
        refused.contains("expected a TLS key file that others cannot read"),
        "{refused}"
    );
    fs::set_permissions(certificate.key(), Permissions::from_mode(0o600)).unwrap();
    let server = TestServer::with(&portal, &options, &[]);
    assert!(
        server.url().starts_with("https://localhost:"),
        "{}",
        server.url()
    );
    let authority = certificate.path().display().to_string();
    let reply = server.get("README.md", &["--cacert", &authority]);
    assert_eq!(reply.status, 200);
    let refused = server.request("README.md", &["--cacert", &authority]);
    assert_eq!(refused.status, 401);
    // Without TLS there is no reply.
    let plain = server.url().replace("https", "http");
    let output = Command::new("curl")
        .args(["--silent", &plain])
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
}

fn connect(server: &TestServer) -> TcpStream {
    let address = server
        .url()
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    stream
}

/// What the server sends until it closes the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn client_that_sends_no_complete_request_is_disconnected() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let silent = connect(&server);
    let mut slow = connect(&server);
    slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    // Each ends by the server's deadline, not by that of this test.
    assert_eq!(rest(silent), "");
    let reply = rest(slow);
    assert!(
        reply.is_empty() || reply.starts_with("HTTP/1.1 408"),
        "{reply}"
    );
}

#[test]
fn greedy_heads_and_ranges_are_refused() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let mut stream = connect(&server);
    // The server may close the connection before all was sent.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n");
    let _ = stream.write_all(format!("X: {}\r\n\r\n", "x".repeat(100_000)).as_bytes());
    let reply = rest(stream);
    assert!(
        reply.is_empty() || reply.starts_with("HTTP/1.1 431"),
        "{reply:.200}"
    );
    let mut stream = connect(&server);
    let many = "X: 1\r\n".repeat(200);
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n").as_bytes());
    let reply = rest(stream);
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply:.200}");

    let ranges = (0..100)
        .map(|n| format!("{n}-{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let reply = server.get("README.md", &["--range", &ranges]);
    assert_eq!(reply.status, 416);
}

/// Regression: they held all the memory for replies, and further clients waited until they
/// were disconnected.
#[test]
fn clients_that_stop_reading_do_not_delay_others() {
    const CLIENTS: usize = 120;
    let mut repository = icos_demo::DemoRepository::builtin(1);
    let id = repository.add_content("large.bin", vec![1_u8; 8 << 20]);
    let portal =
        icos_demo::DemoPortal::start(repository, icos_demo::DemoOptions::default()).unwrap();
    let server = TestServer::of(&portal);
    let path = format!("objects/{id}.bin");
    server.read(&path);
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        server.secret()
    );
    // On the socket, where the system holds less for each.
    let clients: Vec<UnixStream> = (0..CLIENTS)
        .map(|_| {
            let mut client = UnixStream::connect(server.socket()).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            client.read_exact(&mut [0; 12]).unwrap();
            client
        })
        .collect();
    // They are disconnected after 30 seconds.
    let reply = server.get(&path, &["--max-time", "15"]);
    assert_eq!((reply.status, reply.body.len()), (200, 8 << 20));
    drop(clients);
}

#[test]
fn many_connections_do_not_lock_the_user_out() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let mut own = connect(&server);
    let request = format!(
        "GET /README.md HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        server.secret()
    );
    let mut beginning = [0; 12];
    own.write_all(request.as_bytes()).unwrap();
    own.read_exact(&mut beginning).unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200");
    // More than are served at once: the oldest ones without a secret are closed.
    let mut idle: Vec<TcpStream> = (0..600).map(|_| connect(&server)).collect();
    assert_eq!(server.get("README.md", &[]).status, 200);
    assert_eq!(rest(idle.remove(0)), "");
    // The socket has a bound of its own, and the user's connection goes on.
    let socket = ["--unix-socket", server.socket().to_str().unwrap()];
    assert_eq!(server.get("README.md", &socket).status, 200);
    own.write_all(
        request
            .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    )
    .unwrap();
    assert!(rest(own).contains("HTTP/1.1 200"));
    drop(idle);
}

#[test]
fn server_has_its_port_on_both_addresses_of_localhost() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let number = server
        .url()
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap();
    let number: u16 = number.parse().unwrap();
    // Another user that listens there would get the secret of clients of localhost.
    let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, number)) else {
        panic!("port {number} of [::1] is free");
    };
    // This machine may have no IPv6 at all.
    let may_be = [
        std::io::ErrorKind::AddrInUse,
        std::io::ErrorKind::AddrNotAvailable,
    ];
    assert!(may_be.contains(&error.kind()), "{error}");

    let Ok(taken) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return;
    };
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let output = Home::new().run(&portal, &["serve", &port], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("another program listens"),
        "{}",
        said(&output)
    );
}

#[test]
fn refused_requests_do_not_keep_a_server_from_ending() {
    let portal = portal();
    let mut server = TestServer::with(&portal, &["--port=0", "--idle-timeout=2"], &[]);
    // Without the secret, until no process listens any more (7).
    let ended = eventually(Duration::from_secs(20), || {
        server.curl("README.md", &[]).status.code() == Some(7)
    });
    assert!(ended && server.ends(Duration::from_secs(10)));
}

#[test]
fn socket_in_a_folder_of_others_is_refused() {
    let portal = portal();
    let home = Home::new();
    let folder = home.path().join("shared");
    std::fs::create_dir(&folder).unwrap();
    let attempt = |mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        let option = format!("--socket={}", folder.join("s").display());
        home.run(&portal, &["serve", &option, "--background"], "")
    };
    let refused = attempt(0o1777);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("could replace the socket"),
        "{}",
        said(&refused)
    );
    assert!(!folder.join("s").exists());
}

#[test]
fn secret_is_in_its_file_alone() {
    let portal = portal();
    let home = Home::new();
    let log = home.path().join("log");
    let log_file = format!("--log-file={}", log.display());
    let options = ["--port=0", "-vvv", &log_file];
    let command = home.icosfs();
    let server = TestServer::by(
        command,
        home,
        &portal,
        &options,
        &[("ICOSFS_TOKEN", &portal.token())],
    );
    let secret = server.secret();
    server.read(&format!("objects/{}.csv", co2(&portal)));
    server.request("README.md", &["--user", &format!("me:{secret}")]);
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
    let status = server.read(".icosfs/status.json");
    let logged = std::fs::read(&log).unwrap();
    assert!(
        String::from_utf8_lossy(&logged).contains("replied"),
        "it logs requests"
    );
    let mut places = vec![
        ("cmdline", cmdline),
        ("environment", environment),
        ("status", status),
        ("log", logged),
    ];
    let files = crate::support::files_below(server.home().path());
    let others = files.iter().filter(|path| *path != server.secret_file());
    for path in others {
        places.push(("a file", std::fs::read(path).unwrap_or_default()));
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("me:{secret}"));
    for (place, content) in places {
        for needle in [&secret, &encoded] {
            let found = content
                .windows(needle.len())
                .any(|bytes| bytes == needle.as_bytes());
            assert!(!found, "the secret is in {place}");
        }
    }
}

#[test]
fn given_secret_must_be_private_and_long() {
    let portal = portal();
    let home = Home::new();
    let file = home.path().join("secret");
    let option = format!("--secret-file={}", file.display());
    let attempt = |content: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        said(&home.run(&portal, &["serve", &option], ""))
    };
    assert!(attempt("0123456789abcdef", 0o644).contains("chmod 600"));
    assert!(attempt("short", 0o600).contains("expected a secret of 16 to 256"));
    attempt_serves(&portal, &file);
}

/// A good secret is used as it is.
fn attempt_serves(portal: &icos_demo::DemoPortal, file: &std::path::Path) {
    std::fs::write(file, "0123456789abcdef\n").unwrap();
    let option = format!("--secret-file={}", file.display());
    let server = TestServer::with(portal, &["--port=0", &option], &[]);
    let reply = server.request("README.md", &["--user", "me:0123456789abcdef"]);
    assert_eq!(reply.status, 200);
    drop(server);
    assert!(file.exists(), "a given file stays");
}

/// As in a container of OpenShift: any user id without a name, no capabilities, no
/// `/dev/fuse`, and a root file system that is read-only.
#[test]
fn server_needs_no_fuse_no_capabilities_and_no_writable_root() {
    let portal = portal();
    let home = Home::new();
    let folder = home.path().display();
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs -o mode=0700,uid=1234567 none {folder} && \
         mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && \
         for mount in $(findmnt -rno TARGET | grep -v -e '^/proc' -e '^/sys' -e '^/dev' -e '^{folder}'); do \
             mount -o remount,bind,ro \"$mount\" 2>/dev/null || true; done; \
         ! touch /usr/icosfs-test 2>/dev/null && ! test -e /dev/fuse && \
         exec setpriv --reuid=1234567 --regid=0 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \"$0\" \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args([
        "--mount", "sh", "-ec", &script, ICOSFS, "serve", "--json", "--port=0",
    ]);
    home.alone(&mut command)
        .args(services_of(&portal, &[]))
        .env("ICOSFS_CACHE_DIR", home.path().join("cache"))
        .env("ICOSFS_TOKEN", portal.token())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let read = || -> Option<Vec<u8>> {
        let ready: serde_json::Value = serde_json::from_str(&line).ok()?;
        let secret = format!(
            "/proc/{}/root{}",
            child.id(),
            ready["secret_file"].as_str()?
        );
        let secret = std::fs::read_to_string(secret).ok()?;
        let url = format!("{}objects/{}.csv", ready["url"].as_str()?, co2(&portal));
        let user = format!("me:{secret}");
        let output = Command::new("curl")
            .args(["--silent", "--fail", "--user", &user, &url])
            .output();
        Some(output.ok()?.stdout)
    };
    let read = read();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let expected = crate::support::get(&portal, &format!("/csv/{}", co2(&portal)));
    assert!(read == Some(expected), "{}", said(&output));
}
