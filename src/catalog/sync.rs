//! When the portal is asked.
//!
//! Each need has a list or several behind it. What was never taken is waited
//! for; what is old is handed out all the same and taken anew meanwhile, by
//! submission time. Questions about one station or one collection are narrow,
//! until so many come that the whole costs less.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use super::{Catalog, CatalogError, CatalogList};

/// Data types and stations change rarely.
const VOCABULARY_LIFE: Duration = Duration::from_hours(1);
/// So many narrow questions within [`NARROW_SPAN`] cost more than the whole.
const NARROW: usize = 3;
const NARROW_SPAN: Duration = Duration::from_mins(10);
/// Other mounts' questions are waited for so long.
const LONGEST_TURN: Duration = Duration::from_mins(1);

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

impl Catalog {
    /// Sees to it that what `need` names can be read. Of all objects, that is
    /// once the first of them can be.
    ///
    /// # Errors
    ///
    /// If it was never known and cannot be asked for.
    pub async fn ensure(&self, list: CatalogList) -> Result<(), CatalogError> {
        if list != CatalogList::Vocabulary {
            // All others refer to it.
            Box::pin(self.ensure(CatalogList::Vocabulary)).await?;
        }
        let age = self.0.age(list)?;
        let Some(age) = age else {
            return match self.take(list).await {
                Err(error) if self.0.knows_some(list)? => {
                    tracing::warn!(%error, "showing what is known so far");
                    Ok(())
                }
                other => other,
            };
        };
        let life = match list {
            CatalogList::Vocabulary => self.0.ttl.max(VOCABULARY_LIFE),
            _ => self.0.ttl,
        };
        if age < life {
            return Ok(());
        }
        let refreshing = self.clone();
        let refresh = async move {
            let refreshed = refreshing.refresh(list).await;
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
    pub async fn ensure_complete(&self, list: CatalogList) -> Result<(), CatalogError> {
        self.ensure(list).await?;
        while self.0.growth.borrow().growing {
            self.wait_for_growth().await?;
        }
        Ok(())
    }

    /// Takes what was never taken.
    async fn take(&self, list: CatalogList) -> Result<(), CatalogError> {
        let narrow = matches!(list, CatalogList::Station(_) | CatalogList::Members(_));
        if narrow && !self.0.known().narrow.admit() {
            if matches!(list, CatalogList::Station(_)) {
                return self.refresh(CatalogList::Objects).await;
            }
            self.refresh(CatalogList::Collections).await?;
            return self.all_members().await;
        }
        if list != CatalogList::Objects {
            return self.refresh(list).await;
        }
        let mut growth = self.0.growth.subscribe();
        growth.mark_unchanged();
        let whole = self.refresh(list);
        let first = growth.wait_for(|growth| growth.growing && growth.pages > 0);
        tokio::select! {
            result = whole => result,
            _ = first => Ok(()),
        }
    }

    /// Asks the portal; those who ask at once share the answer.
    async fn refresh(&self, list: CatalogList) -> Result<(), CatalogError> {
        let catalog = self.clone();
        self.0
            .syncs
            .join(list, || async move {
                let started = Instant::now();
                let before = catalog.0.taken(list)?;
                let narrow = matches!(list, CatalogList::Station(_) | CatalogList::Members(_));
                let _turn = if narrow { None } else { catalog.turn().await };
                if catalog.0.taken(list)? != before {
                    // Another mount has asked meanwhile.
                    return catalog.0.reload();
                }
                let result = match list {
                    CatalogList::Vocabulary => catalog.ask_vocabulary().await,
                    CatalogList::Objects => catalog.all_objects().await,
                    CatalogList::Station(key) => catalog.ask_station(key).await,
                    CatalogList::Documents => catalog.ask_documents().await,
                    CatalogList::Collections => catalog.ask_collections().await,
                    CatalogList::Members(id) => catalog.ask_members(Some(id)).await,
                };
                tracing::info!(?list, elapsed = ?started.elapsed(), ok = result.is_ok(), "asked");
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
