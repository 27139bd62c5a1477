//! Access to the catalog that mounts of the same cache folder share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::settings::{Clients, GlobalArgs};
use super::storage::require_private_cache;
use super::waiting::block_on_while;
use crate::catalog::{Catalog, CatalogList, ObjectSelection, SharedLists, Vocabulary};
use crate::cluster::SharedCache;
use icos_portal::Service;

/// How long commands other than `mount` cache lists and landing pages.
pub(super) const TTL: Duration = Duration::from_mins(10);

/// Opens the catalog for the repository of `clients` below `cache_dir`.
pub(super) fn open(
    clients: &Clients,
    cache_dir: &Path,
    ttl: Duration,
    selection: ObjectSelection,
) -> anyhow::Result<Catalog> {
    let folder = cache_dir.join(clients.services.host_name(Service::Meta));
    require_private_cache(&folder)?;
    Catalog::open(clients.meta.clone(), &folder, ttl, selection).context("cannot open the catalog")
}

/// Returns clients that share the answers to queries for lists through `cache`, if it has
/// a key that proves them. Those of other machines are used until they are `ttl` old.
pub(super) fn with_shared_lists(clients: Clients, cache: &SharedCache, ttl: Duration) -> Clients {
    if !cache.shares_unproven() {
        return clients;
    }
    let host = clients.services.host_name(Service::Meta);
    let lists = SharedLists::new(cache.clone(), host, ttl);
    Clients {
        meta: clients.meta.with_shared_answers(Arc::new(lists)),
        ..clients
    }
}

/// Returns the repository's stations and data types.
pub(super) fn vocabulary(global: &GlobalArgs) -> anyhow::Result<Arc<Vocabulary>> {
    let clients = global.clients(None)?;
    let selection = ObjectSelection::default();
    let catalog = open(&clients, &global.cache_dir()?, TTL, selection)?;
    block_on_while("requesting the portal's lists", async {
        Ok(catalog.ensure(CatalogList::Vocabulary).await?)
    })?;
    Ok(catalog.vocabulary())
}
