//! Probes whether a service responds.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::DATE;

use super::http::Http;
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
    /// Probes whether `service` responds. Any response but a server error is a
    /// success. Sends no token, and requests nothing that the portal counts as
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
        let request = self.send_at_most(1, service, self.get(url));
        let response =
            tokio::time::timeout(timeout, request)
                .await
                .unwrap_or(Err(PortalError::TimedOut {
                    service,
                    waited: timeout,
                }))?;
        if response.status().is_server_error() {
            return Err(response.into_error("response").await);
        }
        let date = response.header(&DATE);
        Ok(Probe {
            took: start.elapsed(),
            date: date.and_then(|date| Some(rfc2822::parse(date).ok()?.timestamp())),
        })
    }
}
