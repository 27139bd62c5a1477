//! Selects the source of the user's login. Secrets are never taken from the
//! command line, which every user of the machine can read.
//!
//! Sources in order of precedence:
//!
//! 1. a token file, or `ICOSFS_TOKEN`;
//! 2. a user name and password from standard input or the environment;
//! 3. a credentials file given by option or environment;
//! 4. the login saved by `icosfs login`: a saved token while it is valid, else
//!    the Python library's credentials file.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use directories::ProjectDirs;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::daemon::report::MountLogin;
use icos_portal::auth::{
    Credentials, CredentialsFile, FileError, PasswordAuth, StoredAuth, Token, TokenAuth, TokenFile,
    TokenProvider,
};
use icos_portal::http::Http;
use icos_portal::{Envri, Services};

/// Maximum length of a password or token in bytes.
const MAX_SECRET_LEN: usize = 64 << 10;

/// Options for commands that need a login.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Login")]
pub(super) struct CredentialArgs {
    /// A file with a login token
    ///
    /// It is read again when it is replaced.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// Log in as this user, with --password-stdin
    #[arg(long, value_name = "MAIL", requires = "password_stdin")]
    user: Option<String>,
    /// Read the password of --user from standard input
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// A file with user name and password
    ///
    /// In the format of `icosfs login` and the Python library. A token or --user takes
    /// precedence.
    // Not declared as conflicting, as it may be set in the environment.
    #[arg(long, value_name = "FILE", env = "ICOSFS_CREDENTIALS")]
    credentials: Option<PathBuf>,
}

impl CredentialArgs {
    /// Whether the password is read from standard input.
    pub(super) fn read_stdin(&self) -> bool {
        self.password_stdin
    }

    /// Returns these options, or those of a mount if these select nothing.
    pub(super) fn or_of_mount(self, login: &MountLogin) -> Self {
        if self.token_file.is_some() || self.user.is_some() || self.credentials.is_some() {
            return self;
        }
        let (token_file, credentials) = match login {
            MountLogin::Default | MountLogin::Demo => (None, None),
            MountLogin::TokenFile(path) => (Some(path.clone()), None),
            MountLogin::Credentials(path) => (None, Some(path.clone())),
        };
        Self {
            token_file,
            credentials,
            ..self
        }
    }

    /// Where other commands find the login of a mount with these options.
    pub(super) fn for_other_commands(&self) -> anyhow::Result<MountLogin> {
        let only_here = ["ICOSFS_TOKEN", "ICOSFS_USER"];
        Ok(match (&self.token_file, &self.credentials) {
            (Some(path), _) => MountLogin::TokenFile(absolute(path)?),
            (None, Some(path))
                if self.user.is_none() && only_here.iter().all(|name| variable(name).is_none()) =>
            {
                MountLogin::Credentials(absolute(path)?)
            }
            _ => MountLogin::Default,
        })
    }

    /// Returns the token provider for the source of highest precedence. `None`
    /// if no source is given and there is no home folder with a saved login.
    pub(super) fn provider(
        self,
        http: &Http,
        services: &Services,
    ) -> anyhow::Result<Option<Arc<dyn TokenProvider>>> {
        let Self {
            token_file,
            user,
            password_stdin: _, // `user` requires it.
            credentials,
        } = self;
        let envri = services.envri();
        let found = |auth: Arc<dyn TokenProvider>| Ok(Some(auth));
        if let Some(path) = token_file {
            let file = TokenFile::at(absolute(&path)?, envri);
            must_exist(file.load()?, file.path())?;
            return found(Arc::new(TokenAuth::from_file(file, services)));
        }
        if let Some(text) = variable("ICOSFS_TOKEN") {
            let token = Token::parse(envri, &text).context("invalid ICOSFS_TOKEN")?;
            let source = "ICOSFS_TOKEN".to_owned();
            return found(Arc::new(TokenAuth::new(token, source, services)));
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
            return found(Arc::new(auth));
        }
        if let Some(path) = credentials {
            let file = CredentialsFile::at(absolute(&path)?, envri);
            must_exist(file.load()?, file.path())?;
            return found(Arc::new(PasswordAuth::from_file(http, services, file)));
        }
        match (saved_token(envri), CredentialsFile::standard(envri)) {
            (Some(saved), Some(credentials)) => found(Arc::new(StoredAuth::new(
                http,
                services,
                saved,
                credentials,
            ))),
            _ => Ok(None),
        }
    }
}

/// The file in which `icosfs login --token-stdin` saves a token. `None` without
/// a home folder.
pub(super) fn saved_token(envri: Envri) -> Option<TokenFile> {
    let dirs = ProjectDirs::from("", "", "icosfs")?;
    let name = format!("{}.token", envri.cookie_name());
    Some(TokenFile::at(dirs.config_dir().join(name), envri))
}

/// Reads a secret from standard input; on a terminal, prompts for it.
pub(super) fn secret_from_stdin(what: &str) -> anyhow::Result<SecretString> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return prompt_secret(what);
    }
    // Allocated in full: growing would leave copies of the secret in memory.
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET_LEN));
    stdin
        .take(MAX_SECRET_LEN as u64)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the {what} from standard input"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    ensure!(
        !secret.is_empty(),
        "expected the {what} on standard input, found nothing"
    );
    Ok(SecretString::from(secret))
}

/// Prompts for a secret on the terminal, without echo.
pub(super) fn prompt_secret(what: &str) -> anyhow::Result<SecretString> {
    let mut prompt = format!("{what}: ");
    prompt[..1].make_ascii_uppercase();
    rpassword::prompt_password(prompt)
        .map(SecretString::from)
        .map_err(|_no_terminal| {
            anyhow!("there is no terminal to prompt for the {what}; pass it on standard input with --{what}-stdin")
        })
}

fn from_environment() -> anyhow::Result<Option<Credentials>> {
    match (variable("ICOSFS_USER"), variable("ICOSFS_PASSWORD")) {
        (Some(user), Some(password)) => {
            Ok(Some(Credentials::new(user, SecretString::from(password))))
        }
        (None, None) => Ok(None),
        (Some(_), None) => {
            bail!("ICOSFS_USER is set, but ICOSFS_PASSWORD is not; set both or neither")
        }
        (None, Some(_)) => {
            bail!("ICOSFS_PASSWORD is set, but ICOSFS_USER is not; set both or neither")
        }
    }
}

/// Makes `path` absolute: a daemon changes its working directory and reads the
/// file again later.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("invalid path {}", path.display()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn must_exist<T>(found: Option<T>, path: &Path) -> Result<T, FileError> {
    found.ok_or_else(|| FileError::Missing {
        path: path.to_owned(),
    })
}
