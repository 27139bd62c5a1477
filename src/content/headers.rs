//! Headers of tables whose columns' order is not in the metadata: asked of the
//! portal once per dataset, and kept across mounts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use twox_hash::XxHash3_128;

use crate::cache::{AppendedFile, CacheError, CachePath, CacheRead, Store};
use crate::catalog::Spec;
use icos_portal::{DataClient, ObjectId, PortalError};
use icos_sync::SingleFlight;

/// The longest header line worth reading.
const LIMIT: u64 = 4 << 20;

/// Headers by the dataset's IRI.
#[derive(Debug)]
pub(super) struct Headers {
    data: DataClient,
    store: Store,
    known: Arc<Mutex<HashMap<String, Header>>>,
    /// Of each dataset one table is asked for; it says which, if it fails.
    flights: SingleFlight<String, Result<Bytes, (ObjectId, PortalError)>>,
}

#[derive(Clone, Debug)]
struct Header {
    line: Bytes,
    /// Whether this process has it from the portal.
    new: bool,
}

impl Headers {
    pub(super) fn new(data: DataClient, store: Store) -> Self {
        Self {
            data,
            store,
            known: Arc::default(),
            flights: SingleFlight::default(),
        }
    }

    /// The header line of tables like `id`, which is of type `spec`.
    pub(super) async fn of(&self, id: ObjectId, spec: &Spec) -> Result<Bytes, PortalError> {
        let iri = spec.dataset().unwrap_or_default();
        if let Some(header) = self.at_hand(iri) {
            return Ok(header.line);
        }
        let (store, dataset) = (self.store.clone(), iri.to_owned());
        let kept = tokio::task::spawn_blocking(move || recall(&store, &dataset)).await;
        match kept.ok().flatten() {
            Some(line) => {
                learn(&self.known, iri, &line, false);
                Ok(line)
            }
            None => self.fetch(id, iri).await,
        }
    }

    /// The same, as the portal has it now.
    pub(super) async fn anew(&self, id: ObjectId, spec: &Spec) -> Result<Bytes, PortalError> {
        let iri = spec.dataset().unwrap_or_default();
        match self.at_hand(iri) {
            Some(Header { line, new: true }) => Ok(line),
            _ => self.fetch(id, iri).await,
        }
    }

    async fn fetch(&self, id: ObjectId, iri: &str) -> Result<Bytes, PortalError> {
        loop {
            match self.fetch_once(id, iri).await {
                Ok(line) => return Ok(line),
                Err((asked, error)) if asked == id => return Err(error),
                // That another table is under moratorium says nothing of this.
                Err(_) => {}
            }
        }
    }

    async fn fetch_once(&self, id: ObjectId, iri: &str) -> Result<Bytes, (ObjectId, PortalError)> {
        let (data, store) = (self.data.clone(), self.store.clone());
        let (known, dataset) = (Arc::clone(&self.known), iri.to_owned());
        let limit = usize::try_from(LIMIT).unwrap_or(usize::MAX);
        self.flights
            .join(iri.to_owned(), || async move {
                let fetched = async { data.csv(id, Some(0)).await?.bytes(limit).await };
                let line = fetched.await.map_err(|error| (id, error))?;
                learn(&known, &dataset, &line, true);
                let kept = line.clone();
                // Nobody waits for the disk; without one it is asked again.
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = keep(store, &dataset, &kept) {
                        tracing::debug!(%error, "a header is not remembered");
                    }
                });
                Ok(line)
            })
            .await
    }

    fn at_hand(&self, iri: &str) -> Option<Header> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(iri).cloned()
    }
}

fn learn(known: &Mutex<HashMap<String, Header>>, iri: &str, line: &Bytes, new: bool) {
    let header = Header {
        line: line.clone(),
        new,
    };
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.insert(iri.to_owned(), header);
}

/// Where the header of a dataset is kept.
fn place(iri: &str) -> Result<CachePath, CacheError> {
    CachePath::new(
        CachePath::VIEWS,
        &format!("{:032x}.header", XxHash3_128::oneshot(iri.as_bytes())),
    )
}

fn recall(store: &Store, iri: &str) -> Option<Bytes> {
    let entry = store.open_sealed(&place(iri).ok()?)?;
    match entry.read(0..entry.len().min(LIMIT)).ok()? {
        CacheRead::Bytes(line) => Some(line.into()),
        CacheRead::Missing(_) => None,
    }
}

fn keep(store: Store, iri: &str, line: &[u8]) -> Result<(), CacheError> {
    let mut file = AppendedFile::new(store, place(iri)?);
    file.append(line)?;
    file.finish()?;
    Ok(())
}
