//! Values that a mount reads for each status: the ages of its lists and the size
//! of its cache.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::{DiskUsage, Store};
use crate::catalog::{Catalog, ListAge};

/// Timeout for reading each value, so that a slow disk does not delay the status.
const READ_TIMEOUT: Duration = Duration::from_millis(300);

/// The catalog and the cache that the values are read from. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LiveStateSource {
    pub(super) catalog: Catalog,
    pub(super) store: Store,
}

/// The values that were read within the timeout.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LiveState {
    /// When lists were last downloaded.
    #[serde(default)]
    pub lists: ListAge,
    /// Bytes in the cache, and their limit.
    #[serde(default)]
    pub cache_use: Option<DiskUsage>,
}

impl LiveState {
    /// Returns the age in seconds of a list that was downloaded at `downloaded`.
    #[must_use]
    pub fn age(downloaded: Timestamp) -> u64 {
        let age = Timestamp::now().duration_since(downloaded).as_secs();
        u64::try_from(age).unwrap_or(0)
    }
}

impl LiveStateSource {
    /// Reads the values on the blocking pool.
    pub(super) async fn read(&self) -> LiveState {
        let Self { catalog, store } = self.clone();
        let lists = tokio::task::spawn_blocking(move || catalog.lists());
        let cache = tokio::task::spawn_blocking(move || store.usage());
        let (lists, cache) = tokio::join!(
            tokio::time::timeout(READ_TIMEOUT, lists),
            tokio::time::timeout(READ_TIMEOUT, cache)
        );
        LiveState {
            lists: match lists {
                Ok(Ok(Ok(lists))) => lists,
                _ => ListAge::default(),
            },
            cache_use: cache.ok().and_then(Result::ok),
        }
    }
}
