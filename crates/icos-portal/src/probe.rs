//! Whether a service answers at all.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Method;
use reqwest::header::DATE;

use super::http::Http;
use super::{PortalError, Service, Services};

/// How a service answered.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// After how long.
    pub took: Duration,
    /// What time it is there, if it says so.
    pub date: Option<Timestamp>,
}

impl Http {
    /// Sees whether and how `service` answers. What it answers is of no account,
    /// unless it is an error of its own; no login is shown, and nothing that
    /// the portal counts as a download is asked.
    ///
    /// # Errors
    ///
    /// [`PortalError::TimedOut`] without an answer within `patience`; else as
    /// any request.
    pub async fn probe(
        &self,
        services: &Services,
        service: Service,
        patience: Duration,
    ) -> Result<Probe, PortalError> {
        let url = match service {
            // Both answer anyone, briefly.
            Service::Auth | Service::Data => services.url(service, &["whoami"]),
            Service::Meta => services.base(service).clone(),
        };
        let start = Instant::now();
        let request = self.request(Method::GET, url);
        let answer = tokio::time::timeout(patience, self.send_at_most(1, service, request))
            .await
            .unwrap_or(Err(PortalError::TimedOut {
                service,
                waited: patience,
            }))?;
        if answer.status().is_server_error() {
            return Err(answer.into_error("answer").await);
        }
        let date = answer.header(&DATE);
        Ok(Probe {
            took: start.elapsed(),
            date: date
                .and_then(|date| rfc2822::parse(date).ok())
                .map(|date| date.timestamp()),
        })
    }
}
