//! Connections to the server of leases.
//!
//! A connection has one command at a time, and is not read between commands: what the
//! server sends then stays in the buffers of the system, and ends the connection before
//! the next command. A connection that failed is dropped, not waited for, since
//! the reply of one command must not be taken for that of the next.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use icos_sync::{Mutex, run_blocking};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::location::{LeaseLocation, LeaseTransport};
use super::resp::{self, BadReply, MAX_REPLY, Reply};

/// The number of commands that run at once.
const MAX_CONNECTIONS: usize = 8;
/// A firewall may have forgotten a connection that was idle for longer.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// Why a command has no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// There was no reply in time.
    #[error("no reply in time")]
    Late,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server does not speak the protocol.
    #[error(transparent)]
    BadReply(#[from] BadReply),
    /// The login was refused, with this text.
    #[error("{0}")]
    Login(String),
}

/// The connections to one server.
pub(super) struct LeaseConnections {
    location: LeaseLocation,
    password: Option<SecretString>,
    /// If it uses TLS.
    tls: Option<TlsConnector>,
    timeout: Duration,
    slots: Semaphore,
    idle: Mutex<Vec<LeaseConnection>>,
}

/// A connection of a login.
struct LeaseConnection {
    stream: Box<dyn LeaseStream>,
    last_used: Instant,
}

trait LeaseStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> LeaseStream for T {}

impl fmt::Debug for LeaseConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseConnections")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl LeaseConnections {
    /// Connects when the first command is run.
    ///
    /// # Errors
    ///
    /// [`rustls::Error`] if TLS cannot be set up.
    pub(super) fn new(
        location: LeaseLocation,
        password: Option<SecretString>,
        timeout: Duration,
    ) -> Result<Self, rustls::Error> {
        let tls = match location.transport {
            LeaseTransport::Plain => None,
            LeaseTransport::Tls => Some(tls_connector()?),
        };
        if let Some(password) = &password {
            // The server may repeat it.
            icos_portal::remember_secret(password.expose_secret());
        }
        Ok(Self {
            location,
            password,
            tls,
            timeout,
            slots: Semaphore::new(MAX_CONNECTIONS),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Runs a command.
    pub(super) async fn run(&self, command: &[&[u8]]) -> Result<Reply, ConnectionError> {
        let ready = async {
            // Never fails: the semaphore is never closed.
            let slot = self.slots.acquire().await;
            let connection = match self.take_idle() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            Ok::<_, ConnectionError>((slot, connection))
        };
        let ready = timeout(self.timeout, ready).await;
        let (slot, mut connection) = ready.map_err(|_late| ConnectionError::Late)??;
        let reply = timeout(self.timeout, connection.run(command)).await;
        let reply = reply.map_err(|_late| ConnectionError::Late)??;
        connection.last_used = Instant::now();
        self.idle.lock().push(connection);
        drop(slot);
        Ok(reply)
    }

    /// A connection that the server has neither ended nor sent something on.
    fn take_idle(&self) -> Option<LeaseConnection> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            let is_fresh = connection.last_used.elapsed() < MAX_IDLE;
            if is_fresh && connection.is_silent() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<LeaseConnection, ConnectionError> {
        let (host, port) = (self.location.host.clone(), self.location.port);
        let addresses = run_blocking(move || (host, port).to_socket_addrs()).await?;
        let addresses: Vec<_> = addresses.collect();
        let stream = TcpStream::connect(&addresses[..]).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn LeaseStream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(self.location.host.clone());
                let name = name.map_err(io::Error::other)?;
                Box::new(tls.connect(name, stream).await?)
            }
        };
        let mut connection = LeaseConnection {
            stream,
            last_used: Instant::now(),
        };
        if let Some(password) = &self.password {
            let password = password.expose_secret().as_bytes();
            match &self.location.user {
                Some(user) => {
                    let command: [&[u8]; 3] = [b"AUTH", user.as_bytes(), password];
                    connection.log_in(&command).await?;
                }
                None => connection.log_in(&[b"AUTH", password]).await?,
            }
        }
        if self.location.database != 0 {
            let database = self.location.database.to_string();
            let select: [&[u8]; 2] = [b"SELECT", database.as_bytes()];
            connection.log_in(&select).await?;
        }
        Ok(connection)
    }
}

impl LeaseConnection {
    async fn log_in(&mut self, command: &[&[u8]]) -> Result<(), ConnectionError> {
        match self.run(command).await? {
            Reply::Error(text) => Err(ConnectionError::Login(text)),
            _ => Ok(()),
        }
    }

    async fn run(&mut self, command: &[&[u8]]) -> Result<Reply, ConnectionError> {
        self.stream.write_all(&resp::command(command)).await?;
        self.stream.flush().await?;
        let mut received = Vec::new();
        let mut buffer = [0; 1 << 10];
        loop {
            let len = self.stream.read(&mut buffer).await?;
            if len == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            received.extend_from_slice(&buffer[..len]);
            if let Some(reply) = resp::parse(&received)? {
                return Ok(reply);
            }
            if received.len() >= MAX_REPLY {
                return Err(BadReply::TooLong.into());
            }
        }
    }

    /// Whether there is nothing to read, not even its end.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        self.stream.read(&mut byte).now_or_never().is_none()
    }
}

/// Trusts the authorities of the system, or those that `SSL_CERT_FILE` names.
fn tls_connector() -> Result<TlsConnector, rustls::Error> {
    let mut authorities = RootCertStore::empty();
    // Without any, no certificate is trusted, and each connection says so.
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
