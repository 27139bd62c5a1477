//! `icosfs serve`: the files of the mount over HTTP and WebDAV.

use std::process::Command;
use std::time::Duration;

use icos_demo::FaultRule;
use icos_portal::ObjectId;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::home::ICOSFS;
use crate::support::{
    Home, TestMount, TestServer, co2, contents, eventually, get, portal, said, services_of, slices,
};

fn rule(json: Value) -> FaultRule {
    serde_json::from_value(json).expect("a rule as `icosfs demo --faults` takes it")
}

#[test]
fn served_files_are_those_of_the_portal() {
    let portal = portal();
    let files = contents(&portal);
    let server = TestServer::of(&portal);
    assert!(files.len() > 10);
    for (path, expected) in files {
        assert_eq!(server.read(&path), expected, "{path}");
    }
}

#[test]
fn served_folders_are_those_of_the_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let server = TestServer::of(&portal);
    let station = "stations/HTM";
    for folder in [
        "",
        "objects",
        "stations",
        station,
        "datatypes",
        "collections",
        "dataAppStorage",
        "documents",
    ] {
        let slashed = format!("{folder}/");
        let mounted = mount.list(folder).into_iter().map(|name| {
            let path = mount.path(folder).join(&name);
            let slash = if path.is_dir() { "/" } else { "" };
            format!("{name}{slash}")
        });
        let mut mounted: Vec<String> = mounted.collect();
        mounted.sort();
        assert_eq!(
            server.list(if folder.is_empty() { "" } else { &slashed }),
            mounted,
            "{folder}"
        );
    }
}

#[test]
fn entry_says_what_is_known_of_a_file() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    let path = format!("objects/{id}.csv?format=stat");
    let entry = server.get(&path, &[]).json();
    assert_eq!(entry["size_is_exact"], false, "{entry}");
    assert_eq!(entry["kind"], "file");
    assert_eq!(entry["id"], id.to_string());
    assert_eq!(entry["pid"], format!("11676/{id}"));
    assert!(
        entry["modified"].as_str().unwrap().ends_with('Z'),
        "{entry}"
    );
    assert_eq!(slices(&portal), 0, "it costs no download");

    let exact = server.get(&format!("{path}&size=exact"), &[]).json();
    let length = get(&portal, &format!("/csv/{id}")).len();
    assert_eq!(
        (&exact["size"], &exact["size_is_exact"]),
        (&json!(length), &json!(true))
    );
    let folder = server.get("objects?format=stat", &[]).json();
    assert_eq!(folder, json!({"name": "objects", "kind": "directory"}));
}

#[test]
fn csv_of_unknown_size_is_chunked_and_then_has_a_length() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let path = format!("objects/{}.csv", co2(&portal));
    let expected = get(&portal, &format!("/csv/{}", co2(&portal)));

    let head = server.get(&path, &["--head"]);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, None),
        "{}",
        head.head
    );
    assert_eq!(slices(&portal), 0);
    let first = server.get(&path, &[]);
    assert_eq!(first.header("content-length"), None);
    assert_eq!(first.header("transfer-encoding"), Some("chunked"));
    assert_eq!(
        first.header("content-type"),
        Some("text/csv; charset=utf-8")
    );
    assert_eq!(first.body, expected);

    let length = expected.len().to_string();
    for options in [&["--head"][..], &[]] {
        let reply = server.get(&path, options);
        assert_eq!(
            reply.header("content-length"),
            Some(&*length),
            "{}",
            reply.head
        );
    }
}

#[test]
fn client_that_knows_no_chunks_gets_a_length() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let path = format!("objects/{}.csv", co2(&portal));
    let reply = server.get(&path, &["--http1.0"]);
    let expected = get(&portal, &format!("/csv/{}", co2(&portal)));
    let length = expected.len().to_string();
    assert_eq!(reply.header("content-length"), Some(&*length));
    assert_eq!(reply.header("transfer-encoding"), None);
    assert_eq!(reply.body, expected);
}

