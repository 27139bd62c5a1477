//! `icosfs auth`: shows the login's state, and prints its token for scripts.

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::credentials::CredentialArgs;
use super::output::{print_json, print_line};
use super::settings::{GlobalArgs, block_on};
use super::waiting::{block_on_while, with_spinner};
use super::warning::warning;
use icos_portal::account::LicenceStatus;
use icos_portal::{Account, Services};

/// Subcommands of `icosfs auth`.
#[derive(Debug, Subcommand)]
pub(super) enum AuthCommand {
    /// Show the logged-in user, the login's source and expiry, and whether the
    /// data licence is accepted; fails if data cannot be read
    Status {
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        login: CredentialArgs,
    },
    /// Print a valid token as the value of a Cookie header; logs in if needed
    Token {
        #[command(flatten)]
        login: CredentialArgs,
    },
}

pub(super) fn run(global: &GlobalArgs, command: AuthCommand) -> anyhow::Result<()> {
    match command {
        AuthCommand::Status { json, login } => {
            let clients = global.clients(Some(login))?;
            block_on(status(clients.account, &clients.services, json))
        }
        AuthCommand::Token { login } => {
            let auth = global.login(login, &global.http()?, &global.services()?)?;
            let auth = auth.context("not logged in; run `icosfs login`")?;
            let token = block_on_while("logging in", async { Ok(auth.token().await?) })?;
            Ok(print_line!("{}", token.cookie())?)
        }
    }
}

async fn status(account: Option<Account>, services: &Services, json: bool) -> anyhow::Result<()> {
    let mut login = None;
    let mut readable = false;
    if let Some(account) = &account
        && account.login_state().await.is_some()
    {
        // Tests the login, which may itself request a token.
        let checked = with_spinner("testing the login", account.check_licence()).await;
        readable = matches!(checked, Ok(LicenceStatus::Accepted));
        login = account.status().await;
        if let (Some(login), Err(error)) = (&mut login, checked) {
            login.advice.get_or_insert(error.to_string());
        }
    }
    if json {
        let status = serde_json::json!({
            "portal": services.envri().name(),
            "login": login,
            "advice": login.as_ref().is_none().then_some("run `icosfs login`"),
        });
        print_json(&status)?;
    } else if let Some(login) = &login {
        print_line!("{}: {login}", services.envri())?;
    }
    let advice = match login {
        Some(login) => login.advice,
        None => Some(format!(
            "not logged in to {}: metadata and free objects only; run `icosfs login`",
            services.envri()
        )),
    };
    match advice {
        Some(advice) if readable => warning!("{advice}"),
        Some(advice) => bail!(advice),
        None => {}
    }
    Ok(())
}
