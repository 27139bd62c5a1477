//! A temporary home folder in which the program finds and saves logins.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use icos_demo::DemoPortal;
use icos_portal::Envri;
use icos_portal::auth::{Credentials, CredentialsFile, Token};
use secrecy::SecretString;

use super::services_of;

/// The program under test.
pub(crate) const ICOSFS: &str = env!("CARGO_BIN_EXE_icosfs");

pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The credentials file shared with the Python library.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.path().join(".icoscp/cpauthToken_auth_conf.json")
    }

    /// The file in which `icosfs login --token-stdin` saves a token.
    pub(crate) fn saved_token(&self) -> PathBuf {
        self.path().join(".config/icosfs/cpauthToken.token")
    }

    /// Prepares the program with an environment of its own.
    pub(crate) fn icosfs(&self) -> Command {
        let mut command = Command::new(ICOSFS);
        self.alone(&mut command);
        command
    }

    /// Clears the environment of `command` except for `PATH` and the variables of
    /// scripts/coverage.
    pub(crate) fn alone<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let kept = ["PATH", "LLVM_PROFILE_FILE"];
        let kept = kept.map(|name| std::env::var_os(name).map(|value| (name, value)));
        command
            .env_clear()
            .envs(kept.into_iter().flatten())
            .env("HOME", self.path())
    }

    /// Runs the program against `portal` with `input` on standard input.
    pub(crate) fn run(&self, portal: &DemoPortal, arguments: &[&str], input: &str) -> Output {
        let mut command = self.icosfs();
        command.args(services_of(portal, &[])).args(arguments);
        feed(command, input)
    }
}

/// Writes a credentials file to `path`, as the program does.
pub(crate) fn write_credentials(portal: &DemoPortal, path: &Path, token: Option<&str>) {
    let password = SecretString::from(portal.password());
    let mut credentials = Credentials::new(portal.user(), password);
    if let Some(token) = token {
        let token = Token::parse(Envri::Icos, token).expect("a token");
        credentials = credentials.with_token(token.into());
    }
    let file = CredentialsFile::at(path.to_owned(), Envri::Icos);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(file.save(&credentials)).expect("saved");
}

/// Runs `command` with `input` on standard input.
pub(crate) fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("piped");
    // A program that does not read it may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// Returns all output of a program, for messages and searches.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
