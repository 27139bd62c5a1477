//! A demo portal: a faithful double of the real services on loopback.
//!
//! Three HTTP services (auth, meta, data) speak the portal's wire protocol,
//! with what it does badly, over a [`Repository`]: metadata as RDF, answered
//! by a real SPARQL engine, and contents to go with it. Made for trying icosfs
//! out, for workshops, and for the tests, which would prove little against a
//! double of less care.
//!
//! It shares with [`icos_portal`] only vocabulary (ids and the names of
//! repositories). Whatever the product computes, e.g. a CSV's numbers, is
//! computed here another way.

mod auth;
mod bench;
mod builtin;
mod cells;
mod content;
mod control;
mod data;
mod faults;
mod geo;
mod graph;
mod http;
mod item;
mod landing;
mod meta;
mod number;
mod rdf;
mod record;
mod repository;
mod server;
mod sparql;
mod state;
mod table;
mod token;
mod values;
mod vocab;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::DATE;
use axum::http::{Request, StatusCode};
use jiff::SignedDuration;
use tokio::runtime::Runtime;

pub use self::faults::{Fault, FaultPlan, FaultRule};
use self::http::{Ask, Reply};
pub use self::record::{DemoService, RecordedRequest};
use self::record::{Recorder, Watcher};
pub use self::repository::Repository;
use self::server::{Line, Port};
pub use self::sparql::SparqlLimits;
use self::state::{Account, Shared, TOKEN_LIFE};
use self::token::Mint;

/// Why there is no demo portal.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Metadata could not be read.
    #[error("cannot read metadata from {path}: {reason}")]
    Metadata {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A port could not be opened.
    #[error("cannot listen on port {port} of 127.0.0.1 for the {service} service: {source}")]
    Listen {
        /// The service's name.
        service: &'static str,
        /// The port asked for; 0 for any.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// No threads could be started.
    #[error("cannot start the demo portal's threads: {0}")]
    Threads(io::Error),
}

impl DemoError {
    fn metadata(path: &Path, reason: &dyn fmt::Display) -> Self {
        Self::Metadata {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// How a demo portal is to run.
pub struct DemoOptions {
    /// Port of the auth service; meta, data and control take the next three.
    /// With 0, each takes a free one.
    pub port: u16,
    /// The demo user's name.
    pub user: String,
    /// The demo user's password.
    pub password: String,
    /// Whether the demo user has accepted the data licence.
    pub licence_accepted: bool,
    /// What shall go wrong from the start.
    pub faults: FaultPlan,
    /// How much querying the meta service allows.
    pub limits: SparqlLimits,
    /// Called with each request when it has ended.
    pub on_request: Option<Watcher>,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            port: 0,
            user: "demo@icosfs.example".to_owned(),
            password: "let me in".to_owned(),
            licence_accepted: true,
            faults: FaultPlan::default(),
            limits: SparqlLimits::default(),
            on_request: None,
        }
    }
}

/// A running demo portal. It stops when dropped.
pub struct DemoPortal {
    shared: Arc<Shared>,
    ports: Arc<[Port; 3]>,
    control: Port,
    /// Taken only on drop.
    runtime: Option<Runtime>,
}

impl DemoPortal {
    /// Starts serving `repository` on 127.0.0.1, on threads of its own.
    ///
    /// # Errors
    ///
    /// [`DemoError::Listen`] if a port is taken, [`DemoError::Threads`] if the
    /// system refuses threads.
    pub fn start(repository: Repository, options: DemoOptions) -> Result<Self, DemoError> {
        let DemoOptions {
            port,
            user,
            password,
            licence_accepted,
            faults,
            limits,
            on_request,
        } = options;
        let account = Account {
            mail: user,
            password,
            licence_accepted,
            withdrawn_until: None,
            mint: Mint::random(),
            token_life: TOKEN_LIFE,
            ahead: SignedDuration::ZERO,
        };
        let recorder = Recorder::new(on_request);
        let shared = Arc::new(Shared::new(repository, recorder, account, limits));
        shared.faults.set(faults);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("demo-portal")
            .enable_all()
            .build()
            .map_err(DemoError::Threads)?;
        let open = |offset: u16, service: &'static str, router: Router| {
            let port = match port {
                0 => 0,
                first => first.saturating_add(offset),
            };
            let opened = Port::open(port, router, runtime.handle());
            opened.map_err(|source| DemoError::Listen {
                service,
                port,
                source,
            })
        };
        let of =
            |service: DemoService| open(service as u16, service.name(), router(&shared, service));
        let ports = Arc::new([
            of(DemoService::Auth)?,
            of(DemoService::Meta)?,
            of(DemoService::Data)?,
        ]);
        shared.listens_at(&ports);
        let control = open(3, "control", control::router(&shared, &ports))?;
        Ok(Self {
            shared,
            ports,
            control,
            runtime: Some(runtime),
        })
    }

    /// Base URL of the auth service, e.g. `http://127.0.0.1:4711`.
    #[must_use]
    pub fn auth_url(&self) -> String {
        self.ports[DemoService::Auth as usize].url()
    }

    /// Base URL of the meta service.
    #[must_use]
    pub fn meta_url(&self) -> String {
        self.ports[DemoService::Meta as usize].url()
    }

    /// Base URL of the data service.
    #[must_use]
    pub fn data_url(&self) -> String {
        self.ports[DemoService::Data as usize].url()
    }

    /// Base URL of the control service, by which another process can make
    /// faults; `GET /` says how.
    #[must_use]
    pub fn control_url(&self) -> String {
        self.control.url()
    }

    /// The demo user's name.
    #[must_use]
    pub fn user(&self) -> String {
        self.shared.account().mail.clone()
    }

    /// The demo user's password.
    #[must_use]
    pub fn password(&self) -> String {
        self.shared.account().password.clone()
    }

    /// The name of the login cookie, e.g. `cpauthToken`.
    #[must_use]
    pub fn cookie_name(&self) -> &'static str {
        self.shared.cookie_name()
    }

    /// A valid login of the demo user as a cookie, `cpauthToken=...`.
    #[must_use]
    pub fn token(&self) -> String {
        self.mint_token(TOKEN_LIFE)
    }

    /// A login that lives this long from now; with a negative life it has
    /// ended already.
    #[must_use]
    pub fn mint_token(&self, lifetime: SignedDuration) -> String {
        format!("{}={}", self.cookie_name(), self.shared.mint(lifetime))
    }

    /// What is served.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.shared.repository
    }

    /// The requests since the last [`DemoPortal::clear_requests`], in the
    /// order they came; of very many, the last 50 000.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.recorder.requests()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.recorder.clear();
    }

    /// Sets whether the demo user has accepted the data licence.
    pub fn accept_licence(&self, accepted: bool) {
        self.shared.account().accept_licence(accepted);
    }

    /// Makes every token minted so far invalid.
    pub fn revoke_tokens(&self) {
        self.shared.account().revoke_tokens();
    }

    /// Sets how long the tokens of logins live from now on.
    pub fn set_token_life(&self, life: SignedDuration) {
        self.shared.account().token_life = life;
    }

    /// Sets how far the portal's clock is ahead of this machine's.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        self.shared.account().ahead = ahead;
    }

    /// Changes the demo user's password.
    pub fn set_password(&self, password: &str) {
        password.clone_into(&mut self.shared.account().password);
    }

    /// Puts a plan of faults in force.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.shared.faults.set(plan);
    }

    /// Adds a rule to the plan in force.
    pub fn add_fault(&self, rule: FaultRule) {
        self.shared.faults.add(rule);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.set(FaultPlan::default());
    }

    /// Ends all of a service's connections and refuses new ones.
    pub fn go_offline(&self, service: DemoService) {
        self.ports[service as usize].close();
    }

    /// Lets a service listen again, on the same port.
    ///
    /// # Errors
    ///
    /// [`DemoError::Listen`] if the port has been taken meanwhile.
    pub fn go_online(&self, service: DemoService) -> Result<(), DemoError> {
        let port = &self.ports[service as usize];
        port.reopen().map_err(|source| DemoError::Listen {
            service: service.name(),
            port: port.number(),
            source,
        })
    }
}

