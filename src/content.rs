//! The bytes of one file at any offset: originals, tables as CSV, landing
//! pages.
//!
//! Here portal, cache and tables come together. A read finds its bytes in the
//! cache, or has them fetched into it and finds them then; however many read,
//! each byte is fetched once. Nothing here knows names, inodes or the kernel.

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;
use nix::sys::resource::{Resource, getrlimit};

use crate::cache::{CacheError, Place, Store};
use crate::catalog::{FileId, Object, Representation};
use crate::memory::NoMemory;
use crate::portal::{DataClient, MetadataClient, ObjectId, PortalError};
use crate::table::TableError;

mod columns;
mod csv;
mod direct;
mod drawn;
mod original;
mod portal_csv;
mod sidecar;
mod table_file;

pub use direct::DataFolder;

use columns::Tables;
use csv::CsvFile;
use direct::DirectFile;
use drawn::Drawn;
use original::{OriginalFile, Spoiled};
use portal_csv::PortalCsv;
use sidecar::Sidecars;

/// How many files' state is kept at most, the least recently read go first:
/// each holds two descriptors, and what it has in the cache cannot be removed.
const REMEMBERED: usize = 256;
/// How many lengths are remembered.
const LENGTHS: NonZeroUsize = NonZeroUsize::new(200_000).expect("not zero");

/// Why bytes could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ContentError {
    /// The portal did not deliver.
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// The cache could not keep or give them.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The object is not a table that can be drawn.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The bytes are not those that the object's id promises.
    #[error(
        "object {id} arrived with another content than its id promises; it was dropped, read again to fetch it anew"
    )]
    WrongHash {
        /// The object.
        id: ObjectId,
    },
    /// The portal's metadata and its data disagree about a length.
    #[error(
        "expected {expected} bytes of object {id} as its metadata says, the data service has {found}"
    )]
    WrongLength {
        /// The object.
        id: ObjectId,
        /// What the metadata says.
        expected: u64,
        /// What the data service says.
        found: u64,
    },
}

impl From<NoMemory> for ContentError {
    fn from(error: NoMemory) -> Self {
        Self::Cache(error.into())
    }
}

/// What is known of a file's length without waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Size {
    /// It is this many bytes, for ever or as long as metadata live.
    Exact(u64),
    /// It is not known yet. Where it can be bounded it is at most this many
    /// bytes; otherwise this is a guess.
    Estimate(u64),
}

/// What a landing page's JSON is guessed to be before it is fetched.
const SIDECAR_GUESS: u64 = 64 << 10;

/// All files' bytes.
#[derive(Debug)]
pub struct Contents {
    sidecars: Sidecars,
    tables: Tables,
    data: DataClient,
    store: Store,
    drawn: Arc<Drawn>,
    files: Mutex<LruCache<FileId, Content>>,
    /// Lengths found out, of more tables than can be held open.
    lengths: Mutex<LruCache<ObjectId, u64>>,
    spoiled: Arc<Spoiled>,
    data_folder: Option<DataFolder>,
}

/// The state of one file: what was drawn, counted or is under way.
#[derive(Clone, Debug)]
enum Content {
    Original(Arc<OriginalFile>),
    Direct(Arc<DirectFile>),
    Csv(Csv),
}

/// A table's text: drawn here, or by the portal.
#[derive(Clone, Debug)]
enum Csv {
    Drawn(Arc<CsvFile>),
    Portal(Arc<PortalCsv>),
}

impl Csv {
    fn size(&self) -> Option<u64> {
        match self {
            Csv::Drawn(file) => file.size(),
            Csv::Portal(file) => file.size(),
        }
    }

    async fn exact_size(self) -> Result<u64, ContentError> {
        match self {
            Csv::Drawn(file) => file.exact_size().await,
            Csv::Portal(file) => file.exact_size().await,
        }
    }

    async fn read(self, offset: u64, len: usize) -> Result<Bytes, ContentError> {
        match self {
            Csv::Drawn(file) => file.read(offset, len).await,
            Csv::Portal(file) => file.read(offset, len).await,
        }
    }
}

impl Contents {
    /// The bytes that `meta` and `data` deliver, kept in `store`. Landing
    /// pages are believed for `ttl`.
    #[must_use]
    pub fn new(meta: MetadataClient, data: DataClient, store: Store, ttl: Duration) -> Self {
        Self {
            sidecars: Sidecars::new(meta, ttl),
            tables: Tables::new(data.clone(), store.clone()),
            data,
            drawn: Arc::new(Drawn::new(store.memory().for_text())),
            store,
            files: Mutex::new(LruCache::new(remembered())),
            lengths: Mutex::new(LruCache::new(LENGTHS)),
            spoiled: Arc::default(),
            data_folder: None,
        }
    }

    /// The same, with the portal's own files in `folder` before all others.
    #[must_use]
    pub fn with_data_folder(self, folder: DataFolder) -> Self {
        Self {
            tables: self.tables.with_data_folder(folder.clone()),
            data_folder: Some(folder),
            ..self
        }
    }

    /// What can be said at once about the length of `object` as
    /// `representation`.
    #[must_use]
    pub fn size(&self, object: &Arc<Object>, representation: Representation) -> Size {
        match representation {
            Representation::Original => Size::Exact(object.size()),
            Representation::Json => match self.sidecars.at_hand(object.id()) {
                Some(json) => Size::Exact(json.len() as u64),
                None => Size::Estimate(SIDECAR_GUESS),
            },
            Representation::Csv => match self.csv_length(object.id()) {
                Some(exact) => Size::Exact(exact),
                None => Size::Estimate(self.tables.csv_bound(object)),
            },
        }
    }

