//! The catalog: what exists in the repository, cached in `SQLite`.
//!
//! The catalog downloads the portal's lists when they are first needed, refreshes
//! them when they are old, and serves the stored ones while the portal cannot be
//! reached. All mounts share one database file. Listings read it row by row, so
//! that a million objects take no memory. Objects on no list (older versions, raw
//! data) are looked up by id and stored too.
//!
//! With a shared cache, `shared_lists` looks there before a query for a list is sent.
//!
//! `sync` decides when to query the portal, `query` runs the queries, `write` and
//! `read` translate between rows and types, `database` owns the connections.
//!
//! Lock order: a database read must not contain another one (in memory there is
//! only one connection); the locks of `resolved` and `cached` may be taken within
//! a read and are never held across one.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use tokio::sync::{Semaphore, watch};

use crate::memory::SizedLru;
use icos_portal::{MetadataClient, ObjectId, PortalError};
use icos_sync::{Mutex, SingleFlight};

mod archive;
mod by_id;
mod collections;
mod database;
mod list_state;
mod lookup;
mod name;
mod object;
mod query;
mod rate_limit;
mod read;
mod search;
mod selection;
mod shared_lists;
mod spelling;
mod stored;
mod sync;
mod vocabulary;
mod words;
mod write;

pub use archive::{ArchiveIndex, ArchiveNode};
pub use list_state::{CatalogList, ListAge};
pub use name::{link_name, stems};
pub use object::{FileId, Object, Representation};
pub use read::{CatalogFolder, ListedObject, Walk};
pub use search::{Order, Search};
pub use selection::ObjectSelection;
pub use shared_lists::SharedLists;
pub use spelling::{UnknownName, country_names, fold};
pub(crate) use spelling::{did_you_mean, similar};
pub use stored::StoredCatalog;
pub use vocabulary::{Spec, Station, Vocabulary};
pub use words::SearchWord;

use by_id::Lookups;
use database::Database;
use selection::ResolvedSelection;
use sync::{ListProgress, NarrowQueries};
use vocabulary::Edition;

/// Name of the database file.
pub const FILE: &str = "catalog.sqlite";
/// Capacity of the cache of objects.
const CACHED_OBJECTS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Capacity of the cache of column labels. One table in a hundred has its own
/// list of labels.
const CACHED_LABELS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Capacity of the cache of archive indexes, in bytes.
const ARCHIVE_BYTES: u64 = 8 << 20;

/// Why the catalog failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// A query to the portal failed.
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// The database failed.
    #[error("the catalog cannot be used: {reason}; is the disk with the cache folder in order?")]
    Database {
        /// The message of `SQLite`.
        reason: String,
    },
    /// The catalog works, but cannot be stored on the disk.
    #[error(
        "the catalog cannot be stored in {path}: {reason}; it continues in memory and is downloaded again at the next mount; free some space, or choose another folder with --cache-dir"
    )]
    NotStored {
        /// The path of the database file.
        path: PathBuf,
        /// The message of `SQLite`.
        reason: String,
    },
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database {
            reason: error.to_string(),
        }
    }
}

/// The repository's lists. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<CatalogState>);

#[derive(Debug)]
struct CatalogState {
    meta: MetadataClient,
    /// How long to serve a list before refreshing it.
    ttl: Duration,
    selection: ObjectSelection,
    /// Lock file, held while a process downloads lists, so that mounts that share
    /// the database do not download the same list at once.
    download_lock: PathBuf,
    db: Database,
    resolved: Mutex<Arc<ResolvedSelection>>,
    cached: Mutex<CachedRows>,
    progress: watch::Sender<ListProgress>,
    syncs: SingleFlight<CatalogList, Result<(), CatalogError>>,
    all_members: SingleFlight<(), Result<(), CatalogError>>,
    lookups: Lookups,
    /// Lists of archives being downloaded: each takes many times its length in memory.
    archive_lists: Semaphore,
}

/// Caches in memory, and the recent narrow queries.
#[derive(Debug)]
struct CachedRows {
    /// By the first 8 bytes of the id.
    objects: LruCache<u64, Arc<Object>>,
    labels: LruCache<i64, Arc<[String]>>,
    archives: SizedLru<ObjectId, Arc<ArchiveIndex>>,
    narrow: NarrowQueries,
}

/// A collection of objects, documents and other collections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collection {
    /// Its id.
    pub id: ObjectId,
    /// Its title.
    pub title: String,
    /// Its DOI.
    pub doi: Option<String>,
}

