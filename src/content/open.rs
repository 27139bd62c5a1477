//! Opens files: finds the cache file that has the same bytes, which the kernel may
//! read directly, and notes which bytes of an original a handle may see.

use std::sync::Arc;

use super::built_views::BuiltView;
use super::open_files::TableContent;
use super::tables::cpb_path;
use super::{ContentError, Contents, file_id, original_path};
use crate::cache::{BackingFile, CacheFile, DirectFile};
use crate::catalog::{Object, Representation};

/// An open handle of an original.
#[derive(Clone, Debug)]
pub struct OriginalHandle {
    /// The count at open; see [`Contents::corruption_count`].
    pub corruption_count: u64,
    /// Keeps the state of the cache file while the handle is open.
    _cache_file: Option<Arc<CacheFile>>,
}

/// A file that was opened.
#[derive(Debug)]
pub struct OpenedContent {
    /// The handle, if the file is an original.
    pub original: Option<OriginalHandle>,
    /// Whether the kernel may read the bytes directly from the cache, and where.
    pub direct: DirectFile,
    /// The file in the cache that decides about the bytes: it has the same, or is the
    /// header of a NetCDF file.
    cached: Option<Arc<CacheFile>>,
}

impl OpenedContent {
    /// A number that identifies the bytes of a file that is built here: it changes when
    /// the file is built again. `None` if it was not built, or is not complete on the
    /// disk.
    #[must_use]
    pub fn build_number(&self) -> Option<u64> {
        self.cached.as_ref()?.stamp_number()
    }
}

impl Contents {
    /// Opens a file. If the kernel could read its bytes directly from the cache, but they
    /// were not verified yet, starts that.
    ///
    /// # Errors
    ///
    /// [`ContentError::Cache`] if the disk of the cache hangs.
    pub async fn open(
        self: &Arc<Self>,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Result<OpenedContent, ContentError> {
        let looks_at_disk = self.may_have_same_bytes(representation);
        let (contents, object) = (Arc::clone(self), Arc::clone(object));
        let open = move || {
            // First: corruption that is found from now on must affect this handle.
            let corruption_count = contents.corruption_count(object.id());
            let cached = contents.file_of_same_bytes(&object, representation);
            let direct = (cached.as_ref()).map_or(DirectFile::NotSealed, |file| file.direct_file());
            let built = cached.clone();
            let built = built.or_else(|| contents.netcdf_header(&object, representation));
            OpenedContent {
                original: (representation == Representation::Original).then(|| OriginalHandle {
                    corruption_count,
                    _cache_file: cached.clone(),
                }),
                direct,
                cached: built,
            }
        };
        let opened = if looks_at_disk {
            self.store.disk().run(open).await?
        } else {
            open()
        };
        if let (Some(cached), DirectFile::Unverified) = (&opened.cached, &opened.direct) {
            cached.verify_in_background();
        }
        Ok(opened)
    }

    /// Whether a file that the kernel reads directly still has the bytes that were verified;
    /// false if the disk of the cache hangs.
    pub async fn is_unchanged(&self, backing: &Arc<BackingFile>) -> bool {
        let backing = Arc::clone(backing);
        let look = move || backing.is_unchanged();
        self.store.disk().run(look).await.unwrap_or(false)
    }

    /// Opens a file that is built here, and builds it if it is not in the cache.
    ///
    /// # Errors
    ///
    /// [`ContentError`].
    pub async fn open_built(
        self: &Arc<Self>,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Result<OpenedContent, ContentError> {
        self.read(object, representation, 0, 0, 1).await?;
        self.open(object, representation).await
    }

    /// Whether reads of a file that is built here still have the bytes of the build that
    /// `opened` opened.
    ///
    /// # Errors
    ///
    /// [`ContentError::BuiltAgain`].
    pub fn check_build(
        &self,
        object: &Object,
        representation: Representation,
        opened: &OpenedContent,
    ) -> Result<(), ContentError> {
        let current = match self.files.table(file_id(object, representation)) {
            Some(TableContent::Complete(file)) => file.cached_file(),
            _ => self.netcdf_header(object, representation),
        };
        let is_same = match (&current, &opened.cached) {
            (Some(current), Some(opened)) => Arc::ptr_eq(current, opened),
            _ => false,
        };
        is_same.then_some(()).ok_or(ContentError::BuiltAgain)
    }

    /// The header of a table as NetCDF, if that is open and its header was built. Without
    /// it, the bytes are not decided yet.
    fn netcdf_header(
        &self,
        object: &Object,
        representation: Representation,
    ) -> Option<Arc<CacheFile>> {
        match self.files.table(file_id(object, representation))? {
            TableContent::NetCdf(file) => file.header_file(),
            TableContent::Complete(_) | TableContent::Csv(_) | TableContent::Cpb(_) => None,
        }
    }

    /// Whether a cache file may have exactly the bytes of a file: not those that are
    /// rendered or change, and not those of the portal's own disk.
    fn may_have_same_bytes(&self, representation: Representation) -> bool {
        match representation {
            Representation::Csv
            | Representation::Json
            | Representation::NetCdf
            | Representation::GoodNetCdf => false,
            Representation::Original | Representation::Cpb => self.data_folder.is_none(),
            Representation::Parquet | Representation::GoodParquet | Representation::GoodCsv => true,
        }
    }

    /// The cache file that has exactly the bytes of this file, if there is one. Blocks on
    /// the disk, unless [`Contents::may_have_same_bytes`] is false.
    fn file_of_same_bytes(
        &self,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Option<Arc<CacheFile>> {
        if !self.may_have_same_bytes(representation) {
            return None;
        }
        match representation {
            Representation::Original => {
                let path = original_path(object).ok()?;
                let cached = self.store.file(&path, object.size());
                Some(Arc::clone(
                    self.insert_original(object, cached).cached_file(),
                ))
            }
            Representation::Parquet | Representation::GoodParquet | Representation::GoodCsv => {
                let view = BuiltView::of(representation)?;
                let open = self.files.table(file_id(object, representation));
                match open.or_else(|| self.open_view(object, view).ok())? {
                    TableContent::Complete(file) => file.cached_file(),
                    TableContent::Csv(_) | TableContent::Cpb(_) | TableContent::NetCdf(_) => None,
                }
            }
            Representation::Cpb => {
                let cached = self.store.open_sealed(&cpb_path(object).ok()?)?;
                (Some(cached.len()) == self.tables.cpb_len(object)).then_some(cached)
            }
            Representation::Csv
            | Representation::Json
            | Representation::NetCdf
            | Representation::GoodNetCdf => None,
        }
    }
}
