//! Landing pages' JSON, byte for byte as the portal sent it.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;

use super::ByteSource;
use icos_portal::meta::Subject;
use icos_portal::{MetadataClient, PortalError};
use icos_sync::SingleFlight;

/// About ten kilobytes each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");

/// Landing pages fetched so far.
#[derive(Debug)]
pub(super) struct Sidecars {
    meta: MetadataClient,
    ttl: Duration,
    fetched: Arc<Mutex<LruCache<Subject, (Bytes, Instant)>>>,
    flights: SingleFlight<Subject, Result<Bytes, PortalError>>,
}

impl Sidecars {
    pub(super) fn new(meta: MetadataClient, ttl: Duration) -> Self {
        Self {
            meta,
            ttl,
            fetched: Arc::new(Mutex::new(LruCache::new(REMEMBERED))),
            flights: SingleFlight::default(),
        }
    }

    /// The JSON about `subject`, if it was fetched of late.
    pub(super) fn at_hand(&self, subject: &Subject) -> Option<Bytes> {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched
            .get(subject)
            .filter(|(_, at)| at.elapsed() < self.ttl)
            .map(|(json, _)| json.clone())
    }

    /// The JSON about `subject`.
    pub(super) async fn get(&self, subject: &Subject) -> Result<Bytes, PortalError> {
        if let Some(json) = self.at_hand(subject) {
            return Ok(json);
        }
        ByteSource::Portal.note();
        let (meta, fetched) = (self.meta.clone(), Arc::clone(&self.fetched));
        let asked = subject.clone();
        self.flights
            .join(subject.clone(), || async move {
                let json = meta.landing_json(&asked).await?;
                fetched
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .put(asked, (json.clone(), Instant::now()));
                Ok(json)
            })
            .await
    }
}
