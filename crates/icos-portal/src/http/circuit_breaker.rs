//! A service that is dead costs one wait, not one for each file: whoever asks
//! next is told at once, until the service answers again.
//!
//! Only connections that fail and answers that do not come count as dead; a
//! service that says anything at all is alive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::{PortalError, Service};

/// How soon after its death a service is asked whether it lives.
const FIRST_PROBE: Duration = Duration::from_millis(500);
/// How often it is asked in the long run.
const LAST_PROBE: Duration = Duration::from_secs(15);
/// How long it may take to say so.
const PROBE: Duration = Duration::from_secs(10);

/// What is known of one service.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why nobody is to ask.
    dead: Option<PortalError>,
    /// When it last said anything.
    answered: Option<Instant>,
    /// Where it is.
    url: Option<Url>,
}

impl CircuitBreaker {
    /// # Errors
    ///
    /// What the last who waited for it was told, while the service is dead.
    pub(super) fn check(&self) -> Result<(), PortalError> {
        self.state().dead.clone().map_or(Ok(()), Err)
    }

    /// Notes where the service is being asked.
    pub(super) fn asked(&self, url: &Url) {
        let mut state = self.state();
        if state.url.is_none() {
            state.url = Some(url.clone());
        }
    }

    /// Notes that the service said something.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.answered = Some(Instant::now());
        state.dead = None;
    }

    /// Notes that someone gave up who had asked since `begun`; finds out in
    /// the background when the service is back.
    pub(super) fn gave_up(
        self: &Arc<Self>,
        service: Service,
        begun: Instant,
        error: &PortalError,
        client: &reqwest::Client,
    ) {
        let deadly = matches!(
            error,
            PortalError::Unreachable { .. } | PortalError::TimedOut { .. }
        );
        let mut state = self.state();
        // Others had answers meanwhile: it is not the service.
        let alive = state.answered.is_some_and(|at| at >= begun);
        if !deadly || alive || state.dead.is_some() {
            return;
        }
        let Some(url) = state.url.as_ref().and_then(|url| url.join("/whoami").ok()) else {
            return;
        };
        tracing::warn!(%service, %error, "not asking it again until it answers");
        state.dead = Some(error.clone());
        drop(state);
        tokio::spawn(revive(Arc::downgrade(self), service, url, client.clone()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks, without a cookie and seldom, whether the service lives.
async fn revive(
    breaker: Weak<CircuitBreaker>,
    service: Service,
    url: Url,
    client: reqwest::Client,
) {
    let mut pause = FIRST_PROBE;
    loop {
        tokio::time::sleep(pause).await;
        pause = LAST_PROBE.min(pause * 2);
        let Some(breaker) = breaker.upgrade() else {
            return;
        };
        let probe = client.get(url.clone()).timeout(PROBE).send().await;
        // Any answer will do, even that there is no such page.
        if probe.is_ok() {
            tracing::info!(%service, "it answers again");
            return breaker.answered();
        }
        if breaker.state().dead.is_none() {
            return;
        }
    }
}
