//! The bytes of one file at any offset: originals, tables as columns, CSV and
//! Parquet, landing pages.
//!
//! Here portal, cache and tables come together. A read finds its bytes in the
//! cache, or has them fetched into it and finds them then; however many read,
//! each byte is fetched once. Nothing here knows names, inodes or the kernel.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use crate::cache::Epoch;
use crate::cache::{CacheError, CacheFile, CachePath, Store};
use crate::catalog::{FileId, Object, Representation};
use crate::memory::NoMemory;
use icos_portal::meta::Subject;
use icos_portal::{DataClient, MetadataClient, ObjectId, PortalError};
use icos_table::TableError;

mod about;
mod archive;
mod byte_source;
mod columns;
mod complete_file;
mod csv;
mod direct;
mod drawn;
mod export;
mod files;
mod headers;
mod idle_lru;
mod kept;
mod original;
mod page;
mod parquet;
mod planner;
mod portal_csv;
mod request_stats;
mod shapes;
mod sidecar;
mod table_file;
mod tables;

pub use byte_source::{ByteSource, track_source};
pub use direct::DataFolder;
pub use export::{ExportError, ExportFormat, ExportProgress, ExportStage, RowSelection};
pub use files::ReleasedFiles;
pub use planner::DownloadOptions;

use about::Abouts;
use archive::Entries;
use columns::Columns;
use csv::CsvFile;
use direct::DirectFile;
use drawn::Drawn;
use files::{Content, Csv, Files};
use original::{CorruptFiles, OriginalFile};
use parquet::{ParquetFile, Workshop};
use portal_csv::PortalCsv;
use request_stats::RequestStats;
use sidecar::Sidecars;
use tables::{Tables, cpb_place};

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
    /// A table could not be written as Parquet.
    #[error("the table cannot be written as Parquet: {0}")]
    NotWritten(String),
    /// What was remembered of a table's text, or of a file made of it, is not
    /// so.
    #[error(
        "what was remembered of a file of table {id} is wrong and was forgotten; open it again"
    )]
    WrongMemory {
        /// The table.
        id: ObjectId,
    },
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
pub enum FileSize {
    /// It is this many bytes, for ever or as long as metadata live.
    Exact(u64),
    /// It is not known yet. Where it can be bounded it is at most this many
    /// bytes; otherwise this is a guess.
    Estimate(u64),
}

/// What a landing page's JSON is guessed to be before it is fetched.
const SIDECAR_GUESS: u64 = 64 << 10;

/// An original under one reader's eyes.
#[derive(Clone, Debug)]
pub struct OpenOriginal {
    /// The content that its bytes are of; see [`Contents::corruption_count`].
    pub corruption_count: u64,
    /// What was read of it stays known while it is read.
    _known: Option<Arc<CacheFile>>,
}

/// All files' bytes.
#[derive(Debug)]
pub struct Contents {
    sidecars: Arc<Sidecars>,
    tables: Arc<Tables>,
    workshop: Workshop,
    data: DataClient,
    store: Store,
    drawn: Arc<Drawn>,
    files: Files,
    corrupt_files: Arc<CorruptFiles>,
    request_stats: Arc<RequestStats>,
    entries: Entries,
    data_folder: Option<DataFolder>,
    download_options: DownloadOptions,
}

impl Contents {
    /// The bytes that `meta` and `data` deliver, kept in `store`. Landing
    /// pages are believed for `ttl`. The portal's own files, if there are any
    /// in a `data_folder`, come before all others.
    #[must_use]
    pub fn new(
        meta: MetadataClient,
        data: DataClient,
        store: Store,
        ttl: Duration,
        data_folder: Option<DataFolder>,
    ) -> Self {
        let sidecars = Arc::new(Sidecars::new(meta, ttl));
        let tables = Tables::new(data.clone(), store.clone(), data_folder.clone());
        let tables = Arc::new(tables);
        Self {
            workshop: Workshop::new(
                Arc::clone(&tables),
                Abouts::new(Arc::clone(&sidecars)),
                store.clone(),
            ),
            sidecars,
            tables,
            data,
            drawn: Arc::new(Drawn::new(store.memory().text_limit())),
            store,
            files: Files::default(),
            corrupt_files: Arc::default(),
            request_stats: Arc::default(),
            entries: Entries::default(),
            data_folder,
            download_options: DownloadOptions::default(),
        }
    }

    /// Sets how originals are downloaded.
    #[must_use]
    pub fn with_download_options(self, download_options: DownloadOptions) -> Self {
        Self {
            download_options,
            ..self
        }
    }

