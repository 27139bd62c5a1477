//! Looks objects up by id that are on no list: superseded ones, for example.
//!
//! Lookups share queries. Those that arrive while a query is under way are sent
//! together with the next one. A program that goes through a list of ids looks one up
//! after the other, so after [`MANY`] lookups, all objects of the data types that were
//! found just before are downloaded: one page of them, from the earliest one found on.
//!
//! Ids that do not exist cost the portal a query each, and a program can invent any: queries have
//! a [`RateLimit`]. Lookups that wait for it share the query.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lru::LruCache;
use tokio::time::timeout;

use super::query::IDS_PER_QUERY;
use super::rate_limit::RateLimit;
use super::{Catalog, CatalogError, CatalogList, Object, write};
use icos_portal::ObjectId;
use icos_portal::lists::{Cursor, ObjectRow, ObjectScope, Versions};
use icos_sync::{Mutex, SingleFlight};

/// Capacity of the cache of ids that the portal does not know.
const UNKNOWN_IDS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// How long to cache that the portal does not know an id.
const UNKNOWN_TTL: Duration = Duration::from_secs(30);
/// So many objects found within [`PERIOD`] are many: further ones of the same data types
/// are likely to follow.
const MANY: usize = 8;
const PERIOD: Duration = Duration::from_mins(1);
/// How long the lookups of a query wait for the page.
const MAX_PAGE_TIME: Duration = Duration::from_secs(10);
/// How many data types are remembered, and for how long, to download each once.
const DATA_TYPES: NonZeroUsize = NonZeroUsize::new(200).expect("not zero");
const DATA_TYPE_TTL: Duration = Duration::from_mins(10);

/// So many queries are sent at once, and one more each [`QUERY_INTERVAL`].
const QUERY_BURST: u32 = 60;
const QUERY_INTERVAL: Duration = Duration::from_millis(500);

/// The lookups of one catalog.
#[derive(Debug)]
pub(super) struct Lookups {
    flights: SingleFlight<(), Arc<Batch>>,
    state: Mutex<LookupState>,
}

/// The ids of one query, and its result.
#[derive(Debug)]
struct Batch {
    ids: HashSet<ObjectId>,
    result: Result<(), CatalogError>,
}

#[derive(Debug)]
struct LookupState {
    /// Ids for the next query.
    waiting: HashSet<ObjectId>,
    unknown: LruCache<ObjectId, Instant>,
    /// When objects were found.
    found: VecDeque<Instant>,
    /// Data types of the objects that were found.
    types: LruCache<String, FoundType>,
    limit: RateLimit,
}

/// A data type of objects that were found.
#[derive(Debug)]
struct FoundType {
    /// The earliest submission of those objects.
    since: Timestamp,
    /// When the last of them was found.
    found: Instant,
    /// When a page of its objects was downloaded.
    downloaded: Option<Instant>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            flights: SingleFlight::default(),
            state: Mutex::new(LookupState {
                waiting: HashSet::new(),
                unknown: LruCache::new(UNKNOWN_IDS),
                found: VecDeque::new(),
                types: LruCache::new(DATA_TYPES),
                limit: RateLimit::new(QUERY_BURST, QUERY_INTERVAL),
            }),
        }
    }
}

impl LookupState {
    /// Takes ids for a query.
    fn take_waiting(&mut self) -> HashSet<ObjectId> {
        let ids: HashSet<ObjectId> = self.waiting.iter().copied().take(IDS_PER_QUERY).collect();
        self.waiting.retain(|id| !ids.contains(id));
        ids
    }

    fn is_unknown(&mut self, id: ObjectId) -> bool {
        let at = self.unknown.get(&id);
        at.is_some_and(|at| at.elapsed() < UNKNOWN_TTL)
    }

