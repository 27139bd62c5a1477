//! HTTP as the portal needs it: every wait has a deadline, what fails by bad
//! luck is asked again, bodies arrive as they were sent, and redirects are
//! answers, not something to follow.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
pub use reqwest::Certificate;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Method, NoProxy, Proxy, RequestBuilder, StatusCode, redirect};
use tokio::time::Instant;
use url::Url;

use super::error::sanitize;
use super::traffic::{TrafficCounter, TrafficStats};
use super::{PortalError, Service};

mod circuit_breaker;
mod retries;

use circuit_breaker::CircuitBreaker;
pub use retries::Retries;

/// The longest text of an error answer that is worth showing to a person.
const REASON_LIMIT: usize = 300;
/// The longest error page that is looked at.
const ERROR_LIMIT: usize = 64 << 10;
/// How many bytes of a body are kept in one buffer until all have arrived.
const PIECE: usize = 1 << 20;

/// Hosts that are never behind a proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1/128";

/// A connection pool to the three services.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    timeout: Duration,
    breakers: Arc<[Arc<CircuitBreaker>; 3]>,
    counter: Arc<TrafficCounter>,
}

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// How long a connection may take to open.
    pub connect: Duration,
    /// How long a question may make no progress, however often it is asked.
    pub stall: Duration,
}

impl Timeouts {
    /// To wait for `timeout` without progress.
    #[must_use]
    pub fn of(timeout: Duration) -> Self {
        Self {
            connect: Self::default().connect.min(timeout),
            stall: timeout,
        }
    }
}

impl Default for Timeouts {
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
    /// Of the environment's proxies only that for `https` is used, which sees
    /// no more than the host's name: a cookie never goes to a proxy. Services
    /// at plain `http`, and those on this machine, are spoken to directly.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up, e.g. for want of root certificates, or the
    /// environment names a proxy that makes no sense.
    pub fn new(patience: Timeouts) -> Result<Self, reqwest::Error> {
        Self::with_certificates(patience, Vec::new())
    }

