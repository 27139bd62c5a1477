//! Whether a file can be read without a request to the portal.

use super::archive_files::entry_path;
use super::built_views::BuiltView;
use super::netcdf::{self, NetCdfValues};
use super::tables::cpb_path;
use super::{Contents, original_path};
use crate::cache::CachePath;
use crate::catalog::{Object, Representation};
use icos_portal::ObjectId;
use icos_portal::archive::ArchiveEntry;
use icos_portal::meta::Subject;

impl Contents {
    /// Whether the complete file is in the cache, so that reading it causes no request.
    pub async fn is_local(&self, object: &Object, representation: Representation) -> bool {
        let cpb = || cpb_path(object).ok();
        let view = |folder, ending: &str| {
            CachePath::new(folder, &format!("{}.{ending}", object.id())).ok()
        };
        match representation {
            // Reads of the portal's own files are reported to the portal.
            Representation::Original => {
                self.data_folder.is_none() && self.is_sealed(original_path(object).ok()).await
            }
            Representation::Cpb => self.is_sealed(cpb()).await,
            Representation::Csv => {
                self.is_sealed(cpb()).await || self.is_sealed(view(CachePath::CSV, "csv")).await
            }
            Representation::Parquet | Representation::GoodParquet | Representation::GoodCsv => {
                let ending = BuiltView::of(representation).map_or("", BuiltView::ending);
                self.is_sealed(view(CachePath::VIEWS, ending)).await
            }
            // Which flags are good is on the landing page.
            Representation::GoodNetCdf => {
                self.is_sealed(cpb()).await && self.is_local_page(&Subject::Object(object.id()))
            }
            Representation::NetCdf => {
                let header = (self.tables.columns_key(object))
                    .and_then(|key| netcdf::header_path(object.id(), key, NetCdfValues::All).ok());
                self.is_sealed(cpb()).await && self.is_sealed(header).await
            }
            Representation::Json => self.is_local_page(&Subject::Object(object.id())),
        }
    }

    /// The same for a landing page.
    #[must_use]
    pub fn is_local_page(&self, subject: &Subject) -> bool {
        self.landing_pages.cached(subject).is_some()
    }

    /// The same for a file in an archive.
    pub async fn is_local_entry(&self, archive: ObjectId, entry: &ArchiveEntry) -> bool {
        self.is_sealed(entry_path(archive, entry).ok()).await
    }

    async fn is_sealed(&self, path: Option<CachePath>) -> bool {
        let Some(path) = path else {
            return false;
        };
        let store = self.store.clone();
        let found = move || store.open_sealed(&path).is_some();
        self.store.disk().run(found).await.unwrap_or(false)
    }
}
