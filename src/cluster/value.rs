//! Short objects whose length is not known in advance.

use std::time::Duration;

use bytes::Bytes;

use super::lease::{LeaseClaim, Observation, claim};
use super::seal::{SEAL_LEN, SealLabel};
use super::status::Counters;
use super::{SharedCache, SharedObject};

/// Maximum length of such an object in bytes.
const MAX_LEN: usize = 4 << 20;
/// How long to wait before the store is looked at again.
const POLL: Duration = Duration::from_millis(50);

impl SharedCache {
    /// Returns the value at `path`: that of the store, or else that of `request`, which other
    /// machines then find there. With `reload`, the value in the store is replaced.
    ///
    /// Without a key, nothing is shared.
    ///
    /// # Errors
    ///
    /// Those of `request`.
    pub async fn value<E>(
        &self,
        path: String,
        reload: bool,
        request: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        if !self.shares_unproven() {
            return request.await;
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
        let lease = loop {
            if !reload && let Some(value) = self.stored_value(&key).await {
                return Ok(value);
            }
            match claim(shared, &object, &(0..1), &mut seen).await {
                Ok(LeaseClaim::Held { lease, fresh }) => {
                    // The last holder may have published it meanwhile.
                    if !fresh
                        && !reload
                        && let Some(value) = self.stored_value(&key).await
                    {
                        lease.release().await;
                        return Ok(value);
                    }
                    break Some(lease);
                }
                Ok(LeaseClaim::Wait) => tokio::time::sleep(POLL).await,
                Ok(LeaseClaim::Unsupported | LeaseClaim::Refused) | Err(_) => break None,
            }
        };
        let requested = request.await;
        if let Ok(value) = &requested {
            let label = SealLabel {
                key: &key,
                length: 0,
            };
            let (sealed, _) = shared.seal.seal(label, value);
            if value.len() <= MAX_LEN && shared.store.put(&key, sealed).await.is_ok() {
                Counters::add(&shared.counters.segments_written, 1);
                Counters::add(&shared.counters.bytes_written, value.len() as u64);
            }
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
        requested
    }

    /// The value in the store, if it is proven.
    async fn stored_value(&self, key: &str) -> Option<Bytes> {
        let shared = &self.0;
        let found = shared.store.get(key, MAX_LEN + SEAL_LEN).await.ok()??;
        let label = SealLabel { key, length: 0 };
        match shared.seal.unseal(label, &found.bytes) {
            Ok(unsealed) => {
                Counters::add(&shared.counters.segments_read, 1);
                Counters::add(&shared.counters.bytes_read, unsealed.payload.len() as u64);
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