    /// The same, and believes these authorities besides the machine's own.
    pub fn with_certificates(
        patience: Timeouts,
        authorities: Vec<Certificate>,
    ) -> Result<Self, reqwest::Error> {
        // A second installation only finds the first one in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .user_agent(concat!(
                "icosfs/",
                env!("CARGO_PKG_VERSION"),
                " (https://crates.io/crates/icosfs)"
            ))
            .tls_certs_merge(authorities)
            .redirect(redirect::Policy::none())
            .connect_timeout(patience.connect)
            .read_timeout(patience.stall)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(50))
            .no_proxy();
        if let Some(proxy) = variable(&["HTTPS_PROXY", "ALL_PROXY"]) {
            let direct = variable(&["NO_PROXY"]).unwrap_or_default();
            let direct = NoProxy::from_string(&format!("{LOOPBACK},{direct}"));
            client = client.proxy(Proxy::https(proxy)?.no_proxy(direct));
        }
        Ok(Self {
            client: client.build()?,
            timeout: patience.stall,
            breakers: Arc::default(),
            counter: Arc::default(),
        })
    }

    /// What was asked by it and its clones so far.
    #[must_use]
    pub fn traffic(&self) -> TrafficStats {
        self.counter.so_far()
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// The longest time without progress.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The tries for a question to `service` that may be asked as often as
    /// one likes.
    pub(crate) fn retries(&self, service: Service) -> Retries {
        Retries::new(self.clone(), service, u32::MAX)
    }

    /// Sends `request` at most `times`, for what does more than answer, and
    /// waits for the head of the answer.
    pub(crate) async fn send_at_most(
        &self,
        times: u32,
        service: Service,
        request: RequestBuilder,
    ) -> Result<Response, PortalError> {
        let mut retries = Retries::new(self.clone(), service, times);
        self.send_within(&mut retries, service, &request).await
    }

    /// Sends `request` and takes the whole body, of at most `limit` bytes, as
    /// often as it takes.
    pub(crate) async fn fetch(
        &self,
        service: Service,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<Response, PortalError> {
        let mut retries = self.retries(service);
        loop {
            let mut answer = self.send_within(&mut retries, service, &request).await?;
            match answer.take_all(limit).await {
                Ok(body) => {
                    answer.body = Body::Whole(Some(body));
                    return Ok(answer);
                }
                Err(error) if retries.back_off(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends `request` as often as `tries` allow, and waits for the head of the
    /// answer, whatever its status. What goes wrong within the body is the
    /// caller's.
    pub(crate) async fn send_within(
        &self,
        retries: &mut Retries,
        service: Service,
        request: &RequestBuilder,
    ) -> Result<Response, PortalError> {
        loop {
            // Whoever finds it dead need not find out for themselves.
            self.breaker(service).check()?;
            let failed = match self.send_once(service, request, retries.stall()).await {
                Ok(answer) => match answer.worth_another().await {
                    Ok(answer) => return Ok(answer),
                    Err((error, answer)) => (error, Some(answer)),
                },
                Err(error) => (error, None),
            };
            let (error, answer) = failed;
            if !retries.back_off(&error).await {
                return answer.ok_or(error);
            }
        }
    }

    async fn send_once(
        &self,
        service: Service,
        request: &RequestBuilder,
        stall: Duration,
    ) -> Result<Response, PortalError> {
        let again = request.try_clone().ok_or_else(|| {
            // Never: all bodies are in memory.
            PortalError::bad_response(service, "a request that cannot be sent")
        })?;
        let (client, request) = again.build_split();
        let request = request.map_err(|error| self.explain(service, 0, &error))?;
        self.breaker(service).asked(request.url());
        let name = format!("{} {}", request.method(), request.url().path());
        let begun = Instant::now();
        let sent = tokio::time::timeout(stall, client.execute(request)).await;
        let answered = (sent.as_ref().ok()).and_then(|sent| sent.as_ref().ok());
        let failed = answered.is_none_or(|answer| answer.status().is_server_error());
        (self.counter).answered(service, || name, begun.elapsed(), failed);
        let response = sent
            .map_err(|_late| PortalError::TimedOut {
                service,
                waited: begun.elapsed(),
            })?
            .map_err(|error| self.explain(service, 0, &error))?;
        self.breaker(service).answered();
        tracing::debug!(%service, url = %response.url(), status = response.status().as_u16(), "answered");
        Ok(Response {
            expected: response.content_length(),
            status: response.status(),
            headers: response.headers().clone(),
            body: Body::Arriving(response),
            service,
            received: 0,
            stall,
            http: self.clone(),
        })
    }

    /// Notes that someone who had asked `service` since `begun` gave up.
    fn gave_up(&self, service: Service, begun: Instant, error: &PortalError) {
        self.breaker(service)
            .gave_up(service, begun, error, &self.client);
    }

    fn breaker(&self, service: Service) -> &Arc<CircuitBreaker> {
        match service {
            Service::Auth => &self.breakers[0],
            Service::Meta => &self.breakers[1],
            Service::Data => &self.breakers[2],
        }
    }

    fn explain(&self, service: Service, received: u64, error: &reqwest::Error) -> PortalError {
        if error.is_timeout() && !error.is_connect() {
            return PortalError::TimedOut {
                service,
                waited: self.timeout,
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
            PortalError::ConnectionLost {
                service,
                received,
                reason,
            }
        }
    }
}

/// The first of these variables of the environment that is set, in capitals or
/// not.
fn variable(names: &[&str]) -> Option<String> {
    names
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_lowercase()])
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
}

/// An answer whose body has yet to be read.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    service: Service,
    expected: Option<u64>,
    received: u64,
    /// How long the body may make no progress.
    stall: Duration,
    http: Http,
}

#[derive(Debug)]
enum Body {
    Arriving(reqwest::Response),
    /// All of it, until it is taken.
    Whole(Option<Bytes>),
}

impl Response {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// A header as text, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// How many bytes the head promises, if it does.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.expected
    }

    /// How many bytes of the body have arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next piece of the body; `None` once all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`PortalError::TimedOut`] without progress, [`PortalError::ConnectionLost`]
    /// if the connection ends before the promised length.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        let response = match &mut self.body {
            Body::Arriving(response) => response,
            Body::Whole(body) => return Ok(body.take()),
        };
        let Ok(arrived) = tokio::time::timeout(self.stall, response.chunk()).await else {
            return Err(PortalError::TimedOut {
                service: self.service,
                waited: self.stall,
            });
        };
        match arrived {
            Ok(Some(chunk)) => {
                self.received += chunk.len() as u64;
                self.http.counter.received(self.service, chunk.len());
                Ok(Some(chunk))
            }
            Ok(None) if self.expected.is_some_and(|want| want != self.received) => {
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

    /// The whole body.
    ///
    /// # Errors
    ///
    /// As [`Response::chunk`]; [`PortalError::BadResponse`] past `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, PortalError> {
        self.take_all(limit).await
    }

    async fn take_all(&mut self, limit: usize) -> Result<Bytes, PortalError> {
        if let Body::Whole(body) = &mut self.body {
            return Ok(body.take().unwrap_or_default());
        }
        // In pieces, since a buffer that grows is there twice while it moves.
        let (mut full, mut body) = (Vec::new(), BytesMut::new());
        let mut length = 0;
        while let Some(chunk) = self.chunk().await? {
            length += chunk.len();
            if length > limit {
                return Err(PortalError::bad_response(
                    self.service,
                    format_args!("expected at most {limit} bytes, found more"),
                ));
            }
            if body.len() + chunk.len() > PIECE {
                full.push(std::mem::replace(&mut body, BytesMut::with_capacity(PIECE)));
            }
            body.extend_from_slice(&chunk);
        }
        if full.is_empty() {
            return Ok(body.freeze());
        }
        let mut whole = BytesMut::with_capacity(length);
        for piece in full.into_iter().chain([body]) {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// The answer, unless its status says that another try may do better.
    async fn worth_another(mut self) -> Result<Self, (PortalError, Self)> {
        let service = self.service;
        let error = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => PortalError::Busy {
                service,
                retry_after: self.retry_after(),
            },
            status if status.is_server_error() => {
                let body = self.take_all(ERROR_LIMIT).await.unwrap_or_default();
                let reason = first_line(&body);
                self.body = Body::Whole(Some(body));
                // So the metadata service says that there is no such thing.
                if says_unknown(&reason) {
                    return Ok(self);
                }
                PortalError::Status {
                    service,
                    status: status.as_u16(),
                    reason,
                }
            }
            _ => return Ok(self),
        };
        Err((error, self))
    }

    /// When the service wants to be asked again, if it says so in seconds.
    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header(&RETRY_AFTER)?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The error that an unexpected status stands for, with the portal's own
    /// words.
    pub(crate) async fn into_error(self, what: &str) -> PortalError {
        let (service, status) = (self.service, self.status());
        let retry_after = self.retry_after();
        let reason = self.reason().await;
        match status {
            StatusCode::NOT_FOUND => PortalError::NotFound {
                what: what.to_owned(),
                reason,
            },
            StatusCode::SERVICE_UNAVAILABLE => PortalError::Busy {
                service,
                retry_after,
            },
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
        first_line(&self.bytes(ERROR_LIMIT).await.unwrap_or_default())
    }
}

/// Whether these are the words of the metadata service for an item that it
/// does not know, which it answers with status 500.
pub(crate) fn says_unknown(reason: &str) -> bool {
    reason.contains("but got 0") || reason.contains("does not exist")
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().map(str::trim).find(|l| !l.is_empty());
    let words: String = line
        .unwrap_or("(no reason given)")
        .chars()
        .take(REASON_LIMIT)
        .collect();
    sanitize(&words)
}
