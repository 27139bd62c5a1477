//! `icosfs mount`: in the background unless asked otherwise.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::background;
use super::data_path;
use super::provider::LoginArgs;
use super::selection::{FilesArgs, SelectionArgs};
use super::settings::{Clients, GlobalArgs, size};
use crate::cache::{Bounds, Store, default_limit};
use crate::catalog::{Catalog, Selection};
use crate::content::{Contents, DataFolder};
use crate::mount::{self, About, ExactSize, Mounted, Options, Report, errno, mountinfo};
use crate::portal::{Service, Services};
use crate::tree::Tree;

/// How long readers have to finish once the daemon was told to end. Then their
/// reads fail.
const FAREWELL: Duration = Duration::from_secs(1);

/// What `icosfs mount` takes.
#[derive(Args, Debug)]
pub(super) struct MountArgs {
    /// An empty folder to mount at
    mountpoint: PathBuf,
    /// Stay in the foreground until ctrl-C
    #[arg(short, long)]
    foreground: bool,
    /// Mount a demo portal that runs within the mount's own process
    #[cfg(feature = "demo")]
    #[arg(long, conflicts_with_all = [
        "auth_url", "meta_url", "data_url", "token_file", "user", "credentials",
    ])]
    demo: bool,
    /// How long lists and landing pages are believed: seconds, or indefinite
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "600",
        value_parser = ttl,
        env = "ICOSFS_METADATA_TTL"
    )]
    metadata_ttl: Duration,
    /// When fstat on an open CSV of unknown size answers: with its exact size,
    /// or at once
    ///
    /// `when-open` is right for every program: who asks for the size of a CSV
    /// it has opened waits until all of it has been fetched and measured, once
    /// and for ever. `never` tells an upper bound instead. Programs that only
    /// read to the end (cat, grep, a CSV parser that streams) then never wait,
    /// but whoever trusts the size is misled until it is known: cp and rsync
    /// make a file with zeros at its end or complain, tail and memory maps
    /// (polars, R) look past the end, wc -c and progress bars count too much.
    #[arg(long, value_enum, default_value_t = WhenExact::WhenOpen, env = "ICOSFS_EXACT_SIZE")]
    exact_size: WhenExact,
    /// The most that is kept on the disk, e.g. 20G; a tenth of the file system
    /// (at least 1G) without
    #[arg(long, value_name = "SIZE", value_parser = size, env = "ICOSFS_CACHE_SIZE")]
    cache_size: Option<u64>,
    /// The most memory for buffers
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M", env = "ICOSFS_MEMORY")]
    memory: u64,
    /// A folder of the portal's own data files, read before all else
    #[arg(
        long,
        value_name = "DIR",
        env = "ICOSFS_DATA_PATH",
        long_help = "A folder of the portal's own data files, read before all else; \
            without, the one that PORTAL_DATA_PATH_ICOS, _SITES or _ICOSCITIES names"
    )]
    data_path: Option<PathBuf>,
    /// Do not report to the portal which of those files are read
    #[arg(long, env = "ICOSFS_NO_USAGE_REPORT")]
    no_usage_report: bool,
    #[command(flatten)]
    files: FilesArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    login: LoginArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhenExact {
    /// Wait for the exact size: right for every program
    WhenOpen,
    /// Answer with an upper bound: for pipelines that should not wait
    Never,
}

/// A mount's checked configuration.
#[derive(Debug)]
struct Plan {
    mountpoint: PathBuf,
    cache_dir: PathBuf,
    metadata_ttl: Duration,
    exact_size: ExactSize,
    cache_size: Option<u64>,
    memory: u64,
    /// The portal's own files.
    data_folder: Option<OwnedFd>,
    report_usage: bool,
    files: FilesArgs,
    selection: Selection,
}

pub(super) fn run(global: &GlobalArgs, args: MountArgs) -> anyhow::Result<()> {
    let MountArgs {
        mountpoint,
        foreground,
        #[cfg(feature = "demo")]
        demo,
        metadata_ttl,
        exact_size,
        cache_size,
        memory,
        data_path,
        no_usage_report,
        files,
        selection,
        login,
    } = args;
    let mountpoint = free_folder(&mountpoint)?;
    if background::is_daemon() {
        background::leave_terminal();
    } else if !foreground {
        return background::start(login.read_stdin());
    }
    raise_descriptors();
    let services = global.services()?;
    let plan = Plan {
        data_folder: data_path::open(data_path, services.envri(), &mountpoint)?,
        report_usage: !no_usage_report,
        mountpoint,
        cache_dir: global.cache_dir()?,
        metadata_ttl,
        exact_size: match exact_size {
            WhenExact::WhenOpen => ExactSize::WhenOpen,
            WhenExact::Never => ExactSize::Never,
        },
        cache_size,
        memory,
        files,
        selection: selection.selection(),
    };
    let http = global.http()?;
    #[cfg(feature = "demo")]
    if demo {
        let portal = super::demo::builtin()?;
        let clients = portal.clients(http)?;
        let kept = [Service::Data, Service::Meta]
            .map(|service| plan.cache_dir.join(clients.services.host_name(service)));
        let result = serve(clients, plan);
        // Its ports, and so its cache, are never met again.
        for folder in kept {
            let _ = std::fs::remove_dir_all(folder);
        }
        return result;
    }
    let auth = login.provider(&http, &services)?;
    serve(Clients::new(http, services, auth), plan)
}

