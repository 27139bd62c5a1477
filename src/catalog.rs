//! What exists: the repository's lists, asked for when they are first needed,
//! refreshed when they are old, and kept when the portal is away.
//!
//! They lie in one file of `SQLite`'s that mounts share, and are read from there a row
//! at a time: a million objects cost no memory. What they do not list (older
//! versions, raw data) is asked for by id and kept there, too.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use lru::LruCache;
use tokio::sync::watch;

use icos_portal::{MetadataClient, ObjectId, PortalError};
use icos_sync::SingleFlight;

mod archive;
mod collections;
mod database;
mod list_age;
mod list_state;
mod name;
mod object;
mod query;
mod read;
mod search;
mod selection;
mod sync;
mod vocabulary;
mod write;

pub use archive::{ArchiveIndex, ArchiveNode};
pub use list_age::ListAge;
pub use list_state::CatalogList;
pub use object::{FileId, Object, Representation};
pub use read::{CatalogFolder, ListedObject};
pub use search::{Order, Search};
pub use selection::ObjectSelection;
pub use vocabulary::{Spec, Station, Vocabulary};

use database::Database;
use selection::View;
use sync::{Growth, Narrow};
use vocabulary::Edition;

/// What the file is called.
pub const FILE: &str = "catalog.sqlite";
/// How many objects are kept at hand.
const OBJECTS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// How many lists of columns' labels: a table in a hundred has its own.
const LABELS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// How many ids that the portal does not know.
const UNKNOWN: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// How many archives' lists.
const ARCHIVES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// How long such an id stays unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// Why the catalog does not say.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// The portal could not be asked.
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// The database that the lists are in failed.
    #[error("the catalog cannot be used: {reason}; is the disk with the cache folder in order?")]
    Database {
        /// `SQLite`'s words.
        reason: String,
    },
    /// The lists are at hand, but the disk does not keep them.
    #[error(
        "the catalog cannot be kept in {path}: {reason}; it goes on in memory and is asked for again at the next mount; make room, or choose another folder with --cache-dir"
    )]
    NotStored {
        /// Where it would be.
        path: PathBuf,
        /// `SQLite`'s words.
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
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meta: MetadataClient,
    /// How long a list counts as new.
    ttl: Duration,
    selection: ObjectSelection,
    /// Held while one asks for lists: mounts that share the file do not ask
    /// for the same at once.
    turn: PathBuf,
    db: Database,
    view: RwLock<Arc<View>>,
    known: Mutex<Known>,
    growth: watch::Sender<Growth>,
    syncs: SingleFlight<CatalogList, Result<(), CatalogError>>,
    all_members: SingleFlight<(), Result<(), CatalogError>>,
    lookups: SingleFlight<ObjectId, Result<bool, CatalogError>>,
}

/// What is kept in memory.
#[derive(Debug)]
struct Known {
    /// By their ids' first 8 bytes.
    objects: LruCache<u64, Arc<Object>>,
    labels: LruCache<i64, Arc<[String]>>,
    unknown: LruCache<ObjectId, Instant>,
    archives: LruCache<ObjectId, Arc<ArchiveIndex>>,
    narrow: Narrow,
}

/// What is in a collection, beside objects and documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collection {
    /// Its id.
    pub id: ObjectId,
    /// Its title.
    pub title: String,
    /// Its DOI.
    pub doi: Option<String>,
}

/// How a walk through a folder ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Walk {
    /// The visitor had enough.
    Stopped,
    /// There are no more.
    AtEnd,
    /// There are no more yet: see [`Catalog::wait_for_growth`].
    Growing,
}