    /// What can be said at once about the length of `object` as
    /// `representation`. Of a table that cannot be drawn it is an estimate of
    /// 0; a read will explain why.
    #[must_use]
    pub fn size(&self, object: &Arc<Object>, representation: Representation) -> FileSize {
        let known = match representation {
            Representation::Original => Some(object.size()),
            Representation::Json => (self.sidecars)
                .at_hand(&Subject::Object(object.id()))
                .map(|json| json.len() as u64),
            Representation::Csv => self.csv_length(object),
            Representation::Parquet => match self.files.get(object.id(), representation) {
                Some(Content::Parquet(file)) => file.size(),
                _ => None,
            },
            Representation::Cpb => self.tables.cpb_len(object),
        };
        let guess = || match representation {
            Representation::Json => SIDECAR_GUESS,
            Representation::Csv => self.tables.csv_bound(object),
            // Rarely more than its columns, which it holds compressed.
            Representation::Parquet => self.tables.cpb_len(object).unwrap_or(0),
            Representation::Original | Representation::Cpb => 0,
        };
        known.map_or_else(|| FileSize::Estimate(guess()), FileSize::Exact)
    }

    /// The exact length, once it is known: may fetch or draw the whole file.
    pub async fn exact_size(
        &self,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Result<u64, ContentError> {
        match representation {
            Representation::Original => Ok(object.size()),
            Representation::Json => Ok(self
                .sidecars
                .get(&Subject::Object(object.id()))
                .await?
                .len() as u64),
            Representation::Csv => self.csv(object).await?.exact_size().await,
            Representation::Parquet => self.parquet(object)?.exact_size().await,
            Representation::Cpb => Ok(self.cpb(object).await?.file_len()),
        }
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end. An
    /// original is read to the end under one [`Contents::corruption_count`], or not.
    pub async fn read(
        &self,
        object: &Arc<Object>,
        representation: Representation,
        corruption_count: u64,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let range = offset..offset.saturating_add(len as u64);
        match representation {
            Representation::Original => {
                if let Some(direct) = self.direct(object).await
                    && let Some(bytes) = direct.read(range).await
                {
                    return Ok(bytes);
                }
                self.original(object)?
                    .read(corruption_count, offset, len)
                    .await
            }
            Representation::Json => {
                let json = self.sidecars.get(&Subject::Object(object.id())).await?;
                let from = usize::try_from(offset).map_or(json.len(), |at| at.min(json.len()));
                Ok(json.slice(from..json.len().min(from.saturating_add(len))))
            }
            Representation::Csv => self.csv(object).await?.read(offset, len).await,
            Representation::Parquet => self.parquet(object)?.read(offset, len).await,
            Representation::Cpb => self.cpb(object).await?.read(range).await,
        }
    }

    /// Lets go of the state of files that nobody has used for `idle`, and that
    /// nobody has open as far as `in_use` knows: descriptors, and room in the
    /// cache. May block for a moment, to close them.
    pub fn release_idle(&self, idle: Duration, in_use: impl Fn(FileId) -> bool) -> ReleasedFiles {
        let mut rested = self.files.rest(idle, in_use);
        rested.more |= self.entries.rest(idle);
        rested
    }

    /// Lets go of buffers that nobody uses just now.
    pub fn release_buffers(&self) {
        self.store.memory().trim();
    }

    /// How often the original of `object` turned out wrong so far: bytes read
    /// under different numbers are not of one content.
    #[must_use]
    pub fn corruption_count(&self, object: ObjectId) -> u64 {
        self.corrupt_files.count(object)
    }

    /// The epoch that bytes of the original of `object` are of, if they come
    /// from the cache, and whether they have proved themselves.
    #[must_use]
    pub fn cached_epoch(&self, object: &Arc<Object>) -> Option<(Epoch, bool)> {
        let file = self.cached_original(object)?;
        Some((file.cached_file().epoch(), file.cached_file().is_verified()))
    }

    /// An original that someone is about to read.
    #[must_use]
    pub fn open_original(&self, object: &Arc<Object>) -> OpenOriginal {
        OpenOriginal {
            corruption_count: self.corruption_count(object.id()),
            _known: (self.cached_original(object)).map(|file| Arc::clone(file.cached_file())),
        }
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
            Representation::Parquet => self.parquet(object).ok()?.sealed_file(),
            Representation::Cpb if self.data_folder.is_none() => {
                let entry = self.store.open_sealed(&cpb_place(object).ok()?)?;
                (Some(entry.len()) == self.tables.cpb_len(object))
                    .then(|| entry.sealed_file())
                    .flatten()
            }
            Representation::Cpb | Representation::Csv | Representation::Json => None,
        }
    }

    /// The original as the portal itself has it on its disk.
    async fn direct(&self, object: &Object) -> Option<Arc<DirectFile>> {
        let folder = self.data_folder.as_ref()?;
        match self.files.get(object.id(), Representation::Original) {
            Some(Content::Direct(file)) => return Some(file),
            Some(_) => return None,
            None => {}
        }
        let place = place(object).ok()?;
        let file = folder.find(object.id(), &place, object.size()).await?;
        let content = Content::Direct(file);
        match self
            .files
            .keep(object.id(), Representation::Original, content)
        {
            Content::Direct(file) => Some(file),
            _ => None,
        }
    }

    /// The original in the cache, unless the portal's own disk comes first.
    fn cached_original(&self, object: &Arc<Object>) -> Option<Arc<OriginalFile>> {
        if self.data_folder.is_some() {
            return None;
        }
        self.original(object).ok()
    }

    fn original(&self, object: &Arc<Object>) -> Result<Arc<OriginalFile>, ContentError> {
        let (id, representation) = (object.id(), Representation::Original);
        if let Some(Content::Original(file)) = self.files.get(id, representation) {
            return Ok(file);
        }
        let entry = self.store.file(&place(object)?, object.size());
        let (data, memory) = (self.data.clone(), self.store.memory().clone());
        let (corrupt_files, request_stats) = (
            Arc::clone(&self.corrupt_files),
            Arc::clone(&self.request_stats),
        );
        let file = Arc::new(OriginalFile::new(
            id,
            entry,
            data,
            memory,
            self.download_options,
            corrupt_files,
            request_stats,
        ));
        let kept = self
            .files
            .keep(id, representation, Content::Original(Arc::clone(&file)));
        if let Content::Original(first) = kept {
            return Ok(first);
        }
        // In place of the portal's own, which could not be read.
        let original = Content::Original(Arc::clone(&file));
        self.files.replace(id, representation, original);
        Ok(file)
    }

    /// The length of a CSV that was drawn, or fetched, at any time.
    fn csv_length(&self, object: &Object) -> Option<u64> {
        if let Some(Content::Csv(csv)) = self.files.get(object.id(), Representation::Csv) {
            return csv.size();
        }
        let sizes = self.store.sizes();
        let drawn = self.tables.text_key(object).and_then(|key| sizes.get(key));
        drawn.or_else(|| sizes.get(kept::portal_key(object.id())))
    }

    async fn csv(&self, object: &Arc<Object>) -> Result<Csv, ContentError> {
        let (id, representation) = (object.id(), Representation::Csv);
        if let Some(Content::Csv(csv)) = self.files.get(id, representation) {
            return Ok(csv);
        }
        let csv = match self.tables.open(object).await {
            Ok(columns) => {
                let (drawn, store) = (Arc::clone(&self.drawn), self.store.clone());
                Csv::Drawn(Arc::new(CsvFile::open(columns, drawn, store).await?))
            }
            Err(ContentError::Table(error)) if error.portal_may_serve_csv() => {
                tracing::info!(%id, %error, "taking the portal's own CSV");
                let (store, data) = (self.store.clone(), self.data.clone());
                Csv::Portal(Arc::new(PortalCsv::new(id, error, store, data)?))
            }
            Err(error) => return Err(error),
        };
        match self
            .files
            .keep(id, representation, Content::Csv(csv.clone()))
        {
            Content::Csv(first) => Ok(first),
            _ => Ok(csv),
        }
    }

    fn parquet(&self, object: &Arc<Object>) -> Result<Arc<ParquetFile>, ContentError> {
        let (id, representation) = (object.id(), Representation::Parquet);
        if let Some(Content::Parquet(file)) = self.files.get(id, representation) {
            return Ok(file);
        }
        let file = ParquetFile::new(Arc::clone(object), self.workshop.clone())?;
        let file = Arc::new(file);
        match self
            .files
            .keep(id, representation, Content::Parquet(Arc::clone(&file)))
        {
            Content::Parquet(first) => Ok(first),
            _ => Ok(file),
        }
    }

    async fn cpb(&self, object: &Arc<Object>) -> Result<Arc<Columns>, ContentError> {
        let (id, representation) = (object.id(), Representation::Cpb);
        if let Some(Content::Cpb(columns)) = self.files.get(id, representation) {
            return Ok(columns);
        }
        let columns = self.tables.open(object).await?;
        match self
            .files
            .keep(id, representation, Content::Cpb(Arc::clone(&columns)))
        {
            Content::Cpb(first) => Ok(first),
            _ => Ok(columns),
        }
    }
}

/// Where the portal, and the cache, keep an original.
fn place(object: &Object) -> Result<CachePath, CacheError> {
    let folder = object
        .spec()
        .map_or(CachePath::DOCUMENTS, |spec| spec.format());
    CachePath::new(folder, &object.id().to_string())
}
