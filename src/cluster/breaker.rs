//! A circuit breaker for the store: after a failure, operations fail at once until a
//! test in the background succeeds.

use std::time::Duration;

use icos_sync::Mutex;

use super::StoreError;

/// The pause before the first test, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// The state of one kind of operation.
#[derive(Debug, Default)]
pub(super) struct StoreBreaker(Mutex<BreakerState>);

#[derive(Debug, Default)]
struct BreakerState {
    /// Why operations fail at once, if they do.
    problem: Option<StoreError>,
    /// The number of failed tests, and of failures soon after a test that succeeded.
    failures: u32,
}

impl StoreBreaker {
    /// # Errors
    ///
    /// The failure that opened the breaker, if it is open.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.problem().map_or(Ok(()), Err)
    }

    pub(super) fn problem(&self) -> Option<StoreError> {
        self.0.lock().problem.clone()
    }

    /// Opens it. Returns whether it was closed: then the caller starts the tests.
    #[must_use]
    pub(super) fn open(&self, problem: StoreError) -> bool {
        let mut state = self.0.lock();
        let was_closed = state.problem.is_none();
        state.problem = Some(problem);
        was_closed
    }

    /// How long to wait before the next test.
    pub(super) fn next_pause(&self) -> Duration {
        let mut state = self.0.lock();
        let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(6));
        state.failures = state.failures.saturating_add(1);
        pause.min(MAX_PAUSE)
    }

    /// Closes it, after a test that succeeded.
    pub(super) fn close(&self) {
        self.0.lock().problem = None;
    }

    /// Notes that an operation succeeded that was no test.
    pub(super) fn note_success(&self) {
        let mut state = self.0.lock();
        if state.problem.is_none() {
            state.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_an_operation_succeeds() {
        let breaker = StoreBreaker::default();
        assert!(breaker.check().is_ok());
        assert!(breaker.open(StoreError::Full("disk".to_owned())));
        assert!(!breaker.open(StoreError::Full("disk".to_owned())));
        assert!(matches!(breaker.check(), Err(StoreError::Full(_))));
        let pauses: Vec<_> = (0..8).map(|_| breaker.next_pause()).collect();
        assert!(pauses.is_sorted() && pauses[0] == FIRST_PAUSE && pauses[7] == MAX_PAUSE);
        breaker.close();
        assert!(breaker.check().is_ok());
        assert_eq!(breaker.next_pause(), MAX_PAUSE, "a test is no operation");
        breaker.note_success();
        assert_eq!(breaker.next_pause(), FIRST_PAUSE);
    }
}
