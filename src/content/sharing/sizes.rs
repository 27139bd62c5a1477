//! Sizes of files that are known only once a machine has rendered them, which machines
//! share: so a listing on another one has exact sizes.
//!
//! A value in the shared cache has the latest sizes of all machines; each merges it with
//! its own, and writes it again if its own are new. A size that turns out to be wrong is
//! discarded, as one of this machine is.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;

use super::Sharing;
use crate::cache::Store;
use icos_sync::run_blocking;

/// How often sizes are exchanged.
const PERIOD: Duration = Duration::from_mins(2);
/// How many sizes are shared.
const SHARED: usize = 100_000;

impl Sharing {
    /// Exchanges sizes for as long as the process runs.
    pub(in crate::content) async fn exchange_sizes_regularly(&self, store: Store) {
        if !self.cache.shares_unproven() {
            return;
        }
        let mut period = tokio::time::interval(PERIOD);
        loop {
            period.tick().await;
            let is_new = store.sizes().take_changed();
            self.exchange_sizes(&store, is_new).await;
        }
    }

    /// Publishes the sizes of `store` a last time, if there are new ones.
    pub(in crate::content) async fn publish_sizes(&self, store: &Store) {
        if store.sizes().take_changed() {
            self.exchange_sizes(store, true).await;
        }
    }

    /// Merges the sizes that other machines know into those of `store`, and publishes
    /// these if they are new.
    async fn exchange_sizes(&self, store: &Store, is_new: bool) {
        let path = format!("v1/{}/sizes/1", self.host);
        let own = store.clone();
        if let Some(shared) = self.cache.stored(&path).await {
            run_blocking(move || {
                own.sizes().merge(&shared);
                own.sizes().write();
            })
            .await;
        }
        if is_new {
            let own = store.clone();
            let records = run_blocking(move || own.sizes().records(SHARED)).await;
            let publish = async { Ok::<_, Infallible>(((), Bytes::from(records))) };
            // Never read: it replaces what is there.
            let _ = Box::pin(self.cache.value(path, |_| ready(None), publish)).await;
        }
    }
}
