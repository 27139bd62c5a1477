//! A response, its body read in chunks or complete, and the error that an
//! unexpected status stands for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::object_costs::ObjectCost;
use super::traffic_limits::TrafficGate;
use super::{Http, LARGE_BODIES};
use crate::redaction::foreign_text;
use crate::{PortalError, Service};

/// Maximum length of the reason in an error message, in characters.
const MAX_REASON: usize = 300;
/// Maximum length of an error page, in bytes.
const MAX_ERROR_PAGE: usize = 64 << 10;
/// Bodies up to this length, in bytes, are collected without a permit.
const SMALL_BODY: usize = 256 << 10;
/// Length of the buffers in which a complete body is collected, in bytes.
const BUFFER: usize = 1 << 20;

/// A response whose body has not been read yet.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    service: Service,
    content_length: Option<u64>,
    received: u64,
    /// How long the body may make no progress.
    stall: Duration,
    /// What is left of `stall`: waiting uses it up, received bytes give it
    /// back at the least rate of the service. So a body that arrives more
    /// slowly than that ends like one that does not arrive.
    patience: Duration,
    /// The account that pays for the body.
    cost: Option<ObjectCost>,
    /// What delays the body.
    gate: Option<Arc<TrafficGate>>,
    http: Http,
}

#[derive(Debug)]
enum Body {
    Stream(reqwest::Response),
    /// The complete body, until the caller takes it.
    Buffer(Option<Bytes>),
}

impl Response {
    pub(super) fn new(
        response: reqwest::Response,
        service: Service,
        stall: Duration,
        http: Http,
    ) -> Self {
        Self {
            content_length: response.content_length(),
            status: response.status(),
            headers: response.headers().clone(),
            body: Body::Stream(response),
            service,
            received: 0,
            stall,
            patience: stall,
            cost: None,
            gate: None,
            http,
        }
    }

    /// Has `cost` pay for the body.
    pub(super) fn at_the_cost_of(mut self, cost: ObjectCost) -> Self {
        self.cost = Some(cost);
        self
    }

