//! A home folder of its own, for the program to find and keep logins in.

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

    /// The file that the Python library uses as well.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.path().join(".icoscp/cpauthToken_auth_conf.json")
    }

    /// Where `icosfs login --token-stdin` keeps a token.
    pub(crate) fn saved_token(&self) -> PathBuf {
        self.path().join(".config/icosfs/cpauthToken.token")
    }

    /// The program, with an environment of its own.
    pub(crate) fn icosfs(&self) -> Command {
        let mut command = Command::new(ICOSFS);
        self.alone(&mut command);
        command
    }

    /// Leaves `command` nothing of the environment but where programs are, and
    /// where scripts/coverage wants to know what was run.
    pub(crate) fn alone<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let kept = ["PATH", "LLVM_PROFILE_FILE"];
        let kept = kept.map(|name| std::env::var_os(name).map(|value| (name, value)));
        command
            .env_clear()
            .envs(kept.into_iter().flatten())
            .env("HOME", self.path())
    }

    /// Runs the program against `portal`, with `input` to read.
    pub(crate) fn run(&self, portal: &DemoPortal, arguments: &[&str], input: &str) -> Output {
        let mut command = self.icosfs();
        command.args(services_of(portal, &[])).args(arguments);
        feed(command, input)
    }
}

/// Writes the user's name and password, with `token` if there is one, to
/// `path`, as this program does.
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

/// Runs `command` with `input` to read.
pub(crate) fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("piped");
    // Who does not read it may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// What a program said, for messages and for searching.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
