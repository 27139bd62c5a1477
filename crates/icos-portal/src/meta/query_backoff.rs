//! Remembers that a service wants to be left alone, so that a failure is not
//! followed by a storm of the same question.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::PortalError;

/// After a first failure.
const SHORTEST: Duration = Duration::from_millis(500);
/// After many, unless the service names a time.
const LONGEST: Duration = Duration::from_mins(1);
/// Nobody who bans us does so for longer; who says so is mistaken.
const BAN: Duration = Duration::from_mins(15);

/// Open while a service wants to be left alone.
#[derive(Debug, Default)]
pub(super) struct QueryBackoff(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When it last answered.
    answered: Option<Instant>,
    open: Option<(Instant, PortalError)>,
}

impl QueryBackoff {
    /// The failure that is still too fresh for another question, if any.
    pub(super) fn refusal(&self) -> Option<PortalError> {
        let state = self.state();
        let (until, error) = state.open.as_ref()?;
        (Instant::now() < *until).then(|| error.clone())
    }

    /// Notes that the service answered.
    pub(super) fn answered(&self) {
        *self.state() = State {
            answered: Some(Instant::now()),
            ..State::default()
        };
    }

    /// Notes that it did not when asked since `begun`, and after which time it
    /// wants to be asked again, if it said so.
    pub(super) fn failed(
        &self,
        error: &PortalError,
        retry_after: Option<Duration>,
        begun: Instant,
    ) {
        let mut state = self.state();
        // Others had answers meanwhile: it was bad luck.
        let alive = state.answered.is_some_and(|at| at >= begun);
        if alive && !matches!(error, PortalError::Busy { .. }) {
            return;
        }
        let pause = match (retry_after, error) {
            (Some(named), _) => named.min(BAN),
            // The quota is counted by the minute.
            (None, PortalError::Busy { .. }) => LONGEST,
            (None, _) => SHORTEST
                .saturating_mul(1 << state.failures.min(8))
                .min(LONGEST),
        };
        state.failures += 1;
        state.open = Some((Instant::now() + pause, error.clone()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Service;

    #[test]
    fn after_a_failure_no_question_gets_through_until_an_answer_or_the_time() {
        let circuit = QueryBackoff::default();
        let busy = PortalError::Busy {
            service: Service::Meta,
            retry_after: None,
        };
        assert!(circuit.refusal().is_none());
        circuit.failed(&busy, Some(Duration::from_secs(100)), Instant::now());
        assert!(matches!(circuit.refusal(), Some(PortalError::Busy { .. })));
        circuit.answered();
        assert!(circuit.refusal().is_none());
        circuit.failed(&busy, Some(Duration::ZERO), Instant::now());
        assert!(circuit.refusal().is_none(), "it may be asked at once");
    }
}
