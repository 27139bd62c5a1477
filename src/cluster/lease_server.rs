//! A server of Redis that has the leases, for stores without conditional writes.
//!
//! - A lease is a key with an expiry of [`LEASE`]: created by `SET NX PX`, renewed and
//!   deleted by scripts that compare it with what this process wrote.
//! - Leases save downloads, and nothing depends on them. If the server fails, machines
//!   download for themselves, and publish what they download; a test in the background
//!   ends that.
//! - The keys contain the location of the store, so that clusters do not mix.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;

use super::breaker::StoreBreaker;
use super::lease::LEASE;
use super::lease_connection::{ConnectionError, LeaseConnections};
use super::lease_store::MAX_LEN;
use super::location::LeaseLocation;
use super::resp::Reply;
use super::seal::hex;
use super::store::{StoreError, StoreVersion, StoredObject, foreign_text};

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

/// The leases on a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LeaseServer(Arc<GuardedServer>);

#[derive(Debug)]
struct GuardedServer {
    connections: LeaseConnections,
    /// Shown to people.
    location: String,
    /// What all keys begin with.
    prefix: String,
    timeout: Duration,
    breaker: StoreBreaker,
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
        let connections = LeaseConnections::new(location.clone(), password.cloned(), timeout);
        let connections = connections.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self(Arc::new(GuardedServer {
            connections,
            location: location.to_string(),
            prefix: format!("icosfs:{of}:"),
            timeout,
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
        let (key, max) = (self.key(key), MAX_LEN.to_string());
        let get: [&[u8]; 4] = [b"GETRANGE", key.as_bytes(), b"0", max.as_bytes()];
        match self.run(&get).await? {
            Reply::Value(bytes) => {
                Ok(bytes
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| StoredObject {
                        version: version(&bytes),
                        bytes: bytes.into(),
                    }))
            }
            _ => Err(other_reply()),
        }
    }

    /// Sets the lease if there is none.
    pub(super) async fn create(
        &self,
        key: &str,
        bytes: &Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        let (key, expiry) = (self.key(key), milliseconds(LEASE));
        let key = key.as_bytes();
        let set: [&[u8]; 6] = [b"SET", key, bytes, b"NX", b"PX", expiry.as_bytes()];
        match self.run(&set).await? {
            Reply::Status => Ok(Some(version(bytes))),
            Reply::Value(None) => Ok(None),
            _ => Err(other_reply()),
        }
    }

    /// Sets the lease if it is `expected`, or absent.
    pub(super) async fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: &Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        self.0.breaker.check()?;
        let expiry = milliseconds(LEASE);
        let arguments: [&[u8]; 3] = [expected.0.as_bytes(), bytes, expiry.as_bytes()];
        let replaced = self.0.run_script(REPLACE, &self.key(key), &arguments).await;
        let replaced = self.note(replaced)?;
        Ok((replaced == 1).then(|| version(bytes)))
    }

    /// Deletes the lease if it is `expected`.
    pub(super) async fn delete(
        &self,
        key: &str,
        expected: &StoreVersion,
    ) -> Result<(), StoreError> {
        self.0.breaker.check()?;
        let arguments = [expected.0.as_bytes()];
        let deleted = self.0.run_script(DELETE, &self.key(key), &arguments).await;
        self.note(deleted).map(drop)
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
    async fn run(&self, command: &[&[u8]]) -> Result<Reply, StoreError> {
        self.0.breaker.check()?;
        self.note(self.0.run(command).await)
    }

    /// Notes the result of a command.
    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
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
    async fn run(&self, command: &[&[u8]]) -> Result<Reply, StoreError> {
        match self.connections.run(command).await {
            Ok(Reply::Error(text)) => Err(refusal(&text)),
            Ok(reply) => Ok(reply),
            Err(ConnectionError::Late) => Err(StoreError::Stalled(self.timeout)),
            Err(ConnectionError::Login(text)) => Err(StoreError::Denied(foreign_text(&text))),
            Err(error) => Err(StoreError::Failed(foreign_text(&error.to_string()))),
        }
    }

    /// Runs a script that returns a number.
    async fn run_script(
        &self,
        script: &str,
        key: &str,
        arguments: &[&[u8]],
    ) -> Result<i64, StoreError> {
        let mut eval: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), b"1", key.as_bytes()];
        eval.extend(arguments);
        match self.run(&eval).await? {
            Reply::Integer(number) => Ok(number),
            _ => Err(other_reply()),
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let key = format!("{}probe", self.prefix);
        self.run_script(DELETE, &key, &[b""]).await.map(drop)
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

fn milliseconds(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn other_reply() -> StoreError {
    StoreError::Failed("expected another reply of Redis; check the URL".to_owned())
}

/// The error for a command that the server refused with `text`.
fn refusal(text: &str) -> StoreError {
    let shown = foreign_text(text);
    match text.split(' ').next() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => StoreError::Denied(shown),
        Some("OOM") => StoreError::Full(shown),
        _ => StoreError::Failed(shown),
    }
}

#[cfg(test)]
mod tests;
