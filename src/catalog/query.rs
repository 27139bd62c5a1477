//! Downloads lists from the portal, page by page, and stores them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::list_state::{SpecState, now};
use super::selection::ResolvedSelection;
use super::sync::ListProgress;
use super::{Catalog, CatalogError, CatalogList, write};
use icos_portal::lists::{Cursor, MemberRow, ObjectRow, ObjectScope, ResultPage, Versions};
use icos_portal::{MetadataClient, ObjectId, PortalError};

/// Refreshes start this much earlier, since a submission may be listed some time
/// after its completion.
const OVERLAP: Duration = Duration::from_hours(1);
/// Refreshes end this much later, since the local clock may be behind the
/// portal's.
const AHEAD: Duration = Duration::from_hours(24);
/// Objects of one query by id, which keeps the query below 64 KiB.
pub(super) const IDS_PER_QUERY: usize = 500;

/// Where a refresh ends that is made `now`: at a whole hour, so that machines that share
/// answers send the same query.
fn end_of_refresh(now: Timestamp) -> Timestamp {
    let hour = TimestampRound::new()
        .smallest(Unit::Hour)
        .mode(RoundMode::Ceil);
    let end = now.saturating_add(AHEAD);
    end.and_then(|end| end.round(hour))
        .unwrap_or(Timestamp::MAX)
}

impl Catalog {
    pub(super) async fn download_vocabulary(&self) -> Result<(), CatalogError> {
        let meta = &self.0.meta;
        let columns = meta.columns().await?;
        let specs = meta.specs().await?;
        let stations = meta.stations().await?;
        let state = CatalogList::Vocabulary.key(&self.0.resolved_selection());
        self.write(move |db| {
            write::vocabulary(db, &specs, &columns, &stations)?;
            write::set_state(db, &state, now())
        })
        .await?;
        self.0.reload()
    }

    /// Downloads the objects of data types that were never downloaded, and the new
    /// objects of the others.
    pub(super) async fn download_objects(&self) -> Result<(), CatalogError> {
        self.0.progress.send_replace(ListProgress {
            active: true,
            ..ListProgress::default()
        });
        let result = self.download_new_objects().await;
        self.0.progress.send_modify(|progress| {
            progress.active = false;
            progress.failed = result.as_ref().err().cloned();
        });
        result
    }

    async fn download_new_objects(&self) -> Result<(), CatalogError> {
        let selection = self.0.resolved_selection();
        let versions = self.0.selection.versions;
        let states = self.0.db.read(SpecState::all)?;
        let complete = states.iter().filter(|state| state.has(versions));
        let until: HashMap<i64, i64> = complete.map(|state| (state.spec, state.until)).collect();
        let specs = selection.specs();
        let (known, new): (Vec<_>, Vec<_>) = specs
            .map(|spec| (spec.key, spec.iri().to_owned()))
            .partition(|(key, _)| until.contains_key(key));
        if let Some(oldest) = known.iter().map(|(key, _)| until[key]).min() {
            self.newer_objects(oldest, &known).await?;
        }
        // A query without data types would return every object.
        if !new.is_empty() {
            self.objects_of(&new, Cursor::default(), versions, None)
                .await?;
        }
        self.0.reload()
    }

    /// Downloads the objects submitted since the last refresh, and the versions that
    /// they supersede.
    async fn newer_objects(&self, until: i64, specs: &[(i64, String)]) -> Result<(), CatalogError> {
        let since = Timestamp::from_millisecond(until)
            .and_then(|until| until.saturating_sub(OVERLAP))
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let before = end_of_refresh(Timestamp::now());
        // All versions: an object may have been submitted and superseded since
        // the last refresh.
        let start = Cursor::since(Some(since));
        self.objects_of(specs, start, Versions::All, Some(before))
            .await?;
        let successions = self.0.meta.successions(since, before).await?;
        self.write(move |db| write::successions(db, &successions))
            .await?;
        // Cached objects may have been superseded.
        self.0.cached.lock().objects.clear();
        Ok(())
    }

    /// Downloads a list of objects. `before` is set in a refresh.
    async fn objects_of(
        &self,
        specs: &[(i64, String)],
        start: Cursor,
        versions: Versions,
        before: Option<Timestamp>,
    ) -> Result<(), CatalogError> {
        let iris: Vec<&str> = specs.iter().map(|(_, iri)| iri.as_str()).collect();
        let scope = ObjectScope {
            specs: &iris,
            stations: &[],
            versions,
            before,
        };
        let request = |cursor| self.0.meta.objects(scope, cursor);
        let progress = || self.0.progress.send_modify(|progress| progress.pages += 1);
        let end = self.store_pages(start, request, progress).await?;
        let keys: Vec<i64> = specs.iter().map(|(key, _)| *key).collect();
        let of_selection = self.0.selection.versions;
        let versions = before.map_or(versions, |_| of_selection);
        self.write(move |db| write::specs_synced(db, &keys, versions, end.reached(), now()))
            .await
    }

