//! `icosfs demo`: the demo portal in a process of its own, as used in a workshop
//! or a CI job.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Home, said};

/// A demo portal in a process of its own.
struct Demo {
    child: Child,
    about: Value,
}

impl Demo {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut child = home
            .icosfs()
            .arg("demo")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let Ok(about) = serde_json::from_str(&line) else {
            let output = child.wait_with_output().expect("it has ended");
            panic!("{}", said(&output));
        };
        Self { child, about }
    }

    fn url(&self, service: &str) -> &str {
        self.about[service].as_str().expect("a URL")
    }

    /// Runs `curl` against a service; returns its output and exit status.
    fn curl(&self, service: &str, path: &str, arguments: &[&str]) -> Output {
        Command::new("curl")
            .args(["--silent", "--show-error"])
            .args(arguments)
            .arg(format!("{}{path}", self.url(service)))
            .output()
            .expect("curl is installed (scripts/setup)")
    }

    /// Ends it with SIGINT; returns its standard error.
    fn stop(mut self) -> String {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
        let stderr = self.child.stderr.take().expect("piped");
        let said = std::io::read_to_string(stderr).expect("text");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(130));
        said
    }
}

/// Returns the first of four consecutive free ports.
fn four_free_ports() -> u16 {
    (0..100)
        .find_map(|_| {
            let first = TcpListener::bind("127.0.0.1:0").ok()?;
            let port = first.local_addr().ok()?.port();
            let free = |offset| TcpListener::bind(("127.0.0.1", port.checked_add(offset)?)).ok();
            (1..4).all(|offset| free(offset).is_some()).then_some(port)
        })
        .expect("four free ports in a row")
}

#[test]
fn demo_listens_on_the_given_port_and_prints_its_settings() {
    let home = Home::new();
    let port = four_free_ports();
    let demo = Demo::start(&home, &["--port", &port.to_string()]);
    for (offset, service) in (0..).zip(["auth", "meta", "data", "control"]) {
        let url = format!("http://127.0.0.1:{}", port + offset);
        assert_eq!(demo.url(service), url);
    }
    let user = demo.about["user"].as_str().unwrap();
    let whoami = ["--cookie", demo.about["token"].as_str().unwrap()];
    let output = demo.curl("auth", "/whoami", &whoami);
    assert!(said(&output).contains(user), "{output:?}");
    let help = demo.curl("control", "/", &[]);
    assert!(said(&help).contains("/faults"), "{help:?}");

    let mut second = home.icosfs();
    second.args(["demo", "--port", &port.to_string()]);
    let second = second.output().unwrap();
    let expected = format!("cannot listen on port {port} of 127.0.0.1 for the auth service");
    assert!(
        !second.status.success() && said(&second).contains(&expected),
        "{second:?}"
    );
    assert_eq!(demo.stop(), "", "quiet unless asked");
}

#[test]
fn demo_applies_latency_and_fault_file_and_logs_each_request() {
    let home = Home::new();
    let faults = home.path().join("faults.json");
    let rule = json!({
        "service": "data", "route": "nonsense",
        "fault": {"status": {"code": 503, "retryAfter": 7}},
    });
    fs::write(&faults, json!({"seed": 7, "rules": [rule]}).to_string()).unwrap();
    let faults = faults.display().to_string();
    let demo = Demo::start(
        &home,
        &[
            "-v",
            "--rtt",
            "80",
            "--bandwidth",
            "2M",
            "--faults",
            &faults,
            "--file",
            "1M",
        ],
    );
    let start = Instant::now();
    let answer = demo.curl("data", "/nonsense?x=1", &["--include"]);
    let text = said(&answer).to_lowercase();
    assert!(
        text.contains(" 503 ") && text.contains("retry-after: 7"),
        "{text}"
    );
    assert!(
        start.elapsed() >= Duration::from_millis(80),
        "the round trip"
    );

    let plan = demo.curl("control", "/faults", &[]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan["seed"], 7);
    let faults: Vec<_> = plan["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["fault"])
        .collect();
    assert_eq!(*faults[1], json!({"latency": {"ms": 80, "jitterMs": 0}}));
    assert_eq!(
        *faults[2],
        json!({"bandwidth": {"bytesPerSecond": 2 << 20}})
    );

    let log = demo.stop();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 1, "a line for each request: {log}");
    for part in [
        "GET /nonsense?x=1",
        "data",
        "503",
        "status latency bandwidth",
    ] {
        assert!(lines[0].contains(part), "{part} in {log}");
    }
}

#[test]
fn invalid_demo_arguments_are_reported_by_name() {
    let home = Home::new();
    let damaged = home.path().join("damaged.json");
    fs::write(&damaged, r#"{"rules": [{"fault": "explode"}]}"#).unwrap();
    let damaged = damaged.display().to_string();
    let nowhere = home.path().join("nowhere").display().to_string();
    for (arguments, words) in [
        (["--faults", &*damaged], "explode"),
        (["--faults", &nowhere], &*nowhere),
        (["--rdf", &nowhere], &nowhere),
        (["--bandwidth", "fast"], "such as 500M"),
    ] {
        let output = home.icosfs().arg("demo").args(arguments).output().unwrap();
        let text = said(&output);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn demo_help_explains_the_demo() {
    let output = Home::new().icosfs().args(["demo", "--help"]).output();
    let help = said(&output.unwrap());
    for words in [
        "double of the real services",
        "workshops",
        "--faults <FILE>",
        "revokeTokens",
    ] {
        assert!(help.contains(words), "{words} in {help}");
    }
}

#[test]
#[cfg(feature = "shared-tests")]
fn demo_serves_a_folder_of_real_metadata() {
    let shared = std::env::var("ICOSFS_SHARED").expect("ICOSFS_SHARED; .ci/run sets it");
    let home = Home::new();
    let demo = Demo::start(&home, &["--rdf", &format!("{shared}/portal-rdf")]);
    let query = "select (count(*) as ?n) where { ?s a <http://meta.icos-cp.eu/ontologies/cpmeta/Collection> }";
    let arguments = [
        "--data",
        query,
        "-H",
        "Content-Type: text/plain",
        "-H",
        "Accept: text/csv",
    ];
    let output = demo.curl("meta", "/sparql", &arguments);
    assert_eq!(said(&output), "n\r\n250\r\n");
    demo.stop();
}
