//! What is asked of the portal, and when.
//!
//! Each need has a list or several behind it. What was never taken is waited
//! for; what is old is handed out all the same and taken anew meanwhile, by
//! submission time. Questions about one station or one collection are narrow,
//! until so many come that the whole costs less.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::write;
use super::{Catalog, CatalogError, Inner};
use crate::portal::lists::{Cursor, MemberRow, ObjectRow, ObjectScope, Page, Versions};
use crate::portal::{MetadataClient, ObjectId};

/// Submissions may be complete a little before they are listed.
const OVERLAP: Duration = Duration::from_hours(1);
/// Data types and stations change rarely.
const VOCABULARY_LIFE: Duration = Duration::from_hours(1);
/// Our clock, which bounds a list's end, may be behind the service's.
const AHEAD: Duration = Duration::from_hours(24);
/// So many narrow questions within [`NARROW_SPAN`] cost more than the whole.
const NARROW: usize = 3;
const NARROW_SPAN: Duration = Duration::from_mins(10);
/// Other mounts' questions are waited for so long.
const LONGEST_TURN: Duration = Duration::from_mins(1);
/// Objects asked for by name at once: the query stays below 64 KiB.
const NAMES: usize = 500;

/// What must be known to answer someone.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Need {
    /// Data types, their columns, and stations.
    Vocabulary,
    /// All objects that are shown.
    Objects,
    /// The objects of a station.
    Station(i64),
    /// The documents.
    Documents,
    /// Which collections there are.
    Collections,
    /// What is in a collection.
    Members(ObjectId),
}

impl Need {
    /// What its state is called; objects have theirs with their data types.
    fn key(self) -> String {
        match self {
            Need::Vocabulary => "vocabulary".to_owned(),
            Need::Objects => "objects".to_owned(),
            Need::Station(key) => format!("station {key}"),
            Need::Documents => "documents".to_owned(),
            Need::Collections => "collections".to_owned(),
            Need::Members(id) => format!("members {id}"),
        }
    }
}

/// How far the list of all objects has come, for those who read it meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    pub(super) growing: bool,
    pub(super) pages: u64,
    /// Why it grows no further.
    pub(super) failed: Option<CatalogError>,
}

/// When narrow questions were asked of late.
#[derive(Debug, Default)]
pub(super) struct Narrow(VecDeque<Instant>);

impl Narrow {
    /// Notes one more, unless there were too many.
    fn admit(&mut self) -> bool {
        while self.0.front().is_some_and(|at| at.elapsed() > NARROW_SPAN) {
            self.0.pop_front();
        }
        let few = self.0.len() < NARROW;
        if few {
            self.0.push_back(Instant::now());
        }
        few
    }
}

pub(super) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

impl Catalog {
    /// Sees to it that what `need` names can be read. Of all objects, that is
    /// once the first of them can be.
    ///
    /// # Errors
    ///
    /// If it was never known and cannot be asked for.
    pub async fn ensure(&self, need: Need) -> Result<(), CatalogError> {
        if need != Need::Vocabulary {
            // All others refer to it.
            Box::pin(self.ensure(Need::Vocabulary)).await?;
        }
        let age = self.0.age(need)?;
        let Some(age) = age else {
            return match self.take(need).await {
                Err(error) if self.0.knows_some(need)? => {
                    tracing::warn!(%error, "showing what is known so far");
                    Ok(())
                }
                other => other,
            };
        };
        let life = match need {
            Need::Vocabulary => self.0.ttl.max(VOCABULARY_LIFE),
            _ => self.0.ttl,
        };
        if age < life {
            return Ok(());
        }
        let refreshing = self.clone();
        let refresh = async move {
            let refreshed = refreshing.refresh(need).await;
            if let Err(error) = refreshed {
                tracing::warn!(%error, "a list could not be refreshed");
            }
        };
        if self.0.ttl.is_zero() {
            // Who wants nothing old waits.
            refresh.await;
        } else {
            tokio::spawn(refresh);
        }
        Ok(())
    }

    /// The same, once a list that grows is complete: to say that something is
    /// not there, all must be.
    pub async fn ensure_whole(&self, need: Need) -> Result<(), CatalogError> {
        self.ensure(need).await?;
        while self.0.growth.borrow().growing {
            self.grown().await?;
        }
        Ok(())
    }

    /// Takes what was never taken.
    async fn take(&self, need: Need) -> Result<(), CatalogError> {
        let narrow = matches!(need, Need::Station(_) | Need::Members(_));
        if narrow && !self.0.known().narrow.admit() {
            if matches!(need, Need::Station(_)) {
                return self.refresh(Need::Objects).await;
            }
            self.refresh(Need::Collections).await?;
            return self.all_members().await;
        }
        if need != Need::Objects {
            return self.refresh(need).await;
        }
        let mut growth = self.0.growth.subscribe();
        growth.mark_unchanged();
        let whole = self.refresh(need);
        let first = growth.wait_for(|growth| growth.growing && growth.pages > 0);
        tokio::select! {
            result = whole => result,
            _ = first => Ok(()),
        }
    }