    /// Downloads a list page by page from `cursor` on, and stores each page. Returns
    /// where the list ends.
    async fn store_pages<F>(
        &self,
        mut cursor: Cursor,
        request: impl Fn(Cursor) -> F,
        after_page: impl Fn(),
    ) -> Result<Cursor, CatalogError>
    where
        F: Future<Output = Result<ResultPage<ObjectRow>, PortalError>>,
    {
        loop {
            let page = request(cursor).await?;
            let before = cursor;
            cursor.advance(&page.rows);
            // A page without a valid row would be requested forever.
            let last = page.sent < MetadataClient::MAX_ROWS || cursor == before;
            self.write(move |db| write::objects(db, &page.rows)).await?;
            after_page();
            if last {
                return Ok(cursor);
            }
        }
    }

    pub(super) async fn download_station(&self, key: i64) -> Result<(), CatalogError> {
        let selection = self.0.resolved_selection();
        let Some(station) = selection.vocabulary.station(key) else {
            return Ok(());
        };
        let specs: Vec<&str> = selection.specs().map(|spec| spec.iri()).collect();
        if !specs.is_empty() {
            let scope = ObjectScope {
                specs: &specs,
                stations: &[station.iri()],
                versions: self.0.selection.versions,
                before: None,
            };
            let request = |cursor| self.0.meta.objects(scope, cursor);
            self.store_pages(Cursor::default(), request, || {}).await?;
        }
        self.record_download(CatalogList::Station(key), &selection)
            .await
    }

    pub(super) async fn download_documents(&self) -> Result<(), CatalogError> {
        let request = |cursor| self.0.meta.documents(None, cursor);
        self.store_pages(Cursor::default(), request, || {}).await?;
        self.record_download(CatalogList::Documents, &self.0.resolved_selection())
            .await
    }

    async fn record_download(
        &self,
        list: CatalogList,
        selection: &ResolvedSelection,
    ) -> Result<(), CatalogError> {
        let state = list.key(selection);
        self.write(move |db| write::set_state(db, &state, now()))
            .await
    }

    pub(super) async fn download_collections(&self) -> Result<(), CatalogError> {
        let rows = self.0.meta.collections().await?;
        let state = CatalogList::Collections.key(&self.0.resolved_selection());
        self.write(move |db| {
            write::collections(db, &rows)?;
            write::set_state(db, &state, now())
        })
        .await
    }

    pub(super) async fn download_all_members(&self) -> Result<(), CatalogError> {
        let catalog = self.clone();
        self.0
            .all_members
            .join((), || async move { catalog.download_members(None).await })
            .await
    }

    /// Downloads the members of the collection `of`, or of all collections.
    pub(super) async fn download_members(&self, of: Option<ObjectId>) -> Result<(), CatalogError> {
        let mut rows: Vec<MemberRow> = Vec::new();
        let mut offset = 0;
        loop {
            let page = self.0.meta.members(of, offset).await?;
            offset += page.sent;
            rows.extend(page.rows);
            if page.sent < MetadataClient::MAX_ROWS {
                break;
            }
        }
        let collections: Vec<ObjectId> = match of {
            Some(id) => vec![id],
            None => self.0.collection_ids()?,
        };
        let listed = collections.clone();
        self.write(move |db| write::members(db, &listed, &rows))
            .await?;
        let unknown = self.0.unknown_members(of)?;
        for ids in unknown.chunks(IDS_PER_QUERY) {
            self.download_objects_by_id(ids).await?;
        }
        // Last: otherwise members whose objects are not stored yet would be
        // reported as missing, permanently if their download fails.
        self.write(move |db| write::members_downloaded(db, &collections, now()))
            .await
    }

    /// Downloads objects by id, and their data types if those are on no list.
    pub(super) async fn download_objects_by_id(
        &self,
        ids: &[ObjectId],
    ) -> Result<Arc<[ObjectRow]>, CatalogError> {
        let rows: Arc<[ObjectRow]> = self.0.meta.objects_by_id(ids).await?.into();
        let mut failed = None;
        let mut specs: Vec<&str> = rows.iter().filter_map(|row| row.spec.as_deref()).collect();
        specs.sort_unstable();
        specs.dedup();
        for iri in specs {
            let is_known = self.0.db.read(|db| {
                db.prepare_cached("SELECT 1 FROM spec WHERE iri = ?1")?
                    .exists([iri])
            })?;
            if is_known {
                continue;
            }
            match self.0.meta.spec(iri).await {
                Ok(Some(spec)) => {
                    self.write(move |db| write::spec(db, &spec, false)).await?;
                    self.0.reload()?;
                }
                Ok(None) => {}
                // The objects of other data types are stored all the same.
                Err(error) => failed = Some(error),
            }
        }
        let stored = Arc::clone(&rows);
        self.write(move |db| write::objects(db, &stored)).await?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(rows),
        }
    }
}
