//! The bytes of a file at any offset: originals, tables as CSV, Parquet, NetCDF or
//! `.cpb`, landing pages, files in archives.
//!
//! This module brings the portal, the cache and the table formats together. It does
//! not know names, inodes or the kernel. `Contents::read` dispatches on the
//! representation, `Contents::read_archive_file` reads entries of archives:
//!
//! ```text
//! Original  PortalFile (the portal's own disk, where mounted)
//!           or OriginalFile -> planner -> download -> CacheFile
//! Cpb       Columns -> TableFile (PortalFile or CacheFile)
//! Csv       CsvFile -> RenderedText in memory, else render <- Columns
//!           or CompleteFile, for tables that only the portal can write
//! Parquet, GoodCsv, GoodParquet
//!           CompleteFile, built once <- Columns
//! NetCdf, GoodNetCdf
//!           NetCdfFile: header built once into a CompleteFile, cells <- Columns
//! Json      LandingPages, in memory
//! archive   ArchiveFile -> CacheFile, downloaded completely
//! ```
//!
//! - A read returns bytes from the cache, or waits until they are downloaded into
//!   the cache. Concurrent readers of a byte share one download.
//! - `OpenFiles` keeps the state of each file while it is in use: `Columns`, row
//!   indexes, downloads. The planner decides what an original downloads.
//! - With a shared cache, `sharing` looks there before it sends a request.
//! - The cache verifies the checksum of each block that it reads from the disk.
//!   Originals are also verified against the hash in their id.
//!
//! No lock of this module is held while a request or a rendering is under way.
//! `docs/design.md` lists which locks are taken under others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use crate::cache::{BackingFile, DirectFile, Epoch};
use crate::cache::{CacheError, CacheFile, CachePath, Store};
use crate::catalog::{FileId, Object, Representation};
use crate::cluster::SharedCache;
use icos_portal::meta::Subject;
use icos_portal::{DataClient, MetadataClient, ObjectId};

mod archive_files;
mod block_writer;
mod built_views;
mod byte_source;
mod columns;
mod complete_file;
mod csv;
mod csv_check;
mod csv_headers;
mod error;
mod export;
mod idle_lru;
mod landing_pages;
mod last_sizes;
mod local;
mod netcdf;
mod open;
mod open_files;
mod original;
mod planner;
mod portal_csv;
mod portal_files;
mod request_stats;
mod row_index_store;
mod shared_download;
mod sharing;
mod table_descriptions;
mod table_file;
mod table_files;
mod tables;
pub(crate) mod times;
mod usage_log;

pub use byte_source::{ByteSource, track_source};
pub use error::ContentError;
pub use export::{ExportError, ExportFormat, ExportProgress, ExportStage, RowSelection};
pub use open::{OpenedContent, OriginalHandle};
pub use open_files::ReleasedFiles;
pub use planner::DownloadOptions;
pub use portal_files::DataFolder;
pub use sharing::Sharing;
pub use times::{RowTimes, TimesError};

use archive_files::ArchiveFiles;
use built_views::{BuiltView, ViewBuilder};
use csv::RenderedText;
use landing_pages::LandingPages;
use netcdf::NetCdfOpener;
use open_files::{OpenFileState, OpenFiles};
use original::{CorruptFiles, OriginalFile};
use portal_files::PortalFile;
use request_stats::RequestStats;
use sharing::DataSource;
use tables::Tables;

/// The length of a file, as far as it is known without waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileSize {
    /// The exact length, valid for ever or for the metadata TTL.
    Exact(u64),
    /// The exact length is not known yet. This is an upper bound where there is one,
    /// otherwise an estimate.
    Estimate(u64),
}

/// The bytes of all files.
#[derive(Debug)]
pub struct Contents {
    landing_pages: Arc<LandingPages>,
    tables: Arc<Tables>,
    view_builder: ViewBuilder,
    netcdf_opener: NetCdfOpener,
    data: DataClient,
    sharing: Option<Arc<Sharing>>,
    store: Store,
    text_cache: Arc<RenderedText>,
    files: OpenFiles,
    corrupt_files: Arc<CorruptFiles>,
    request_stats: Arc<RequestStats>,
    archive_files: ArchiveFiles,
    data_folder: Option<DataFolder>,
    download_options: DownloadOptions,
}

