//! Landing pages as JSON, and what they say about tables: units, flags, origin.
//!
//! A page is cached in memory for the metadata TTL, byte for byte as the portal
//! sent it; the least recently used pages give way when all of them take more
//! bytes than they may. Concurrent requests for one page share one download.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::last_sizes::ChangingFile;
use super::{ByteSource, ContentError, Contents, FileSize};
use crate::cache::Store;
use crate::memory::SizedLru;
use icos_portal::landing::{ColumnInfo, Landing, Resource};
use icos_portal::meta::Subject;
use icos_portal::{MetadataClient, ObjectId, PortalError};
use icos_sync::SingleFlight;
use icos_table::schema::ColumnMetadata;
use icos_table::{Column, GoodFlags, ValueFormat};

/// The assumed length of a page that was never downloaded. Those of objects have ten
/// to a few hundred thousand bytes, and programs that read no further than the size
/// that they were told would cut off a longer one.
const LANDING_PAGE_ESTIMATE: u64 = 1 << 20;

/// The landing pages of objects, collections and stations.
#[derive(Debug)]
pub(super) struct LandingPages {
    meta: MetadataClient,
    ttl: Duration,
    store: Store,
    /// The pages with the times of their downloads.
    pages: Arc<Mutex<SizedLru<Subject, (Bytes, Instant)>>>,
    flights: SingleFlight<Subject, Result<Bytes, PortalError>>,
}

impl LandingPages {
    /// The pages that `meta` delivers, cached for `ttl` in as much memory as `store`
    /// has for them. Their sizes are recorded in `store`.
    pub(super) fn new(meta: MetadataClient, ttl: Duration, store: Store) -> Self {
        Self {
            meta,
            ttl,
            pages: Arc::new(Mutex::new(SizedLru::new(store.memory().page_limit()))),
            store,
            flights: SingleFlight::default(),
        }
    }

    /// The page about `subject`, if it is cached and younger than the TTL.
    pub(super) fn cached(&self, subject: &Subject) -> Option<Bytes> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages
            .get(subject)
            .filter(|(_, at)| at.elapsed() < self.ttl)
            .map(|(json, _)| json.clone())
    }

    /// The probable length of the page about `subject`: that of the last download, or
    /// else a length that few pages exceed.
    pub(super) fn estimate(&self, subject: &Subject) -> u64 {
        let last = ChangingFile::LandingPage(subject).last_size(self.store.sizes());
        last.unwrap_or(LANDING_PAGE_ESTIMATE)
    }

    /// The page about `subject`, downloaded unless it is cached.
    pub(super) async fn get(&self, subject: &Subject) -> Result<Bytes, PortalError> {
        if let Some(json) = self.cached(subject) {
            return Ok(json);
        }
        ByteSource::Portal.note();
        let (meta, pages) = (self.meta.clone(), Arc::clone(&self.pages));
        let (requested, store) = (subject.clone(), self.store.clone());
        self.flights
            .join(subject.clone(), || async move {
                let json = meta.landing_json(&requested).await?;
                // Its buffer may be longer.
                let json = Bytes::copy_from_slice(&json);
                let (page, bytes) = ((json.clone(), Instant::now()), json.len() as u64);
                ChangingFile::LandingPage(&requested).record_size(store.sizes(), bytes);
                let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
                pages.put(requested, page, bytes);
                drop(pages);
                // The caller does not wait for the disk.
                icos_sync::spawn_blocking(move || store.sizes().write());
                Ok(json)
            })
            .await
    }

    /// What the landing page of object `id` says about it. A page that cannot
    /// be parsed says nothing.
    pub(super) async fn object_info(&self, id: ObjectId) -> Result<ObjectInfo, ContentError> {
        let json = self.get(&Subject::Object(id)).await?;
        let page = Landing::parse(&json);
        if let Err(error) = &page {
            tracing::warn!(%id, %error, "cannot parse the landing page: units and origin of the table are unknown");
        }
        Ok(ObjectInfo(page.ok()))
    }
}

impl Contents {
    /// The length of the landing page about `subject`, without waiting.
    #[must_use]
    pub fn landing_page_size(&self, subject: &Subject) -> FileSize {
        match self.landing_pages.cached(subject) {
            Some(json) => FileSize::Exact(json.len() as u64),
            None => FileSize::Estimate(self.landing_pages.estimate(subject)),
        }
    }

    /// Forgets all landing pages, so that they are downloaded again.
    pub fn forget_landing_pages(&self) {
        let pages = self.landing_pages.pages.lock();
        pages.unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The landing page about `subject`, if it is cached.
    #[must_use]
    pub fn cached_landing_page(&self, subject: &Subject) -> Option<Bytes> {
        self.landing_pages.cached(subject)
    }

    /// The landing page about `subject`, byte for byte as the portal sends it.
    ///
    /// # Errors
    ///
    /// [`ContentError::Portal`] if the page must be downloaded and cannot be.
    pub async fn landing_page(&self, subject: &Subject) -> Result<Bytes, ContentError> {
        Ok(self.landing_pages.get(subject).await?)
    }
}

/// What a landing page says about a table; nothing if it could not be parsed.
#[derive(Debug)]
pub(super) struct ObjectInfo(Option<Landing>);

impl ObjectInfo {
    /// `columns` with units and descriptions.
    pub(super) fn describe(&self, columns: &[Column]) -> Vec<Column> {
        let infos = self.0.as_ref().map_or(&[][..], Landing::columns);
        let by_label: HashMap<&str, &ColumnInfo> =
            infos.iter().map(|info| (&*info.label, info)).collect();
        columns
            .iter()
            .map(|column| {
                let info = by_label.get(&*column.label);
                let mut metadata =
                    info.map_or_else(ColumnMetadata::default, |info| column_info(info));
                if column.format.is_local_time() {
                    // The portal's says "time instant, UTC", as of all times.
                    metadata.description = Some(ValueFormat::LOCAL_TIME.to_owned());
                }
                Column {
                    metadata,
                    ..column.clone()
                }
            })
            .collect()
    }

    /// Key-value metadata for the head of an exported file.
    pub(super) fn file_metadata(&self) -> Vec<(String, String)> {
        let Some(page) = &self.0 else {
            return Vec::new();
        };
        let references = page.references.as_ref();
        let licence = references.and_then(|references| references.licence.as_ref());
        [
            ("pid", page.pid.clone()),
            ("doi", page.doi.clone()),
            ("file_name", Some(page.file_name.clone())),
            ("sha256", Some(page.hash.clone())),
            (
                "citation",
                references.and_then(|references| references.citation_string.clone()),
            ),
            ("licence", licence.and_then(|licence| licence.url.clone())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }

    /// The quality flags that mark good values.
    pub(super) fn good_flags(&self) -> GoodFlags {
        GoodFlags::new(self.0.as_ref().map_or(&[][..], Landing::good_flags))
    }
}

fn column_info(info: &ColumnInfo) -> ColumnMetadata {
    let label = |resource: &Option<Resource>| resource.as_ref().and_then(|r| r.label.clone());
    let value = info.value_type.as_ref();
    ColumnMetadata {
        model: info.model.as_ref().map(|model| model.uri.clone()),
        unit: value.and_then(|value| value.unit.clone()),
        description: value.and_then(|value| label(&value.resource)),
        quantity: value.and_then(|value| label(&value.quantity_kind)),
        is_flag_for: info.is_flag_for.clone(),
    }
}
