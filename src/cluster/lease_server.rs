//! A server of Redis that has the leases, for stores without conditional writes.
//!
//! - A lease is a key with an expiry of [`LEASE`]: created by `SET NX PX`, renewed and
//!   deleted by scripts that compare it with what this process wrote.
//! - Leases save downloads, and nothing depends on them. If the server fails, machines
//!   download for themselves, and publish what they download; a test in the background
//!   ends that.
//! - The keys contain the location of the store, so that clusters do not mix.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use icos_sync::{Mutex, SingleFlight};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisError, ServerErrorKind,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use super::breaker::StoreBreaker;
use super::lease::LEASE;
use super::lease_store::MAX_LEN;
use super::location::{LeaseLocation, LeaseTransport};
use super::seal::hex;
use super::store::{StoreError, StoreVersion, StoredObject};

/// Sets the lease to `ARGV[2]` if its digest is `ARGV[1]`, or if the server has lost it.
const REPLACE: &str = "local found = redis.call('GET', KEYS[1])
if found == false or redis.sha1hex(found) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 1
end
return 0";
/// Deletes the lease if its digest is `ARGV[1]`.
const DELETE: &str = "local found = redis.call('GET', KEYS[1])
if found ~= false and redis.sha1hex(found) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0";
/// The longest message of the server in an error, in characters.
const MAX_MESSAGE: usize = 300;

/// The leases on a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LeaseServer(Arc<GuardedServer>);

struct GuardedServer {
    client: Client,
    /// Shown to people.
    location: String,
    /// What all keys begin with.
    prefix: String,
    timeout: Duration,
    /// Connections end by themselves when they fail; then a new one is made.
    connection: Mutex<Option<MultiplexedConnection>>,
    connecting: SingleFlight<(), Result<MultiplexedConnection, StoreError>>,
    breaker: StoreBreaker,
}

impl fmt::Debug for GuardedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedServer")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl LeaseServer {
    /// Uses the server at `location` for the leases of the store `of`. Does not wait for
    /// it.
    pub(super) fn open(
        location: &LeaseLocation,
        password: Option<&SecretString>,
        of: &str,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        // TLS has no provider of its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = location.host.clone();
        let address = match location.transport {
            LeaseTransport::Plain => ConnectionAddr::Tcp(host, location.port),
            LeaseTransport::Tls => ConnectionAddr::TcpTls {
                host,
                port: location.port,
                insecure: false,
                tls_params: None,
            },
        };
        let mut login = RedisConnectionInfo::default().set_db(location.database);
        if let Some(user) = &location.user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password.expose_secret());
        }
        let info = address.into_connection_info();
        let client = info.and_then(|info| Client::open(info.set_redis_settings(login)));
        Ok(Self(Arc::new(GuardedServer {
            client: client.map_err(|error| store_error(&error, timeout))?,
            location: location.to_string(),
            prefix: format!("icosfs:{of}:"),
            timeout,
            connection: Mutex::new(None),
            connecting: SingleFlight::default(),
            breaker: StoreBreaker::default(),
        })))
    }

    /// Where it is.
    pub(super) fn location(&self) -> &str {
        &self.0.location
    }

    /// Why it is not used now, if it is not.
    pub(super) fn problem(&self) -> Option<StoreError> {
        self.0.breaker.problem()
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
        // A part of what is too long for a lease; nothing of what does not exist.
        let mut get = redis::cmd("GETRANGE");
        get.arg(self.key(key)).arg(0).arg(MAX_LEN);
        let bytes: Vec<u8> = self.run(&get).await?;
        Ok((!bytes.is_empty()).then(|| StoredObject {
            version: version(&bytes),
            bytes: bytes.into(),
        }))
    }

    /// Sets the lease if there is none.
    pub(super) async fn create(
        &self,
        key: &str,
        bytes: &Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(self.key(key)).arg(&bytes[..]).arg("NX");
        set.arg("PX").arg(milliseconds(LEASE));
        let set: Option<String> = self.run(&set).await?;
        Ok(set.map(|_| version(bytes)))
    }

    /// Sets the lease if it is `expected`, or absent.
    pub(super) async fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: &Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        let mut replace = redis::cmd("EVAL");
        replace.arg(REPLACE).arg(1).arg(self.key(key));
        replace.arg(&expected.0).arg(&bytes[..]);
        replace.arg(milliseconds(LEASE));
        let replaced: i64 = self.run(&replace).await?;
        Ok((replaced == 1).then(|| version(bytes)))
    }

    /// Deletes the lease if it is `expected`.
    pub(super) async fn delete(
        &self,
        key: &str,
        expected: &StoreVersion,
    ) -> Result<(), StoreError> {
        let mut delete = redis::cmd("EVAL");
        delete
            .arg(DELETE)
            .arg(1)
            .arg(self.key(key))
            .arg(&expected.0);
        let _deleted: i64 = self.run(&delete).await?;
        Ok(())
    }

    /// Tests whether the server has leases, whatever the breaker says.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        self.0.probe().await
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.0.prefix)
    }

    /// # Errors
    ///
    /// [`StoreError`]; at once if the server does not work.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.0.breaker.check()?;
        let result = self.0.run(command).await;
        match &result {
            Ok(_) => self.0.breaker.note_success(),
            Err(error) => {
                if self.0.breaker.open(error.clone()) {
                    tracing::warn!(%error, "the server of leases is not used for now");
                    tokio::spawn(test_until_it_works(Arc::downgrade(&self.0)));
                }
            }
        }
        result
    }
}

