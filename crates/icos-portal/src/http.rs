//! HTTP for the three services of the portal.
//!
//! - Every wait has a deadline ([`Timeouts`]), and every body a least rate.
//!   Metadata and logins also have a deadline for the complete request.
//! - Requests that fail for a transient reason are retried a bounded number of
//!   times ([`Retries`]).
//! - While a service is down, requests to it fail at once (the circuit breaker).
//! - Bodies are passed on unchanged: no decompression.
//! - Redirects are responses: the client does not follow them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use reqwest::Certificate;
use reqwest::{Method, NoProxy, Proxy, RequestBuilder, redirect};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use super::redaction::foreign_text;
use super::traffic::{TrafficCounter, TrafficStats};
use super::{PortalError, Service};

mod circuit_breaker;
mod object_costs;
mod response;
mod retries;
mod traffic_limits;

use circuit_breaker::CircuitBreaker;
pub(crate) use object_costs::ObjectCost;
pub use object_costs::ObjectCosts;
pub use response::Response;
pub(crate) use response::{is_transient_failure, is_unknown_item};
pub use retries::Retries;
pub(crate) use traffic_limits::TrafficGate;
pub use traffic_limits::TrafficLimits;

/// The deadline of a request for metadata, with all its retries and its
/// complete body, in units of the timeout: ten minutes by default, in which a
/// slow line transfers the longest lists.
const TIMEOUTS_PER_FETCH: u32 = 10;

/// How many MiB of large bodies are collected in memory at once.
const LARGE_BODIES: u32 = 64;

/// Hosts that are never behind a proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1/128";

/// A pool of connections to the three services. Clones share it.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    stall: Duration,
    has_proxy: bool,
    /// One for each [`Service`].
    breakers: Arc<[Arc<CircuitBreaker>; 3]>,
    traffic: Arc<TrafficCounter>,
    /// Held while large bodies are collected in memory, a permit per MiB.
    large_bodies: Arc<Semaphore>,
}

/// How long to wait for the portal.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to open.
    pub connect: Duration,
    /// For progress of a request: the time without a received byte, all
    /// retries included.
    pub stall: Duration,
}