/// Reads how long metadata are believed.
fn ttl(text: &str) -> Result<Duration, String> {
    if text == "indefinite" {
        return Ok(Duration::MAX);
    }
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| "expected a number of seconds, or indefinite".to_owned())
}

/// The absolute path of `mountpoint`, if it is a folder without a mount.
fn free_folder(mountpoint: &Path) -> anyhow::Result<PathBuf> {
    let path = mount::absolute(mountpoint)
        .with_context(|| format!("cannot find {}", mountpoint.display()))?;
    if let Some(found) = mountinfo::mount_at(&path)? {
        bail!(
            "{} is mounted already ({}); unmount it with `icosfs unmount {0}`",
            path.display(),
            found.source
        );
    }
    let kind = std::fs::metadata(&path).with_context(|| {
        format!(
            "cannot mount at {}; make it with `mkdir -p`",
            path.display()
        )
    })?;
    ensure!(
        kind.is_dir(),
        "cannot mount at {}: not a folder",
        path.display()
    );
    Ok(path)
}

/// Takes as many descriptors as the system gives: shells leave programs few,
/// for the sake of those that use `select`.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::info!(%error, "no more descriptors");
    }
}

/// Puts what keeps the cache from keeping among the failures of the mount.
fn report_troubles(store: &Store, report: &Arc<Report>) {
    let report = Arc::downgrade(report);
    store.watch(move |error| {
        if let Some(report) = report.upgrade() {
            let errno = errno::of_cache(error).code();
            let reason = format!("{error}; reads go on without it");
            report.failed("keep", "cache".to_owned(), errno, reason);
        }
    });
}

/// What is settled about a mount when it begins.
fn about(services: &Services, mountpoint: PathBuf, cache: PathBuf) -> About {
    let url = |service| services.base(service).to_string();
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        portal: services.envri().name().to_owned(),
        services: mount::report::ServiceUrls {
            auth: url(Service::Auth),
            meta: url(Service::Meta),
            data: url(Service::Data),
        },
        mountpoint,
        cache,
        since: Timestamp::now(),
    }
}

/// Mounts and serves until the mount is taken away or a signal arrives.
fn serve(clients: Clients, plan: Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let Clients {
        services,
        account,
        meta,
        data,
        usage,
    } = clients;
    let root = plan.cache_dir.join(services.cache_name());
    let bounds = Bounds {
        disk: plan.cache_size.unwrap_or_else(|| default_limit(&root)),
        memory: plan.memory,
    };
    let store = Store::open(root.clone(), bounds);
    let catalog = Catalog::open(
        meta.clone(),
        &plan.cache_dir.join(services.host_name(Service::Meta)),
        plan.metadata_ttl,
        plan.selection,
    )
    .context("the catalog cannot be opened")?;
    let usage = plan.report_usage.then_some(usage);
    let folder = (plan.data_folder).map(|folder| DataFolder::new(folder, usage));
    let contents = Contents::new(meta, data, store.clone(), plan.metadata_ttl, folder);
    let about = about(&services, plan.mountpoint.clone(), root);
    let report = Arc::new(Report::new(about, account.clone()));
    report_troubles(&store, &report);
    let options = Options {
        mountpoint: plan.mountpoint.clone(),
        source: services.cache_name(),
        metadata_ttl: plan.metadata_ttl,
        exact_size: plan.exact_size,
        uid: plan.files.uid,
        gid: plan.files.gid,
        xattr: !plan.files.no_xattr,
        envri: services.envri(),
    };
    // Before the mount: a signal that arrives from now on takes it away again.
    let signals = {
        let _guard = runtime.enter();
        [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(signal)
    };
    let mounted = Mounted::new(
        Tree::new(catalog),
        Arc::new(contents),
        report,
        runtime.handle().clone(),
        &options,
    )
    .with_context(|| format!("cannot mount at {}", plan.mountpoint.display()))?;
    if let Some(account) = account {
        runtime.spawn(account.mind());
    }
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || ended.send(mounted.wait()));
    if background::is_daemon() {
        background::ready()?;
    }
    let [interrupt, terminate, hangup] = signals;
    let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
    let result = runtime.block_on(async {
        let mut end = end;
        tokio::select! {
            result = &mut end => return result,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        tracing::info!("told to end");
        if let Err(error) = mount::detach(&plan.mountpoint) {
            tracing::warn!(%error, "the mount stays behind");
        }
        // Who still reads loses the connection when this process ends.
        match tokio::time::timeout(FAREWELL, end).await {
            Ok(result) => result,
            Err(_late) => Ok(Ok(())),
        }
    });
    runtime.shutdown_background();
    match result {
        Ok(served) => served.context("the mount broke down"),
        // The thread that served it panicked.
        Err(_gone) => bail!("the mount broke down"),
    }
}
