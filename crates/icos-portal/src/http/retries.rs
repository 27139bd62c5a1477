//! How often, and after which pauses, a question is asked again.
//!
//! All tries of a question share one deadline, the longest time without
//! progress, so that whoever waits for it waits no longer however often it is
//! asked. The first tries give up sooner than that, to leave time for others;
//! the last has all that is left, for a service that is merely slow.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::Http;
use crate::{PortalError, Service};

/// The most tries without progress.
const MOST: u32 = 8;
/// A service that refuses connections does so at once; it gets a moment.
const MOST_REFUSED: u32 = 4;
/// A service that fails is asked again: it may have been bad luck. One that
/// fails again and again means what it says.
const MOST_FAILED: u32 = 3;
/// The longest first pause. Each further one may be twice as long.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A try with less than this part of the time would only say that the service
/// is silent, which it cannot know.
const LEAST: u32 = 16;

/// The tries of one question.
#[derive(Debug)]
pub struct Retries {
    http: Http,
    service: Service,
    most: u32,
    begun: Instant,
    /// When something last arrived, or the first try began.
    progress: Instant,
    made: u32,
    refused: u32,
    failed: u32,
}

impl Retries {
    pub(super) fn new(http: Http, service: Service, most: u32) -> Self {
        let now = Instant::now();
        Self {
            http,
            service,
            most: most.min(MOST),
            begun: now,
            progress: now,
            made: 0,
            refused: 0,
            failed: 0,
        }
    }

    /// Notes that something arrived.
    pub fn progress(&mut self) {
        self.progress = Instant::now();
        (self.made, self.refused, self.failed) = (0, 0, 0);
    }

    /// How long the next try may go without progress.
    pub(super) fn stall(&self) -> Duration {
        let timeout = self.http.timeout();
        let left = timeout.saturating_sub(self.progress.elapsed());
        if self.made + 2 < self.most.min(4) {
            left.min(timeout / 4)
        } else {
            left
        }
    }

    /// Whether to try again after `error`, once a pause is over. If not, and
    /// the service seems dead, nobody else need wait for it.
    pub async fn back_off(&mut self, error: &PortalError) -> bool {
        self.made += 1;
        let worth_it = match error {
            PortalError::Unreachable { .. } => {
                self.refused += 1;
                self.refused < MOST_REFUSED
            }
            PortalError::Status { status, .. } if *status >= 500 => {
                self.failed += 1;
                self.failed < MOST_FAILED
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
                retry_after: Some(asked),
                ..
            } => asked.saturating_add(jitter(PAUSE)),
            _ => jitter(LONGEST_PAUSE.min(PAUSE * 2_u32.saturating_pow(self.made - 1))),
        };
        let timeout = self.http.timeout();
        let left = timeout.saturating_sub(self.progress.elapsed().saturating_add(pause));
        if !worth_it || self.made >= self.most || left < timeout / LEAST {
            self.http.gave_up(self.service, self.begun, error);
            return false;
        }
        tracing::debug!(service = %self.service, %error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        true
    }
}

/// Anything up to `longest`, so that many who failed together do not come back
/// together.
fn jitter(longest: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    longest.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Timeouts;

    /// It had some milliseconds for its answer, did not get one, and had the
    /// service taken for dead.
    #[tokio::test(start_paused = true)]
    async fn a_try_that_has_no_time_for_an_answer_is_not_made() {
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

    /// Together with our pause, that is more than a duration can be.
    #[tokio::test]
    async fn a_service_that_wants_to_be_left_alone_for_ever_is() {
        let busy = PortalError::Busy {
            service: Service::Meta,
            retry_after: Some(Duration::MAX),
        };
        let http = Http::new(Timeouts::default()).unwrap();
        assert!(!http.retries(Service::Meta).back_off(&busy).await);
    }
}
