//! What the services share: the repository, the user, the request record,
//! query quotas and faults.
//!
//! Each lock is held only within one method; no method takes two.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::account::DemoAccount;
use super::faults::{ActiveFaults, FaultPlan};
use super::http::DemoRequest;
use super::record::{Recorder, RequestCallback};
use super::repository::DemoRepository;
use super::server::Port;
use super::service::DemoService;
use super::sparql::{QueryCache, QueryQuota, SparqlLimits};

/// How to run a demo portal.
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
    /// The faults in force from the start.
    pub faults: FaultPlan,
    /// Limits of the SPARQL service.
    pub limits: SparqlLimits,
    /// Called with each request when it has ended.
    pub on_request: Option<RequestCallback>,
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

/// The state of a running portal.
pub(crate) struct PortalState {
    pub(crate) repository: DemoRepository,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) faults: ActiveFaults,
    pub(crate) limits: SparqlLimits,
    pub(crate) quota: QueryQuota,
    pub(crate) cache: QueryCache,
    account: Mutex<DemoAccount>,
    /// Set once the services listen. Weak, because each port's router owns this
    /// state.
    ports: OnceLock<Weak<[Port; 3]>>,
}

impl PortalState {
    pub(crate) fn new(repository: DemoRepository, options: DemoOptions) -> Self {
        let account = DemoAccount::new(options.user, options.password, options.licence_accepted);
        let limits = options.limits;
        let faults = ActiveFaults::default();
        faults.set(options.faults);
        Self {
            repository,
            recorder: Arc::new(Recorder::new(options.on_request)),
            faults,
            quota: QueryQuota::new(limits.clone()),
            cache: QueryCache::new(limits.cache_life, limits.cache_entry),
            limits,
            account: Mutex::new(account),
            ports: OnceLock::new(),
        }
    }

    /// Registers the services' ports.
    pub(crate) fn set_ports(&self, ports: &Arc<[Port; 3]>) {
        // A portal starts once.
        let _ = self.ports.set(Arc::downgrade(ports));
    }

    pub(crate) fn account(&self) -> MutexGuard<'_, DemoAccount> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by the portal's clock, as an HTTP date.
    pub(crate) fn date(&self) -> String {
        super::http::http_date(self.account().now())
    }

    /// The name of the login cookie.
    pub(crate) fn cookie_name(&self) -> &'static str {
        self.repository.envri().cookie_name()
    }

    /// Checks the request's login cookie; `None` without one.
    pub(crate) fn check_login(&self, request: &DemoRequest) -> Option<Result<String, String>> {
        let cookie = request.cookie(self.cookie_name())?;
        Some(self.account().check_token(cookie))
    }

    /// The user whose valid cookie the request carries.
    pub(crate) fn user(&self, request: &DemoRequest) -> Option<String> {
        self.check_login(request)?.ok()
    }

    /// Whether `mail` has accepted the data licence in the user profile.
    pub(crate) fn has_accepted_licence(&self, mail: &str) -> bool {
        self.account().has_accepted_licence(mail)
    }

    /// Opens or closes a service's port.
    pub(crate) async fn set_online(
        &self,
        service: DemoService,
        online: bool,
    ) -> Result<(), String> {
        let ports = self.ports.get().cloned().unwrap_or_default();
        // Closing waits for the accepting task to end.
        let work = move || {
            let Some(ports) = ports.upgrade() else {
                return Ok(());
            };
            let port = &ports[service as usize];
            if online {
                return port.reopen().map_err(|e| e.to_string());
            }
            port.close();
            Ok(())
        };
        (tokio::task::spawn_blocking(work).await).unwrap_or_else(|e| Err(e.to_string()))
    }

    /// Closes a service's port for `pause`, or until it is opened again.
    /// Returns at once.
    pub(crate) fn take_down(self: &Arc<Self>, service: DemoService, pause: Option<Duration>) {
        let state = Arc::clone(self);
        tokio::spawn(async move {
            let _ = state.set_online(service, false).await;
            let Some(pause) = pause else { return };
            tokio::time::sleep(pause).await;
            if let Err(error) = state.set_online(service, true).await {
                tracing::error!(%error, service = service.name(), "the service stays offline");
            }
        });
    }
}