impl Timeouts {
    /// Waits up to `stall` for progress.
    #[must_use]
    pub fn of(stall: Duration) -> Self {
        Self {
            connect: Self::default().connect.min(stall),
            stall,
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
    /// Creates a pool. Opens no connection.
    ///
    /// Of the proxies in the environment, only the one for `https` is used. It
    /// sees the name of the host, but never a token. Services at plain `http`
    /// and services on this machine are accessed without a proxy.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up, e.g. because there are no root certificates, or
    /// if the proxy in the environment is invalid.
    pub fn new(timeouts: Timeouts) -> Result<Self, reqwest::Error> {
        Self::with_options(timeouts, Vec::new(), None)
    }

    /// Creates a pool that trusts `authorities` in addition to the certificate
    /// authorities of the system, and names `contact`, such as a mail address, to the
    /// services.
    ///
    /// # Errors
    ///
    /// As [`Http::new`].
    pub fn with_options(
        timeouts: Timeouts,
        authorities: Vec<Certificate>,
        contact: Option<&str>,
    ) -> Result<Self, reqwest::Error> {
        // Fails if a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let program = concat!("icosfs/", env!("CARGO_PKG_VERSION"));
        let name = match contact {
            Some(contact) => format!("{program} ({contact})"),
            None => program.to_owned(),
        };
        let mut client = reqwest::Client::builder()
            // Another crate may bring HTTP/2.
            .http1_only()
            .user_agent(name)
            .tls_certs_merge(authorities)
            .redirect(redirect::Policy::none())
            .connect_timeout(timeouts.connect)
            .read_timeout(timeouts.stall)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(50))
            .no_proxy();
        let proxy = variable(&["HTTPS_PROXY", "ALL_PROXY"]);
        let has_proxy = proxy.is_some();
        if let Some(proxy) = proxy {
            let direct = variable(&["NO_PROXY"]).unwrap_or_default();
            let direct = NoProxy::from_string(&format!("{LOOPBACK},{direct}"));
            client = client.proxy(Proxy::https(proxy)?.no_proxy(direct));
        }
        Ok(Self {
            client: client.build()?,
            stall: timeouts.stall,
            has_proxy,
            breakers: Arc::default(),
            traffic: Arc::default(),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES as usize)),
        })
    }

    /// Whether the environment names a proxy for HTTPS, which resolves names itself.
    #[must_use]
    pub fn has_proxy(&self) -> bool {
        self.has_proxy
    }

    /// Returns statistics of the requests of this pool and its clones.
    #[must_use]
    pub fn traffic(&self) -> TrafficStats {
        self.traffic.snapshot()
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Requests `url` with method GET.
    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// The longest time that a request may make no progress.
    pub(crate) fn stall_timeout(&self) -> Duration {
        self.stall
    }

    /// The retries of a request to `service` that is safe to repeat.
    pub(crate) fn retries(&self, service: Service) -> Retries {
        Retries::new(self.clone(), service, u32::MAX)
    }

    /// Sends `request` at most `attempts` times within `time`, and returns when
    /// the head of the response has arrived. For requests with side effects.
    pub(crate) async fn send_at_most(
        &self,
        attempts: u32,
        time: Duration,
        service: Service,
        request: RequestBuilder,
    ) -> Result<Response, PortalError> {
        let mut retries = Retries::new(self.clone(), service, attempts).within(time);
        let sent = self.send_within(&mut retries, service, &request);
        complete_within(time, service, Box::pin(sent)).await
    }

    /// Sends `request` and returns when the complete body, of at most `limit`
    /// bytes, has arrived. Retries also if the connection is lost in the body.
    /// The deadline holds for all of this.
    pub(crate) async fn fetch(
        &self,
        service: Service,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<Response, PortalError> {
        let time = self.stall.saturating_mul(TIMEOUTS_PER_FETCH);
        let fetched = async {
            let mut retries = self.retries(service).within(time);
            loop {
                let response = self.send_within(&mut retries, service, &request).await?;
                match response.buffered(limit).await {
                    Ok(response) => return Ok(response),
                    Err(error) if retries.back_off(&error).await => {}
                    Err(error) => return Err(error),
                }
            }
        };
        complete_within(time, service, Box::pin(fetched)).await
    }

    /// Sends `request`, with `retries`, and returns when the head of the
    /// response has arrived, whatever its status. The caller handles errors
    /// within the body.
    pub(crate) async fn send_within(
        &self,
        retries: &mut Retries,
        service: Service,
        request: &RequestBuilder,
    ) -> Result<Response, PortalError> {
        loop {
            retries.wait_to_send().await;
            self.breaker(service).check()?;
            let cost = retries.admit()?;
            let sent = self.send_once(service, request, retries.stall()).await;
            let sent = sent.map(|response| match cost {
                // The service counts a download.
                Some(cost) if response.status().is_success() => {
                    cost.record_request();
                    response.at_the_cost_of(cost).within(retries.gate())
                }
                _ => response,
            });
            let (error, response) = match sent {
                Ok(response) => match response.check_transient_failure().await {
                    Ok(response) => return Ok(response),
                    Err((error, response)) => (error, Some(response)),
                },
                Err(error) => (error, None),
            };
            let error = retries.with_total_wait(error);
            if !retries.back_off(&error).await {
                return response.ok_or(error);
            }
        }
    }

    async fn send_once(
        &self,
        service: Service,
        request: &RequestBuilder,
        stall: Duration,
    ) -> Result<Response, PortalError> {
        let copy = request.try_clone().ok_or_else(|| {
            // Unreachable: all bodies are in memory.
            PortalError::bad_response(service, "a request that cannot be sent")
        })?;
        let (client, request) = copy.build_split();
        let request = request.map_err(|error| self.explain(service, 0, &error))?;
        self.breaker(service).record_url(request.url());
        let name = format!("{} {}", request.method(), request.url().path());
        let begun = Instant::now();
        let sent = tokio::time::timeout(stall, client.execute(request)).await;
        let response = (sent.as_ref().ok()).and_then(|sent| sent.as_ref().ok());
        let failed = response.is_none_or(|response| is_transient_failure(response.status()));
        (self.traffic).record_response(service, || name, begun.elapsed(), failed);
        let response = sent
            .map_err(|_elapsed| PortalError::TimedOut {
                service,
                waited: begun.elapsed(),
            })?
            .map_err(|error| self.explain(service, 0, &error))?;
        self.breaker(service).record_response();
        tracing::debug!(%service, url = %response.url(), status = response.status().as_u16(), "response");
        Ok(Response::new(response, service, stall, self.clone()))
    }

    fn breaker(&self, service: Service) -> &Arc<CircuitBreaker> {
        &self.breakers[service as usize]
    }

    fn explain(&self, service: Service, received: u64, error: &reqwest::Error) -> PortalError {
        if error.is_timeout() && !error.is_connect() {
            return PortalError::TimedOut {
                service,
                waited: self.stall,
            };
        }
        // The innermost cause is the informative one ("connection refused");
        // the outer ones only repeat the URL.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let reason = foreign_text(&cause.to_string());
        if error.is_connect() {
            let host = error.url().and_then(url::Url::host_str);
            let reason = match host {
                Some(host) => format!("{host}: {reason}"),
                None => reason,
            };
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

/// Waits for `work`, a request to `service`, at most `time`.
pub(crate) async fn complete_within<T>(
    time: Duration,
    service: Service,
    work: Pin<Box<impl Future<Output = Result<T, PortalError>>>>,
) -> Result<T, PortalError> {
    let timed_out = PortalError::TimedOut {
        service,
        waited: time,
    };
    let done = tokio::time::timeout(time, work).await;
    done.unwrap_or(Err(timed_out))
}

/// Returns the first of these environment variables that is set, in upper or
/// lower case.
fn variable(names: &[&str]) -> Option<String> {
    names
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_lowercase()])
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
}