impl Catalog {
    /// Opens the catalog in `folder`. It queries `meta`, refreshes lists that are
    /// older than `ttl`, and shows the objects of `selection`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Database`].
    pub fn open(
        meta: MetadataClient,
        folder: &Path,
        ttl: Duration,
        selection: ObjectSelection,
    ) -> Result<Self, CatalogError> {
        let db = Database::open(&folder.join(FILE))?;
        let resolved = ResolvedSelection::new(&selection, db.read(Vocabulary::load)?);
        Ok(Self(Arc::new(CatalogState {
            meta,
            ttl,
            selection,
            download_lock: folder.join("asking.lock"),
            db,
            resolved: Mutex::new(Arc::new(resolved)),
            cached: Mutex::new(CachedRows {
                objects: LruCache::new(CACHED_OBJECTS),
                labels: LruCache::new(CACHED_LABELS),
                archives: SizedLru::new(ARCHIVE_BYTES),
                narrow: NarrowQueries::default(),
            }),
            progress: watch::Sender::default(),
            syncs: SingleFlight::default(),
            all_members: SingleFlight::default(),
            lookups: Lookups::default(),
            archive_lists: Semaphore::new(archive::PARALLEL_LISTS),
        })))
    }

    /// Calls `callback` when the catalog cannot be stored on the disk; at once if
    /// that has happened already.
    pub fn on_storage_failure(&self, callback: impl Fn(&CatalogError) + Send + Sync + 'static) {
        self.0.db.on_failure(Box::new(callback));
    }

    /// Stores rows as if the portal had sent them.
    #[cfg(test)]
    pub(crate) fn insert_for_test(
        &self,
        specs: &[icos_portal::lists::SpecRow],
        objects: &[icos_portal::lists::ObjectRow],
        successions: &[icos_portal::lists::SuccessionRow],
    ) -> Result<(), CatalogError> {
        self.0.db.write(|db| {
            if !specs.is_empty() {
                write::vocabulary(db, specs, &[], &[])?;
            }
            write::objects(db, objects)?;
            write::successions(db, successions)
        })?;
        self.0.cached.lock().objects.clear();
        self.0.reload()
    }

    /// Closes database connections that have been idle for `idle`. Returns whether
    /// a later call may close more.
    #[must_use]
    pub fn close_idle(&self, idle: Duration) -> bool {
        self.0.db.close_idle(idle)
    }

    /// The number of stored objects, and the total size of their originals in
    /// bytes. Blocks on the disk while it scans all objects.
    pub fn totals(&self) -> Result<(u64, u64), CatalogError> {
        let query = "SELECT count(*), coalesce(sum(CAST(size AS REAL)), 0.0) FROM object";
        let (count, bytes): (i64, f64) =
            (self.0.db).read(|db| db.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))))?;
        // Sizes are not negative, and their sum need not be exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes = bytes as u64;
        Ok((count.unsigned_abs(), bytes))
    }

    /// The stored data types and stations.
    #[must_use]
    pub fn vocabulary(&self) -> Arc<Vocabulary> {
        Arc::clone(&self.0.resolved_selection().vocabulary)
    }

    /// The data types in the selection.
    #[must_use]
    pub fn shown_specs(&self) -> Vec<Arc<Spec>> {
        self.0.resolved_selection().specs().cloned().collect()
    }

    /// The stations in the selection.
    #[must_use]
    pub fn shown_stations(&self) -> Vec<Arc<Station>> {
        let selection = self.0.resolved_selection();
        let stations = selection.vocabulary.stations();
        let selected = stations.filter(|station| selection.has_station(station.key));
        selected.cloned().collect()
    }

    /// The data types in the selection that `station` has objects of. Blocks on
    /// the disk.
    pub fn specs_of(&self, station: &Station) -> Result<Vec<Arc<Spec>>, CatalogError> {
        let mut specs = Vec::new();
        for spec in self.0.resolved_selection().specs() {
            if !self.is_empty(&station.folder(spec))? {
                specs.push(Arc::clone(spec));
            }
        }
        Ok(specs)
    }

    /// Waits until the list of objects that is being downloaded has more objects
    /// or is complete.
    ///
    /// # Errors
    ///
    /// The error of the download, if it failed.
    pub async fn wait_for_growth(&self) -> Result<(), CatalogError> {
        let mut progress = self.0.progress.subscribe();
        let pages = progress.borrow().pages;
        let updated = progress
            .wait_for(|progress| !progress.active || progress.pages != pages)
            .await;
        match updated.ok().and_then(|progress| progress.failed.clone()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The first 8 bytes of `id`.
#[must_use]
pub fn first_bits(id: ObjectId) -> u64 {
    let first = id.as_bytes().first_chunk();
    u64::from_be_bytes(*first.expect("an id has 18 bytes"))
}

impl CatalogState {
    /// The selection with the data types and stations of the database. Reads them
    /// again if another mount has changed them.
    fn resolved_selection(&self) -> Arc<ResolvedSelection> {
        let resolved = Arc::clone(&self.resolved.lock());
        match self.db.read(Edition::current) {
            Ok(current) if current != resolved.vocabulary.edition() => match self.reload() {
                Ok(()) => Arc::clone(&self.resolved.lock()),
                Err(_) => resolved,
            },
            _ => resolved,
        }
    }

    /// Reads the data types and stations again.
    fn reload(&self) -> Result<(), CatalogError> {
        let vocabulary = self.db.read(Vocabulary::load)?;
        *self.resolved.lock() = Arc::new(ResolvedSelection::new(&self.selection, vocabulary));
        Ok(())
    }
}