#[test]
fn ranges_are_parts_of_the_file() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    let path = format!("objects/{id}.csv");
    let all = get(&portal, &format!("/csv/{id}"));
    let len = all.len();
    for (range, from, to) in [
        ("0-9".to_owned(), 0, 10),
        ("100-".to_owned(), 100, len),
        ("-7".to_owned(), len - 7, len),
        (format!("{}-{}", len - 3, len + 50), len - 3, len),
    ] {
        let reply = server.get(&path, &["--range", &range]);
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.body, &all[from..to], "{range}");
        let shown = format!("bytes {from}-{}/{len}", to - 1);
        assert_eq!(reply.header("content-range"), Some(&*shown));
        assert_eq!(
            reply.header("content-length"),
            Some(&*(to - from).to_string())
        );
    }
    let past = server.get(&path, &["--range", &format!("{len}-")]);
    assert_eq!(past.status, 416);
    assert_eq!(
        past.header("content-range"),
        Some(&*format!("bytes */{len}"))
    );
}

#[test]
fn several_ranges_come_as_parts_with_their_places() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    let all = get(&portal, &format!("/csv/{id}"));
    let reply = server.get(&format!("objects/{id}.csv"), &["--range", "5-9,100-119"]);
    assert_eq!(reply.status, 206);
    let media_type = reply.header("content-type").unwrap();
    let boundary = media_type
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let len = all.len();
    let mut expected = Vec::new();
    for (number, (from, to)) in [(5, 10), (100, 120)].into_iter().enumerate() {
        let line_break = if number == 0 { "" } else { "\r\n" };
        let head = format!(
            "{line_break}--{boundary}\r\nContent-Type: text/csv; charset=utf-8\r\nContent-Range: bytes {from}-{}/{len}\r\n\r\n",
            to - 1
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&all[from..to]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(
        String::from_utf8_lossy(&reply.body),
        String::from_utf8_lossy(&expected)
    );
    assert_eq!(
        reply.header("content-length"),
        Some(&*expected.len().to_string())
    );
}

#[test]
fn tag_of_a_file_makes_requests_conditional() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let path = format!("objects/{}.csv", co2(&portal));
    let reply = server.get(&path, &[]);
    let tag = reply.header("etag").unwrap().to_owned();
    let with = |name: &str, value: &str| format!("{name}: {value}");
    let same = server.get(&path, &["--header", &with("If-None-Match", &tag)]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    let other = server.get(&path, &["--header", &with("If-Match", "\"other\"")]);
    assert_eq!(other.status, 412);
    assert!(other.text().contains("open it again"), "{}", other.text());
    let range = ["--range", "0-9", "--header"];
    let part = server.get(&path, &[&range[..], &[&with("If-Range", &tag)]].concat());
    assert_eq!((part.status, part.body.len()), (206, 10));
    let whole = server.get(
        &path,
        &[&range[..], &[&with("If-Range", "\"other\"")]].concat(),
    );
    assert_eq!((whole.status, whole.body), (200, reply.body));
}

#[test]
fn every_representation_has_a_strong_tag_that_a_second_request_gets_again() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    for ending in [
        "csv",
        "parquet",
        "nc",
        "good.csv",
        "good.parquet",
        "good.nc",
        "json",
    ] {
        let path = format!("objects/{id}.{ending}");
        server.read(&path);
        let tags = [(); 2].map(|()| {
            let reply = server.get(&path, &[]);
            reply.header("etag").map(str::to_owned)
        });
        let tag = tags[0]
            .clone()
            .unwrap_or_else(|| panic!("{path} has a tag"));
        assert!(tag.starts_with('"') && tag.len() > 10, "{tag}");
        assert_eq!(tags[0], tags[1], "{path}");
    }
}