impl GuardedServer {
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.connect().await?;
        // The connection's own timeout does not count the time in its queue.
        let answer = timeout(self.timeout, command.query_async(&mut connection)).await;
        answer
            .unwrap_or_else(|_late| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
            .map_err(|error| {
                if error.is_io_error() {
                    *self.connection.lock() = None;
                }
                store_error(&error, self.timeout)
            })
    }

    /// The present connection, or else a new one.
    async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        if let Some(connection) = &*self.connection.lock() {
            return Ok(connection.clone());
        }
        let (client, limit) = (self.client.clone(), self.timeout);
        let connect = || async move {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(limit))
                .set_response_timeout(Some(limit));
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            match timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(|error| store_error(&error, limit)),
                Err(_late) => Err(StoreError::Stalled(limit)),
            }
        };
        let connection = self.connecting.join((), connect).await?;
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let mut test = redis::cmd("EVAL");
        test.arg(DELETE).arg(1).arg(format!("{}probe", self.prefix));
        test.arg("");
        let _deleted: i64 = self.run(&test).await?;
        Ok(())
    }
}

/// Closes the breaker once the server works, unless it is dropped before.
async fn test_until_it_works(server: Weak<GuardedServer>) {
    loop {
        let Some(pause) = server.upgrade().map(|server| server.breaker.next_pause()) else {
            return;
        };
        tokio::time::sleep(pause).await;
        let Some(server) = server.upgrade() else {
            return;
        };
        match server.probe().await {
            Ok(()) => {
                tracing::info!("the server of leases works again");
                return server.breaker.close();
            }
            Err(error) => {
                let _ = server.breaker.open(error);
            }
        }
    }
}

/// The digest that the scripts compute. Each state of a lease is different: it has a
/// random name and a number.
fn version(bytes: &[u8]) -> StoreVersion {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    StoreVersion(hex(digest.as_ref()))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn store_error(error: &RedisError, limit: Duration) -> StoreError {
    let text: String = error.to_string().chars().take(MAX_MESSAGE).collect();
    match error.kind() {
        _ if error.is_timeout() => StoreError::Stalled(limit),
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
            StoreError::Denied(text)
        }
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => StoreError::Denied(text),
        _ if error.code() == Some("OOM") => StoreError::Full(text),
        _ => StoreError::Failed(text),
    }
}
