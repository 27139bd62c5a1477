//! Backs off from the SPARQL endpoint after a failed query: until the pause is
//! over, further queries fail at once with the same error. Unlike the circuit
//! breaker in `http`, it also opens when the service responds that it is busy,
//! because the service bans clients that exceed their quota.

use std::time::{Duration, Instant};

use crate::PortalError;
use icos_sync::Mutex;

/// Pause after the first failure. It doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause, unless the service states a time. The quota is counted by the
/// minute.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Longest time that is accepted from the service. Its bans are shorter, so a
/// longer time is a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(15);

/// Open during a pause.
#[derive(Debug, Default)]
pub(super) struct QueryBackoff(Mutex<BackoffState>);

#[derive(Debug, Default)]
struct BackoffState {
    failures: u32,
    /// When the service last responded.
    last_response: Option<Instant>,
    open: Option<(Instant, PortalError)>,
}

impl QueryBackoff {
    /// Returns the error that opened it, during the pause.
    pub(super) fn error(&self) -> Option<PortalError> {
        let state = self.0.lock();
        let (until, error) = state.open.as_ref()?;
        (Instant::now() < *until).then(|| error.clone())
    }

    /// Records that the service responded, and ends the pause.
    pub(super) fn record_response(&self) {
        *self.0.lock() = BackoffState {
            last_response: Some(Instant::now()),
            ..BackoffState::default()
        };
    }

    /// Records that a query that began at `begun` failed, and starts a pause:
    /// as long as the service requests, if it does.
    pub(super) fn record_failure(&self, error: &PortalError, begun: Instant) {
        let mut state = self.0.lock();
        // Other queries had responses meanwhile: the service is up.
        let is_up = state.last_response.is_some_and(|at| at >= begun);
        if is_up && !matches!(error, PortalError::Busy { .. }) {
            return;
        }
        let pause = match error {
            PortalError::Busy {
                retry_after: Some(requested),
                ..
            } => MAX_RETRY_AFTER.min(*requested),
            // The quota is counted by the minute.
            PortalError::Busy {
                retry_after: None, ..
            } => MAX_PAUSE,
            _ => FIRST_PAUSE
                .saturating_mul(1 << state.failures.min(8))
                .min(MAX_PAUSE),
        };
        state.failures += 1;
        state.open = Some((Instant::now() + pause, error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Service;

    #[test]
    fn queries_fail_after_a_failure_until_a_response_or_the_end_of_the_pause() {
        let backoff = QueryBackoff::default();
        let busy = |retry_after| PortalError::Busy {
            service: Service::Meta,
            status: 503,
            retry_after: Some(retry_after),
        };
        assert!(backoff.error().is_none());
        backoff.record_failure(&busy(Duration::from_secs(100)), Instant::now());
        assert!(matches!(backoff.error(), Some(PortalError::Busy { .. })));
        backoff.record_response();
        assert!(backoff.error().is_none());
        backoff.record_failure(&busy(Duration::ZERO), Instant::now());
        assert!(backoff.error().is_none(), "a pause of zero is over at once");
    }
}