    /// The exact length, once it is known: may fetch or draw the whole file.
    pub async fn exact_size(
        &self,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Result<u64, ContentError> {
        match representation {
            Representation::Original => Ok(object.size()),
            Representation::Json => Ok(self.sidecars.get(object.id()).await?.len() as u64),
            Representation::Csv => self.csv(object).await?.exact_size().await,
        }
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end. An
    /// original is read to the end under one [`Contents::generation`], or not.
    pub async fn read(
        &self,
        object: &Arc<Object>,
        representation: Representation,
        generation: u64,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        match representation {
            Representation::Original => {
                if let Some(direct) = self.direct(object).await {
                    let range = offset..offset.saturating_add(len as u64);
                    if let Some(bytes) = direct.read(range).await {
                        return Ok(bytes);
                    }
                }
                self.original(object)?.read(generation, offset, len).await
            }
            Representation::Json => {
                let json = self.sidecars.get(object.id()).await?;
                let from = usize::try_from(offset).map_or(json.len(), |at| at.min(json.len()));
                Ok(json.slice(from..json.len().min(from.saturating_add(len))))
            }
            Representation::Csv => self.csv(object).await?.read(offset, len).await,
        }
    }

    /// How often the original of `object` turned out wrong so far: bytes read
    /// under different numbers are not of one content.
    #[must_use]
    pub fn generation(&self, object: ObjectId) -> u64 {
        self.spoiled.generation(object)
    }

    /// Whether the original of `object` is whole, and is what its id says.
    #[must_use]
    pub fn is_proved(&self, object: &Arc<Object>) -> bool {
        self.cached_original(object)
            .is_some_and(|file| file.is_proved())
    }

    /// The file of the cache that holds just these bytes, all of them checked,
    /// if there is one: the kernel may read it by itself.
    #[must_use]
    pub fn sealed_file(
        &self,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Option<File> {
        match representation {
            Representation::Original => self.cached_original(object)?.sealed_file(),
            Representation::Csv | Representation::Json => None,
        }
    }

    /// The original as the portal itself has it on its disk.
    async fn direct(&self, object: &Object) -> Option<Arc<DirectFile>> {
        let folder = self.data_folder.as_ref()?;
        let id = FileId {
            object: object.id(),
            representation: Representation::Original,
        };
        match self.files().get(&id) {
            Some(Content::Direct(file)) => return Some(Arc::clone(file)),
            Some(_) => return None,
            None => {}
        }
        let place = place(object).ok()?;
        let file = folder.find(object.id(), &place, object.size()).await?;
        self.files().put(id, Content::Direct(Arc::clone(&file)));
        Some(file)
    }

    /// The original in the cache, unless the portal's own disk comes first.
    fn cached_original(&self, object: &Arc<Object>) -> Option<Arc<OriginalFile>> {
        if self.data_folder.is_some() {
            return None;
        }
        self.original(object).ok()
    }

    fn original(&self, object: &Arc<Object>) -> Result<Arc<OriginalFile>, ContentError> {
        let id = FileId {
            object: object.id(),
            representation: Representation::Original,
        };
        if let Some(Content::Original(file)) = self.files().get(&id) {
            return Ok(Arc::clone(file));
        }
        let entry = self.store.entry(&place(object)?, object.size());
        let mut files = self.files();
        // Another reader may have been first.
        if let Some(Content::Original(file)) = files.get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OriginalFile::new(
            object.id(),
            entry,
            self.data.clone(),
            self.store.memory().clone(),
            Arc::clone(&self.spoiled),
        ));
        files.put(id, Content::Original(Arc::clone(&file)));
        Ok(file)
    }

    fn csv_length(&self, object: ObjectId) -> Option<u64> {
        let lengths = || self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&length) = lengths().get(&object) {
            return Some(length);
        }
        let length = self.csv_at_hand(object)?.size()?;
        lengths().put(object, length);
        Some(length)
    }

    fn csv_at_hand(&self, object: ObjectId) -> Option<Csv> {
        let id = FileId {
            object,
            representation: Representation::Csv,
        };
        match self.files().get(&id) {
            Some(Content::Csv(csv)) => Some(csv.clone()),
            _ => None,
        }
    }

    async fn csv(&self, object: &Arc<Object>) -> Result<Csv, ContentError> {
        if let Some(csv) = self.csv_at_hand(object.id()) {
            return Ok(csv);
        }
        let csv = match self.tables.open(object).await {
            Ok(columns) => Csv::Drawn(Arc::new(CsvFile::new(columns, Arc::clone(&self.drawn)))),
            Err(ContentError::Table(error)) if error.portal_may_serve_csv() => {
                tracing::info!(id = %object.id(), %error, "taking the portal's own CSV");
                let (store, data) = (self.store.clone(), self.data.clone());
                Csv::Portal(Arc::new(PortalCsv::new(object.id(), store, data)?))
            }
            Err(error) => return Err(error),
        };
        let id = FileId {
            object: object.id(),
            representation: Representation::Csv,
        };
        let mut files = self.files();
        // Another reader may have been first.
        if let Some(Content::Csv(first)) = files.get(&id) {
            return Ok(first.clone());
        }
        files.put(id, Content::Csv(csv.clone()));
        Ok(csv)
    }

    fn files(&self) -> MutexGuard<'_, LruCache<FileId, Content>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many files as leave most descriptors to others.
fn remembered() -> NonZeroUsize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft / 8);
    let files = usize::try_from(descriptors).map_or(REMEMBERED, |files| files.min(REMEMBERED));
    NonZeroUsize::new(files.max(4)).unwrap_or(NonZeroUsize::MIN)
}

/// Where the portal, and the cache, keep an original.
fn place(object: &Object) -> Result<Place, CacheError> {
    let folder = object.spec().map_or(Place::DOCUMENTS, |spec| spec.format());
    Place::new(folder, &object.id().to_string())
}
