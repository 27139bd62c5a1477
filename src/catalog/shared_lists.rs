//! The answers to queries for lists, which the machines of a cluster share: one of them
//! sends a query, the others read its answer in the shared cache.
//!
//! What is shared are the portal's answers, not the database that is made of them: they
//! are parsed as if the portal had sent them. The cluster's key proves them. An answer has
//! the time when it was requested; lists may so be as old as twice the lifetime of lists.
//! The pages of a list may have different ages, as they do without sharing.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use futures_util::future::BoxFuture;

use super::list_state::now;
use crate::cluster::SharedCache;
use icos_portal::{PortalError, SharedAnswers};
use icos_sync::run_blocking;

/// Maximum length of an answer in bytes: that of the metadata client.
const MAX_ANSWER: u64 = 64 << 20;
/// The length of the time in front of an answer.
const TIME_LEN: usize = 8;

/// Answers of one metadata service in the shared cache.
#[derive(Debug)]
pub struct SharedLists {
    cache: SharedCache,
    /// The metadata service, as a folder of the shared cache.
    host: String,
    /// The greatest age of an answer.
    ttl: Duration,
    /// In milliseconds since 1970: older answers are not used.
    not_before: AtomicI64,
}

impl SharedLists {
    /// Shares answers of the service `host` in `cache`, and uses those of other machines
    /// that are not older than `ttl`.
    #[must_use]
    pub fn new(cache: SharedCache, host: String, ttl: Duration) -> Self {
        Self {
            cache,
            host,
            ttl,
            not_before: AtomicI64::new(i64::MIN),
        }
    }

    /// Whether an answer that was requested at `time`, in milliseconds since 1970, can be
    /// used.
    fn is_new(&self, time: i64) -> bool {
        // The absolute value: another machine's clock may be ahead.
        let age = Duration::from_millis(now().abs_diff(time));
        age < self.ttl && time >= self.not_before.load(Ordering::Relaxed)
    }

    async fn answer_to(
        &self,
        query: &str,
        request: BoxFuture<'_, Result<Bytes, PortalError>>,
    ) -> Result<Bytes, PortalError> {
        let name = format!("{:032x}", twox_hash::XxHash3_128::oneshot(query.as_bytes()));
        let path = format!("v1/{}/list/{name}", self.host);
        let request = async {
            let time = now();
            let answer = request.await?;
            let packing = answer.clone();
            let packed = run_blocking(move || pack(time, &packing)).await;
            Ok((answer, packed))
        };
        let read = |packed: Bytes| async move {
            // Proven by the key, and yet not trusted to be short.
            let is_new = time_of(&packed).is_some_and(|time| self.is_new(time));
            if is_new {
                run_blocking(move || unpack(&packed)).await
            } else {
                None
            }
        };
        self.cache.value(path, read, request).await
    }
}

impl SharedAnswers for SharedLists {
    fn answer<'a>(
        &'a self,
        query: &'a str,
        request: BoxFuture<'a, Result<Bytes, PortalError>>,
    ) -> BoxFuture<'a, Result<Bytes, PortalError>> {
        Box::pin(self.answer_to(query, request))
    }

    fn expect_new(&self) {
        self.not_before.store(now(), Ordering::Relaxed);
    }
}

/// `answer`, compressed, behind the time when it was requested.
fn pack(time: i64, answer: &[u8]) -> Bytes {
    let mut packed = ZlibEncoder::new(time.to_be_bytes().to_vec(), Compression::fast());
    // Writing into memory does not fail.
    let _ = packed.write_all(answer);
    packed.finish().unwrap_or_default().into()
}

fn time_of(packed: &Bytes) -> Option<i64> {
    packed
        .first_chunk::<TIME_LEN>()
        .copied()
        .map(i64::from_be_bytes)
}

fn unpack(packed: &Bytes) -> Option<Bytes> {
    let mut answer = Vec::new();
    let mut limited = ZlibDecoder::new(packed.get(TIME_LEN..)?).take(MAX_ANSWER + 1);
    limited.read_to_end(&mut answer).ok()?;
    (answer.len() as u64 <= MAX_ANSWER).then(|| answer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_unpacked_with_its_time_and_damage_is_refused() {
        let answer = b"{\"results\":{\"bindings\":[]}}".repeat(100);
        let packed = pack(1234, &answer);
        assert!(packed.len() < answer.len() / 4);
        assert_eq!(time_of(&packed), Some(1234));
        assert_eq!(unpack(&packed).unwrap(), answer);
        for len in 0..packed.len() {
            assert_eq!(unpack(&packed.slice(..len)), None, "{len} bytes");
        }
        let endless = pack(0, &vec![0; usize::try_from(MAX_ANSWER).unwrap() + 1]);
        assert_eq!(unpack(&endless), None);
    }
}
