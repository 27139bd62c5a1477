//! What every process has that serves a repository, by a mount or over HTTP: the clients
//! of the portal, catalog and cache, and a report of what happens.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::catalog_access;
use super::find::unknown;
use super::log::control::ControlSocket;
use super::process_limits;
use super::settings::{Clients, runtime};
use super::storage::StorageArgs;
use super::warning::warning;
use crate::cache::{CacheError, Store};
use crate::catalog::{Catalog, CatalogError, CatalogList, ObjectSelection};
use crate::cluster::SharedCache;
use crate::content::Contents;
use crate::daemon::report::ServiceUrls;
use crate::daemon::{DaemonInfo, DaemonReport, FrontEnd};
use crate::tree::Tree;
use icos_portal::{Account, PortalError, Service};

/// Timeout for the first request to the portal. The process serves without it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout for the lists of stations and data types, if the options name some.
const LISTS_TIMEOUT: Duration = Duration::from_secs(10);

/// The codes of failures in the report of a front end.
#[derive(Clone, Copy)]
pub(super) struct ErrorCodes {
    pub(super) of_cache: fn(&CacheError) -> String,
    pub(super) of_catalog: fn(&CatalogError) -> String,
}

/// The parts of a process that serves a repository.
pub(super) struct DaemonParts {
    pub(super) runtime: Runtime,
    pub(super) tree: Tree,
    pub(super) contents: Arc<Contents>,
    pub(super) store: Store,
    pub(super) report: Arc<DaemonReport>,
    pub(super) account: Option<Account>,
    pub(super) meta_probe: JoinHandle<Result<(), PortalError>>,
    /// Present as long as the process serves.
    pub(super) _control: Option<ControlSocket>,
}

impl DaemonParts {
    /// Opens catalog and cache of the repository of `clients` below `cache_dir`, with
    /// lists and landing pages that are cached for `ttl`.
    pub(super) fn open(
        clients: Clients,
        cache_dir: &Path,
        storage: StorageArgs,
        selection: ObjectSelection,
        ttl: Duration,
        front: FrontEnd,
        codes: ErrorCodes,
    ) -> anyhow::Result<Self> {
        process_limits::raise_file_limit();
        process_limits::raise_address_space_limit();
        let runtime = runtime()?;
        let probe = |service| {
            let (http, services) = (clients.http.clone(), clients.services.clone());
            runtime.spawn(async move {
                let probed = http.probe(&services, service, PROBE_TIMEOUT).await;
                probed.map(|_| ())
            })
        };
        let meta_probe = probe(Service::Meta);
        // Opens a connection for the first read. If that fails, the reads report it.
        probe(Service::Data);
        let planned = match &front {
            FrontEnd::Mount { mountpoint } => Some(mountpoint.as_path()),
            FrontEnd::Server { .. } => None,
        };
        let (store, contents) = storage.open(cache_dir, &clients, ttl, planned)?;
        let clients = match contents.shared_cache() {
            Some(shared_cache) => catalog_access::with_shared_lists(clients, shared_cache, ttl),
            None => clients,
        };
        let selected = selection.clone();
        let catalog = catalog_access::open(&clients, cache_dir, ttl, selection)?;
        check_selection(&runtime, &catalog, &selected)?;
        let control = ControlSocket::listen(cache_dir);
        let url = |service| clients.services.base(service).to_string();
        let info = DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            portal: clients.services.envri().name().to_owned(),
            services: ServiceUrls {
                auth: url(Service::Auth),
                meta: url(Service::Meta),
                data: url(Service::Data),
            },
            front,
            cache: clients.cache_in(cache_dir),
            control: control.as_ref().map(|control| control.path().to_owned()),
            since: Timestamp::now(),
            login_from: clients.login_from.clone(),
        };
        let Clients { account, http, .. } = clients;
        let report = DaemonReport::new(info, account.clone(), http, catalog.clone(), store.clone());
        let shared_cache = contents.shared_cache().cloned();
        let report = Arc::new(report.with_shared_cache(shared_cache.clone()));
        if let Some(shared_cache) = shared_cache {
            report_rejections(&shared_cache, &report);
        }
        report_write_failures(&store, &catalog, &report, codes);
        runtime.spawn(contents.exchange_sizes());
        Ok(Self {
            runtime,
            tree: Tree::new(catalog),
            contents: Arc::new(contents),
            store,
            report,
            account,
            meta_probe,
            _control: control,
        })
    }
}

/// Fails if a station or data type in `selection` does not exist: the tree would be
/// empty. Does not wait long for a portal that does not respond.
fn check_selection(
    runtime: &Runtime,
    catalog: &Catalog,
    selection: &ObjectSelection,
) -> anyhow::Result<()> {
    if selection.stations.is_empty() && selection.datatypes.is_empty() {
        return Ok(());
    }
    let lists = catalog.ensure(CatalogList::Vocabulary);
    let waited = async { tokio::time::timeout(LISTS_TIMEOUT, lists).await };
    match runtime.block_on(waited) {
        Ok(Ok(())) => (catalog.vocabulary().check(selection)).map_err(|name| unknown(&name)),
        // It serves all the same, and shows what was stored.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Says on standard error that the portal does not respond, if it does not.
pub(super) fn warn_if_unreachable(runtime: &Runtime, probe: JoinHandle<Result<(), PortalError>>) {
    if let Ok(Err(error)) = runtime.block_on(probe) {
        let error = error.to_string();
        // Its advice is for a command that needs the portal.
        let what = error.split("; ").next().unwrap_or(&error);
        warning!(
            "{what}; cached files can be read now, all others once it responds; `icosfs doctor` finds the cause"
        );
    }
}

/// Records rejected objects of the shared cache as failures, although reads succeed.
fn report_rejections(shared_cache: &SharedCache, report: &Arc<DaemonReport>) {
    let report = Arc::downgrade(report);
    shared_cache.on_rejection(move |rejection| {
        if let Some(report) = report.upgrade() {
            let file = "shared cache".to_owned();
            report.record_failure("share", file, "EBADMSG".to_owned(), rejection.to_string());
        }
    });
}

/// Records failed writes to the cache and the catalog as failures.
fn report_write_failures(
    store: &Store,
    catalog: &Catalog,
    report: &Arc<DaemonReport>,
    codes: ErrorCodes,
) {
    let cache = Arc::downgrade(report);
    let lists = cache.clone();
    store.on_error(move |error| {
        if let Some(report) = cache.upgrade() {
            let reason = format!("{error}; reads continue without the cache");
            let code = (codes.of_cache)(error);
            report.record_failure("keep", "cache".to_owned(), code, reason);
        }
    });
    catalog.on_storage_failure(move |error| {
        if let Some(report) = lists.upgrade() {
            let code = (codes.of_catalog)(error);
            report.record_failure("keep", "catalog".to_owned(), code, error.to_string());
        }
    });
}
