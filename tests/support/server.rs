//! A server by the real program, ended on drop.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use icos_demo::DemoPortal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::home::Home;
use super::{eventually, files_below, services_of};

pub(crate) struct TestServer {
    home: Home,
    child: Child,
    url: Option<String>,
    socket: PathBuf,
    secret_file: PathBuf,
}

/// A reply, as `curl` received it.
pub(crate) struct TestReply {
    pub(crate) status: u16,
    /// The head, with names of headers in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl TestReply {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl TestServer {
    /// Serves `portal` with its user's login on a port and a socket.
    pub(crate) fn of(portal: &DemoPortal) -> Self {
        Self::with(portal, &["--port=0"], &[("ICOSFS_TOKEN", &portal.token())])
    }

    /// Serves `portal` with these options and variables.
    pub(crate) fn with(portal: &DemoPortal, options: &[&str], env: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let command = home.icosfs();
        Self::by(command, home, portal, options, env)
    }

    /// Serves `portal` by `command`, which runs the program.
    pub(crate) fn by(
        mut command: Command,
        home: Home,
        portal: &DemoPortal,
        options: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let mut child = command
            .args(["serve", "--json"])
            .args(services_of(portal, options))
            .args(options)
            .env("ICOSFS_CACHE_DIR", home.path().join("cache"))
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("text");
        let ready: Value = serde_json::from_str(&line).expect("a line of JSON once it is ready");
        let path = |name: &str| PathBuf::from(ready[name].as_str().expect("a path"));
        Self {
            url: ready["url"].as_str().map(str::to_owned),
            socket: path("socket"),
            secret_file: path("secret_file"),
            home,
            child,
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn secret_file(&self) -> &Path {
        &self.secret_file
    }

    pub(crate) fn secret(&self) -> String {
        std::fs::read_to_string(&self.secret_file).expect("a secret")
    }

    /// The URL, with a slash at its end.
    pub(crate) fn url(&self) -> &str {
        self.url.as_deref().expect("it listens on a port")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Requests `path` (without a slash at its start) with the secret and further options
    /// of `curl`.
    pub(crate) fn get(&self, path: &str, options: &[&str]) -> TestReply {
        let secret = format!("Authorization: Bearer {}", self.secret());
        self.request(path, &[&["--header", &secret], options].concat())
    }

    /// As [`TestServer::get`], without the secret.
    pub(crate) fn request(&self, path: &str, options: &[&str]) -> TestReply {
        let output = self.curl(path, options);
        assert!(output.status.success(), "{path}: {output:?}");
        let (head, body) = split(&output.stdout);
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        TestReply {
            status: status.expect("a status"),
            head: lower_case_names(&head),
            body,
        }
    }

    /// Runs `curl` with options; its output is the head of the reply and the body.
    pub(crate) fn curl(&self, path: &str, options: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "60"]);
        match &self.url {
            Some(url) => command.arg(format!("{url}{path}")),
            None => command
                .arg("--unix-socket")
                .arg(&self.socket)
                .arg(format!("http://localhost/{path}")),
        };
        let output = command.args(options).output();
        output.expect("curl is installed (scripts/setup)")
    }

    /// Returns the body of a file.
    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        let reply = self.get(path, &[]);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status, 200, "{path}: {text}");
        reply.body
    }

    /// The names in a folder, sorted, with a slash after those of folders.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let listing = self.get(&format!("{path}?format=json"), &[]).json();
        let entries = listing["entries"].as_array().expect("entries").iter();
        let mut names: Vec<String> = entries
            .map(|entry| {
                let slash = if entry["kind"] == "directory" {
                    "/"
                } else {
                    ""
                };
                format!("{}{slash}", entry["name"].as_str().expect("a name"))
            })
            .collect();
        names.sort();
        names
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("the server runs");
    }

    /// Waits until the server has ended, and returns whether it succeeded.
    pub(crate) fn ends(&mut self, limit: Duration) -> bool {
        let mut status = None;
        eventually(limit, || {
            status = self.child.try_wait().expect("it is a child");
            status.is_some()
        });
        status.expect("the server ends").success()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            if !eventually(Duration::from_secs(10), || {
                !matches!(self.child.try_wait(), Ok(None))
            }) {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// Splits the output of `curl --include` at the end of the last head.
/// The process ids of the servers whose records are below the folder `home`.
pub(crate) fn servers_below(home: &Path) -> Vec<i32> {
    let files = files_below(home).into_iter();
    let records = files.filter(|path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("serve-") && name.ends_with(".json")
    });
    records
        .filter_map(|path| {
            let record: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
            i32::try_from(record["pid"].as_i64()?).ok()
        })
        .collect()
}

/// Ends the servers that processes with the home folder `home` started.
pub(crate) fn end_servers(home: &Path) {
    for pid in servers_below(home) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let process = format!("/proc/{pid}");
        eventually(Duration::from_secs(10), || !Path::new(&process).exists());
    }
}

fn split(output: &[u8]) -> (String, Vec<u8>) {
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.expect("a head");
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let body = output[end + 4..].to_vec();
    if head.starts_with("HTTP/1.1 100") {
        return split(&body);
    }
    (head, body)
}

fn lower_case_names(head: &str) -> String {
    let lines = head.lines().map(|line| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}
