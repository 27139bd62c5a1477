//! The demo portal, and requests to it that bypass the program under test.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository};
use icos_portal::ObjectId;

pub(crate) use icosfs::demo_portal::client_services;

/// Starts the built-in repository on free ports.
pub(crate) fn portal() -> DemoPortal {
    DemoPortal::start(DemoRepository::builtin(1), DemoOptions::default()).expect("the demo starts")
}

/// Returns the options for the URLs of `portal`, except those in `own`.
pub(crate) fn services_of(portal: &DemoPortal, given: &[&str]) -> Vec<String> {
    [
        ("--auth-url=", portal.auth_url()),
        ("--meta-url=", portal.meta_url()),
        ("--data-url=", portal.data_url()),
    ]
    .into_iter()
    .filter(|(option, _)| !given.iter().any(|given| given.starts_with(option)))
    .map(|(option, url)| format!("{option}{url}"))
    .collect()
}

/// Requests a path of the data service with `curl` and the user's cookie.
pub(crate) fn get(portal: &DemoPortal, path: &str) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--cookie", &portal.token()])
        .arg(format!("{}{path}", portal.data_url()))
        .output()
        .expect("curl is installed (scripts/setup)");
    assert!(output.status.success(), "curl {path}: {}", output.status);
    output.stdout
}

/// Returns a table with a year of hourly CO2 mole fractions.
pub(crate) fn co2(portal: &DemoPortal) -> ObjectId {
    let name = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";
    portal
        .repository()
        .find(name)
        .expect("the built-in repository has it")
}

/// Returns how many slices of tables were requested.
pub(crate) fn slices(portal: &DemoPortal) -> usize {
    let requests = portal.requests();
    requests.iter().filter(|r| r.path == "/cpb").count()
}

/// Returns whether the portal serves `id` as CSV.
pub(crate) fn serves_csv(portal: &DemoPortal, id: ObjectId) -> bool {
    portal.repository().csv(&id).is_some()
}

/// Returns whether the portal serves the original of `id` to its user.
pub(crate) fn serves_original(portal: &DemoPortal, id: ObjectId) -> bool {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ])
        .args(["--cookie", &portal.token()])
        .arg(format!("{}/objects/{id}", portal.data_url()))
        .output()
        .expect("curl is installed (scripts/setup)");
    output.stdout == b"200"
}

/// A service that accepts connections and never responds.
pub(crate) struct SilentPortal {
    url: String,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl SilentPortal {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let held = Arc::new(Mutex::new(Vec::new()));
        let holding = Arc::clone(&held);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                holding.lock().expect("no thread panics").push(stream);
            }
        });
        Self { url, held }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns how many connections it accepted.
    pub(crate) fn connections(&self) -> usize {
        self.held.lock().expect("no thread panics").len()
    }
}
