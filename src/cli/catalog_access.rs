//! The catalog for commands that look around: the one that mounts share.

use std::time::Duration;

use anyhow::Context as _;

use super::settings::GlobalArgs;
use crate::catalog::{Catalog, Selection};
use icos_portal::{MetadataClient, Service, Services};

/// How old a list may be.
const TTL: Duration = Duration::from_mins(10);

/// What such a command needs; no login is among it.
#[derive(Debug)]
pub(super) struct CatalogAccess {
    pub(super) services: Services,
    pub(super) meta: MetadataClient,
    pub(super) catalog: Catalog,
}

impl CatalogAccess {
    pub(super) fn new(global: &GlobalArgs, selection: Selection) -> anyhow::Result<Self> {
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
