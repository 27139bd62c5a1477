//! Networks between a mount and the portal: proxies, TLS, and servers that break the
//! protocol.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository};
use icos_portal::ObjectId;

use crate::support::{Front, Home, TestCertificate, TestMount, co2, forwarded, portal, said};

const FILE: &str = "demo_inversion_2023.nc";
/// A domain without addresses.
const DOMAIN: &str = "portal.test";

/// A proxy that opens tunnels to the hosts of [`DOMAIN`], by the port.
struct ConnectProxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    /// All bytes that clients sent through the tunnels.
    tunnelled: Arc<Mutex<Vec<u8>>>,
}

impl ConnectProxy {
    /// Starts a proxy that expects the header `Proxy-Authorization: <login>`.
    fn expecting(login: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (heads, tunnelled) = (Arc::default(), Arc::default());
        let proxy = Self {
            port,
            heads: Arc::clone(&heads),
            tunnelled: Arc::clone(&tunnelled),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (heads, tunnelled) = (Arc::clone(&heads), Arc::clone(&tunnelled));
                std::thread::spawn(move || serve(client, login, &heads, &tunnelled));
            }
        });
        proxy
    }

    fn url(&self, login: &str) -> String {
        format!("http://{login}127.0.0.1:{}", self.port)
    }
}

fn serve(
    mut client: TcpStream,
    login: &str,
    heads: &Mutex<Vec<String>>,
    tunnelled: &Mutex<Vec<u8>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    heads.lock().expect("no thread panics").push(head.clone());
    if !head.to_lowercase().contains(&login.to_lowercase()) {
        return client
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    }
    let target = head.split(' ').nth(1).unwrap_or_default();
    let (host, port) = target.rsplit_once(':').unwrap_or_default();
    if !head.starts_with("CONNECT ") || !host.ends_with(DOMAIN) {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let port: u16 = port.parse().expect("a port");
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 16 << 10];
    loop {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return server.shutdown(Shutdown::Write);
        }
        let bytes = &buffer[..read];
        tunnelled
            .lock()
            .expect("no thread panics")
            .extend_from_slice(bytes);
        server.write_all(bytes)?;
    }
}

/// A network without name resolution and without routes, in which only the proxy can be
/// reached.
#[test]
fn network_with_an_https_proxy_only_serves_metadata_and_data() {
    let portal = portal();
    let certificate = TestCertificate::of(&format!("*.{DOMAIN}"));
    let services = [
        ("auth", portal.auth_url()),
        ("meta", portal.meta_url()),
        ("data", portal.data_url()),
    ];
    let fronts = services.map(|(name, url)| (name, Front::behind_tls(&url, &certificate)));
    let mut options: Vec<String> = (fronts.iter())
        .map(|(name, front)| {
            let port = front.tls_url().rsplit(':').next().unwrap().to_owned();
            format!("--{name}-url=https://{name}.{DOMAIN}:{port}")
        })
        .collect();
    options.push(format!("--ca-bundle={}", certificate.path().display()));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    // Base64 of "me:it's".
    let proxy = ConnectProxy::expecting("Proxy-Authorization: Basic bWU6aXQncw==");
    let (url, token) = (proxy.url("me:it%27s@"), portal.token());
    let env = [("ICOSFS_TOKEN", &*token), ("https_proxy", &*url)];
    let mount = TestMount::with(&portal, &options, &env);

    let id = co2(&portal);
    let csv = portal.repository().csv(&id).unwrap();
    assert!(mount.read(&format!("objects/{id}.csv")) == csv.as_bytes());
    assert!(!mount.read(&format!("objects/{id}.json")).is_empty());
    let heads = proxy.heads.lock().unwrap().clone();
    for name in ["meta", "data"] {
        let connect = format!("CONNECT {name}.{DOMAIN}:");
        assert!(
            heads.iter().any(|head| head.starts_with(&connect)),
            "{name}: {heads:#?}"
        );
    }
    let sent = proxy.tunnelled.lock().unwrap().clone();
    let secret = token.split('=').nth(1).unwrap().as_bytes();
    assert!(!sent.is_empty() && !sent.windows(secret.len()).any(|at| at == secret));
    let status = mount.status().to_string();
    assert!(
        !status.contains("it's") && !status.contains("it%27s"),
        "{status}"
    );

    // `doctor` needs no other way, and says what a proxy answers that refuses.
    for (login, works) in [("me:it%27s@", true), ("", false)] {
        let home = Home::new();
        let mut doctor = home.icosfs();
        let output = (doctor.args(&options).arg("doctor"))
            .env("HTTPS_PROXY", proxy.url(login))
            .output()
            .unwrap();
        let text = said(&output);
        let refused = text.contains("proxy authorization required");
        let responds = text.contains("data.portal.test") && text.contains("responds in");
        assert_eq!((refused, responds), (!works, works), "{text}");
        assert!(!text.contains("it%27s"), "{text}");
    }
}

