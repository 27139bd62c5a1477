//! What the services share: the repository, the user, the request record,
//! query quotas and faults.
//!
//! Each lock is held only within one method; no method takes two.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::account::DemoAccount;
use super::faults::ActiveFaults;
use super::http::DemoRequest;
use super::record::Recorder;
use super::repository::DemoRepository;
use super::server::Port;
use super::service::DemoService;
use super::sparql::{QueryCache, QueryQuota, SparqlLimits};

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
    pub(crate) fn new(
        repository: DemoRepository,
        recorder: Recorder,
        account: DemoAccount,
        limits: SparqlLimits,
    ) -> Self {
        Self {
            repository,
            recorder: Arc::new(recorder),
            faults: ActiveFaults::default(),
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
        let work = move || match ports.upgrade() {
            Some(ports) if online => ports[service as usize].reopen().map_err(|e| e.to_string()),
            Some(ports) => {
                ports[service as usize].close();
                Ok(())
            }
            None => Ok(()),
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
