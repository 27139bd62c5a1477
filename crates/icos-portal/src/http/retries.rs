//! How often and after which pauses a request is retried.
//!
//! All attempts of a request share one deadline: the longest time without
//! progress. So the wait of the caller is bounded however often the request is
//! retried. The first attempts time out earlier, which leaves time for further
//! ones; the last attempt has all the time that is left, in case the service is
//! only slow.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::Http;
use crate::{PortalError, Service};

/// Maximum number of attempts without progress.
const MAX_ATTEMPTS: u32 = 8;
/// Maximum number of refused connections. A refusal is immediate, so these
/// cover only a moment, e.g. a restart.
const MAX_REFUSED: u32 = 4;
/// Maximum number of server errors. One may be transient; several in a row are
/// not.
const MAX_FAILED: u32 = 3;
/// Upper bound of the first pause. The bound doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// An attempt with less than 1/16 of the timeout left is not made: it would
/// probably time out, and its error would wrongly say that the service is down.
const MIN_TIME_DIVISOR: u32 = 16;

/// The state of the retries of one request.
#[derive(Debug)]
pub struct Retries {
    http: Http,
    service: Service,
    max_attempts: u32,
    begun: Instant,
    /// When the last byte arrived, or else when the first attempt began.
    progress: Instant,
    attempts: u32,
    refused: u32,
    failed: u32,
}

impl Retries {
    pub(super) fn new(http: Http, service: Service, max_attempts: u32) -> Self {
        let now = Instant::now();
        Self {
            http,
            service,
            max_attempts: max_attempts.min(MAX_ATTEMPTS),
            begun: now,
            progress: now,
            attempts: 0,
            refused: 0,
            failed: 0,
        }
    }

    /// Records that bytes arrived, which resets the counts and the deadline.
    pub fn record_progress(&mut self) {
        self.progress = Instant::now();
        (self.attempts, self.refused, self.failed) = (0, 0, 0);
    }

    /// How long the next attempt may make no progress.
    pub(super) fn stall(&self) -> Duration {
        let timeout = self.http.stall_timeout();
        let left = timeout.saturating_sub(self.progress.elapsed());
        if self.attempts + 2 < self.max_attempts.min(4) {
            left.min(timeout / 4)
        } else {
            left
        }
    }

    /// Waits for the pause before the next attempt. Returns false, without a
    /// pause, if `error` is permanent or there were too many attempts: then the
    /// request has failed. If the service appears to be down, that opens its
    /// circuit breaker.
    pub async fn back_off(&mut self, error: &PortalError) -> bool {
        self.attempts += 1;
        let is_transient = match error {
            PortalError::Unreachable { .. } => {
                self.refused += 1;
                self.refused < MAX_REFUSED
            }
            PortalError::Status { status, .. } if *status >= 500 => {
                self.failed += 1;
                self.failed < MAX_FAILED
            }
            PortalError::TimedOut { .. }
            | PortalError::Busy { .. }
            | PortalError::ConnectionLost { .. } => true,
            PortalError::Status { .. }
            | PortalError::LoginRequired { .. }
            | PortalError::Unauthorized { .. }
            | PortalError::LicenceNotAccepted { .. }
            | PortalError::Withheld { .. }
            | PortalError::NotFound { .. }
            | PortalError::Auth(_)
            | PortalError::BadResponse { .. } => false,
        };
        let pause = match error {
            PortalError::Busy {
                retry_after: Some(requested),
                ..
            } => requested.saturating_add(jitter(FIRST_PAUSE)),
            _ => jitter(MAX_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(self.attempts - 1))),
        };
        let timeout = self.http.stall_timeout();
        let left = timeout.saturating_sub(self.progress.elapsed().saturating_add(pause));
        if !is_transient || self.attempts >= self.max_attempts || left < timeout / MIN_TIME_DIVISOR
        {
            let breaker = self.http.breaker(self.service);
            breaker.record_failure(self.service, self.begun, error, &self.http.client);
            return false;
        }
        tracing::debug!(service = %self.service, %error, ?pause, "retrying");
        tokio::time::sleep(pause).await;
        true
    }
}

/// A random duration up to `longest` ("full jitter"), so that clients that
/// failed together do not retry together.
fn jitter(longest: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    longest.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Timeouts;

    /// Regression: such an attempt timed out, and opened the circuit breaker of
    /// a service that was up.
    #[tokio::test(start_paused = true)]
    async fn back_off_makes_no_attempt_that_has_no_time_for_a_response() {
        let timeout = Duration::from_secs(2);
        let http = Http::new(Timeouts::of(timeout)).unwrap();
        let service = Service::Data;
        let broken_off = PortalError::ConnectionLost {
            service,
            received: 0,
            reason: "as a test".to_owned(),
        };
        for _ in 0..50 {
            let mut retries = http.retries(service);
            tokio::time::advance(Duration::from_millis(1880)).await;
            assert!(!retries.back_off(&broken_off).await);
            let mut retries = http.retries(service);
            tokio::time::advance(Duration::from_millis(1600)).await;
            assert!(retries.back_off(&broken_off).await);
        }
        assert!(http.breaker(service).check().is_ok());
    }

    /// Regression: adding the jitter to this duration overflowed.
    #[tokio::test]
    async fn back_off_gives_up_on_an_infinite_retry_after() {
        let busy = PortalError::Busy {
            service: Service::Meta,
            retry_after: Some(Duration::MAX),
        };
        let http = Http::new(Timeouts::default()).unwrap();
        assert!(!http.retries(Service::Meta).back_off(&busy).await);
    }
}
