//! `icosfs mount`: in the background unless asked otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::background;
use super::provider::LoginArgs;
use super::selection::{FilesArgs, SelectionArgs};
use super::settings::{Clients, GlobalArgs};
use super::storage::{Storage, StorageArgs};
use crate::catalog::{Catalog, Selection};
use crate::mount::{self, About, ExactSize, Mounted, Options, Report, mountinfo};
use crate::portal::http::{Http, Patience};
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
    #[command(flatten)]
    storage: StorageArgs,
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
    storage: Storage,
    metadata_ttl: Duration,
    exact_size: ExactSize,
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
        storage,
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
    let services = global.services()?;
    let plan = Plan {
        storage: storage.check(global.cache_dir()?, services.envri(), Some(&mountpoint))?,
        mountpoint,
        metadata_ttl,
        exact_size: match exact_size {
            WhenExact::WhenOpen => ExactSize::WhenOpen,
            WhenExact::Never => ExactSize::Never,
        },
        files,
        selection: selection.selection(),
    };
    let http = Http::new(Patience::default()).context("cannot set up HTTPS")?;
    #[cfg(feature = "demo")]
    if demo {
        let portal = super::demo::builtin()?;
        let clients = portal.clients(http)?;
        let kept = [Service::Data, Service::Meta].map(|service| {
            plan.storage
                .cache_dir()
                .join(clients.services.host_name(service))
        });
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
    let root = clients.cache_in(plan.storage.cache_dir());
    let catalog = Catalog::open(
        clients.meta.clone(),
        &(plan.storage.cache_dir()).join(clients.services.host_name(Service::Meta)),
        plan.metadata_ttl,
        plan.selection,
    )
    .context("the catalog cannot be opened")?;
    let contents = plan.storage.contents(&clients, plan.metadata_ttl);
    let Clients {
        services, account, ..
    } = clients;
    let about = about(&services, plan.mountpoint.clone(), root);
    let report = Arc::new(Report::new(about, account.clone()));
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
