//! Downloads lists from the portal, page by page, and stores them.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::list_state::{SpecState, VOCABULARY, now};
use super::sync::ListProgress;
use super::{Catalog, CatalogError, CatalogList, CatalogState, write};
use icos_portal::lists::{Cursor, MemberRow, ObjectRow, ObjectScope, ResultPage, Versions};
use icos_portal::{MetadataClient, ObjectId};

/// Refreshes start this much earlier, since a submission may be listed some time
/// after its completion.
const OVERLAP: Duration = Duration::from_hours(1);
/// Refreshes end this much later, since the local clock may be behind the
/// portal's.
const AHEAD: Duration = Duration::from_hours(24);
/// Objects of one query by id, which keeps the query below 64 KiB.
const IDS_PER_QUERY: usize = 500;

impl Catalog {
    pub(super) async fn download_vocabulary(&self) -> Result<(), CatalogError> {
        let meta = &self.0.meta;
        let columns = meta.columns().await?;
        let specs = meta.specs().await?;
        let stations = meta.stations().await?;
        self.write(move |db| {
            write::vocabulary(db, &specs, &columns, &stations)?;
            write::set_state(db, VOCABULARY, now())
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
        let view = self.0.view();
        let versions = self.0.selection.versions;
        let states = self.0.db.read(SpecState::all)?;
        let known: HashMap<i64, i64> = (states.iter())
            .filter(|state| state.has(versions))
            .map(|state| (state.spec, state.until))
            .collect();
        let (known, new): (Vec<_>, Vec<_>) = (view.specs())
            .map(|spec| (spec.key, spec.iri().to_owned(), known.get(&spec.key)))
            .partition(|(_, _, until)| until.is_some());
        let until = known.iter().filter_map(|(_, _, until)| until.copied());
        if let Some(until) = until.min() {
            self.newer_objects(until, &without_until(known)).await?;
        }
        // A query without data types would return every object.
        if !new.is_empty() {
            self.objects_of(&without_until(new), Cursor::default(), versions, None)
                .await?;
        }
        self.0.reload()
    }

    /// Downloads the objects submitted since the last refresh, and the versions that
    /// they supersede.
    async fn newer_objects(&self, until: i64, specs: &[(i64, String)]) -> Result<(), CatalogError> {
        let since = Timestamp::from_millisecond(until)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .saturating_sub(OVERLAP)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let before = Timestamp::now()
            .saturating_add(AHEAD)
            .unwrap_or(Timestamp::MAX);
        // All versions: an object may have been submitted and superseded since
        // the last refresh.
        self.objects_of(
            specs,
            Cursor::since(Some(since)),
            Versions::All,
            Some(before),
        )
        .await?;
        let successions = self.0.meta.successions(since, before).await?;
        self.write(move |db| write::successions(db, &successions))
            .await?;
        // Cached objects may have been superseded.
        self.0.cached().objects.clear();
        Ok(())
    }

    /// Downloads a list of objects page by page.
    async fn objects_of(
        &self,
        specs: &[(i64, String)],
        mut cursor: Cursor,
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
        let refreshing = before.is_some();
        loop {
            let page = self.0.meta.objects(scope, cursor).await?;
            let last = is_last(&page, &mut cursor);
            self.write(move |db| write::objects(db, &page.rows)).await?;
            self.0.progress.send_modify(|progress| progress.pages += 1);
            if last {
                break;
            }
        }
        let keys: Vec<i64> = specs.iter().map(|(key, _)| *key).collect();
        let of_selection = self.0.selection.versions;
        let versions = if refreshing { of_selection } else { versions };
        self.write(move |db| write::specs_synced(db, &keys, versions, cursor.reached(), now()))
            .await
    }

    pub(super) async fn download_station(&self, key: i64) -> Result<(), CatalogError> {
        let view = self.0.view();
        let Some(station) = view.vocabulary.station(key) else {
            return Ok(());
        };
        let specs: Vec<&str> = view.specs().map(|spec| spec.iri()).collect();
        let mut cursor = Cursor::default();
        while !specs.is_empty() {
            let scope = ObjectScope {
                specs: &specs,
                stations: &[station.iri()],
                versions: self.0.selection.versions,
                before: None,
            };
            let page = self.0.meta.objects(scope, cursor).await?;
            let last = is_last(&page, &mut cursor);
            self.write(move |db| write::objects(db, &page.rows)).await?;
            if last {
                break;
            }
        }
        let state = CatalogList::Station(key).key(&view);
        self.write(move |db| write::set_state(db, &state, now()))
            .await
    }

    pub(super) async fn download_documents(&self) -> Result<(), CatalogError> {
        let mut cursor = Cursor::default();
        loop {
            let page = self.0.meta.documents(None, cursor).await?;
            let last = is_last(&page, &mut cursor);
            self.write(move |db| write::objects(db, &page.rows)).await?;
            if last {
                break;
            }
        }
        let state = CatalogList::Documents.key(&self.0.view());
        self.write(move |db| write::set_state(db, &state, now()))
            .await
    }

    pub(super) async fn download_collections(&self) -> Result<(), CatalogError> {
        let rows = self.0.meta.collections().await?;
        let state = CatalogList::Collections.key(&self.0.view());
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
        self.write(move |db| write::members_taken(db, &collections, now()))
            .await
    }

    /// Downloads objects by id, and their data types if those are on no list.
    pub(super) async fn download_objects_by_id(
        &self,
        ids: &[ObjectId],
    ) -> Result<Vec<ObjectId>, CatalogError> {
        let rows: Vec<ObjectRow> = self.0.meta.objects_by_id(ids).await?;
        let mut unlisted: Vec<&str> = rows.iter().filter_map(|row| row.spec.as_deref()).collect();
        unlisted.sort_unstable();
        unlisted.dedup();
        for iri in unlisted {
            if self.0.knows_spec(iri)? {
                continue;
            }
            if let Some(spec) = self.0.meta.spec(iri).await? {
                self.write(move |db| write::spec(db, &spec, false)).await?;
                self.0.reload()?;
            }
        }
        let found = rows.iter().map(|row| row.id).collect();
        self.write(move |db| write::objects(db, &rows)).await?;
        Ok(found)
    }
}

fn without_until(specs: Vec<(i64, String, Option<&i64>)>) -> Vec<(i64, String)> {
    specs.into_iter().map(|(key, iri, _)| (key, iri)).collect()
}

/// Advances `cursor` past `page`; returns whether it is the last page.
fn is_last(page: &ResultPage<ObjectRow>, cursor: &mut Cursor) -> bool {
    let before = *cursor;
    cursor.advance(&page.rows);
    // A page without a valid row would be requested forever.
    page.sent < MetadataClient::MAX_ROWS || *cursor == before
}

impl CatalogState {
    fn knows_spec(&self, iri: &str) -> Result<bool, CatalogError> {
        self.db.read(|db| {
            db.prepare_cached("SELECT 1 FROM spec WHERE iri = ?1")?
                .exists([iri])
        })
    }
}
