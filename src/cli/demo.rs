//! `icosfs demo`: the demo portal on its own, and within `icosfs mount --demo`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::settings::Clients;
use crate::demo::{DemoOptions, DemoPortal, Repository};
use crate::portal::auth::{Token, TokenAuth};
use crate::portal::http::Http;

/// The built-in repository is the same every time.
const SEED: u64 = 2026;

/// What `icosfs demo` takes.
#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Metadata to serve instead of the built-in repository: a folder of RDF
    /// dumps; contents are made up to fit
    #[arg(long, value_name = "DIR")]
    rdf: Option<PathBuf>,
    /// First of three ports to listen on; 0 for any that are free
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Serves until a signal arrives; prints one JSON line that says where and for
/// whom.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let repository = match &args.rdf {
        Some(folder) => Repository::from_rdf(folder)?,
        None => Repository::builtin(SEED),
    };
    let options = DemoOptions {
        port: args.port,
        ..DemoOptions::default()
    };
    let portal = DemoPortal::start(repository, options).context("cannot start the demo portal")?;
    let line = serde_json::json!({
        "auth": portal.auth_url(),
        "meta": portal.meta_url(),
        "data": portal.data_url(),
        "user": portal.user(),
        "password": portal.password(),
        "token": portal.token(),
    });
    println!("{line}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// A demo portal with the built-in repository, for a mount in this process.
pub(super) struct Embedded(DemoPortal);

pub(super) fn builtin() -> anyhow::Result<Embedded> {
    let portal = DemoPortal::start(Repository::builtin(SEED), DemoOptions::default())
        .context("cannot start the demo portal")?;
    Ok(Embedded(portal))
}

impl Embedded {
    /// Clients of it, logged in as its user.
    pub(super) fn clients(&self, http: Http) -> anyhow::Result<Clients> {
        let services = self.0.services();
        let token = Token::parse(services.envri(), &self.0.token())?;
        let auth = TokenAuth::new(token, "the demo's own user".to_owned(), &services);
        Ok(Clients::new(http, services, Some(Arc::new(auth))))
    }
}
