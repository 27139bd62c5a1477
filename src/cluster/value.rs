//! Short objects whose length is not known in advance.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::interval;

use super::lease::{Lease, LeaseClaim, Observation, RENEWAL, claim};
use super::seal::{SEAL_LEN, SealLabel};
use super::status::Counters;
use super::{SharedCache, SharedCacheRole, SharedObject};

/// Maximum length of such an object in bytes.
const MAX_LEN: usize = 4 << 20;
/// How long to wait before the store is looked at again: at first, and at most.
const FIRST_POLL: Duration = Duration::from_millis(50);
const MAX_POLL: Duration = Duration::from_millis(250);

impl SharedCache {
    /// Returns the value at `path`: what `read` makes of that of the store, or else the
    /// first result of `request`, whose second one other machines then find there. A value
    /// for which `read` returns `None` is replaced.
    ///
    /// Without a key, nothing is shared.
    ///
    /// # Errors
    ///
    /// Those of `request`.
    pub async fn value<T, E, R>(
        &self,
        path: String,
        read: impl Fn(Bytes) -> R,
        request: impl Future<Output = Result<(T, Bytes), E>>,
    ) -> Result<T, E>
    where
        R: Future<Output = Option<T>>,
    {
        if !self.shares_unproven() {
            return Ok(request.await?.0);
        }
        let shared = &self.0;
        let key = format!("{path}/0");
        // Like an object of one byte: of one segment.
        let object = SharedObject {
            path,
            length: 1,
            digest: None,
        };
        let mut seen = Observation::default();
        let mut poll = FIRST_POLL;
        let lease = loop {
            if let Some(value) = self.stored_value(&key).await
                && let Some(value) = read(value).await
            {
                return Ok(value);
            }
            match claim(shared, &object, &(0..1), &mut seen).await {
                Ok(LeaseClaim::Held { lease, fresh }) => {
                    // The last holder may have published it meanwhile.
                    if !fresh
                        && let Some(value) = self.stored_value(&key).await
                        && let Some(value) = read(value).await
                    {
                        lease.release().await;
                        return Ok(value);
                    }
                    break Some(lease);
                }
                Ok(LeaseClaim::Wait) => tokio::time::sleep(poll).await,
                Ok(LeaseClaim::Refused) => {
                    if let Some(value) = self.stored_value(&key).await
                        && let Some(value) = read(value).await
                    {
                        return Ok(value);
                    }
                    break None;
                }
                Ok(LeaseClaim::Unsupported) | Err(_) => break None,
            }
            poll = (poll * 3 / 2).min(MAX_POLL);
        };
        let (requested, lease) = hold(lease, request).await;
        if let Ok((_, value)) = &requested
            && value.len() <= MAX_LEN
            && shared.role == SharedCacheRole::Writer
        {
            let label = SealLabel {
                key: &key,
                length: 0,
            };
            let (sealed, _) = shared.seal.seal(label, value);
            if shared.store.put(&key, sealed).await.is_ok() {
                Counters::add(&shared.counters.values_written, 1);
            }
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
        requested.map(|(value, _)| value)
    }

    /// Returns the value at `path` of the store, if there is one that a key proves.
    pub async fn stored(&self, path: &str) -> Option<Bytes> {
        if !self.shares_unproven() {
            return None;
        }
        self.stored_value(&format!("{path}/0")).await
    }

    /// The value in the store, if it is proven.
    async fn stored_value(&self, key: &str) -> Option<Bytes> {
        let shared = &self.0;
        let found = shared.store.get(key, MAX_LEN + SEAL_LEN).await.ok()??;
        let label = SealLabel { key, length: 0 };
        match shared.seal.unseal(label, &found.bytes) {
            Ok(unsealed) => {
                Counters::add(&shared.counters.values_read, 1);
                Some(unsealed.payload)
            }
            Err(reason) => {
                let reason = reason.to_string();
                if shared.rejections.note(key, found.version, &reason) {
                    Counters::add(&shared.counters.rejected, 1);
                }
                None
            }
        }
    }
}

/// Waits for `request`, and renews `lease` meanwhile. Returns the lease if this machine
/// still has it.
async fn hold<T>(mut lease: Option<Lease>, request: impl Future<Output = T>) -> (T, Option<Lease>) {
    tokio::pin!(request);
    let mut renewal = interval(RENEWAL);
    renewal.reset();
    for seconds in 1.. {
        tokio::select! {
            biased;
            result = &mut request => return (result, lease),
            _ = renewal.tick() => {}
        }
        if let Some(held) = &mut lease
            && !held.renew(seconds).await.unwrap_or(false)
        {
            lease = None;
        }
    }
    (request.await, lease)
}