impl Catalog {
    /// The catalog kept in `folder`, which asks `meta`, believes its lists for
    /// `ttl` and shows what `selection` says.
    pub fn open(
        meta: MetadataClient,
        folder: &Path,
        ttl: Duration,
        selection: ObjectSelection,
    ) -> Result<Self, CatalogError> {
        let db = Database::open(&folder.join(FILE))?;
        let view = View::new(&selection, db.read(Vocabulary::load)?);
        Ok(Self(Arc::new(Inner {
            meta,
            ttl,
            selection,
            turn: folder.join("asking.lock"),
            db,
            view: RwLock::new(Arc::new(view)),
            known: Mutex::new(Known {
                objects: LruCache::new(OBJECTS),
                labels: LruCache::new(LABELS),
                unknown: LruCache::new(UNKNOWN),
                archives: LruCache::new(ARCHIVES),
                narrow: Narrow::default(),
            }),
            growth: watch::Sender::default(),
            syncs: SingleFlight::default(),
            all_members: SingleFlight::default(),
            lookups: SingleFlight::default(),
        })))
    }

    /// Tells `watcher` if the disk does not keep the lists, once that is so.
    pub fn watch(&self, watcher: impl Fn(&CatalogError) + Send + Sync + 'static) {
        self.0.db.watch(Box::new(watcher));
    }

