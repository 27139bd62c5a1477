//! A response, its body read in chunks or complete, and the error that an
//! unexpected status stands for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};

use super::Http;
use crate::redaction::foreign_text;
use crate::{PortalError, Service};

/// Maximum length of the reason in an error message, in characters.
const MAX_REASON: usize = 300;
/// Maximum length of an error page, in bytes.
const MAX_ERROR_PAGE: usize = 64 << 10;
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
            http,
        }
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
    /// [`PortalError::TimedOut`] if nothing arrives in time,
    /// [`PortalError::ConnectionLost`] if the body is shorter than its head
    /// states.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        let response = match &mut self.body {
            Body::Stream(response) => response,
            Body::Buffer(body) => return Ok(body.take()),
        };
        let Ok(chunk) = tokio::time::timeout(self.stall, response.chunk()).await else {
            return Err(PortalError::TimedOut {
                service: self.service,
                waited: self.stall,
            });
        };
        match chunk {
            Ok(Some(chunk)) => {
                self.received += chunk.len() as u64;
                self.http.traffic.record_bytes(self.service, chunk.len());
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
        // Several buffers, because one that grows needs twice its memory while
        // it is moved.
        let (mut full, mut buffer) = (Vec::new(), BytesMut::new());
        let mut length = 0;
        while let Some(chunk) = self.chunk().await? {
            length += chunk.len();
            if length > limit {
                return Err(PortalError::bad_response(
                    self.service,
                    format_args!("expected at most {limit} bytes, found more"),
                ));
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

    /// Returns the response, or an error beside it if its status says that
    /// another attempt may succeed.
    pub(super) async fn check_transient_failure(mut self) -> Result<Self, (PortalError, Self)> {
        if !self.status.is_server_error() {
            return Ok(self);
        }
        let mut reason = String::new();
        if self.status != StatusCode::SERVICE_UNAVAILABLE {
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
    /// it in seconds.
    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header(&RETRY_AFTER)?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
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
            StatusCode::SERVICE_UNAVAILABLE => PortalError::Busy {
                service,
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