/// A front to the data service over TLS that ends the first `cut` responses at half of
/// their bodies, without the alert `close_notify` that ends a TLS connection.
fn cutting_front(portal: &DemoPortal, certificate: &TestCertificate, route: &'static str) -> Front {
    let (backend, cuts) = (portal.data_url(), AtomicUsize::new(2));
    Front::behaving_behind_tls(certificate, move |request, stream| {
        let answer = forwarded(request, &backend)?;
        let is_cut = String::from_utf8_lossy(request).contains(route)
            && cuts
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |cuts| {
                    cuts.checked_sub(1)
                })
                .is_ok();
        stream.write_all(
            &answer[..if is_cut {
                answer.len() / 2
            } else {
                answer.len()
            }],
        )
    })
}

#[test]
fn download_over_tls_that_ends_without_close_notify_continues_where_it_was_cut() {
    let portal = portal();
    let certificate = TestCertificate::of("localhost");
    let id = portal.repository().find(FILE).unwrap();
    for (route, path) in [
        ("/objects/", format!("objects/{id}.nc")),
        ("/cpb", format!("objects/{}.csv", co2(&portal))),
    ] {
        let front = cutting_front(&portal, &certificate, route);
        let options = [
            format!("--data-url={}", front.tls_url()),
            format!("--ca-bundle={}", certificate.path().display()),
        ];
        let options = options.each_ref().map(String::as_str);
        let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
        let right = match route {
            "/cpb" => portal.repository().csv(&co2(&portal)).unwrap().into_bytes(),
            _ => portal.repository().original(&id).unwrap(),
        };
        assert!(mount.read(&path) == right, "{route}");
        let asked = front
            .asked()
            .into_iter()
            .map(|head| String::from_utf8_lossy(&head).into_owned());
        let asked: Vec<_> = asked.filter(|head| head.contains(route)).collect();
        assert!((3..=5).contains(&asked.len()), "{asked:#?}");
    }
}

/// Without a length, only `close_notify` tells that a body is complete.
#[test]
fn body_without_a_length_over_tls_is_complete_only_with_close_notify() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_hostile_table("hostile.csv", 3000, false);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let certificate = TestCertificate::of("localhost");
    let text = portal.repository().csv(&id).unwrap().into_bytes();
    for notify in [false, true] {
        let (backend, body) = (portal.data_url(), text.clone());
        let front = Front::behaving_behind_tls(&certificate, move |request, stream| {
            if !request.starts_with(b"GET /csv/") {
                return stream.write_all(&forwarded(request, &backend)?);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            stream.write_all(&body)?;
            if notify { stream.end() } else { Ok(()) }
        });
        let options = [
            format!("--data-url={}", front.tls_url()),
            format!("--ca-bundle={}", certificate.path().display()),
            "--timeout=3".to_owned(),
        ];
        let options = options.each_ref().map(String::as_str);
        let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
        let read = mount.try_read(&format!("objects/{id}.csv"));
        assert_eq!(read.is_ok(), notify, "{notify}");
        assert!(read.is_ok_and(|bytes| bytes == text) || !notify);
    }
}

/// A server that keeps connections open, and sends another answer after the real one.
struct TwofoldServer {
    url: String,
    is_evil: Arc<AtomicBool>,
    reused: Arc<AtomicUsize>,
}

impl TwofoldServer {
    fn before(backend: &str, evil: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (is_evil, reused) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let server = Self {
            url,
            is_evil: Arc::clone(&is_evil),
            reused: Arc::clone(&reused),
        };
        let backend = backend.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (backend, is_evil) = (backend.clone(), Arc::clone(&is_evil));
                let reused = Arc::clone(&reused);
                std::thread::spawn(move || keep_alive(client, &backend, evil, &is_evil, &reused));
            }
        });
        server
    }
}