    /// Records the result of a query for `ids`. Returns the data types to download, and from
    /// which submission on.
    fn record(&mut self, ids: &HashSet<ObjectId>, rows: &[ObjectRow]) -> Vec<(String, Timestamp)> {
        let now = Instant::now();
        let found: HashSet<ObjectId> = rows.iter().map(|row| row.id).collect();
        for &id in ids.difference(&found) {
            self.unknown.put(id, now);
        }
        for row in rows {
            self.found.push_back(now);
            let Some(spec) = &row.spec else { continue };
            let since = self
                .types
                .peek(spec)
                .map_or(row.submitted, |known| known.since.min(row.submitted));
            let downloaded = self.types.peek(spec).and_then(|known| known.downloaded);
            let found = FoundType {
                since,
                found: now,
                downloaded,
            };
            self.types.put(spec.clone(), found);
        }
        self.found.retain(|at| now - *at < PERIOD);
        if self.found.len() < MANY {
            return Vec::new();
        }
        self.found.drain(..self.found.len() - MANY);
        let types = self.types.iter();
        let due = types.filter(|(_, one)| {
            let is_old = one.downloaded.is_none_or(|at| now - at > DATA_TYPE_TTL);
            is_old && now - one.found < PERIOD
        });
        due.map(|(spec, one)| (spec.clone(), one.since)).collect()
    }
}

impl Catalog {
    /// The object `id`, whether or not it is on a list; queries the portal if it is
    /// not stored. `None` if the portal does not know it.
    ///
    /// # Errors
    ///
    /// The error of the query.
    pub async fn object(&self, id: ObjectId) -> Result<Option<Arc<Object>>, CatalogError> {
        loop {
            if let Some(object) = self.known(id)? {
                return Ok(Some(object));
            }
            if self.0.lookups.state.lock().is_unknown(id) {
                return Ok(None);
            }
            // The columns of its data type come with the vocabulary.
            self.ensure(CatalogList::Vocabulary).await?;
            self.0.lookups.state.lock().waiting.insert(id);
            let catalog = self.clone();
            let query = || async move { Arc::new(catalog.look_up_waiting().await) };
            let batch = self.0.lookups.flights.join((), query).await;
            // Otherwise the query was under way before, and perhaps its data types brought
            // the object.
            if batch.ids.contains(&id) {
                let object = self.known(id)?;
                // Another id, or a data type, may be the reason of an error.
                if object.is_none() {
                    batch.result.clone()?;
                }
                return Ok(object);
            }
        }
    }

    /// Queries the ids that wait.
    async fn look_up_waiting(&self) -> Batch {
        let wait = (self.0.lookups.state.lock().limit).take(tokio::time::Instant::now());
        tokio::time::sleep(wait).await;
        let ids = self.0.lookups.state.lock().take_waiting();
        let wanted: Vec<ObjectId> = ids.iter().copied().collect();
        let result = match self.download_objects_by_id(&wanted).await {
            Ok(rows) => {
                let due = self.0.lookups.state.lock().record(&ids, &rows);
                let page = timeout(MAX_PAGE_TIME, self.download_types(due)).await;
                if !matches!(page, Ok(Ok(()))) {
                    tracing::debug!("objects of the same data types are looked up one by one");
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        Batch { ids, result }
    }

    /// Downloads objects of data types, all versions, of each a page from a time of
    /// submission on.
    async fn download_types(&self, types: Vec<(String, Timestamp)>) -> Result<(), CatalogError> {
        let Some(since) = types.iter().map(|(_, since)| *since).min() else {
            return Ok(());
        };
        let specs: Vec<&str> = types.iter().map(|(spec, _)| spec.as_str()).collect();
        let scope = ObjectScope {
            specs: &specs,
            stations: &[],
            versions: Versions::All,
            before: None,
        };
        let page = self
            .0
            .meta
            .objects(scope, Cursor::since(Some(since)))
            .await?;
        self.write(move |db| write::objects(db, &page.rows)).await?;
        // Some may have been superseded since.
        self.0.cached.lock().objects.clear();
        let mut state = self.0.lookups.state.lock();
        for (spec, _) in &types {
            if let Some(found) = state.types.get_mut(spec) {
                found.downloaded = Some(Instant::now());
            }
        }
        Ok(())
    }
}
