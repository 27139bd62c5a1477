//! How often and after which pauses a request is retried.
//!
//! All attempts of a request share one deadline: the longest time without
//! progress. So the wait of the caller is bounded however often the request is
//! retried. The first attempts time out earlier, which leaves time for further
//! ones; the last attempt has all the time that is left, in case the service is
//! only slow.
//!
//! The number of attempts is bounded as well, for a stream as a whole: received
//! bytes earn further attempts, but only many of them. Otherwise a connection
//! that breaks off after a few bytes each time would cause any number of
//! requests, each of which the portal counts as a download.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::response::time_at_least_rate;
use super::{Http, ObjectCost, TrafficGate};
use crate::{PortalError, Service};

/// Maximum number of attempts, if the bytes received earn no further ones.
const MAX_ATTEMPTS: u32 = 8;
/// The number of bytes that earn one attempt.
const BYTES_PER_ATTEMPT: u64 = 16 << 20;
/// Maximum number of refused connections. A refusal is immediate, so these
/// cover only a moment, e.g. a restart.
const MAX_REFUSED: u32 = 4;
/// Maximum number of server errors in a row. One may be transient; several are
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
    /// When all attempts must be over, whatever their progress.
    deadline: Option<Instant>,
    /// When the first attempt began, moved on by received bytes: not further
    /// than they take at the least rate.
    progress: Instant,
    /// The number of attempts that failed and were not earned.
    attempts: u32,
    /// New bytes that have not earned an attempt yet.
    received: u64,
    /// The numbers of failures since bytes last arrived.
    in_a_row: u32,
    refused: u32,
    failed: u32,
    /// The account that pays for the attempts.
    cost: Option<ObjectCost>,
    /// What delays the attempts.
    gate: Option<Arc<TrafficGate>>,
}

impl Retries {
    pub(super) fn new(http: Http, service: Service, max_attempts: u32) -> Self {
        let now = Instant::now();
        Self {
            http,
            service,
            max_attempts: max_attempts.min(MAX_ATTEMPTS),
            begun: now,
            deadline: None,
            progress: now,
            attempts: 0,
            received: 0,
            in_a_row: 0,
            refused: 0,
            failed: 0,
            cost: None,
            gate: None,
        }
    }

    /// Ends the retries after `time` in any case.
    pub(super) fn within(mut self, time: Duration) -> Self {
        self.deadline = self.begun.checked_add(time);
        self
    }

    /// Has `cost` pay for each attempt.
    pub(crate) fn at_the_cost_of(mut self, cost: ObjectCost) -> Self {
        self.cost = Some(cost);
        self
    }

    /// Has `gate` delay each attempt.
    pub(crate) fn delayed_by(mut self, gate: Arc<TrafficGate>) -> Self {
        self.gate = Some(gate);
        self
    }

    pub(super) fn gate(&self) -> Option<Arc<TrafficGate>> {
        self.gate.clone()
    }

    /// Waits until the next attempt may be sent. The deadlines are moved by that.
    pub(super) async fn wait_to_send(&mut self) {
        if let Some(gate) = &self.gate {
            let waited = gate.wait_to_send().await;
            self.http.traffic.record_limited(waited);
            self.progress += waited;
            self.begun += waited;
            self.deadline = self.deadline.map(|deadline| deadline + waited);
        }
    }

    /// Records the length of the object that pays for the attempts.
    pub(crate) fn record_len(&self, len: u64) {
        if let Some(cost) = &self.cost {
            cost.record_len(len);
        }
    }

    /// Returns the account that pays for the next attempt, if there is one.
    ///
    /// # Errors
    ///
    /// [`PortalError::OverLimit`] if the account has reached its limit.
    pub(super) fn admit(&self) -> Result<Option<ObjectCost>, PortalError> {
        if let Some(cost) = &self.cost {
            let checked = cost.check();
            checked.inspect_err(|_| self.http.traffic.record_over_limit())?;
        }
        Ok(self.cost.clone())
    }

    /// Records that bytes arrived: `received` ones, of which `new` ones had not
    /// arrived before. They move the deadline, and many new ones earn further
    /// attempts.
    pub fn record_progress(&mut self, received: u64, new: u64) {
        let earned = time_at_least_rate(self.service, received);
        let moved = self.progress.checked_add(earned);
        let now = Instant::now();
        self.progress = moved.map_or(now, |moved| moved.min(now));
        (self.in_a_row, self.refused, self.failed) = (0, 0, 0);
        self.received = self.received.saturating_add(new);
        let attempts = self.received / BYTES_PER_ATTEMPT;
        self.received %= BYTES_PER_ATTEMPT;
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        self.attempts = self.attempts.saturating_sub(attempts);
    }

    /// How long the next attempt may make no progress.
    pub(super) fn stall(&self) -> Duration {
        let left = self.time_left();
        if self.in_a_row + 2 < self.max_attempts.min(4) {
            left.min(self.http.stall_timeout() / 4)
        } else {
            left
        }
    }

