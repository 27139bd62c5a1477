//! HTTP as the portal needs it: every wait has a deadline, bodies arrive as
//! they were sent, and redirects are answers, not something to follow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use url::Url;

use super::error::harmless;
use super::traffic::{Counter, Traffic};
use super::{PortalError, Service};

/// The longest text of an error answer that is worth showing to a person.
const REASON_LIMIT: usize = 300;

/// A connection pool to the three services.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    stall: Duration,
    counter: Arc<Counter>,
}

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a connection may take to open.
    pub connect: Duration,
    /// How long an answer may make no progress.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_mins(1),
        }
    }
}

impl Http {
    /// Prepares a pool; opens no connection.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up, e.g. for want of root certificates.
    pub fn new(patience: Patience) -> Result<Self, reqwest::Error> {
        // A second installation only finds the first one in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!(
                "icosfs/",
                env!("CARGO_PKG_VERSION"),
                " (https://crates.io/crates/icosfs)"
            ))
            .redirect(redirect::Policy::none())
            .connect_timeout(patience.connect)
            .read_timeout(patience.stall)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(50))
            .build()?;
        Ok(Self {
            client,
            stall: patience.stall,
            counter: Arc::default(),
        })
    }

    /// What was asked by it and its clones so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.counter.so_far()
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends `request` and waits for the head of the answer, whatever its
    /// status.
    pub(crate) async fn send(
        &self,
        service: Service,
        request: RequestBuilder,
    ) -> Result<Answer, PortalError> {
        let (client, request) = request.build_split();
        let request = request.map_err(|error| self.explain(service, 0, &error))?;
        let (name, start) = (
            format!("{} {}", request.method(), request.url().path()),
            Instant::now(),
        );
        let response = client.execute(request).await;
        let failed = response
            .as_ref()
            .map_or(true, |answer| answer.status().is_server_error());
        (self.counter).answered(service, || name, start.elapsed(), failed);
        let response = response.map_err(|error| self.explain(service, 0, &error))?;
        tracing::debug!(%service, url = %response.url(), status = response.status().as_u16(), "answered");
        Ok(Answer {
            expected: response.content_length(),
            response,
            service,
            received: 0,
            http: self.clone(),
        })
    }

    fn explain(&self, service: Service, received: u64, error: &reqwest::Error) -> PortalError {
        if error.is_timeout() && !error.is_connect() {
            return PortalError::TimedOut {
                service,
                waited: self.stall,
            };
        }
        // The innermost cause is the one that says something ("connection
        // refused"); the layers above only repeat the URL.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let reason = cause.to_string();
        if error.is_connect() {
            PortalError::Unreachable { service, reason }
        } else {
            PortalError::BrokenOff {
                service,
                received,
                reason,
            }
        }
    }
}

/// An answer whose body has yet to be read.
#[derive(Debug)]
pub struct Answer {
    response: Response,
    service: Service,
    expected: Option<u64>,
    received: u64,
    http: Http,
}

impl Answer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header as text, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// How many bytes the head promises, if it does.
    #[must_use]
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// The next piece of the body; `None` once all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`PortalError::TimedOut`] without progress, [`PortalError::BrokenOff`]
    /// if the connection ends before the promised length.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        match self.response.chunk().await {
            Ok(Some(chunk)) => {
                self.received += chunk.len() as u64;
                self.http.counter.received(self.service, chunk.len());
                Ok(Some(chunk))
            }
            Ok(None) if self.expected.is_some_and(|want| want != self.received) => {
                Err(PortalError::BrokenOff {
                    service: self.service,
                    received: self.received,
                    reason: "the body is shorter than announced".to_owned(),
                })
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.http.explain(self.service, self.received, &error)),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// As [`Answer::chunk`]; [`PortalError::BadAnswer`] past `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, PortalError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > limit {
                return Err(PortalError::bad_answer(
                    self.service,
                    format_args!("expected at most {limit} bytes, found more"),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The error that an unexpected status stands for, with the portal's own
    /// words.
    pub(crate) async fn into_error(self, what: &str) -> PortalError {
        let (service, status) = (self.service, self.status());
        let reason = self.reason().await;
        match status {
            StatusCode::NOT_FOUND => PortalError::NotFound {
                what: what.to_owned(),
                reason,
            },
            StatusCode::SERVICE_UNAVAILABLE => PortalError::Busy { service },
            _ => PortalError::Status {
                service,
                status: status.as_u16(),
                reason,
            },
        }
    }

    /// The first line of the body, cut to a readable length, for a terminal.
    pub(crate) async fn reason(self) -> String {
        // An error page that does not arrive is not worth an error of its own.
        let body = self.bytes(64 * 1024).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let line = text.lines().map(str::trim).find(|l| !l.is_empty());
        let words: String = line
            .unwrap_or("(no reason given)")
            .chars()
            .take(REASON_LIMIT)
            .collect();
        harmless(&words)
    }
}
