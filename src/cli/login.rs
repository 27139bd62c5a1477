//! `icosfs login` and `icosfs logout`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use secrecy::ExposeSecret as _;

use super::credentials::{prompt_secret, saved_token, secret_from_stdin};
use super::output::{self, print_line};
use super::settings::{GlobalArgs, block_on};
use super::waiting::with_spinner;
use super::warning::warning;
use icos_portal::account::LicenceStatus;
use icos_portal::auth::{
    AuthError, Credentials, CredentialsFile, PasswordAuth, Token, TokenAuth, TokenProvider,
};
use icos_portal::http::Http;
use icos_portal::{Account, Services};

/// Arguments of `icosfs login`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs login                                          prompts for both
  icosfs login --user me@example.org --password-stdin < password
  icosfs login --token-stdin < token                    university, ORCID, ...")]
pub(super) struct LoginArgs {
    /// Save user name and password in this file instead of the one that the
    /// portal's Python library uses
    #[arg(long, value_name = "FILE", env = "ICOSFS_CREDENTIALS")]
    credentials: Option<PathBuf>,
    /// The user name [default: prompt for it]
    #[arg(long, value_name = "MAIL")]
    user: Option<String>,
    /// Read the password from standard input instead of prompting for it
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// Read a token from standard input and save it, for accounts without a
    /// password (university, ORCID); the portal's My Account page shows the token
    #[arg(long, conflicts_with = "user")]
    token_stdin: bool,
}

/// Arguments of `icosfs logout`.
#[derive(Args, Debug)]
pub(super) struct LogoutArgs {
    /// Remove only this file
    #[arg(long, value_name = "FILE", env = "ICOSFS_CREDENTIALS")]
    credentials: Option<PathBuf>,
}

pub(super) fn run(global: &GlobalArgs, args: LoginArgs) -> anyhow::Result<()> {
    for name in ["ICOSFS_TOKEN", "ICOSFS_USER"] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            warning!("{name} is set and takes precedence over the login saved now");
        }
    }
    let LoginArgs {
        credentials,
        user,
        password_stdin,
        token_stdin,
    } = args;
    let services = global.services()?;
    let http = global.http()?;
    if token_stdin {
        return block_on(with_token(http, services));
    }
    let file = credentials_file(credentials.clone(), &services)?;
    let user = match user {
        Some(user) => user,
        None => prompt_user()?,
    };
    let password = if password_stdin {
        secret_from_stdin("password")?
    } else {
        prompt_secret("password")?
    };
    let given = Credentials::new(user, password);
    block_on(async {
        with_password(http, &services, given, &file).await?;
        if credentials.is_none()
            && let Some(saved) = saved_token(services.envri())
            && saved.remove().await?
        {
            print_line!("removed the token saved earlier; this login replaces it")?;
        }
        Ok(())
    })
}

/// Tests the given password and saves it with the token it yields.
async fn with_password(
    http: Http,
    services: &Services,
    given: Credentials,
    file: &CredentialsFile,
) -> anyhow::Result<()> {
    let auth = PasswordAuth::new(
        http.clone(),
        services.clone(),
        given.clone(),
        "your input".to_owned(),
    );
    let token = match with_spinner("testing the login", auth.token()).await {
        Err(AuthError::WrongPassword { user, .. }) => {
            bail!("the portal refused user name or password of {user}; nothing was saved")
        }
        result => result?,
    };
    file.save(&given.with_token(Arc::clone(&token))).await?;
    print_line!("logged in as {}", token.user())?;
    print_line!("saved in {}", file.path().display())?;
    print_line!(
        "  the password in it is obfuscated, not encrypted: keep it only on machines you trust"
    )?;
    print_licence_status(&Account::new(http, services.clone(), Arc::new(auth))).await
}

/// Tests the token on standard input and saves it.
async fn with_token(http: Http, services: Services) -> anyhow::Result<()> {
    let page = services.account_page();
    if std::io::stdin().is_terminal() {
        output::to_stderr(&format!("Your token is under \"My Account\" at {page}\n"));
    }
    let text = secret_from_stdin("token")?;
    let token = Token::parse(services.envri(), text.expose_secret())?;
    let auth = TokenAuth::new(token.clone(), "your input".to_owned(), &services);
    let account = Account::new(http, services.clone(), Arc::new(auth));
    let user = with_spinner("testing the token", account.whoami()).await;
    let user = user.context("the portal did not accept the token; nothing was saved")?;
    let file =
        saved_token(services.envri()).context("found no home folder to save the token in")?;
    file.save(&token).await?;
    print_line!("logged in as {user}")?;
    print_line!("saved in {}", file.path().display())?;
    print_line!(
        "  valid until {:.0}; it cannot be renewed automatically: get the next one at {page}",
        token.expires()
    )?;
    print_licence_status(&account).await
}

async fn print_licence_status(account: &Account) -> anyhow::Result<()> {
    match with_spinner("checking the licence", account.check_licence()).await {
        Ok(LicenceStatus::Accepted) => print_line!("the data licence is accepted"),
        Ok(LicenceStatus::NotAccepted) => print_line!(
            "the data licence is not accepted yet; accept it in your profile at {} to read data",
            account.page()
        ),
        Err(error) => print_line!("cannot check whether the data licence is accepted: {error}"),
    }?;
    Ok(())
}

fn prompt_user() -> anyhow::Result<String> {
    output::to_stderr("User name (mail address): ");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context("cannot read the user name")?;
    let user = line.trim();
    if user.is_empty() {
        // End the line of the prompt.
        output::to_stderr("\n");
        bail!("expected a user name, found nothing; a script gives it with --user");
    }
    Ok(user.to_owned())
}

fn credentials_file(path: Option<PathBuf>, services: &Services) -> anyhow::Result<CredentialsFile> {
    match path {
        Some(path) => Ok(CredentialsFile::at(path, services.envri())),
        None => CredentialsFile::standard(services.envri())
            .context("found no home folder to save a login in; name a file with --credentials"),
    }
}

pub(super) fn log_out(global: &GlobalArgs, args: LogoutArgs) -> anyhow::Result<()> {
    let LogoutArgs { credentials } = args;
    let services = global.services()?;
    let saved = match credentials {
        Some(_) => None,
        None => saved_token(services.envri()),
    };
    let file = credentials_file(credentials, &services)?;
    block_on(async {
        let mut removed = Vec::new();
        if let Some(saved) = saved
            && saved.remove().await?
        {
            removed.push(saved.path().to_owned());
        }
        if file.remove().await? {
            removed.push(file.path().to_owned());
        }
        if removed.is_empty() {
            print_line!("there was no login of {}", services.envri())?;
        }
        for path in removed {
            print_line!("removed {}", path.display())?;
        }
        Ok(())
    })
}
