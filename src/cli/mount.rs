//! `icosfs mount`: in the background unless asked otherwise.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use self::service::Signals;
use super::background;
use super::data_path;
use super::log::control::Control;
use super::provider::LoginArgs;
use super::selection::{FilesArgs, SelectionArgs};
use super::settings::{Clients, GlobalArgs, size};
use super::terminal::plain;
use crate::cache::{Bounds, Store, default_limit};
use crate::catalog::{Catalog, Selection};
use crate::content::{Contents, DataFolder};
use crate::mount::{self, About, Access, ExactSize, Mounted, Options, Report};
use crate::portal::http::{Http, Patience};
use crate::portal::{Service, Services};
use crate::tree::Tree;

mod access;
pub(super) mod folder;
mod service;

/// How long the portal has to answer before the mount goes without.
const GREETING: Duration = Duration::from_secs(2);
/// What `icosfs mount` takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mkdir -p ~/icos; icosfs mount ~/icos      go to the background once it answers
  icosfs mount --demo ~/icos                no login, no network
  icosfs mount --portal sites --cache-size 50G ~/sites
  icosfs mount --foreground --log-level debug ~/icos

fstab: icos /mnt/icos fuse.icosfs noauto,_netdev,x-systemd.automount 0 0")]
pub(super) struct MountArgs {
    /// An empty folder to mount at
    mountpoint: PathBuf,
    /// Stay in the foreground until ctrl-C
    #[arg(short, long)]
    foreground: bool,
    /// Options as mount(8) and fstab write them, each a flag without its
    /// dashes: `-o cache_size=5G,allow_other`
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    pub(super) options: Vec<String>,
    #[command(flatten)]
    access: access::AccessArgs,
    /// Mount a demo portal that runs within the mount's own process,
    /// whatever other portal and login are set
    #[cfg(feature = "demo")]
    #[arg(long, conflicts_with_all = ["token_file", "user"])]
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
    access: Access,
    files: FilesArgs,
    selection: Selection,
}

/// Mounts; `arguments` are those that this process was given.
pub(super) fn run(
    global: &GlobalArgs,
    args: MountArgs,
    arguments: &[OsString],
) -> anyhow::Result<()> {
    let MountArgs {
        mountpoint,
        foreground,
        options: _, // They are among the others by now.
        access,
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
    let mountpoint = folder::free(&mountpoint)?;
    let access = access.checked(&mountpoint)?;
    if !background::is_daemon() {
        access::warn(access);
        if !foreground {
            return background::start(arguments, login.read_stdin());
        }
    }
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
        access,
        files,
        selection: selection.selection(),
    };
    let http = Http::new(Patience::default()).context("cannot set up HTTPS")?;
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

/// What is settled about a mount when it begins.
fn about(
    services: &Services,
    mountpoint: PathBuf,
    cache: PathBuf,
    control: Option<&Control>,
) -> About {
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
        control: control.map(|control| control.path().to_owned()),
        since: Timestamp::now(),
    }
}

/// Mounts and serves until the mount is taken away or a signal arrives.
fn serve(clients: Clients, plan: Plan) -> anyhow::Result<()> {
    service::raise_file_limit();
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
        http,
    } = clients;
    let greeting = {
        let (http, services) = (http.clone(), services.clone());
        runtime.spawn(async move { http.probe(&services, Service::Meta, GREETING).await })
    };
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
    let contents = Contents::new(meta, data, store, plan.metadata_ttl, folder);
    let control = Control::listen(&plan.cache_dir);
    let about = about(&services, plan.mountpoint.clone(), root, control.as_ref());
    let report = Arc::new(Report::new(about, account.clone(), http.clone()));
    let options = Options {
        mountpoint: plan.mountpoint.clone(),
        source: services.cache_name(),
        metadata_ttl: plan.metadata_ttl,
        exact_size: plan.exact_size,
        access: plan.access,
        uid: plan.files.uid,
        gid: plan.files.gid,
        xattr: !plan.files.no_xattr,
        envri: services.envri(),
    };
    // Before the mount: a signal that arrives from now on takes it away again.
    let signals = Signals::watch(&runtime)?;
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
    if let Ok(Err(error)) = runtime.block_on(greeting) {
        eprintln!(
            "icosfs: {}; mounted all the same: what the cache holds can be read, and the rest once the portal answers",
            plain(&error.to_string())
        );
    }
    service::serve(runtime, mounted, signals)
}
