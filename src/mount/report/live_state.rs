//! What a mount has at this moment: how old its lists are, how full its cache.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::{DiskUsage, Store};
use crate::catalog::{Catalog, Lists};

/// How long a look may take: a status must come soon, however slow the disk.
const PATIENCE: Duration = Duration::from_millis(300);

/// What is looked at. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LiveStateSource {
    pub(super) catalog: Catalog,
    pub(super) store: Store,
}

/// What was found, as far as it could be had in time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LiveState {
    /// When lists were last taken.
    #[serde(default)]
    pub lists: Lists,
    /// What the cache holds, and may hold.
    #[serde(default)]
    pub cache_use: Option<DiskUsage>,
}

impl LiveState {
    /// How old a list that was taken at `taken` is, in seconds.
    #[must_use]
    pub fn age(taken: Timestamp) -> u64 {
        let age = Timestamp::now().duration_since(taken).as_secs();
        u64::try_from(age).unwrap_or(0)
    }
}

impl LiveStateSource {
    pub(super) async fn look(&self) -> LiveState {
        let Self { catalog, store } = self.clone();
        let lists = tokio::task::spawn_blocking(move || catalog.lists());
        let cache = tokio::task::spawn_blocking(move || store.usage());
        let (lists, cache) = tokio::join!(
            tokio::time::timeout(PATIENCE, lists),
            tokio::time::timeout(PATIENCE, cache)
        );
        LiveState {
            lists: match lists {
                Ok(Ok(Ok(lists))) => lists,
                _ => Lists::default(),
            },
            cache_use: cache.ok().and_then(Result::ok),
        }
    }
}
