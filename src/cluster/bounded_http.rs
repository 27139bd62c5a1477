//! The HTTP client of a bucket: HTTP/1.1, no redirects, and bounded bodies.
//!
//! The store is not trusted. A redirect would send the machine's requests, and the session
//! token of its role, wherever the store says. The body of an error is read as a text, and
//! that of a success may be, so both have a bound.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions, Error};
use reqwest::{NoProxy, Proxy, redirect};

use super::store::foreign_text;

/// Maximum length of the body of a response, in bytes: two segments.
const MAX_BODY: u64 = 16 << 20;
/// How much is read of the body of an error, in bytes.
const MAX_ERROR: usize = 16 << 10;

/// Makes clients that wait for a connection for `timeout`.
#[derive(Debug)]
pub(super) struct BoundedConnector {
    pub(super) timeout: Duration,
}

#[derive(Debug)]
struct BoundedClient(reqwest::Client);

/// A body that fails once it is longer than its bound.
struct BoundedBody {
    inner: HttpResponseBody,
    left: u64,
}

/// The future of [`HttpService::call`].
type Call<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpConnector for BoundedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_set = |key| options.get_config_value(&key).as_deref() == Some("true");
        let failed = |error: reqwest::Error| Error::Generic {
            store: "S3",
            source: Box::new(error),
        };
        // The HTTP client has no provider of its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .http1_only()
            .user_agent(concat!("icosfs/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(self.timeout)
            .https_only(!is_set(ClientConfigKey::AllowHttp))
            .tls_danger_accept_invalid_certs(is_set(ClientConfigKey::AllowInvalidCertificates));
        if let Some(proxy) = options.get_config_value(&ClientConfigKey::ProxyUrl) {
            let direct = options.get_config_value(&ClientConfigKey::ProxyExcludes);
            let direct = direct.and_then(|names| NoProxy::from_string(&names));
            client = client.proxy(Proxy::all(proxy).map_err(failed)?.no_proxy(direct));
        }
        Ok(HttpClient::new(BoundedClient(
            client.build().map_err(failed)?,
        )))
    }
}

impl HttpService for BoundedClient {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Call<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let (head, body) = self.0.call(request).await?.into_parts();
            let body = if head.status.is_success() {
                HttpResponseBody::new(BoundedBody {
                    inner: body,
                    left: MAX_BODY,
                })
            } else {
                error_text(body).await.into()
            };
            Ok(HttpResponse::from_parts(head, body))
        })
    }
}

/// The start of the body of an error, as a safe text.
async fn error_text(body: HttpResponseBody) -> String {
    let mut stream = body.bytes_stream();
    let mut start = Vec::new();
    // What is missing of a body that breaks off does not matter.
    while let Some(Ok(part)) = stream.next().await {
        let room = MAX_ERROR - start.len();
        start.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() >= room {
            break;
        }
    }
    foreign_text(&String::from_utf8_lossy(&start))
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let len = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            _ => 0,
        };
        let Some(left) = self.left.checked_sub(len) else {
            let reason = format!("expected a body of at most {MAX_BODY} bytes, found more");
            let error = HttpError::new(HttpErrorKind::Decode, io::Error::other(reason));
            return Poll::Ready(Some(Err(error)));
        };
        self.left = left;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // A length that the store announces reserves no memory.
        SizeHint::default()
    }
}