    /// Puts rows in as if the portal had sent them.
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
        self.0.known().objects.clear();
        self.0.reload()
    }

    /// Closes connections to the database that were not used for `idle`;
    /// whether there will be more in a while.
    #[must_use]
    pub fn close_idle(&self, idle: Duration) -> bool {
        self.0.db.close_idle(idle)
    }

    /// How many objects are known, and how many bytes their originals have.
    /// Blocks on the disk, for all of them.
    pub fn totals(&self) -> Result<(u64, u64), CatalogError> {
        let query = "SELECT count(*), coalesce(sum(CAST(size AS REAL)), 0.0) FROM object";
        let (count, bytes): (i64, f64) =
            (self.0.db).read(|db| db.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))))?;
        // Sizes are not negative, and their sum need not be exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes = bytes as u64;
        Ok((count.unsigned_abs(), bytes))
    }

    /// The data types and stations that are known.
    #[must_use]
    pub fn vocabulary(&self) -> Arc<Vocabulary> {
        Arc::clone(&self.0.view().vocabulary)
    }

    /// The data types of which objects are shown.
    #[must_use]
    pub fn shown_specs(&self) -> Vec<Arc<Spec>> {
        self.0.view().specs().cloned().collect()
    }

    /// The stations of which objects are shown.
    #[must_use]
    pub fn shown_stations(&self) -> Vec<Arc<Station>> {
        let view = self.0.view();
        let stations = view.vocabulary.stations();
        let shown = stations.filter(|station| view.shows_station(station.key));
        shown.cloned().collect()
    }

    /// The data types of which objects of `station` are shown. Blocks on the
    /// disk.
    pub fn specs_of(&self, station: &Station) -> Result<Vec<Arc<Spec>>, CatalogError> {
        let view = self.0.view();
        let mut specs = Vec::new();
        for spec in view.specs() {
            let folder = CatalogFolder::Station(station.key, spec.key);
            if !self.is_empty(&folder)? {
                specs.push(Arc::clone(spec));
            }
        }
        Ok(specs)
    }

    /// The object `id`, if it is known. Blocks on the disk, shortly.
    pub fn known(&self, id: ObjectId) -> Result<Option<Arc<Object>>, CatalogError> {
        let (first, mask) = (first_bits(id), u64::MAX);
        let found = self.known_by_bits(first, mask)?;
        Ok(found.filter(|object| object.id() == id))
    }

    /// The known object whose id begins with the bits of `first` that `mask`
    /// has. Blocks on the disk, shortly.
    pub fn known_by_bits(
        &self,
        first: u64,
        mask: u64,
    ) -> Result<Option<Arc<Object>>, CatalogError> {
        let kept = first & mask;
        if let Some(object) = self.0.known().objects.get(&kept)
            && first_bits(object.id()) & mask == kept
        {
            return Ok(Some(Arc::clone(object)));
        }
        let view = self.0.view();
        let found = (self.0.db).read(|db| self.0.by_first_bits(db, &view, first, mask))?;
        Ok(found.map(|object| self.0.keep(kept, object)))
    }

    /// What `id` is, listed or not; `None` if the portal does not know it.
    pub async fn object(&self, id: ObjectId) -> Result<Option<Arc<Object>>, CatalogError> {
        if let Some(object) = self.known(id)? {
            return Ok(Some(object));
        }
        if let Some(at) = self.0.known().unknown.get(&id)
            && at.elapsed() < UNKNOWN_FOR
        {
            return Ok(None);
        }
        // Its data type's columns are on the lists.
        self.ensure(CatalogList::Vocabulary).await?;
        let catalog = self.clone();
        let found = self
            .0
            .lookups
            .join(id, || async move {
                let found = !catalog.by_name(&[id]).await?.is_empty();
                if !found {
                    catalog.0.known().unknown.put(id, Instant::now());
                }
                Ok::<_, CatalogError>(found)
            })
            .await?;
        if found { self.known(id) } else { Ok(None) }
    }

    /// Shows the objects of `folder` to `visit`, in order from place `from`
    /// on. New ones come last. Blocks on the disk.
    pub fn walk(
        &self,
        folder: &CatalogFolder,
        from: u64,
        visit: impl FnMut(ListedObject) -> ControlFlow<()>,
    ) -> Result<Walk, CatalogError> {
        // Asked before the walk: what comes during it is for the next.
        let growing = self.0.growth.borrow().growing
            && !matches!(
                folder,
                CatalogFolder::Collection(_) | CatalogFolder::Documents
            );
        let view = self.0.view();
        let (place, stopped) = (Cell::new(from), Cell::new(false));
        let visit = RefCell::new(visit);
        self.0.db.read(|db| {
            let mut show = |listed: ListedObject| {
                // Should the file turn out damaged half way, none comes twice.
                place.set(listed.place + 1);
                let flow = (visit.borrow_mut())(listed);
                stopped.set(flow.is_break());
                flow
            };
            self.0.walk(db, &view, folder, place.get(), &mut show)
        })?;
        Ok(match (stopped.get(), growing) {
            (true, _) => Walk::Stopped,
            (false, true) => Walk::Growing,
            (false, false) => Walk::AtEnd,
        })
    }

    /// Whether nothing is known of `folder`. Blocks on the disk, shortly.
    pub fn is_empty(&self, folder: &CatalogFolder) -> Result<bool, CatalogError> {
        let walk = self.walk(folder, 0, |_| ControlFlow::Break(()))?;
        Ok(walk != Walk::Stopped)
    }

    /// Waits until a list that grows has grown, or ended.
    ///
    /// # Errors
    ///
    /// Why it grows no further although it is not complete.
    pub async fn wait_for_growth(&self) -> Result<(), CatalogError> {
        let mut growth = self.0.growth.subscribe();
        let pages = growth.borrow().pages;
        let grown = growth
            .wait_for(|growth| !growth.growing || growth.pages != pages)
            .await;
        match grown.ok().and_then(|growth| growth.failed.clone()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The object whose names in `folder` begin with `stem`. Blocks on the
    /// disk, shortly.
    pub fn by_stem(
        &self,
        folder: &CatalogFolder,
        stem: &str,
    ) -> Result<Option<Arc<Object>>, CatalogError> {
        let view = self.0.view();
        let found = (self.0.db).read(|db| self.0.by_stem(db, &view, folder, stem))?;
        Ok(found.map(|object| self.0.keep(first_bits(object.id()), object)))
    }
}

/// The stems that a file name may have, the rest being an ending.
pub fn stems(name: &str) -> impl Iterator<Item = &str> {
    name::stems(name)
}

/// The first 8 bytes of `id`.
#[must_use]
pub fn first_bits(id: ObjectId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_be_bytes(bytes)
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data types and stations, as the database has them: another mount
    /// may have taken them since they were last read, and objects with them.
    fn view(&self) -> Arc<View> {
        let view = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        let Ok(current) = self.db.read(Edition::current) else {
            return view;
        };
        if current == view.vocabulary.edition() || self.reload().is_err() {
            return view;
        }
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the data types and stations again.
    fn reload(&self) -> Result<(), CatalogError> {
        let view = View::new(&self.selection, self.db.read(Vocabulary::load)?);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }

    fn keep(&self, key: u64, object: Object) -> Arc<Object> {
        let object = Arc::new(object);
        self.known().objects.put(key, Arc::clone(&object));
        object
    }
}
