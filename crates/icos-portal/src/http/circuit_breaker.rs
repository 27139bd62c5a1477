//! The circuit breaker of a service: while a service is down, requests to it
//! fail at once instead of each waiting for its timeout.
//!
//! It opens when a request fails after all its retries because no connection
//! could be opened or no response arrived. A background task then probes the
//! service, and the first response of any kind closes the breaker. A service
//! that responds, with whatever status, is up.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::{PortalError, Service};
use icos_sync::Mutex;

/// Pause before the first probe. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between probes.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// Timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The circuit breaker of one service. Closed by default.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<BreakerState>);

#[derive(Debug, Default)]
struct BreakerState {
    /// The error of requests while the breaker is open.
    open: Option<PortalError>,
    /// When the service last responded.
    last_response: Option<Instant>,
    /// A URL of the service, to derive the probe URL from.
    url: Option<Url>,
}

impl CircuitBreaker {
    /// Fails while the breaker is open.
    ///
    /// # Errors
    ///
    /// The error that opened the breaker.
    pub(super) fn check(&self) -> Result<(), PortalError> {
        self.0.lock().open.clone().map_or(Ok(()), Err)
    }

    /// Records a URL of the service.
    pub(super) fn record_url(&self, url: &Url) {
        self.0.lock().url.get_or_insert_with(|| url.clone());
    }

    /// Records that the service responded, and closes the breaker.
    pub(super) fn record_response(&self) {
        let mut state = self.0.lock();
        state.last_response = Some(Instant::now());
        state.open = None;
    }

    /// Records that a request, with its first attempt at `begun`, failed after
    /// all its retries. Opens the breaker if the service appears to be down,
    /// and starts the task that probes it.
    pub(super) fn record_failure(
        self: &Arc<Self>,
        service: Service,
        begun: Instant,
        error: &PortalError,
        client: &reqwest::Client,
    ) {
        let no_response = matches!(
            error,
            PortalError::Unreachable { .. } | PortalError::TimedOut { .. }
        );
        let mut state = self.0.lock();
        // Other requests had responses meanwhile, so the service is up.
        let is_up = state.last_response.is_some_and(|at| at >= begun);
        if !no_response || is_up || state.open.is_some() {
            return;
        }
        let Some(url) = state.url.as_ref().and_then(|url| url.join("/whoami").ok()) else {
            return;
        };
        tracing::warn!(%service, %error, "service is down; requests to it fail until it responds");
        state.open = Some(error.clone());
        drop(state);
        tokio::spawn(probe_until_response(
            Arc::downgrade(self),
            service,
            url,
            client.clone(),
        ));
    }
}

/// Probes the service, without a token, until it responds; then closes the
/// breaker.
async fn probe_until_response(
    breaker: Weak<CircuitBreaker>,
    service: Service,
    url: Url,
    client: reqwest::Client,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        pause = MAX_PAUSE.min(pause * 2);
        let Some(breaker) = breaker.upgrade() else {
            return;
        };
        let probe = client.get(url.clone()).timeout(PROBE_TIMEOUT).send().await;
        // Any response counts, even an error page.
        if probe.is_ok() {
            tracing::info!(%service, "service is up again");
            return breaker.record_response();
        }
        if breaker.0.lock().open.is_none() {
            return;
        }
    }
}