fn keep_alive(
    mut client: TcpStream,
    backend: &str,
    evil: &[u8],
    is_evil: &AtomicBool,
    reused: &AtomicUsize,
) -> io::Result<()> {
    for number in 0.. {
        let mut request = Vec::new();
        let length = loop {
            let mut piece = [0; 16 << 10];
            let read = client.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let mut lines = head.lines();
                let length = lines.find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().unwrap_or(0));
                if body.len() >= length {
                    break length;
                }
            }
        };
        let _ = length;
        reused.fetch_add(usize::from(number > 0), Ordering::SeqCst);
        let answer = forwarded(&request, backend)?;
        let split = answer
            .windows(4)
            .position(|at| at == b"\r\n\r\n")
            .unwrap_or(0);
        let head = String::from_utf8_lossy(&answer[..split]);
        let head: Vec<&str> = head
            .lines()
            .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
            .collect();
        let mut sent = head.join("\r\n").into_bytes();
        sent.extend_from_slice(&answer[split..]);
        if is_evil.load(Ordering::SeqCst) {
            sent.extend_from_slice(evil);
        }
        // In one piece, so that the client has both at once.
        client.write_all(&sent)?;
    }
    Ok(())
}

/// The answer after the real one must not become that of the next request.
#[test]
fn second_answer_to_a_request_is_not_that_of_the_next_request() {
    let portal = portal();
    let evil = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
        Content-Length: 16\r\n\r\n{\"evil\": \"page\"}";
    let meta = TwofoldServer::before(&portal.meta_url(), evil);
    let data = TwofoldServer::before(&portal.data_url(), evil);
    let options = [
        format!("--meta-url={}", meta.url),
        format!("--data-url={}", data.url),
    ];
    let options = options.each_ref().map(String::as_str);
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
    let names = mount.list("objects");
    for server in [&meta, &data] {
        server.is_evil.store(true, Ordering::SeqCst);
    }
    for round in 0..2 {
        let read = |name: &String| {
            let Ok(bytes) = mount.try_read(&format!("objects/{name}")) else {
                return;
            };
            let evil = bytes.windows(4).any(|at| at == b"evil");
            assert!(!evil, "{name}, {round}");
            let (id, ending) = name.split_once('.').unwrap();
            let id: ObjectId = id.parse().unwrap();
            if ending == "csv"
                && let Some(csv) = portal.repository().csv(&id)
            {
                assert!(bytes == csv.as_bytes(), "{name}");
            }
        };
        let files = |ending| names.iter().filter(move |name| name.ends_with(ending));
        std::thread::scope(|scope| {
            scope.spawn(|| files(".json").for_each(read));
            scope.spawn(|| files(".csv").for_each(read));
        });
    }
    assert!(mount.status()["served"]["reads"].as_u64() > Some(20));
    // Kept connections are used again, but for those with another answer.
    let reused = meta.reused.load(Ordering::SeqCst);
    assert!(
        reused > 0,
        "a fresh connection for each request proves nothing"
    );
}

/// Without checksums of tables, bytes of two states of a table cannot be told from those
/// of one. But bytes that were read once, evicted and downloaded again are the same, or
/// reading them fails.
#[test]
fn table_that_changes_between_two_slices_is_never_read_in_two_states_at_one_place() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("long.csv", 30, 40_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let (backend, changes) = (portal.data_url(), Arc::new(AtomicBool::new(false)));
    let is_changed = Arc::clone(&changes);
    let data = Front::behaving(move |request, stream| {
        let mut answer = forwarded(request, &backend)?;
        if request.starts_with(b"POST /cpb") && is_changed.load(Ordering::SeqCst) {
            // Past the head.
            answer
                .iter_mut()
                .skip(2000)
                .step_by(4)
                .for_each(|byte| *byte ^= 1);
        }
        stream.write_all(&answer)
    });
    // The table does not fit.
    let options = [
        format!("--data-url={}", data.url()),
        "--cache-size=2M".to_owned(),
    ];
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.push("--memory=16M");
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
    let path = mount.path(&format!("objects/{id}.csv"));
    let mut file = std::fs::File::open(&path).unwrap();
    let read_at = |at: u64| {
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; 64 << 10];
        let file = std::fs::File::open(&path)?;
        file.read_exact_at(&mut bytes, at).map(|()| bytes)
    };
    let mut start = vec![0; 64 << 10];
    file.read_exact(&mut start).unwrap();
    changes.store(true, Ordering::SeqCst);
    // Evicts the start.
    let mut rest = Vec::new();
    let _ = file.read_to_end(&mut rest);
    match read_at(0) {
        Ok(again) => assert!(again == start, "the start has changed"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO)),
    }
    drop(file);
    assert!(Path::new(&path).exists());
}