impl Drop for DemoPortal {
    fn drop(&mut self) {
        for port in self.ports.iter().chain([&self.control]) {
            port.close();
        }
        // Unlike dropping it, this may be done inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for DemoPortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoPortal")
            .field("auth", &self.auth_url())
            .field("meta", &self.meta_url())
            .field("data", &self.data_url())
            .finish_non_exhaustive()
    }
}

fn router(shared: &Arc<Shared>, service: DemoService) -> Router {
    let shared = Arc::clone(shared);
    Router::new().fallback(
        move |ConnectInfo(line): ConnectInfo<Line>, request: Request<Body>| {
            let shared = Arc::clone(&shared);
            async move { answer(&shared, service, request, &line).await }
        },
    )
}

/// Every request's way: it is noted, meets its faults, and is answered.
async fn answer(
    shared: &Arc<Shared>,
    service: DemoService,
    request: Request<Body>,
    line: &Line,
) -> Reply {
    let mut ask = Ask::read(request).await;
    let cookie = ask.cookie(shared.cookie_name()).is_some();
    let ticket = shared.recorder.begin(service, &ask, cookie);
    let faults = shared.faults.strike(service, &ask, &ticket);
    ask.slowness = faults.query;
    let mut reply = match faults.before(shared, service, line).await {
        Some(reply) => reply,
        None => match (&ask.broken, service) {
            (Some(why), _) => http::text(StatusCode::BAD_REQUEST, why),
            (None, DemoService::Auth) => auth::answer(shared, &ask).await,
            (None, DemoService::Meta) => meta::answer(shared, &ask).await,
            (None, DemoService::Data) => data::answer(shared, &ask),
        },
    };
    http::put(&mut reply, DATE, &shared.date());
    ticket.follow(faults.spoil(reply, line))
}

#[cfg(test)]
mod tests;