#[test]
fn failure_has_a_status_and_its_reason() {
    let portal = portal();
    let server = TestServer::with(&portal, &["--port=0"], &[]);
    let path = format!("objects/{}.csv", co2(&portal));
    let text = server.get(&path, &[]);
    assert_eq!(text.status, 403);
    assert!(text.text().contains("icosfs login"), "{}", text.text());
    let json = server.get(&path, &["--header", "Accept: application/json"]);
    let error = &json.json()["error"];
    assert_eq!(error["status"], 403);
    assert_eq!(error["reason"].as_str().unwrap(), text.text().trim_end());
    for absent in [
        "objects/none.csv",
        "nothing",
        "objects/../README.md",
        "README.md/",
    ] {
        let reply = server.get(absent, &["--path-as-is"]);
        assert_eq!(reply.status, 404, "{absent}");
    }
    let errors = server.get(".icosfs/errors", &[]).text();
    assert!(errors.contains("HTTP 403"), "{errors}");
}

#[test]
fn body_that_fails_is_never_taken_for_complete() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    portal.add_fault(rule(
        json!({"object": id.to_string(), "fault": {"corrupt": {"at": 1000}}}),
    ));
    let secret = format!("Authorization: Bearer {}", server.secret());
    let failed = server.curl(&format!("objects/{id}.nc"), &["--header", &secret]);
    let text = String::from_utf8_lossy(&failed.stdout).into_owned();
    // 18: the transfer was shorter than announced. (A short file fails at once, by 502.)
    assert!(
        failed.status.code() == Some(18) || text.starts_with("HTTP/1.1 502"),
        "{failed:?}"
    );

    portal.clear_faults();
    let body = server.read(&format!("objects/{id}.nc"));
    assert_eq!(ObjectId::of_content(&body), id);
}

#[test]
fn folder_is_a_page_for_people_and_links_for_programs() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let page = server
        .get("stations/", &["--header", "Accept: text/html,*/*"])
        .text();
    assert!(
        page.contains("<h1>stations</h1>") && page.contains("href=\"HTM/\""),
        "{page}"
    );
    assert!(!page.contains("<script"));
    let plain = server.get("stations/", &[]).text();
    assert!(plain.contains("<a href=\"HTM/\">HTM/</a>"), "{plain}");
    let redirect = server.get("stations", &[]);
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (308, Some("/stations/"))
    );
    let style = server.get(".icosfs/style.css", &[]);
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
}

#[test]
fn requests_that_would_change_something_are_refused() {
    let portal = portal();
    let server = TestServer::of(&portal);
    for method in [
        "PUT",
        "POST",
        "DELETE",
        "MKCOL",
        "PROPPATCH",
        "LOCK",
        "MOVE",
        "COPY",
        "PATCH",
    ] {
        let reply = server.get("objects/new", &["--request", method]);
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS, PROPFIND"));
    }
    let options = server.get("", &["--request", "OPTIONS"]);
    assert_eq!((options.status, options.header("dav")), (200, Some("1")));
}

#[test]
fn propfind_has_the_properties_that_are_known() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    let find = |path: &str, depth: &str, body: &str| {
        let depth = format!("Depth: {depth}");
        server.get(
            path,
            &["--request", "PROPFIND", "--header", &depth, "--data", body],
        )
    };
    let csv = format!("objects/{id}.csv");
    let before = find(&csv, "0", "").text();
    assert!(!before.contains("getcontentlength"), "not known: {before}");
    let length = server.read(&csv).len();
    let after = find(&csv, "0", "").text();
    assert!(
        after.contains(&format!(
            "<D:getcontentlength>{length}</D:getcontentlength>"
        )),
        "{after}"
    );

    let root = find(
        "",
        "1",
        "<propfind xmlns='DAV:'><prop><resourcetype/><x xmlns='urn:y'/></prop></propfind>",
    );
    assert_eq!(root.status, 207);
    let root = root.text();
    assert!(
        root.contains(
            "<D:href>/objects/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/>"
        ),
        "{root}"
    );
    assert!(
        root.contains("<x xmlns=\"urn:y\"/></D:prop><D:status>HTTP/1.1 404 Not Found"),
        "{root}"
    );
    let all = find("", "infinity", "");
    assert_eq!(all.status, 403);
    assert!(
        all.text().contains("propfind-finite-depth"),
        "{}",
        all.text()
    );
    assert_eq!(find("", "0", "<propfind").status, 400);
    assert_eq!(find("", "0", &" ".repeat(70_000)).status, 400);
    let long = format!(
        "<propfind xmlns='DAV:'><prop><x xmlns='{}'/></prop></propfind>",
        "n".repeat(9000)
    );
    assert_eq!(
        find("", "0", &long).status,
        400,
        "it is repeated for each entry"
    );
    assert_eq!(find("none", "0", "").status, 404);
}

