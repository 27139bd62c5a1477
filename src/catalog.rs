//! What exists: the repository's lists, fetched when first needed, refreshed
//! when they are old, and kept when the portal is away.
//!
//! Lists are taken whole, a handful of queries for all data types together,
//! since the portal rations query time. What they do not list (older versions,
//! raw data, documents) is asked for by id.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::flight::Flights;
use crate::portal::lists::{ColumnRow, Cursor, ObjectRow, SpecRow};
use crate::portal::{MetadataClient, ObjectId, PortalError};

mod object;

pub use object::{FileId, Object, Representation, Spec};

/// How many objects that are on no list are remembered.
const UNLISTED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// How long an id that the portal does not know stays unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// The repository's lists.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meta: MetadataClient,
    /// How long a list counts as new.
    ttl: Duration,
    known: Mutex<Known>,
    syncs: Flights<(), Result<Arc<Snapshot>, PortalError>>,
    lookups: Flights<ObjectId, Result<Option<Arc<Object>>, PortalError>>,
}

#[derive(Debug)]
struct Known {
    listed: Option<(Arc<Snapshot>, Instant)>,
    unlisted: LruCache<ObjectId, (Option<Arc<Object>>, Instant)>,
}

/// The lists as they were at one moment.
#[derive(Debug)]
pub struct Snapshot {
    objects: Vec<Arc<Object>>,
    by_id: HashMap<ObjectId, usize>,
    specs: HashMap<String, Arc<Spec>>,
    datasets: HashMap<String, Arc<[ColumnRow]>>,
}

impl Snapshot {
    /// The listed objects: current ones of levels 1 to 3, oldest submission
    /// first.
    #[must_use]
    pub fn objects(&self) -> &[Arc<Object>] {
        &self.objects
    }

    /// A listed object.
    #[must_use]
    pub fn object(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.by_id.get(&id).map(|&at| &self.objects[at])
    }

    fn object_of(&self, row: ObjectRow, unlisted_spec: Option<SpecRow>) -> Object {
        let spec = match unlisted_spec {
            Some(row) => Some(Arc::new(self.spec_of(row))),
            None => row
                .spec
                .as_ref()
                .and_then(|iri| self.specs.get(iri))
                .cloned(),
        };
        Object::new(row, spec)
    }

    fn spec_of(&self, row: SpecRow) -> Spec {
        let columns = row
            .dataset
            .as_ref()
            .and_then(|dataset| self.datasets.get(dataset))
            .cloned();
        Spec::new(row, columns)
    }
}

impl Catalog {
    /// A catalog that asks `meta` and believes its lists for `ttl`.
    #[must_use]
    pub fn new(meta: MetadataClient, ttl: Duration) -> Self {
        Self(Arc::new(Inner {
            meta,
            ttl,
            known: Mutex::new(Known {
                listed: None,
                unlisted: LruCache::new(UNLISTED),
            }),
            syncs: Flights::default(),
            lookups: Flights::default(),
        }))
    }

    /// The lists, fetched if there are none yet. Old ones are handed out too,
    /// and refreshed meanwhile.
    pub async fn listed(&self) -> Result<Arc<Snapshot>, PortalError> {
        let known = self
            .0
            .known()
            .listed
            .as_ref()
            .map(|(snapshot, at)| (Arc::clone(snapshot), at.elapsed() < self.0.ttl));
        match known {
            Some((snapshot, true)) => Ok(snapshot),
            Some((snapshot, false)) => {
                let catalog = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = catalog.sync().await {
                        tracing::warn!(%error, "the lists could not be refreshed");
                    }
                });
                Ok(snapshot)
            }
            None => self.sync().await,
        }
    }

    /// The lists if they are at hand, of whatever age.
    #[must_use]
    pub fn at_hand(&self) -> Option<Arc<Snapshot>> {
        let known = self.0.known();
        known.listed.as_ref().map(|(snapshot, _)| snapshot.clone())
    }

    /// What `id` is, listed or not; `None` if the portal does not know it.
    pub async fn object(&self, id: ObjectId) -> Result<Option<Arc<Object>>, PortalError> {
        if let Some(object) = self.at_hand().and_then(|s| s.object(id).cloned()) {
            return Ok(Some(object));
        }
        if let Some((object, at)) = self.0.known().unlisted.get(&id)
            && (object.is_some() || at.elapsed() < UNKNOWN_FOR)
        {
            return Ok(object.clone());
        }
        // Its data type's columns are on the lists.
        let snapshot = self.listed().await?;
        if let Some(object) = snapshot.object(id) {
            return Ok(Some(Arc::clone(object)));
        }
        let inner = Arc::clone(&self.0);
        self.0
            .lookups
            .join(id, || async move { inner.look_up(id, &snapshot).await })
            .await
    }

    async fn sync(&self) -> Result<Arc<Snapshot>, PortalError> {
        let inner = Arc::clone(&self.0);
        self.0
            .syncs
            .join((), || async move {
                let snapshot = Arc::new(inner.fetch().await?);
                inner.known().listed = Some((Arc::clone(&snapshot), Instant::now()));
                Ok(snapshot)
            })
            .await
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Snapshot, PortalError> {
        let started = Instant::now();
        let mut datasets: HashMap<String, Vec<ColumnRow>> = HashMap::new();
        for column in self.meta.columns().await? {
            datasets
                .entry(column.dataset.clone())
                .or_default()
                .push(column);
        }
        let mut snapshot = Snapshot {
            objects: Vec::new(),
            by_id: HashMap::new(),
            specs: HashMap::new(),
            datasets: datasets
                .into_iter()
                .map(|(iri, columns)| (iri, columns.into()))
                .collect(),
        };
        for row in self.meta.specs().await? {
            let spec = Arc::new(snapshot.spec_of(row));
            snapshot.specs.insert(spec.iri().to_owned(), spec);
        }
        let mut specs: Vec<&str> = snapshot
            .specs
            .values()
            .filter(|spec| (1..=3).contains(&spec.level()))
            .map(|spec| spec.iri())
            .collect();
        specs.sort_unstable();
        let mut objects = Vec::new();
        let mut cursor = Cursor::default();
        // A query for no data type at all would be one for every object.
        while !specs.is_empty() {
            let page = self.meta.objects(&specs, cursor).await?;
            cursor.advance(&page);
            let last = page.len() < MetadataClient::PAGE;
            objects.extend(page);
            if last {
                break;
            }
        }
        for row in objects {
            // Two time spans or stations of one object make two rows.
            if !snapshot.by_id.contains_key(&row.id) {
                snapshot.by_id.insert(row.id, snapshot.objects.len());
                let object = Arc::new(snapshot.object_of(row, None));
                snapshot.objects.push(object);
            }
        }
        tracing::info!(
            objects = snapshot.objects.len(),
            elapsed = ?started.elapsed(),
            "the lists are in"
        );
        Ok(snapshot)
    }

    async fn look_up(
        &self,
        id: ObjectId,
        snapshot: &Snapshot,
    ) -> Result<Option<Arc<Object>>, PortalError> {
        let row = self.meta.object(id).await?;
        let object = match row {
            None => None,
            Some(row) => {
                let unlisted = match &row.spec {
                    Some(iri) if !snapshot.specs.contains_key(iri) => self.meta.spec(iri).await?,
                    _ => None,
                };
                Some(Arc::new(snapshot.object_of(row, unlisted)))
            }
        };
        self.known()
            .unlisted
            .put(id, (object.clone(), Instant::now()));
        Ok(object)
    }
}
