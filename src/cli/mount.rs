//! `icosfs mount`: checks the flags, then serves the mount in this process or in a
//! background process (`background`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tokio::runtime::Runtime;

use self::lifecycle::Signals;
use super::background;
use super::catalog_access;
use super::credentials::CredentialArgs;
use super::find::unknown;
use super::log::control::ControlSocket;
use super::output::note;
use super::selection::{FilesArgs, SelectionArgs};
use super::settings::{Clients, GlobalArgs, runtime};
use super::storage::StorageArgs;
use crate::cache::Store;
use crate::catalog::{Catalog, CatalogList, ObjectSelection};
use crate::mount::report::ServiceUrls;
use crate::mount::{
    Access, Crawlers, ExactSize, InodeWidth, MountInfo, MountOptions, MountReport, MountSession,
    errno, missing_requirement,
};
use crate::tree::Tree;
use icos_portal::Service;

mod lifecycle;
pub(super) mod mountpoint;

/// Timeout for the first request to the portal. The mount starts without it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout for the lists of stations and data types, if the options name some.
const LISTS_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `icosfs mount`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs mount ~/icos                       return once the mount is ready
  icosfs mount --demo ~/icos                no login, no network
  icosfs mount --portal sites --cache-size 50G ~/sites
  icosfs mount --foreground --log-level debug ~/icos

fstab: icos /mnt/icos fuse.icosfs noauto,_netdev,x-systemd.automount 0 0")]
#[allow(clippy::struct_excessive_bools)] // Each is a flag.
pub(super) struct MountArgs {
    /// An empty folder to mount at
    mountpoint: PathBuf,
    /// Stay in the foreground until ctrl-C
    #[arg(short, long)]
    foreground: bool,
    /// Options in the syntax of mount(8) and fstab, each a flag without its
    /// dashes: `-o cache_size=5G,allow_other`
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    pub(super) options: Vec<String>,
    /// Device name in the mount table: the source that fstab names
    #[arg(long, value_name = "NAME", hide = true)]
    device: Option<String>,
    /// Give every user of this machine access. They read with your login,
    /// although the data licence is personal
    #[arg(long, env = "ICOSFS_ALLOW_OTHER", conflicts_with = "allow_root")]
    allow_other: bool,
    /// Give root access
    #[arg(long, env = "ICOSFS_ALLOW_ROOT")]
    allow_root: bool,
    /// Mount a demo portal that runs in the process of the mount; overrides
    /// the settings of portal and login
    #[cfg(feature = "demo")]
    #[arg(long, conflicts_with_all = ["token_file", "user"])]
    demo: bool,
    /// How long to cache lists and landing pages: seconds, or indefinite
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "600",
        value_parser = ttl,
        env = "ICOSFS_METADATA_TTL"
    )]
    metadata_ttl: Duration,
    /// Whether a query of a size that is not known yet waits until it is known
    ///
    /// `when-open` is correct for programs that query the size of a file that they
    /// have open: they wait until the table is downloaded and its size computed,
    /// which happens once. Before a file is open, they get an estimate. Some
    /// programs rely on that size: bsdtar, Python's tarfile, cpio, busybox tar,
    /// and file systems over the mount. For these, use `always`: every query of a
    /// size waits, so that `ls -l` downloads every table and landing page that it
    /// lists. With `never`, a CSV that is open has an upper bound, too. Programs that only read to the end (cat, grep,
    /// streaming CSV parsers) then do not wait, but programs that rely on the
    /// size fail: cp and rsync append zeros or report an error, tail and memory
    /// maps (polars, R) read past the end, and wc -c and progress bars show too
    /// many bytes.
    #[arg(long, value_enum, default_value_t = ExactSizeArg::WhenOpen, env = "ICOSFS_EXACT_SIZE")]
    exact_size: ExactSizeArg,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    files: FilesArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    login: CredentialArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExactSizeArg {
    /// Always wait, also before a file is open: for archives; costs a download for
    /// each file that is listed with its size
    Always,
    /// Wait if the file is open
    WhenOpen,
    /// Never wait for a CSV, return an upper bound: for pipelines that must not wait
    Never,
}

