//! A running demo portal: its ports and threads, and the way of a request
//! through the record, the faults and the services.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::DATE;
use axum::http::{Request, StatusCode};
use jiff::SignedDuration;
use tokio::runtime::Runtime;

use super::account::TOKEN_LIFETIME;
use super::error::DemoError;
use super::faults::{Fault, FaultPlan, FaultRule};
use super::http::{DemoReply, DemoRequest, append_header, text};
use super::record::RecordedRequest;
use super::repository::DemoRepository;
use super::server::{Connection, Handler, Port};
use super::service::DemoService;
use super::state::{DemoOptions, PortalState};
use super::{auth, control, data, meta};

/// A running demo portal. It stops when dropped.
pub struct DemoPortal {
    state: Arc<PortalState>,
    ports: Arc<[Port; 3]>,
    control: Port,
    /// `None` only during drop.
    runtime: Option<Runtime>,
}

impl DemoPortal {
    /// Starts serving `repository` on 127.0.0.1, on threads of its own.
    ///
    /// # Errors
    ///
    /// [`DemoError::Listen`] if a port is taken, [`DemoError::Threads`] if the
    /// system refuses threads.
    pub fn start(repository: DemoRepository, options: DemoOptions) -> Result<Self, DemoError> {
        let first_port = options.port;
        let state = Arc::new(PortalState::new(repository, options));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("demo-portal")
            .enable_all()
            .build()
            .map_err(DemoError::Threads)?;
        let open = |offset: u16, service: &'static str, handler: Handler| {
            let offset = if first_port == 0 { 0 } else { offset };
            let port = first_port.saturating_add(offset);
            Port::open(port, handler, runtime.handle())
                .map_err(|source| DemoError::listen(service, port, source))
        };
        let of = |service: DemoService| {
            let state = Arc::clone(&state);
            let handler: Handler = Arc::new(move |request, connection| {
                Box::pin(answer(Arc::clone(&state), service, request, connection))
            });
            open(service as u16, service.name(), handler)
        };
        let ports = Arc::new([
            of(DemoService::Auth)?,
            of(DemoService::Meta)?,
            of(DemoService::Data)?,
        ]);
        state.set_ports(&ports);
        let control = open(3, "control", control::handler(&state))?;
        Ok(Self {
            state,
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

    /// Base URL of the control service, which other processes use to request
    /// faults; `GET /` lists its routes.
    #[must_use]
    pub fn control_url(&self) -> String {
        self.control.url()
    }

    /// The demo user's name.
    #[must_use]
    pub fn user(&self) -> String {
        self.state.account().mail.clone()
    }

    /// The demo user's password.
    #[must_use]
    pub fn password(&self) -> String {
        self.state.account().password.clone()
    }

    /// The name of the login cookie, e.g. `cpauthToken`.
    #[must_use]
    pub fn cookie_name(&self) -> &'static str {
        self.state.cookie_name()
    }

    /// A valid login of the demo user as a cookie, `cpauthToken=...`.
    #[must_use]
    pub fn token(&self) -> String {
        self.mint_token(TOKEN_LIFETIME)
    }

    /// A login cookie that is valid for `lifetime` from now; with a negative
    /// lifetime it has expired already.
    #[must_use]
    pub fn mint_token(&self, lifetime: SignedDuration) -> String {
        let token = self.state.account().issue_token(lifetime);
        format!("{}={token}", self.cookie_name())
    }

    /// The repository that the portal serves.
    #[must_use]
    pub fn repository(&self) -> &DemoRepository {
        &self.state.repository
    }

    /// The requests since the last [`DemoPortal::clear_requests`], in the
    /// order of arrival; at most the last 50 000.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.recorder.requests()
    }

    /// Clears the request record.
    pub fn clear_requests(&self) {
        self.state.recorder.clear();
    }

    /// Sets whether the demo user has accepted the data licence.
    pub fn accept_licence(&self, accepted: bool) {
        self.state.account().accept_licence(accepted);
    }

    /// Makes all tokens issued so far invalid.
    pub fn revoke_tokens(&self) {
        self.state.account().revoke_tokens();
    }

    /// Sets how long the tokens of future logins are valid.
    pub fn set_token_life(&self, lifetime: SignedDuration) {
        self.state.account().token_lifetime = lifetime;
    }

    /// Sets how far the portal's clock is ahead of this machine's clock.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        self.state.account().clock_ahead = ahead;
    }

    /// Changes the demo user's password.
    pub fn set_password(&self, password: &str) {
        password.clone_into(&mut self.state.account().password);
    }

    /// Replaces the fault plan.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.state.faults.set(plan);
    }

    /// Adds a rule to the fault plan.
    pub fn add_fault(&self, rule: FaultRule) {
        self.state.faults.add(rule);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.state.faults.set(FaultPlan::default());
    }

    /// Ends all connections of a service and refuses new ones.
    pub fn go_offline(&self, service: DemoService) {
        self.ports[service as usize].close();
    }

    /// Makes a service listen again, on the same port.
    ///
    /// # Errors
    ///
    /// [`DemoError::Listen`] if another process has taken the port meanwhile.
    pub fn go_online(&self, service: DemoService) -> Result<(), DemoError> {
        let port = &self.ports[service as usize];
        port.reopen()
            .map_err(|source| DemoError::listen(service.name(), port.number(), source))
    }
}

impl Drop for DemoPortal {
    fn drop(&mut self) {
        for port in self.ports.iter().chain([&self.control]) {
            port.close();
        }
        // Dropping a runtime inside another one panics; this does not.
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

/// Records a request, selects its faults, and answers it.
async fn answer(
    state: Arc<PortalState>,
    service: DemoService,
    request: Request<Body>,
    connection: Connection,
) -> DemoReply {
    let mut request = DemoRequest::read(request).await;
    let has_cookie = request.cookie(state.cookie_name()).is_some();
    let recorded = state.recorder.begin(service, &request, has_cookie);
    let faults = state.faults.select(service, &request);
    recorded.set_faults(faults.iter().map(|fault| fault.name()).collect());
    request.query_delay = faults.query_delay();
    tokio::time::sleep(faults.latency()).await;
    let pause = |ms: Option<u64>| ms.map(Duration::from_millis);
    for fault in faults.iter() {
        match fault {
            Fault::RevokeTokens => state.account().revoke_tokens(),
            Fault::WithdrawLicence { ms } => state.account().withdraw_licence(pause(ms)),
            Fault::Down { ms } => {
                state.take_down(service, pause(ms));
                // The connection ends, and this task with it.
                std::future::pending::<()>().await;
            }
            _ => {}
        }
    }
    let mut reply = match faults.replacement(&connection).await {
        Some(reply) => reply,
        None => match (&request.body_error, service) {
            (Some(why), _) => text(StatusCode::BAD_REQUEST, why),
            (None, DemoService::Auth) => auth::answer(&state, &request).await,
            (None, DemoService::Meta) => meta::answer(&state, &request).await,
            (None, DemoService::Data) => data::answer(&state, &request),
        },
    };
    append_header(&mut reply, DATE, &state.date());
    recorded.follow(faults.apply_to_body(reply, &connection))
}
