//! Accepts connections, and serves each in a task of its own until it ends or the server
//! does.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::ServerState;
use super::guard::ConnectionInfo;
use super::router;
use super::stream::DeadlineStream;

/// The greatest number of connections that are served at once by one listener: silent ones
/// of other users on a port leave the socket to its owner.
pub const MAX_CONNECTIONS: usize = 512;
/// How long a client has for a TLS handshake, and for the head of a request. A connection
/// without a request is closed after this time, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take no bytes of a reply. It holds memory for replies as long, for
/// which others wait.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in progress may take once the server ends.
const END_GRACE: Duration = Duration::from_secs(2);
/// Pause after a connection could not be accepted, such as without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The greatest length of the head of a request, in bytes, and number of its headers.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;

/// The greatest number of connections of one listener: [`MAX_CONNECTIONS`], or fewer if the
/// process may have few descriptors, which the cache needs, too.
fn limit() -> usize {
    static LIMIT: LazyLock<usize> = LazyLock::new(|| {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let share = usize::try_from(descriptors / 8).unwrap_or(usize::MAX);
        share.clamp(16, MAX_CONNECTIONS)
    });
    *LIMIT
}

/// Where a server accepts connections.
pub enum Listener {
    /// A socket in the file system, whose permissions are its owner's alone.
    Unix(UnixListener),
    /// A port on loopback.
    Tcp(TcpListener),
    /// A port with TLS.
    Tls(TcpListener, TlsAcceptor),
}

/// Why certificates and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates are not PEM.
    #[error("expected certificates in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificates,
    /// The key is not PEM.
    #[error("expected a private key in PEM form (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// They do not belong together, or are of a kind that is not supported.
    #[error("certificates and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Prepares TLS with these certificates, the server's own first, and its private key.
///
/// # Errors
///
/// [`TlsError`].
pub fn tls_acceptor(certificates: &[u8], key: &[u8]) -> Result<TlsAcceptor, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    let chain = (chain.ok())
        .filter(|chain| !chain.is_empty())
        .ok_or(TlsError::NoCertificates)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves the connections of `listeners` until `end` changes.
pub(super) async fn serve(
    state: &Arc<ServerState>,
    listeners: Vec<Listener>,
    end: watch::Receiver<()>,
) {
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(Arc::clone(state), listener, end.clone()));
    }
    while accepting.join_next().await.is_some() {}
}

/// Accepts connections until `end` changes, then waits for them, but not for long.
async fn accept(state: Arc<ServerState>, listener: Listener, mut end: watch::Receiver<()>) {
    let mut connections = Connections::default();
    let for_connections = end.clone();
    loop {
        let has_room = connections.have_room();
        let accepted = tokio::select! {
            _ = end.changed() => break,
            Some(_) = connections.tasks.join_next() => continue,
            accepted = listener.accept(), if has_room => accepted,
        };
        match accepted {
            Ok(stream) => connections.spawn(&state, stream, for_connections.clone()),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.tasks.join_next().await.is_some() {} };
    // Connections that are left end when the set is dropped.
    let _ = timeout(END_GRACE, all).await;
}

/// A connection that was accepted.
enum AcceptedStream {
    Unix(UnixStream),
    Tcp(TcpStream, Option<TlsAcceptor>),
}

impl Listener {
    /// Accepts a connection. May be cancelled.
    async fn accept(&self) -> io::Result<AcceptedStream> {
        let (listener, acceptor) = match self {
            Self::Unix(listener) => {
                return Ok(AcceptedStream::Unix(listener.accept().await?.0));
            }
            Self::Tcp(listener) => (listener, None),
            Self::Tls(listener, acceptor) => (listener, Some(acceptor.clone())),
        };
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        Ok(AcceptedStream::Tcp(stream, acceptor))
    }
}

/// The connections of a listener, at most [`limit`]. If there are more, the
/// oldest one ends that has not sent the secret yet: anyone can connect to a port, but
/// its owner cannot be kept out by that.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// Those that may not have sent the secret yet, the oldest first.
    silent: VecDeque<(AbortHandle, Arc<AtomicBool>)>,
}

impl Connections {
    /// Whether a further connection can be served.
    fn have_room(&mut self) -> bool {
        if self.tasks.len() < limit() {
            return true;
        }
        let is_silent = |(task, has_sent_secret): &(AbortHandle, Arc<AtomicBool>)| {
            !task.is_finished() && !has_sent_secret.load(Ordering::Relaxed)
        };
        self.silent.retain(is_silent);
        !self.silent.is_empty()
    }

    /// Serves a connection in a task.
    fn spawn(
        &mut self,
        state: &Arc<ServerState>,
        stream: AcceptedStream,
        end: watch::Receiver<()>,
    ) {
        if self.tasks.len() >= limit()
            && let Some((oldest, _)) = self.silent.pop_front()
        {
            oldest.abort();
        }
        let state = Arc::clone(state);
        let has_sent_secret = Arc::new(AtomicBool::new(false));
        let info = |local: Option<std::net::SocketAddr>, is_tls| ConnectionInfo {
            local: local.map(|local| unmapped(local.ip())),
            is_tls,
            has_sent_secret: Arc::clone(&has_sent_secret),
        };
        let task = match stream {
            AcceptedStream::Unix(stream) => {
                let info = info(None, false);
                (self.tasks).spawn(serve_connection(state, stream, info, end))
            }
            AcceptedStream::Tcp(stream, None) => {
                let info = info(stream.local_addr().ok(), false);
                (self.tasks).spawn(serve_connection(state, stream, info, end))
            }
            AcceptedStream::Tcp(stream, Some(acceptor)) => {
                let info = info(stream.local_addr().ok(), true);
                self.tasks.spawn(async move {
                    match timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => serve_connection(state, stream, info, end).await,
                        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                        Err(_elapsed) => tracing::debug!("no TLS handshake in time"),
                    }
                })
            }
        };
        if self.silent.len() >= 2 * MAX_CONNECTIONS {
            self.silent.retain(|(task, _)| !task.is_finished());
        }
        self.silent.push_back((task, has_sent_secret));
    }
}

/// The IPv4 address that `address` maps into IPv6, as on a socket for both.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Replies to the requests of a connection until it ends, or `end` changes.
async fn serve_connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    state: Arc<ServerState>,
    stream: S,
    info: ConnectionInfo,
    mut end: watch::Receiver<()>,
) {
    let service =
        service_fn(move |request| router::respond(Arc::clone(&state), request, info.clone()));
    let stream = DeadlineStream::new(stream, WRITE_TIMEOUT);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = end.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