impl Contents {
    /// Reads what `meta` and `data` deliver, cached in `store`. Landing pages are cached
    /// for `ttl`. The portal's own files in `data_folder`, if given, are read in
    /// preference to all others. With `sharing`, what other machines have downloaded is
    /// read, and what this one downloads is shared.
    #[must_use]
    pub fn new(
        meta: MetadataClient,
        data: DataClient,
        store: Store,
        ttl: Duration,
        data_folder: Option<DataFolder>,
        sharing: Option<Arc<Sharing>>,
    ) -> Self {
        let landing_pages = LandingPages::new(meta, ttl, store.clone());
        let landing_pages = Arc::new(landing_pages);
        let source = DataSource::new(data.clone(), sharing.clone());
        let tables = Tables::new(source, store.clone(), data_folder.clone());
        let tables = Arc::new(tables);
        Self {
            view_builder: ViewBuilder::new(
                Arc::clone(&tables),
                Arc::clone(&landing_pages),
                store.clone(),
            ),
            netcdf_opener: NetCdfOpener::new(
                Arc::clone(&tables),
                Arc::clone(&landing_pages),
                store.clone(),
            ),
            landing_pages,
            tables,
            data,
            sharing,
            text_cache: Arc::new(RenderedText::new(store.memory().text_limit())),
            store,
            files: OpenFiles::default(),
            corrupt_files: Arc::default(),
            request_stats: Arc::default(),
            archive_files: ArchiveFiles::default(),
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

    /// The cache that is shared with other machines, if there is one.
    #[must_use]
    pub fn shared_cache(&self) -> Option<&SharedCache> {
        Some(self.sharing.as_ref()?.cache())
    }

    /// Waits until what was downloaded is in the shared cache, if there is one, at most
    /// `limit`; and the sizes that were found out, at most once more.
    pub async fn flush_shared(&self, limit: Duration) {
        if let Some(sharing) = &self.sharing {
            let publish = sharing.publish_sizes(&self.store);
            let _ = tokio::time::timeout(limit, publish).await;
            sharing.cache().flush(limit).await;
        }
    }

    /// Exchanges sizes of files with other machines for as long as the process runs, if
    /// there is a shared cache.
    pub fn exchange_sizes(&self) -> impl Future<Output = ()> + Send + use<> {
        let (sharing, store) = (self.sharing.clone(), self.store.clone());
        async move {
            if let Some(sharing) = sharing {
                sharing.exchange_sizes_regularly(store).await;
            }
        }
    }

    /// The length of `object` as `representation`, without waiting. For a table that
    /// cannot be rendered it is an estimate of 0; a read returns the reason.
    #[must_use]
    pub fn size(&self, object: &Arc<Object>, representation: Representation) -> FileSize {
        let known = match representation {
            Representation::Original => Some(object.size()),
            Representation::Json => (self.landing_pages)
                .cached(&Subject::Object(object.id()))
                .map(|json| json.len() as u64),
            Representation::Csv => self.csv_length(object),
            Representation::Parquet | Representation::GoodParquet | Representation::GoodCsv => {
                let open = self.files.table(file_id(object, representation));
                open.and_then(|file| file.size())
            }
            Representation::Cpb => self.tables.cpb_len(object),
            Representation::NetCdf | Representation::GoodNetCdf => self.tables.netcdf_len(object),
        };
        let estimate = || match representation {
            Representation::Json => self.landing_pages.estimate(&Subject::Object(object.id())),
            Representation::Csv => self.tables.csv_bound(object),
            Representation::Parquet => self
                .last_size(object, BuiltView::Parquet)
                .unwrap_or_else(|| self.tables.parquet_bound(object)),
            Representation::GoodParquet => self
                .last_size(object, BuiltView::GoodParquet)
                .unwrap_or_else(|| self.tables.parquet_bound(object)),
            Representation::GoodCsv => self
                .last_size(object, BuiltView::GoodCsv)
                .unwrap_or_else(|| self.tables.csv_bound(object)),
            Representation::Original
            | Representation::Cpb
            | Representation::NetCdf
            | Representation::GoodNetCdf => 0,
        };
        known.map_or_else(|| FileSize::Estimate(estimate()), FileSize::Exact)
    }

    /// The exact length. May download or render the complete file.
    ///
    /// # Errors
    ///
    /// As for [`Contents::read`].
    pub async fn exact_size(
        &self,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Result<u64, ContentError> {
        match representation {
            Representation::Original => Ok(object.size()),
            Representation::Json => {
                let json = self.landing_page(&Subject::Object(object.id())).await?;
                Ok(json.len() as u64)
            }
            _ => self.table(object, representation).await?.exact_size().await,
        }
    }

    /// Reads at most `len` bytes from `offset`; fewer only at the end of the file.
    ///
    /// `corruption_count` is that of the [`OriginalHandle`], and ignored for other
    /// representations: once the original was found corrupt after it was opened, reads
    /// fail, so that a reader never gets bytes of two epochs.
    ///
    /// # Errors
    ///
    /// [`ContentError`]; [`ContentError::WrongHash`] for a corrupt original.
    pub async fn read(
        &self,
        object: &Arc<Object>,
        representation: Representation,
        corruption_count: u64,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        match representation {
            Representation::Original => {
                if let Some(portal_file) = self.portal_file(object).await
                    && let Some(bytes) = portal_file
                        .read(offset..offset.saturating_add(len as u64))
                        .await
                {
                    return Ok(bytes);
                }
                let original = self.original(object).await?;
                original.read(corruption_count, offset, len).await
            }
            Representation::Json => {
                let json = self.landing_page(&Subject::Object(object.id())).await?;
                let from = usize::try_from(offset).map_or(json.len(), |at| at.min(json.len()));
                Ok(json.slice(from..json.len().min(from.saturating_add(len))))
            }
            _ => {
                let table = self.table(object, representation).await?;
                table.read(offset, len).await
            }
        }
    }

    /// Releases the state of files that have been idle for `idle` and are not open
    /// according to `in_use`: descriptors, and space in the cache. May block shortly on
    /// disk I/O.
    pub fn release_idle(&self, idle: Duration, in_use: impl Fn(FileId) -> bool) -> ReleasedFiles {
        let mut released = self.files.release_idle(idle, in_use);
        released.more |= self.archive_files.release_idle(idle);
        released
    }

    /// Releases buffers that are not in use.
    pub fn release_buffers(&self) {
        self.store.memory().trim();
    }

    /// How many times the original of `object` was found corrupt. Bytes read under
    /// different counts may be of different epochs.
    #[must_use]
    pub fn corruption_count(&self, object: ObjectId) -> u64 {
        self.corrupt_files.count(object)
    }

    /// The epoch of the cached bytes of the original of `object`, and whether they are
    /// verified. `None` if the original is not open, or if reads bypass the cache.
    #[must_use]
    pub fn cached_epoch(&self, object: &Arc<Object>) -> Option<(Epoch, bool)> {
        let id = file_id(object, Representation::Original);
        let Some(OpenFileState::Original(file)) = self.files.get(id) else {
            return None;
        };
        Some((file.cached_file().epoch(), file.cached_file().is_verified()))
    }

    /// The original on the portal's own disk.
    async fn portal_file(&self, object: &Object) -> Option<Arc<PortalFile>> {
        let folder = self.data_folder.as_ref()?;
        let id = file_id(object, Representation::Original);
        let state = if let Some(state) = self.files.get(id) {
            state
        } else {
            let path = original_path(object).ok()?;
            let file = folder.find(object.id(), &path, object.size()).await?;
            self.files
                .get_or_insert(id, OpenFileState::PortalFile(file))
        };
        match state {
            OpenFileState::PortalFile(file) => Some(file),
            OpenFileState::Original(_) | OpenFileState::Table(_) => None,
        }
    }

    /// The original in the cache.
    async fn original(&self, object: &Arc<Object>) -> Result<Arc<OriginalFile>, ContentError> {
        let id = file_id(object, Representation::Original);
        if let Some(OpenFileState::Original(file)) = self.files.get(id) {
            return Ok(file);
        }
        let path = original_path(object)?;
        let cached = self.store.open_file(&path, object.size()).await?;
        Ok(self.insert_original(object, cached))
    }

    /// Returns the state of an original whose file in the cache is `cached`.
    fn insert_original(&self, object: &Object, cached: Arc<CacheFile>) -> Arc<OriginalFile> {
        let id = file_id(object, Representation::Original);
        if let Some(OpenFileState::Original(file)) = self.files.get(id) {
            return file;
        }
        let file = Arc::new(OriginalFile::new(
            object.id(),
            cached,
            DataSource::new(self.data.clone(), self.sharing.clone()),
            self.store.memory().clone(),
            self.download_options,
            Arc::clone(&self.corrupt_files),
            Arc::clone(&self.request_stats),
        ));
        let state = OpenFileState::Original(Arc::clone(&file));
        if let OpenFileState::Original(first) = self.files.get_or_insert(id, state.clone()) {
            return first;
        }
        // The state is that of the portal's own file, which cannot be read.
        self.files.replace(id, state);
        file
    }
}

fn file_id(object: &Object, representation: Representation) -> FileId {
    FileId {
        object: object.id(),
        representation,
    }
}

/// The path of an original, at the portal and in the cache.
fn original_path(object: &Object) -> Result<CachePath, CacheError> {
    let folder = object
        .spec()
        .map_or(CachePath::DOCUMENTS, |spec| spec.format());
    CachePath::new(folder, &object.id().to_string())
}
