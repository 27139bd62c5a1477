//! Where the user's login comes from. Nothing secret is taken from argv, which
//! everyone on the machine can read.
//!
//! In this order: a token file or `ICOSFS_TOKEN`; a user name and password
//! from standard input or the environment; a credentials file that was named;
//! what `icosfs login` keeps, which is a saved token while it lives, or else
//! the Python library's own credentials file.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use directories::ProjectDirs;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use icos_portal::auth::{
    Credentials, CredentialsFile, FileError, PasswordAuth, StoredAuth, Token, TokenAuth, TokenFile,
    TokenProvider,
};
use icos_portal::http::Http;
use icos_portal::{Envri, Services};

/// No password or token is longer.
const LONGEST: usize = 64 << 10;

/// Options for commands that need a login.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Login")]
pub(super) struct CredentialArgs {
    /// A file with a login token, read again when it is replaced
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// The user to log in as, by the password on standard input
    #[arg(long, value_name = "MAIL", requires = "password_stdin")]
    user: Option<String>,
    /// Read the password of --user from standard input
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// A file with user name and password, as `icosfs login` and the Python
    /// library write it; a token, or --user, goes before it
    // No conflict with those: this one may come from the environment.
    #[arg(long, value_name = "FILE", env = "ICOSFS_CREDENTIALS")]
    credentials: Option<PathBuf>,
}

impl CredentialArgs {
    /// Whether standard input is needed.
    pub(super) fn read_stdin(&self) -> bool {
        self.password_stdin
    }

    /// The provider that the options, the environment or what `icosfs login`
    /// keeps give; none without so much as a home folder.
    pub(super) fn provider(
        self,
        http: &Http,
        services: &Services,
    ) -> anyhow::Result<Option<Arc<dyn TokenProvider>>> {
        let Self {
            token_file,
            user,
            password_stdin: _, // Required by `user`.
            credentials,
        } = self;
        let envri = services.envri();
        if let Some(path) = token_file {
            let file = TokenFile::at(lasting(&path)?, envri);
            must_exist(file.load()?, file.path())?;
            return Ok(Some(Arc::new(TokenAuth::from_file(file, services))));
        }
        if let Some(text) = variable("ICOSFS_TOKEN") {
            let token = Token::parse(envri, &text).context("bad ICOSFS_TOKEN")?;
            let auth = TokenAuth::new(token, "ICOSFS_TOKEN".to_owned(), services);
            return Ok(Some(Arc::new(auth)));
        }
        let explicit = match user {
            Some(user) => {
                let password = secret_from_stdin("password")?;
                Some((Credentials::new(user, password), "--user"))
            }
            None => from_environment()?.map(|found| (found, "ICOSFS_USER and ICOSFS_PASSWORD")),
        };
        let (http, services) = (http.clone(), services.clone());
        if let Some((credentials, source)) = explicit {
            let auth = PasswordAuth::new(http, services, credentials, source.to_owned());
            return Ok(Some(Arc::new(auth)));
        }
        if let Some(path) = credentials {
            let file = CredentialsFile::at(lasting(&path)?, envri);
            must_exist(file.load()?, file.path())?;
            let auth = PasswordAuth::from_file(http, services, file);
            return Ok(Some(Arc::new(auth)));
        }
        match (saved_token(envri), CredentialsFile::standard(envri)) {
            (Some(saved), Some(credentials)) => {
                let auth = StoredAuth::new(http, services, saved, credentials);
                Ok(Some(Arc::new(auth)))
            }
            _ => Ok(None),
        }
    }
}

/// Where `icosfs login --token-stdin` keeps a token; nowhere without a home
/// folder.
pub(super) fn saved_token(envri: Envri) -> Option<TokenFile> {
    let dirs = ProjectDirs::from("", "", "icosfs")?;
    let name = format!("{}.token", envri.cookie_name());
    Some(TokenFile::at(dirs.config_dir().join(name), envri))
}

/// A secret that someone types, or a program writes to standard input.
pub(super) fn secret_from_stdin(what: &str) -> anyhow::Result<SecretString> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return ask_secret(what);
    }
    // Roomy from the start: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    stdin
        .take(LONGEST as u64)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the {what} from standard input"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    ensure!(
        !secret.is_empty(),
        "expected the {what} on standard input, found nothing"
    );
    Ok(SecretString::from(secret))
}

/// Asks whoever sits at the terminal, who does not see what they type.
pub(super) fn ask_secret(what: &str) -> anyhow::Result<SecretString> {
    let mut prompt = format!("{what}: ");
    prompt[..1].make_ascii_uppercase();
    rpassword::prompt_password(prompt)
        .map(SecretString::from)
        .map_err(|_no_terminal| {
            anyhow!("there is no terminal to ask for the {what} at; give it on standard input, with --{what}-stdin")
        })
}

fn from_environment() -> anyhow::Result<Option<Credentials>> {
    match (variable("ICOSFS_USER"), variable("ICOSFS_PASSWORD")) {
        (Some(user), Some(password)) => {
            Ok(Some(Credentials::new(user, SecretString::from(password))))
        }
        (None, None) => Ok(None),
        (Some(_), None) => bail!("ICOSFS_USER is set, but not ICOSFS_PASSWORD; set both or none"),
        (None, Some(_)) => bail!("ICOSFS_PASSWORD is set, but not ICOSFS_USER; set both or none"),
    }
}

/// The same path from any folder: a daemon leaves the one it was started in,
/// and reads the file again from elsewhere.
fn lasting(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("bad path {}", path.display()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn must_exist<T>(found: Option<T>, path: &Path) -> Result<T, FileError> {
    found.ok_or_else(|| FileError::Missing {
        path: path.to_owned(),
    })
}