/// Runs `rclone` with a remote of `kind` at `server`.
fn rclone(server: &TestServer, kind: &str, arguments: &[&str]) -> std::process::Output {
    let obscured = Command::new("rclone")
        .args(["obscure", &server.secret()])
        .output();
    let obscured = obscured.expect("rclone is installed (scripts/setup)");
    let password = String::from_utf8(obscured.stdout).unwrap();
    let bearer = format!("Authorization,Bearer {}", server.secret());
    Command::new("rclone")
        .args(arguments)
        .args(["--config", "/dev/null", "--retries", "1"])
        .env("RCLONE_CONFIG_R_TYPE", kind)
        .env("RCLONE_CONFIG_R_URL", server.url())
        .env("RCLONE_CONFIG_R_VENDOR", "other")
        .env("RCLONE_CONFIG_R_USER", "any")
        .env("RCLONE_CONFIG_R_PASS", password.trim())
        .env(
            "RCLONE_CONFIG_R_HEADERS",
            if kind == "http" { &bearer } else { "" },
        )
        .output()
        .unwrap()
}

#[test]
fn rclone_finds_no_difference_between_webdav_and_mount() {
    let portal = portal();
    let options = ["--port=0", "--exact-size=always"];
    let server = TestServer::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
    let mount = TestMount::with(&portal, &options[1..], &[("ICOSFS_TOKEN", &portal.token())]);
    let mounted = mount.path("datatypes");
    let mounted = mounted.to_str().unwrap();
    // A table of that type cannot be read, so that a mount has no size for it.
    let unreadable = ["--exclude", "icosOtcL2Product/**"];
    let arguments = [
        &["check", "--download"][..],
        &unreadable,
        &["R:datatypes", mounted],
    ];
    let checked = rclone(&server, "webdav", &arguments.concat());
    let said = said(&checked);
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("0 differences found"), "{said}");
    assert!(!said.contains(" 0 matching files"), "{said}");
}

#[test]
fn rclone_copies_over_http() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    let copied = rclone(&server, "http", &["cat", &format!("R:objects/{id}.csv")]);
    assert!(copied.status.success(), "{copied:?}");
    assert_eq!(copied.stdout, get(&portal, &format!("/csv/{id}")));
    let listed = rclone(&server, "http", &["lsf", "R:stations/HTM"]);
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(names.lines().any(|name| name == "station.json"), "{names}");
}