    /// Asks the portal; those who ask at once share the answer.
    async fn refresh(&self, need: Need) -> Result<(), CatalogError> {
        let catalog = self.clone();
        self.0
            .syncs
            .join(need, || async move {
                let started = Instant::now();
                let before = catalog.0.taken(need)?;
                let narrow = matches!(need, Need::Station(_) | Need::Members(_));
                let _turn = if narrow { None } else { catalog.turn().await };
                if catalog.0.taken(need)? != before {
                    // Another mount has asked meanwhile.
                    return catalog.0.reload();
                }
                let result = match need {
                    Need::Vocabulary => catalog.ask_vocabulary().await,
                    Need::Objects => catalog.all_objects().await,
                    Need::Station(key) => catalog.ask_station(key).await,
                    Need::Documents => catalog.ask_documents().await,
                    Need::Collections => catalog.ask_collections().await,
                    Need::Members(id) => catalog.ask_members(Some(id)).await,
                };
                tracing::info!(?need, elapsed = ?started.elapsed(), ok = result.is_ok(), "asked");
                result
            })
            .await
    }

    /// Waits while another process asks the same portal, but not for ever.
    async fn turn(&self) -> Option<File> {
        let file = File::create(&self.0.turn).ok()?;
        let deadline = Instant::now() + LONGEST_TURN;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if Instant::now() > deadline {
                tracing::warn!("another mount asks the portal for very long");
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(file)
    }

    async fn ask_vocabulary(&self) -> Result<(), CatalogError> {
        let meta = &self.0.meta;
        let columns = meta.columns().await?;
        let specs = meta.specs().await?;
        let stations = meta.stations().await?;
        self.write(move |db| {
            write::vocabulary(db, &specs, &columns, &stations)?;
            write::set_state(db, &Need::Vocabulary.key(), now())
        })
        .await?;
        self.0.reload()
    }

    /// Takes the data types that were never taken, and what is new of the
    /// others.
    async fn all_objects(&self) -> Result<(), CatalogError> {
        self.0.growth.send_replace(Growth {
            growing: true,
            ..Growth::default()
        });
        let result = self.all_objects_in_turn().await;
        self.0.growth.send_modify(|growth| {
            growth.growing = false;
            growth.failed = result.as_ref().err().cloned();
        });
        result
    }

    async fn all_objects_in_turn(&self) -> Result<(), CatalogError> {
        let view = self.0.view();
        let versions = self.0.selection.versions;
        let (known, new): (Vec<_>, Vec<_>) = (view.specs())
            .map(|spec| (spec.key, spec.iri().to_owned()))
            .partition(|(key, _)| {
                let spec = view.vocabulary.spec(*key);
                spec.is_some_and(|spec| spec.synced >= write::synced(versions))
            });
        if !known.is_empty() {
            self.newer_objects(&known).await?;
        }
        // A query for no data type at all would be one for every object.
        if !new.is_empty() {
            self.objects_of(&new, Cursor::default(), versions, None)
                .await?;
        }
        self.write(|db| write::set_state(db, &Need::Objects.key(), now()))
            .await?;
        self.0.reload()
    }

    /// What was submitted since the last time, and what that superseded.
    async fn newer_objects(&self, specs: &[(i64, String)]) -> Result<(), CatalogError> {
        let until: i64 = self.0.db.read(|db| {
            db.query_row(
                "SELECT coalesce(min(until), 0) FROM spec WHERE offered AND synced > 0",
                [],
                |row| row.get(0),
            )
        })?;
        let since = Timestamp::from_millisecond(until)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .saturating_sub(OVERLAP)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let before = Timestamp::now()
            .saturating_add(AHEAD)
            .unwrap_or(Timestamp::MAX);
        // Every version: what came and went meanwhile is superseded, not
        // unknown.
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
        // Whoever has an old version at hand must not hold on to it.
        self.0.known().objects.clear();
        Ok(())
    }

    /// Takes a list of objects page by page.
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
            self.0.growth.send_modify(|growth| growth.pages += 1);
            if last {
                break;
            }
        }
        let keys: Vec<i64> = specs.iter().map(|(key, _)| *key).collect();
        let of_selection = self.0.selection.versions;
        let versions = if refreshing { of_selection } else { versions };
        self.write(move |db| write::specs_synced(db, &keys, versions, cursor.reached()))
            .await
    }

    async fn ask_station(&self, key: i64) -> Result<(), CatalogError> {
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
        self.write(move |db| write::set_state(db, &Need::Station(key).key(), now()))
            .await
    }

    async fn ask_documents(&self) -> Result<(), CatalogError> {
        let mut cursor = Cursor::default();
        loop {
            let page = self.0.meta.documents(None, cursor).await?;
            let last = is_last(&page, &mut cursor);
            self.write(move |db| write::objects(db, &page.rows)).await?;
            if last {
                break;
            }
        }
        self.write(|db| write::set_state(db, &Need::Documents.key(), now()))
            .await
    }

    async fn ask_collections(&self) -> Result<(), CatalogError> {
        let rows = self.0.meta.collections().await?;
        self.write(move |db| {
            write::collections(db, &rows)?;
            write::set_state(db, &Need::Collections.key(), now())
        })
        .await
    }

    async fn all_members(&self) -> Result<(), CatalogError> {
        let catalog = self.clone();
        self.0
            .all_members
            .join((), || async move { catalog.ask_members(None).await })
            .await
    }

    /// What is in one collection, or in all of them.
    async fn ask_members(&self, of: Option<ObjectId>) -> Result<(), CatalogError> {
        let mut rows: Vec<MemberRow> = Vec::new();
        let mut offset = 0;
        loop {
            let page = self.0.meta.members(of, offset).await?;
            offset += page.sent;
            rows.extend(page.rows);
            if page.sent < MetadataClient::PAGE {
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
        for ids in unknown.chunks(NAMES) {
            self.by_name(ids).await?;
        }
        // Only now: before, whoever asks for a member would be told that there
        // is none, and go on being told so if its object could not be had.
        self.write(move |db| write::members_taken(db, &collections, now()))
            .await
    }

    /// Takes objects by name, and their data types if those are on no list.
    pub(super) async fn by_name(&self, ids: &[ObjectId]) -> Result<Vec<ObjectId>, CatalogError> {
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

    /// Writes without holding up a thread that others wait for.
    pub(super) async fn write(
        &self,
        change: impl Fn(&rusqlite::Transaction<'_>) -> Result<(), rusqlite::Error> + Send + 'static,
    ) -> Result<(), CatalogError> {
        let catalog = self.clone();
        let written = tokio::task::spawn_blocking(move || catalog.0.db.write(change)).await;
        // A panic in there is a bug; it must not look like success.
        written.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

/// Moves `cursor` past `page`; says whether it is the last.
fn is_last(page: &Page<ObjectRow>, cursor: &mut Cursor) -> bool {
    let before = *cursor;
    cursor.advance(&page.rows);
    // A page without one good row would be asked for for ever.
    page.sent < MetadataClient::PAGE || *cursor == before
}

impl Inner {
    /// How long ago `need` was last taken; never, if `None`.
    fn age(&self, need: Need) -> Result<Option<Duration>, CatalogError> {
        let taken = self.taken(need)?;
        // A clock that was set back makes nothing young.
        Ok(taken.map(|taken| Duration::from_millis(now().abs_diff(taken))))
    }

    /// When `need` was last taken, in milliseconds since 1970.
    pub(super) fn taken(&self, need: Need) -> Result<Option<i64>, CatalogError> {
        // Before the question: without a disk there is one connection for all,
        // and one that asks while it is asked waits for itself.
        let view = self.view();
        let wanted = write::synced(self.selection.versions);
        let whole = view.specs().all(|spec| spec.synced >= wanted);
        let objects = |db: &rusqlite::Connection| {
            if whole {
                write::state(db, &Need::Objects.key())
            } else {
                Ok(None)
            }
        };
        self.db.read(|db| match need {
            Need::Objects => objects(db),
            Need::Station(_) => match objects(db)? {
                Some(taken) => Ok(Some(taken)),
                None => write::state(db, &need.key()),
            },
            Need::Members(id) => {
                let taken = "SELECT taken FROM collection WHERE id = ?1";
                let mut statement = db.prepare_cached(taken)?;
                let mut rows = statement.query([&id.as_bytes()[..]])?;
                match rows.next()? {
                    Some(row) => row.get(0),
                    None => Ok(None),
                }
            }
            _ => write::state(db, &need.key()),
        })
    }

    /// Whether something can be shown though it was never taken whole.
    fn knows_some(&self, need: Need) -> Result<bool, CatalogError> {
        let table = match need {
            Need::Vocabulary => "spec",
            Need::Objects | Need::Station(_) | Need::Documents => "object",
            Need::Collections => "collection",
            Need::Members(_) => return Ok(false),
        };
        let query = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        self.db
            .read(|db| db.query_row(&query, [], |row| row.get(0)))
    }

    fn knows_spec(&self, iri: &str) -> Result<bool, CatalogError> {
        self.db.read(|db| {
            db.prepare_cached("SELECT 1 FROM spec WHERE iri = ?1")?
                .exists([iri])
        })
    }
}
