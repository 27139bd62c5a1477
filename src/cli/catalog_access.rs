//! Access to metadata for commands that search and list, through the catalog
//! that mounts of the same cache folder share.

use std::time::Duration;

use anyhow::Context as _;

use super::settings::GlobalArgs;
use crate::catalog::{Catalog, ObjectSelection};
use icos_portal::{MetadataClient, Service, Services};

/// Maximum age of a list before it is refreshed.
const TTL: Duration = Duration::from_mins(10);

/// The services and the catalog that such a command uses; no login is needed.
#[derive(Debug)]
pub(super) struct CatalogAccess {
    pub(super) services: Services,
    pub(super) meta: MetadataClient,
    pub(super) catalog: Catalog,
}

impl CatalogAccess {
    pub(super) fn new(global: &GlobalArgs, selection: ObjectSelection) -> anyhow::Result<Self> {
        let services = global.services()?;
        let http = global.http()?;
        let meta = MetadataClient::new(http, services.clone());
        let folder = global.cache_dir()?.join(services.host_name(Service::Meta));
        let catalog = Catalog::open(meta.clone(), &folder, TTL, selection)
            .context("the catalog cannot be opened")?;
        Ok(Self {
            services,
            meta,
            catalog,
        })
    }
}