    /// Has `gate` delay the body.
    pub(super) fn within(mut self, gate: Option<Arc<TrafficGate>>) -> Self {
        self.gate = gate;
        self
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the header `name`, if it is present and is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Returns the time of the service, if the head states it.
    #[must_use]
    pub fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.header(&DATE)?.trim()).ok()
    }

    /// Returns the length of the body in bytes, if the head states it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Returns how many bytes of the body have arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the next chunk of the body, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// [`PortalError::TimedOut`] if nothing or too little arrives in time,
    /// [`PortalError::ConnectionLost`] if the body is shorter than its head
    /// states.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        let response = match &mut self.body {
            Body::Stream(response) => response,
            Body::Buffer(body) => return Ok(body.take()),
        };
        if let Some(gate) = &self.gate {
            self.http
                .traffic
                .record_limited(gate.wait_to_receive().await);
        }
        let begun = Instant::now();
        let Ok(chunk) = tokio::time::timeout(self.patience, response.chunk()).await else {
            self.patience = Duration::ZERO;
            return Err(PortalError::TimedOut {
                service: self.service,
                waited: self.stall,
            });
        };
        match chunk {
            Ok(Some(chunk)) => {
                let earned = time_at_least_rate(self.service, chunk.len() as u64);
                let left = self.patience.saturating_sub(begun.elapsed());
                self.patience = left.saturating_add(earned).min(self.stall);
                self.received += chunk.len() as u64;
                self.http.traffic.record_bytes(self.service, chunk.len());
                if let Some(gate) = &self.gate {
                    gate.record_bytes(chunk.len() as u64);
                }
                if let Some(cost) = &self.cost {
                    cost.record_bytes(chunk.len() as u64, self.received);
                }
                Ok(Some(chunk))
            }
            Ok(None) if self.content_length.is_some_and(|len| len != self.received) => {
                Err(PortalError::ConnectionLost {
                    service: self.service,
                    received: self.received,
                    reason: "the body is shorter than announced".to_owned(),
                })
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.http.explain(self.service, self.received, &error)),
        }
    }

    /// Returns the complete body.
    ///
    /// # Errors
    ///
    /// As [`Response::chunk`]; [`PortalError::BadResponse`] if the body is longer
    /// than `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, PortalError> {
        self.read_body(limit).await
    }

    /// The response with its complete body in memory.
    pub(super) async fn buffered(mut self, limit: usize) -> Result<Self, PortalError> {
        let body = self.read_body(limit).await?;
        self.body = Body::Buffer(Some(body));
        Ok(self)
    }

    async fn read_body(&mut self, limit: usize) -> Result<Bytes, PortalError> {
        if let Body::Buffer(body) = &mut self.body {
            return Ok(body.take().unwrap_or_default());
        }
        let too_long = |service| {
            let reason = format_args!("expected at most {limit} bytes, found more");
            PortalError::bad_response(service, reason)
        };
        if self.content_length.is_some_and(|len| len > limit as u64) {
            return Err(too_long(self.service));
        }
        // Several buffers, because one that grows needs twice its memory while
        // it is moved.
        let (mut full, mut buffer) = (Vec::new(), BytesMut::new());
        let (mut length, mut permit) = (0, None);
        while let Some(chunk) = self.chunk().await? {
            length += chunk.len();
            if length > limit {
                return Err(too_long(self.service));
            }
            if length > SMALL_BODY && permit.is_none() {
                permit = self.large_body_permit(limit).await;
            }
            if buffer.len() + chunk.len() > BUFFER {
                let next = BytesMut::with_capacity(BUFFER);
                full.push(std::mem::replace(&mut buffer, next));
            }
            buffer.extend_from_slice(&chunk);
        }
        if full.is_empty() {
            return Ok(buffer.freeze());
        }
        let mut body = BytesMut::with_capacity(length);
        for part in full.into_iter().chain([buffer]) {
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    /// Waits until the complete body, of at most `limit` bytes, may be collected in
    /// memory. Bodies acquire permits once, for all of their bytes, so that they
    /// do not wait for each other in a circle.
    async fn large_body_permit(&self, limit: usize) -> Option<OwnedSemaphorePermit> {
        let limit = limit as u64;
        let length = self.content_length.map_or(limit, |len| len.min(limit));
        let permits = u32::try_from(length.div_ceil(1 << 20)).unwrap_or(LARGE_BODIES);
        let bodies = Arc::clone(&self.http.large_bodies);
        // The semaphore is never closed.
        (bodies.acquire_many_owned(permits.min(LARGE_BODIES)).await).ok()
    }

    /// Returns the response, or an error beside it if its status says that
    /// another attempt may succeed.
    pub(super) async fn check_transient_failure(mut self) -> Result<Self, (PortalError, Self)> {
        if !is_transient_failure(self.status) {
            return Ok(self);
        }
        let mut reason = String::new();
        if !is_busy(self.status) {
            let body = self.read_body(MAX_ERROR_PAGE).await.unwrap_or_default();
            reason = first_line(&body);
            self.body = Body::Buffer(Some(body));
            if is_unknown_item(&reason) {
                return Ok(self);
            }
        }
        Err((self.error("response", reason), self))
    }

    /// Returns how long to wait before the next request, if the response states
    /// it.
    fn retry_after(&self) -> Option<Duration> {
        // A date is compared with the clock of the service: the local one may
        // be wrong.
        let now = self.date().unwrap_or_else(SystemTime::now);
        parse_retry_after(self.header(&RETRY_AFTER)?, now)
    }

    /// Returns the error that an unexpected status stands for, with the reason
    /// that the portal gives. `what` was requested.
    pub(crate) async fn into_error(mut self, what: &str) -> PortalError {
        let reason = self.reason().await;
        self.error(what, reason)
    }

    fn error(&self, what: &str, reason: String) -> PortalError {
        let service = self.service;
        match self.status {
            StatusCode::NOT_FOUND => PortalError::NotFound {
                what: what.to_owned(),
                reason,
            },
            status if is_busy(status) => PortalError::Busy {
                service,
                status: status.as_u16(),
                retry_after: self.retry_after(),
            },
            status => PortalError::Status {
                service,
                status: status.as_u16(),
                reason,
            },
        }
    }

    /// Returns the first line of the body, truncated and safe to print.
    pub(crate) async fn reason(&mut self) -> String {
        // An error page that fails to arrive adds nothing to the error.
        first_line(&self.read_body(MAX_ERROR_PAGE).await.unwrap_or_default())
    }
}

/// Whether `status` says that the service accepts no request now, but will
/// later: 408 Request Timeout, 425 Too Early, 429 Too Many Requests, 503
/// Service Unavailable.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 503)
}

/// Whether `status` says that another attempt may succeed.
pub(crate) fn is_transient_failure(status: StatusCode) -> bool {
    status.is_server_error() || is_busy(status)
}

/// Returns how long `bytes` of a body of `service` may take. Data are of any
/// length and may come over a slow line; metadata are short, and many readers
/// wait for them.
pub(super) fn time_at_least_rate(service: Service, bytes: u64) -> Duration {
    let bytes_per_second = match service {
        Service::Data => 1 << 10,
        Service::Auth | Service::Meta => 4 << 10,
    };
    Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_second)
}

/// Parses the header `Retry-After`, a number of seconds or a date (RFC 9110,
/// section 10.2.3), at the time `now`.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits mean a very long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Whether the metadata service gives `reason` for status 500 because it does
/// not know the item, which it does instead of responding with status 404.
pub(crate) fn is_unknown_item(reason: &str) -> bool {
    reason.contains("but got 0") || reason.contains("does not exist")
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    let end = text.find(['\n', '\r']).unwrap_or(text.len());
    // Before the line is truncated, as is a secret in it.
    let line = foreign_text(text[..end].trim_end());
    if line.is_empty() {
        return "(no reason given)".to_owned();
    }
    line.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a date, and a number with too many digits, were ignored, and
    /// the request was repeated at once.
    #[test]
    fn retry_after_is_parsed_as_seconds_and_as_each_form_of_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun Nov  6 08:49:37 1994", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(parse_retry_after(text, now), expected, "{text:?}");
        }
    }
}