#[test]
fn status_doctor_and_metrics_know_the_server() {
    let portal = portal();
    let server = TestServer::of(&portal);
    server.read(&format!("objects/{}.csv", co2(&portal)));
    let run = |arguments: &[&str]| {
        let mut command = server.home().icosfs();
        command.args(services_of(&portal, &[])).args(arguments);
        command.env("ICOSFS_CACHE_DIR", server.home().path().join("cache"));
        command.output().unwrap()
    };
    let status: Value = serde_json::from_slice(&run(&["status", "--json"]).stdout).unwrap();
    let own = (status.as_array().unwrap().iter())
        .find(|one| one["pid"] == server.pid())
        .expect("the server");
    assert_eq!(own["server"]["url"], server.url());
    assert!(own["served"]["bytes"].as_u64().unwrap() > 0, "{own}");
    assert!(own["requests"]["http-get"].as_u64().unwrap() > 0, "{own}");
    assert!(own["requests"].get("lookup").is_none(), "{own}");
    let text = said(&run(&["status"]));
    assert!(text.contains(server.url()), "{text}");
    let doctor = said(&run(&["doctor"]));
    assert!(
        doctor.contains(&format!("ok    server         {}", server.url())),
        "{doctor}"
    );
    let metrics = server.get(".icosfs/metrics", &[]).text();
    assert!(
        metrics.contains("icosfs_requests_total{operation=\"http-get\"}"),
        "{metrics}"
    );
}

#[test]
fn status_refresh_and_log_level_take_the_address_of_a_server() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let option = format!("--log-file={}", log.display());
    let token = portal.token();
    let server = TestServer::with(&portal, &["--port=0", &option], &[("ICOSFS_TOKEN", &token)]);
    server.list("stations/");
    let run = |arguments: &[&str]| {
        let mut command = server.home().icosfs();
        command.args(arguments);
        command.env("ICOSFS_CACHE_DIR", server.home().path().join("cache"));
        command.output().unwrap()
    };
    let socket = server.socket().display().to_string();
    for name in [server.url(), server.url().trim_end_matches('/'), &socket] {
        let status = said(&run(&["status", name]));
        assert!(status.starts_with(server.url()), "{status}");
    }
    let requests = portal.requests().len();
    let refreshed = said(&run(&["refresh", server.url()]));
    let expected = format!("{}: the lists were refreshed\n", server.url());
    assert_eq!(refreshed, expected);
    assert!(portal.requests().len() > requests);

    let replies = || {
        server.read("README.md");
        std::fs::read_to_string(&log)
            .unwrap()
            .matches("replied")
            .count()
    };
    assert_eq!(replies(), 0);
    let changed = run(&["log-level", &socket, "icosfs=debug"]);
    assert!(changed.status.success(), "{}", said(&changed));
    assert!(replies() > 0);

    let absent = run(&["refresh", "http://127.0.0.1:9/"]);
    assert!(!absent.status.success());
    let reason = said(&absent);
    assert!(
        reason.contains("no server of yours is at http://127.0.0.1:9/"),
        "{reason}"
    );
}

/// Regression: what was read without a mount could not be listed, nor cited.
#[test]
fn server_knows_which_objects_were_read_and_how_to_cite_them() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    server.get(&format!("objects/{id}.json"), &[]);
    assert_eq!(server.get(".icosfs/read", &[]).text(), "");
    server.get(&format!("objects/{id}.csv"), &[]);
    assert_eq!(server.get(".icosfs/read", &[]).text(), format!("{id}\n"));
    let mut command = server.home().icosfs();
    command
        .args(["cite", "--format", "bibtex", "--read"])
        .arg(server.socket())
        .env("ICOSFS_CACHE_DIR", server.home().path().join("cache"));
    let bibtex = said(&command.output().unwrap());
    assert!(bibtex.contains(&format!("@misc{{cp_{id},")), "{bibtex}");
}

#[test]
fn killed_server_is_not_shown_and_is_replaced() {
    let portal = portal();
    let mut server = TestServer::with(&portal, &[], &[]);
    server.signal(Signal::SIGKILL);
    assert!(!server.ends(Duration::from_secs(10)));
    let cache = server.home().path().join("cache");
    let status = |arguments: &[&str]| {
        let mut command = server.home().icosfs();
        command.args(arguments).args(services_of(&portal, &[]));
        command.env("ICOSFS_CACHE_DIR", &cache).output().unwrap()
    };
    let socket = server.socket().display().to_string();
    assert!(!said(&status(&["status"])).contains(&socket));
    let again = status(&["serve", "--background", "--json"]);
    assert!(again.status.success(), "{}", said(&again));
    let ready: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(ready["socket"], socket);
    let pid = i32::try_from(ready["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(eventually(Duration::from_secs(10), || !server
        .socket()
        .exists()));
}

