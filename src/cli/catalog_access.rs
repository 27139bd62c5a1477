//! Access to the catalog that mounts of the same cache folder share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::settings::{Clients, GlobalArgs};
use super::storage::require_private_cache;
use super::waiting::block_on_while;
use crate::catalog::{Catalog, CatalogList, ObjectSelection, Vocabulary};
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
