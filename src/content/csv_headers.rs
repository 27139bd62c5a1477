//! CSV headers of tables whose column order is not in the metadata.
//!
//! A header is downloaded once per dataset and stored in the cache, so that later
//! mounts do not request it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use twox_hash::XxHash3_128;

use super::csv_check::HeaderCheck;
use super::sharing::DataSource;
use crate::cache::{AppendedFile, CacheError, CachePath, CacheRead, Store};
use crate::catalog::Spec;
use icos_portal::{ObjectId, PortalError};
use icos_sync::SingleFlight;

/// The longest header line that is read from the cache, in bytes.
const MAX_HEADER_LEN: u64 = 4 << 20;

/// Header lines by the IRI of the dataset.
#[derive(Debug)]
pub(super) struct CsvHeaders {
    data: DataSource,
    store: Store,
    headers: Arc<Mutex<HashMap<String, CsvHeader>>>,
    /// One table of each dataset is requested at a time. A failure names that table.
    flights: SingleFlight<String, Result<Bytes, (ObjectId, PortalError)>>,
}

#[derive(Clone, Debug)]
struct CsvHeader {
    line: Bytes,
    /// Whether this process downloaded the line.
    is_fresh: bool,
}

impl CsvHeaders {
    pub(super) fn new(data: DataSource, store: Store) -> Self {
        Self {
            data,
            store,
            headers: Arc::default(),
            flights: SingleFlight::default(),
        }
    }

    /// The header line of tables like `id`, which is of type `spec`.
    pub(super) async fn of(&self, id: ObjectId, spec: &Spec) -> Result<Bytes, PortalError> {
        let iri = spec.dataset().unwrap_or_default();
        if let Some(header) = self.cached(iri) {
            return Ok(header.line);
        }
        let (store, dataset) = (self.store.clone(), iri.to_owned());
        let stored = icos_sync::spawn_blocking(move || read_stored(&store, &dataset)).await;
        match stored.ok().flatten() {
            Some(line) => {
                insert(&self.headers, iri, &line, false);
                Ok(line)
            }
            None => self.fetch(id, spec, false).await,
        }
    }

    /// The header line as the portal sends it now: downloaded again unless this process
    /// has downloaded it.
    pub(super) async fn reload(&self, id: ObjectId, spec: &Spec) -> Result<Bytes, PortalError> {
        let iri = spec.dataset().unwrap_or_default();
        match self.cached(iri) {
            Some(CsvHeader {
                line,
                is_fresh: true,
            }) => Ok(line),
            _ => self.fetch(id, spec, true).await,
        }
    }

    /// Requests it; with `reload` from the portal, even if other machines have it.
    async fn fetch(&self, id: ObjectId, spec: &Spec, reload: bool) -> Result<Bytes, PortalError> {
        loop {
            match self.fetch_once(id, spec, reload).await {
                Ok(line) => return Ok(line),
                Err((requested, error)) if requested == id => return Err(error),
                // Another table of the dataset may be under moratorium; this one
                // may not.
                Err(_) => {}
            }
        }
    }

    async fn fetch_once(
        &self,
        id: ObjectId,
        spec: &Spec,
        reload: bool,
    ) -> Result<Bytes, (ObjectId, PortalError)> {
        let iri = spec.dataset().unwrap_or_default();
        let check = HeaderCheck::of(spec);
        let (data, store) = (self.data.clone(), self.store.clone());
        let (headers, dataset) = (Arc::clone(&self.headers), iri.to_owned());
        self.flights
            .join(iri.to_owned(), || async move {
                let line = data.csv_header(id, &dataset, reload, |line| check.check(line));
                let line = line.await.map_err(|error| (id, error))?;
                insert(&headers, &dataset, &line, true);
                let stored = line.clone();
                // The reply does not wait for the disk. A line that cannot be
                // stored is requested again by the next mount.
                icos_sync::spawn_blocking(move || {
                    if let Err(error) = store_line(store, &dataset, &stored) {
                        tracing::debug!(%error, "cannot store a CSV header");
                    }
                });
                Ok(line)
            })
            .await
    }

    fn cached(&self, iri: &str) -> Option<CsvHeader> {
        let headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.get(iri).cloned()
    }
}

fn insert(headers: &Mutex<HashMap<String, CsvHeader>>, iri: &str, line: &Bytes, is_fresh: bool) {
    let header = CsvHeader {
        line: line.clone(),
        is_fresh,
    };
    let mut headers = headers.lock().unwrap_or_else(PoisonError::into_inner);
    headers.insert(iri.to_owned(), header);
}

/// The cache path of a dataset's header.
fn path_of(iri: &str) -> Result<CachePath, CacheError> {
    CachePath::new(
        CachePath::VIEWS,
        &format!("{:032x}.header", XxHash3_128::oneshot(iri.as_bytes())),
    )
}

fn read_stored(store: &Store, iri: &str) -> Option<Bytes> {
    let cached = store.open_sealed(&path_of(iri).ok()?)?;
    match cached.read(0..cached.len().min(MAX_HEADER_LEN)).ok()? {
        CacheRead::Bytes(line) => Some(line.into()),
        CacheRead::Missing(_) => None,
    }
}

fn store_line(store: Store, iri: &str, line: &[u8]) -> Result<(), CacheError> {
    let mut file = AppendedFile::new(store, path_of(iri)?);
    file.append(line)?;
    file.finish()?;
    Ok(())
}
