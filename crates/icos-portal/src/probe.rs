//! Probes whether a service responds.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::http::{Http, complete_within, is_transient_failure};
use super::{PortalError, Service, Services};

/// The result of a successful probe.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// How long the response took.
    pub took: Duration,
    /// The time of the service, if the response states it.
    pub date: Option<Timestamp>,
}

impl Http {
    /// Probes whether `service` responds. Any response is a success, unless it
    /// says that the service fails or is busy. Sends no token, and requests nothing that the portal counts as
    /// a download.
    ///
    /// # Errors
    ///
    /// [`PortalError::TimedOut`] without a response within `timeout`; else as
    /// any request.
    pub async fn probe(
        &self,
        services: &Services,
        service: Service,
        timeout: Duration,
    ) -> Result<Probe, PortalError> {
        let url = match service {
            // A short response that needs no login.
            Service::Auth | Service::Data => services.url(service, &["whoami"]),
            Service::Meta => services.base(service).clone(),
        };
        let start = Instant::now();
        let responded = async {
            let request = self.send_at_most(1, timeout, service, self.get(url));
            let response = request.await?;
            if is_transient_failure(response.status()) {
                return Err(response.into_error("response").await);
            }
            Ok(Probe {
                took: start.elapsed(),
                date: response
                    .date()
                    .and_then(|date| Timestamp::try_from(date).ok()),
            })
        };
        complete_within(timeout, service, Box::pin(responded)).await
    }
}
