//! Landing pages' JSON, byte for byte as the portal sent it.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;

use crate::flight::Flights;
use crate::portal::{MetadataClient, ObjectId, PortalError};

/// About ten kilobytes each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");

/// Landing pages fetched so far.
#[derive(Debug)]
pub(super) struct Sidecars {
    meta: MetadataClient,
    ttl: Duration,
    fetched: Arc<Mutex<LruCache<ObjectId, (Bytes, Instant)>>>,
    flights: Flights<ObjectId, Result<Bytes, PortalError>>,
}

impl Sidecars {
    pub(super) fn new(meta: MetadataClient, ttl: Duration) -> Self {
        Self {
            meta,
            ttl,
            fetched: Arc::new(Mutex::new(LruCache::new(REMEMBERED))),
            flights: Flights::default(),
        }
    }

    /// The JSON of `id`, if it was fetched of late.
    pub(super) fn at_hand(&self, id: ObjectId) -> Option<Bytes> {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched
            .get(&id)
            .filter(|(_, at)| at.elapsed() < self.ttl)
            .map(|(json, _)| json.clone())
    }

    /// The JSON of `id`.
    pub(super) async fn get(&self, id: ObjectId) -> Result<Bytes, PortalError> {
        if let Some(json) = self.at_hand(id) {
            return Ok(json);
        }
        let (meta, fetched) = (self.meta.clone(), Arc::clone(&self.fetched));
        self.flights
            .join(id, || async move {
                let json = meta.landing_json(id).await?;
                fetched
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .put(id, (json.clone(), Instant::now()));
                Ok(json)
            })
            .await
    }
}
