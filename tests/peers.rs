//! Programs of others as clients of `icosfs serve`. Those that CI does not install are in
//! `scripts/peers`; rclone, cadaver and R are in `serving`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository};

use crate::support::{TestServer, co2, interpreter, portal, python_script};

/// What litmus uploads.
const UPLOADED: &str = "This is\na test file.\nfor litmus\ntesting.\n";

/// `litmus_adapter.py`, ended on drop.
struct LitmusAdapter {
    child: Child,
    url: String,
}

impl LitmusAdapter {
    /// An adapter that shows the file at `path` as each one that litmus uploads.
    fn of(server: &TestServer, path: &str) -> Self {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/litmus_adapter.py"
        );
        let mut child = interpreter()
            .args([script, server.url(), path])
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut url = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut url).expect("text");
        let url = url.trim().to_owned();
        Self { child, url }
    }
}

impl Drop for LitmusAdapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// litmus found that a prefix that is bound to no namespace was accepted.
#[test]
fn litmus_passes_where_it_only_reads() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_content("litmus.txt", UPLOADED);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let server = TestServer::of(&portal);
    let adapter = LitmusAdapter::of(&server, &format!("objects/{id}.txt"));
    let output = Command::new("litmus")
        .args(["--keep-going", &adapter.url, "any", &server.secret()])
        .env("TESTS", "basic props")
        .current_dir(server.home().path())
        .output()
        .expect("litmus is installed (scripts/setup)");
    // It overwrites lines as on a terminal.
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
    for test in [
        "options",
        "put_get",
        "put_get_utf8_segment",
        "propfind_invalid",
        "propfind_invalid2",
        "propfind_d0",
        "propextended",
        "propwformed",
    ] {
        // A warning is on a line of its own, before the result.
        let result = (text.split_once(&format!(". {test}."))).and_then(|(_, rest)| {
            rest.split(['\n', ' '])
                .find(|word| ["pass", "FAIL", "SKIPPED"].contains(word))
        });
        assert_eq!(result, Some("pass"), "{test}: {text}");
    }
}

/// The same values by netCDF-C's own HTTP client, with `#mode=bytes`, as from a copy.
#[test]
fn netcdf_c_reads_byte_ranges() {
    let portal = portal();
    let server = TestServer::of(&portal);
    let inversion = portal.repository().find("demo_inversion_2023.nc").unwrap();
    for id in [co2(&portal), inversion] {
        let copy = server.home().path().join("copy.nc");
        std::fs::write(&copy, server.read(&format!("objects/{id}.nc"))).unwrap();
        let address =
            (server.url()).replace("http://", &format!("http://any:{}@", server.secret()));
        let remote = format!("{address}objects/{id}.nc#mode=bytes");
        let values = |path: &str| python_script("netcdf_values.py", &[path.into()]);
        let expected = values(copy.to_str().unwrap());
        assert!(expected.lines().count() >= 3, "{expected}");
        assert_eq!(values(&remote), expected);
    }
}