    /// How much time is left for further attempts.
    fn time_left(&self) -> Duration {
        let timeout = self.http.stall_timeout();
        let left = timeout.saturating_sub(self.progress.elapsed());
        match self.deadline {
            Some(deadline) => left.min(deadline.saturating_duration_since(Instant::now())),
            None => left,
        }
    }

    /// `error` of the last attempt with the time that the caller has waited: an attempt
    /// may have had only a part of it.
    pub(super) fn with_total_wait(&self, error: PortalError) -> PortalError {
        match error {
            PortalError::TimedOut { service, .. } => PortalError::TimedOut {
                service,
                waited: self.progress.elapsed(),
            },
            error => error,
        }
    }

    /// Waits for the pause before the next attempt. Returns false, without a
    /// pause, if `error` is permanent or there were too many attempts: then the
    /// request has failed. If the service appears to be down, that opens its
    /// circuit breaker.
    pub async fn back_off(&mut self, error: &PortalError) -> bool {
        self.attempts += 1;
        self.in_a_row += 1;
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
            | PortalError::OverLimit { .. }
            | PortalError::Auth(_)
            | PortalError::BadResponse { .. } => false,
        };
        let pause = match error {
            PortalError::Busy {
                retry_after: Some(requested),
                ..
            } => requested.saturating_add(jitter(FIRST_PAUSE)),
            _ => jitter(MAX_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(self.in_a_row - 1))),
        };
        let timeout = self.http.stall_timeout();
        let left = self.time_left().saturating_sub(pause);
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

    fn connection_lost() -> PortalError {
        PortalError::ConnectionLost {
            service: Service::Data,
            received: 0,
            reason: "as a test".to_owned(),
        }
    }

    /// Regression: such an attempt timed out, and opened the circuit breaker of
    /// a service that was up.
    #[tokio::test(start_paused = true)]
    async fn back_off_makes_no_attempt_that_has_no_time_for_a_response() {
        let timeout = Duration::from_secs(2);
        let http = Http::new(Timeouts::of(timeout)).unwrap();
        let service = Service::Data;
        for _ in 0..50 {
            let mut retries = http.retries(service);
            tokio::time::advance(Duration::from_millis(1880)).await;
            assert!(!retries.back_off(&connection_lost()).await);
            let mut retries = http.retries(service);
            tokio::time::advance(Duration::from_millis(1600)).await;
            assert!(retries.back_off(&connection_lost()).await);
        }
        assert!(http.breaker(service).check().is_ok());
    }

    /// Regression: the error named the time of the last attempt, for which little was
    /// left ("sent nothing for 0 s").
    #[tokio::test(start_paused = true)]
    async fn error_of_the_last_attempt_names_the_time_of_all_attempts() {
        let http = Http::new(Timeouts::of(Duration::from_secs(2))).unwrap();
        let retries = http.retries(Service::Meta);
        tokio::time::advance(Duration::from_secs(2)).await;
        let error = retries.with_total_wait(PortalError::TimedOut {
            service: Service::Meta,
            waited: Duration::from_millis(300),
        });
        assert!(error.to_string().contains("for 2 s"), "{error}");
    }

    /// Regression: adding the jitter to this duration overflowed.
    #[tokio::test]
    async fn back_off_gives_up_on_an_infinite_retry_after() {
        let busy = PortalError::Busy {
            service: Service::Meta,
            status: 503,
            retry_after: Some(Duration::MAX),
        };
        let http = Http::new(Timeouts::default()).unwrap();
        assert!(!http.retries(Service::Meta).back_off(&busy).await);
    }

    /// Regression: each byte that arrived allowed eight further attempts.
    #[tokio::test(start_paused = true)]
    async fn attempts_of_a_stream_are_bounded_unless_many_bytes_arrive() {
        let http = Http::new(Timeouts::default()).unwrap();
        for (bytes, limit) in [(1 << 10, 8), (4 << 20, 12)] {
            let mut retries = http.retries(Service::Data);
            let mut attempts = 1;
            while retries.back_off(&connection_lost()).await && attempts < 100 {
                attempts += 1;
                retries.record_progress(bytes, bytes);
            }
            assert!(attempts <= limit, "{attempts} attempts of {bytes} bytes");
        }
        let mut retries = http.retries(Service::Data);
        for _ in 0..100 {
            retries.record_progress(BYTES_PER_ATTEMPT, BYTES_PER_ATTEMPT);
            assert!(retries.back_off(&connection_lost()).await);
        }
    }

    /// Regression: a service that sent one byte now and then was waited for
    /// without end.
    #[tokio::test(start_paused = true)]
    async fn few_bytes_do_not_extend_the_time_for_retries() {
        let http = Http::new(Timeouts::of(Duration::from_mins(1))).unwrap();
        let mut retries = http.retries(Service::Data);
        for _ in 0..70 {
            tokio::time::advance(Duration::from_secs(1)).await;
            retries.record_progress(1, 1);
        }
        assert!(!retries.back_off(&connection_lost()).await);
    }
}
