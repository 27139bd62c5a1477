//! Decides when to query the portal.
//!
//! A reader waits for a list that was never downloaded. An old list is served as
//! it is and refreshed in the background. A list of one station or one collection
//! is a narrow query; after several narrow queries the complete list is
//! downloaded instead, which costs less.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use icos_files::SafePath;

use super::{Catalog, CatalogError, CatalogList};
use icos_sync::run_blocking;

/// Data types and stations change rarely.
const VOCABULARY_TTL: Duration = Duration::from_hours(1);
/// Limit of narrow queries within [`NARROW_PERIOD`]; more cost as much as the
/// complete list.
const MAX_NARROW: usize = 3;
const NARROW_PERIOD: Duration = Duration::from_mins(10);
/// How long to wait for another mount's download.
const LOCK_TIMEOUT: Duration = Duration::from_mins(1);

/// Progress of the download of all objects, for readers of the list.
#[derive(Clone, Debug, Default)]
pub(super) struct ListProgress {
    pub(super) active: bool,
    pub(super) pages: u64,
    /// The error, if the last download failed.
    pub(super) failed: Option<CatalogError>,
}

/// Times of the recent narrow queries.
#[derive(Debug, Default)]
pub(super) struct NarrowQueries(Vec<Instant>);

impl NarrowQueries {
    /// Registers a narrow query; returns whether it is within the limit.
    fn admit(&mut self) -> bool {
        self.0.retain(|at| at.elapsed() <= NARROW_PERIOD);
        let admitted = self.0.len() < MAX_NARROW;
        if admitted {
            self.0.push(Instant::now());
        }
        admitted
    }
}

impl Catalog {
    /// Ensures that `list` can be read: downloads it if it was never downloaded, and
    /// starts a refresh if it is old. The list of all objects can be read as soon
    /// as its first page is stored.
    ///
    /// # Errors
    ///
    /// The error of the download, if nothing of the list is stored.
    pub async fn ensure(&self, list: CatalogList) -> Result<(), CatalogError> {
        if list != CatalogList::Vocabulary {
            // All other lists refer to it.
            Box::pin(self.ensure(CatalogList::Vocabulary)).await?;
        }
        let age = self.0.age(list)?;
        let Some(age) = age else {
            return match self.download_first(list).await {
                Err(error) if self.0.has_part_of(list)? => {
                    tracing::warn!(%error, "a list could not be downloaded; serving the stored part");
                    Ok(())
                }
                other => other,
            };
        };
        let ttl = match list {
            CatalogList::Vocabulary | CatalogList::Texts => self.0.ttl.max(VOCABULARY_TTL),
            _ => self.0.ttl,
        };
        if age < ttl {
            return Ok(());
        }
        let refreshing = self.clone();
        let refresh = async move {
            if let Err(error) = refreshing.refresh(list).await {
                tracing::warn!(%error, "a list could not be refreshed");
            }
        };
        if self.0.ttl.is_zero() {
            // A TTL of zero means that callers do not accept old lists.
            refresh.await;
        } else {
            icos_sync::spawn_task(refresh);
        }
        Ok(())
    }

    /// As [`Catalog::ensure`], but waits until the list is complete. Needed to
    /// decide that an object does not exist.
    pub async fn ensure_complete(&self, list: CatalogList) -> Result<(), CatalogError> {
        self.ensure(list).await?;
        while self.0.progress.borrow().active {
            self.wait_for_growth().await?;
        }
        Ok(())
    }

    /// Downloads all lists again that are stored.
    ///
    /// # Errors
    ///
    /// The error of the first download that fails.
    pub async fn refresh_stored(&self) -> Result<(), CatalogError> {
        self.0.meta.expect_new_answers();
        let is_stored = |list| Ok::<_, CatalogError>(self.0.download_time(list)?.is_some());
        for list in [
            CatalogList::Vocabulary,
            CatalogList::Objects,
            CatalogList::Documents,
            CatalogList::Collections,
            CatalogList::Texts,
        ] {
            if is_stored(list)? {
                self.refresh(list).await?;
            }
        }
        if !is_stored(CatalogList::Objects)? {
            for station in self.vocabulary().stations() {
                if is_stored(station.list())? {
                    self.refresh(station.list()).await?;
                }
            }
        }
        for id in self.0.collection_ids()? {
            if is_stored(CatalogList::Members(id))? {
                return self.download_all_members().await;
            }
        }
        Ok(())
    }

    /// Downloads a list for the first time, or a larger list that contains it.
    async fn download_first(&self, list: CatalogList) -> Result<(), CatalogError> {
        if list.is_narrow() && !self.0.cached.lock().narrow.admit() {
            if matches!(list, CatalogList::Station(_)) {
                return self.refresh(CatalogList::Objects).await;
            }
            self.refresh(CatalogList::Collections).await?;
            return self.download_all_members().await;
        }
        if list != CatalogList::Objects {
            return self.refresh(list).await;
        }
        let mut progress = self.0.progress.subscribe();
        progress.mark_unchanged();
        let complete = self.refresh(list);
        let first = progress.wait_for(|progress| progress.active && progress.pages > 0);
        tokio::select! {
            result = complete => result,
            _ = first => Ok(()),
        }
    }

    /// Downloads a list; concurrent callers share one download.
    async fn refresh(&self, list: CatalogList) -> Result<(), CatalogError> {
        let catalog = self.clone();
        self.0
            .syncs
            .join(list, || async move {
                let started = Instant::now();
                let before = catalog.0.download_time(list)?;
                let _lock = if list.is_narrow() {
                    None
                } else {
                    catalog.lock_downloads().await
                };
                if catalog.0.download_time(list)? != before {
                    // Another mount has downloaded the list in the meantime.
                    return catalog.0.reload();
                }
                let result = match list {
                    CatalogList::Vocabulary => catalog.download_vocabulary().await,
                    CatalogList::Objects => catalog.download_objects().await,
                    CatalogList::Station(key) => catalog.download_station(key).await,
                    CatalogList::Documents => catalog.download_documents().await,
                    CatalogList::Collections => catalog.download_collections().await,
                    CatalogList::Members(id) => catalog.download_members(Some(id)).await,
                    CatalogList::Texts => catalog.download_texts().await,
                };
                tracing::info!(?list, elapsed = ?started.elapsed(), ok = result.is_ok(), "downloaded a list");
                result
            })
            .await
    }

    /// Waits while another process downloads lists; `None` after a timeout.
    async fn lock_downloads(&self) -> Option<File> {
        let place = SafePath::resolve(&self.0.download_lock).ok()?;
        let (file, _) = place.folder.append(&place.name, 0o600).ok()?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if Instant::now() > deadline {
                tracing::warn!("another mount has been downloading lists for very long");
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(file)
    }

    /// Writes to the database on a thread that may block.
    pub(super) async fn write(
        &self,
        change: impl Fn(&rusqlite::Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), CatalogError> {
        let catalog = self.clone();
        run_blocking(move || catalog.0.db.write(change)).await
    }
}