#[test]
fn processes_with_the_same_settings_share_one_server() {
    let portal = portal();
    let home = Home::new();
    let start = || {
        let mut command = Command::new(ICOSFS);
        home.alone(&mut command)
            .args([
                "serve",
                "--background",
                "--reuse",
                "--json",
                "--idle-timeout=2",
            ])
            .args(services_of(&portal, &[]))
            .env("ICOSFS_CACHE_DIR", home.path().join("cache"));
        command.output().unwrap()
    };
    let starts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut pids: Vec<i64> = (starts.iter())
        .map(|output| {
            assert!(output.status.success(), "{}", said(output));
            let ready: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(ready["url"], Value::Null);
            ready["pid"].as_i64().unwrap()
        })
        .collect();
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
    // And it ends when it is idle.
    let process = format!("/proc/{}", pids[0]);
    assert!(eventually(Duration::from_secs(20), || {
        !std::path::Path::new(&process).exists()
    }));
}

#[test]
fn signal_ends_the_server_and_removes_its_files() {
    let portal = portal();
    let mut server = TestServer::of(&portal);
    server.signal(Signal::SIGTERM);
    assert!(server.ends(Duration::from_secs(10)));
    assert!(!server.socket().exists() && !server.secret_file().exists());
}

#[test]
fn demo_is_served_without_login_and_network() {
    let home = Home::new();
    let mut command = home.icosfs();
    command.args([
        "serve",
        "--demo",
        "--background",
        "--json",
        "--idle-timeout=30",
    ]);
    let output = command
        .env("ICOSFS_CACHE_DIR", home.path().join("cache"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let ready: Value = serde_json::from_slice(&output.stdout).unwrap();
    let secret = std::fs::read_to_string(ready["secret_file"].as_str().unwrap()).unwrap();
    let listed = Command::new("curl")
        .args(["--silent", "--fail", "--user", &format!("me:{secret}")])
        .args(["--unix-socket", ready["socket"].as_str().unwrap()])
        .arg("http://localhost/objects/?format=json")
        .output()
        .unwrap();
    let pid = i32::try_from(ready["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let listing: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listing["entries"].as_array().unwrap().len() > 10);
}

#[test]
fn pages_for_people_have_metadata_citation_variables_charts_and_a_map() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let accept = ["--header", "Accept: text/html"];
    let id = co2(&portal);
    let folder = server
        .get("stations/HTM/atcCo2L2DataObject/", &accept)
        .text();
    let link = format!("/.icosfs/object/{id}");
    assert!(folder.contains(&link), "{folder}");
    let page = server.get(&link[1..], &accept);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let page = page.text();
    for part in [
        "<h2>Citation</h2>",
        "<h2>Variables</h2>",
        "<th scope=\"row\">co2</th>",
        "\u{b5}mol mol-1",
        &format!("href=\"/objects/{id}.csv\""),
        &format!("href=\"https://hdl.handle.net/11676/{id}\""),
        "href=\"/stations/HTM/\"",
        "<html lang=\"en\">",
        "name=\"viewport\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(
        !page.contains("<script") && !page.contains(" style="),
        "{page}"
    );
    assert!(page.contains("<option>co2</option>"), "{page}");
    assert_eq!(slices(&portal), 0, "a page downloads no data");
    let chosen = server
        .get(&format!("{}?column=Stdev", &link[1..]), &accept)
        .text();
    let chart = format!(".icosfs/chart/{id}.svg?column=Stdev");
    assert!(chosen.contains(&format!("src=\"/{chart}\"")), "{chosen}");
    assert!(
        chosen.contains("<option selected>Stdev</option>"),
        "{chosen}"
    );
    let picture = server.get(&chart, &accept);
    assert_eq!(picture.header("content-type"), Some("image/svg+xml"));
    let picture = picture.text();
    let narrow = server.get(&format!("{chart}&size=narrow"), &accept).text();
    assert!(
        picture.contains("width=\"1600\"") && narrow.contains("width=\"640\""),
        "{narrow}"
    );
    assert!(picture.contains("Stdev [\u{b5}mol mol-1], "), "{picture}");
    assert!(slices(&portal) <= 3);
    for (query, reason) in [
        ("nothing", "the table has no column"),
        ("Flag", "expected numbers"),
    ] {
        let refused = server.get(&format!(".icosfs/chart/{id}.svg?column={query}"), &accept);
        assert_eq!(refused.status, 404);
        assert!(refused.text().contains(reason), "{query}");
    }
    let map = server.get(".icosfs/map", &accept).text();
    assert!(
        map.contains("<svg class=\"map\"") && map.contains("href=\"/stations/HTM/\""),
        "{map}"
    );
    let station = server.get("stations/HTM/", &accept).text();
    for part in [
        "<h1>Hyltemossa</h1>",
        "<span aria-current=\"page\">HTM</span>",
        "<dt>Position</dt>",
        "<td>ICOS ATC CO2 Release</td>",
    ] {
        assert!(station.contains(part), "{part}: {station}");
    }
    for absent in [
        ".icosfs/object/none",
        ".icosfs/object/",
        ".icosfs/chart/none.svg",
    ] {
        assert_eq!(server.get(absent, &accept).status, 404, "{absent}");
    }
}

#[test]
fn page_of_a_collection_has_its_title() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let accept = ["--header", "Accept: text/html"];
    let collections = server.get("collections/", &accept).text();
    let collection = (collections.split("href=\"").skip(1))
        .filter_map(|rest| rest.split('"').next())
        .find(|link| link.len() > 20 && !link.contains("style"))
        .expect("a collection");
    let page = server
        .get(&format!("collections/{collection}"), &accept)
        .text();
    let title = page
        .split("<h1>")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    let title = title.expect("a heading");
    assert!(title.starts_with("Demo "), "{page}");
    assert!(
        collections.contains(&format!("<td>{title}</td>")),
        "{collections}"
    );
}

#[test]
fn cadaver_lists_and_downloads() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    // From now on its size is known, which cadaver expects.
    let expected = server.read(&format!("objects/{id}.csv"));
    let secret = server.secret();
    let netrc = format!("machine 127.0.0.1 login any password {secret}\n");
    let netrc_file = server.home().path().join(".netrc");
    std::fs::write(&netrc_file, netrc).unwrap();
    let copy = server.home().path().join("copy.csv");
    let mut cadaver = Command::new("cadaver");
    server.home().alone(&mut cadaver).arg(server.url());
    let commands = format!("ls\nget objects/{id}.csv {}\nquit\n", copy.display());
    let output = crate::support::feed(cadaver, &commands);
    let said = said(&output);
    assert!(
        said.contains("README.md") && said.contains("stations"),
        "{said}"
    );
    assert!(!said.contains("Error: README.md"), "{said}");
    assert!(std::fs::read(&copy).unwrap() == expected, "{said}");
}

#[test]
fn r_reads_a_table_from_a_url() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let id = co2(&portal);
    let url = server
        .url()
        .replace("http://", &format!("http://any:{}@", server.secret()));
    let script = format!("cat(dim(read.csv('{url}objects/{id}.csv')))");
    let output = Command::new("Rscript").args(["-e", &script]).output();
    let output = output.expect("R is installed (scripts/setup)");
    let lines = get(&portal, &format!("/csv/{id}"));
    let rows = lines
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .count()
        - 1;
    let columns = lines.split(|&byte| byte == b'\n').next().unwrap();
    let columns = columns.split(|&byte| byte == b',').count();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{rows} {columns}"),
        "{output:?}"
    );
}
