//! Refreshes of the lists by request, at a bounded rate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::content::Contents;
use crate::tree::{Tree, TreeError};

/// Minimum interval of refreshes by request: any reader can request one.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Downloads all stored lists again, and forgets all landing pages.
#[derive(Debug)]
pub(crate) struct ListRefresher {
    tree: Tree,
    contents: Arc<Contents>,
    /// When the lists were last refreshed by request.
    refreshed: Mutex<Option<Instant>>,
}

impl ListRefresher {
    pub(crate) fn new(tree: Tree, contents: Arc<Contents>) -> Self {
        Self {
            tree,
            contents,
            refreshed: Mutex::default(),
        }
    }

    /// Refreshes, unless the last refresh was too recent. Returns a text for
    /// `.icosfs/refresh`.
    ///
    /// # Errors
    ///
    /// [`TreeError::Catalog`].
    pub(crate) async fn refresh(&self) -> Result<&'static str, TreeError> {
        {
            let mut last = (self.refreshed.lock()).unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
                return Ok("the lists were refreshed less than 10 s ago\n");
            }
            *last = Some(Instant::now());
        }
        self.contents.forget_landing_pages();
        self.tree.refresh().await?;
        Ok("the lists were refreshed\n")
    }
}