/// Runs the command. `arguments` are the arguments of this process.
pub(super) fn run(
    global: &GlobalArgs,
    args: MountArgs,
    arguments: &[OsString],
) -> anyhow::Result<()> {
    let MountArgs {
        mountpoint,
        foreground,
        options: _, // `cli::parse` has turned them into flags.
        device,
        allow_other,
        allow_root,
        #[cfg(feature = "demo")]
        demo,
        metadata_ttl,
        exact_size,
        storage,
        files,
        selection,
        login,
    } = args;
    let mountpoint = mountpoint::prepare(&mountpoint)?;
    let access = match (allow_other, allow_root) {
        (true, _) => Access::Everyone,
        (false, true) => Access::OwnerAndRoot,
        (false, false) => Access::Owner,
    };
    if let Some(missing) = missing_requirement(access) {
        bail!("cannot mount at {}: {missing}", mountpoint.display());
    }
    if !background::is_daemon() {
        if allow_other {
            note!(
                "every user of this machine can read this mount, and does so with your login; the data licence that you accepted is personal"
            );
        }
        if !foreground {
            return background::start(arguments, login.read_stdin());
        }
    }
    let cache_dir = global.cache_dir()?;
    let mount = |clients: Clients| {
        let options = MountOptions {
            mountpoint,
            source: device.unwrap_or_else(|| clients.services.cache_name()),
            metadata_ttl,
            exact_size: match exact_size {
                ExactSizeArg::Always => ExactSize::Always,
                ExactSizeArg::WhenOpen => ExactSize::WhenOpen,
                ExactSizeArg::Never => ExactSize::Never,
            },
            access,
            uid: files.uid,
            gid: files.gid,
            inode_width: if files.inode32 {
                InodeWidth::Bits32
            } else {
                InodeWidth::Bits64
            },
            crawlers: Crawlers::named(&files.crawlers),
            xattr: !files.no_xattr,
            envri: clients.services.envri(),
        };
        serve(
            clients,
            &cache_dir,
            storage,
            selection.selection(),
            &options,
        )
    };
    #[cfg(feature = "demo")]
    if demo {
        let (_portal, clients) = super::demo::start_embedded(global.http()?)?;
        let cache_folders = [Service::Data, Service::Meta]
            .map(|service| cache_dir.join(clients.services.host_name(service)));
        let result = mount(clients);
        // The demo gets new ports, hence a new cache folder, at each start.
        for folder in cache_folders {
            let _ = std::fs::remove_dir_all(folder);
        }
        return result;
    }
    mount(global.clients(Some(login))?)
}

/// Parses the value of `--metadata-ttl`.
fn ttl(text: &str) -> Result<Duration, String> {
    if text == "indefinite" {
        return Ok(Duration::MAX);
    }
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| "expected a number of seconds, or indefinite".to_owned())
}

/// Fails if a station or data type in `selection` does not exist: the mount would be
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
        // It mounts all the same, and shows what was stored.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Records failed writes to the cache and the catalog as failures of the mount.
fn report_write_failures(store: &Store, catalog: &Catalog, report: &Arc<MountReport>) {
    let cache = Arc::downgrade(report);
    let lists = cache.clone();
    store.on_error(move |error| {
        if let Some(report) = cache.upgrade() {
            let errno = errno::of_cache(error).code();
            let reason = format!("{error}; reads continue without the cache");
            report.record_failure("keep", "cache".to_owned(), errno, reason);
        }
    });
    catalog.on_storage_failure(move |error| {
        if let Some(report) = lists.upgrade() {
            let errno = errno::of_catalog(error).code();
            report.record_failure("keep", "catalog".to_owned(), errno, error.to_string());
        }
    });
}

/// Mounts and serves until the file system is unmounted or a signal arrives.
fn serve(
    clients: Clients,
    cache_dir: &Path,
    storage: StorageArgs,
    selection: ObjectSelection,
    options: &MountOptions,
) -> anyhow::Result<()> {
    lifecycle::raise_file_limit();
    lifecycle::raise_address_space_limit();
    let runtime = runtime()?;
    let probe = |service| {
        let (http, services) = (clients.http.clone(), clients.services.clone());
        runtime.spawn(async move { http.probe(&services, service, PROBE_TIMEOUT).await })
    };
    let meta_probe = probe(Service::Meta);
    // Opens a connection for the first read. If that fails, the reads report it.
    probe(Service::Data);
    let (ttl, mountpoint) = (options.metadata_ttl, &options.mountpoint);
    let selected = selection.clone();
    let catalog = catalog_access::open(&clients, cache_dir, ttl, selection)?;
    check_selection(&runtime, &catalog, &selected)?;
    let control = ControlSocket::listen(cache_dir);
    let (store, contents) = storage.open(cache_dir, &clients, ttl, Some(mountpoint))?;
    let url = |service| clients.services.base(service).to_string();
    let info = MountInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        portal: options.envri.name().to_owned(),
        services: ServiceUrls {
            auth: url(Service::Auth),
            meta: url(Service::Meta),
            data: url(Service::Data),
        },
        mountpoint: mountpoint.clone(),
        cache: clients.cache_in(cache_dir),
        control: control.as_ref().map(|control| control.path().to_owned()),
        since: Timestamp::now(),
    };
    let Clients { account, http, .. } = clients;
    let report = MountReport::new(info, account.clone(), http, catalog.clone(), store.clone());
    let report = Arc::new(report);
    report_write_failures(&store, &catalog, &report);
    // Before the mount: a signal that arrives from now on unmounts it again.
    let signals = Signals::watch(&runtime)?;
    let mounted = MountSession::new(
        Tree::new(catalog),
        Arc::new(contents),
        report,
        runtime.handle().clone(),
        options,
    )
    .with_context(|| format!("cannot mount at {}", mountpoint.display()))?;
    if let Some(account) = account {
        runtime.spawn(account.monitor());
    }
    if let Ok(Err(error)) = runtime.block_on(meta_probe) {
        note!(
            "{error}; mounted all the same: cached files can be read now, all others once the portal responds"
        );
    }
    lifecycle::serve(runtime, mounted, signals, &store)
}
