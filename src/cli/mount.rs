//! `icosfs mount`: checks the flags, then serves the mount in this process or in a
//! background process (`background`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;

use super::background;
use super::credentials::CredentialArgs;
use super::daemon::{DaemonParts, ErrorCodes, warn_if_unreachable};
use super::selection::{FilesArgs, SelectionArgs};
use super::serving::{ExactSizeArg, ServingArgs};
use super::settings::{Clients, GlobalArgs};
use super::signals::Signals;
use super::storage::StorageArgs;
use super::warning::warning;
use crate::catalog::ObjectSelection;
use crate::daemon::FrontEnd;
use crate::mount::{
    Access, Crawlers, ExactSize, InodeWidth, MountOptions, MountSession, errno, missing_requirement,
};

mod greeting;
mod lifecycle;
pub(super) mod mountpoint;

/// Arguments of `icosfs mount`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs mount ~/icos                       return once the mount is ready
  icosfs mount --demo ~/icos                no login, no network
  icosfs mount --portal sites --cache-size 50G ~/sites
  icosfs mount --foreground --log-level debug ~/icos

fstab: icos /mnt/icos fuse.icosfs noauto,_netdev,x-systemd.automount 0 0

The manual page describes the options at length. Each can be set as a variable,
e.g. ICOSFS_CACHE_SIZE, and in config.toml (`icosfs config show`).")]
#[allow(clippy::struct_excessive_bools)] // Each is a flag.
pub(super) struct MountArgs {
    /// An empty folder to mount at
    mountpoint: PathBuf,
    /// Stay in the foreground until ctrl-C
    #[arg(short, long)]
    foreground: bool,
    /// Do not print what was mounted
    #[arg(short, long)]
    quiet: bool,
    /// Options as in fstab: `cache_size=5G,allow_other`
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    pub(super) options: Vec<String>,
    /// Device name in the mount table: the source that fstab names
    #[arg(long, value_name = "NAME", hide = true)]
    device: Option<String>,
    /// Give all users access, with your login
    ///
    /// Note that the data licence is personal.
    #[arg(long, env = "ICOSFS_ALLOW_OTHER", conflicts_with = "allow_root")]
    allow_other: bool,
    /// Give root access
    #[arg(long, env = "ICOSFS_ALLOW_ROOT")]
    allow_root: bool,
    /// Mount a demo portal, without login or network
    ///
    /// It runs in the process of the mount, and overrides the settings of portal and login.
    #[cfg(feature = "demo")]
    #[arg(long, conflicts_with_all = ["token_file", "user"])]
    demo: bool,
    #[command(flatten)]
    serving: ServingArgs,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    files: FilesArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    login: CredentialArgs,
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
        quiet,
        options: _, // `cli::parse` has turned them into flags.
        device,
        allow_other,
        allow_root,
        #[cfg(feature = "demo")]
        demo,
        serving,
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
            warning!(
                "every user of this machine can read this mount, and does so with your login; the data licence that you accepted is personal"
            );
        }
        if !foreground {
            background::start(arguments, login.read_stdin(), "mount")?;
            if !quiet {
                greeting::print(&mountpoint)?;
            }
            return Ok(());
        }
    }
    let greets = foreground && !quiet;
    let cache_dir = global.cache_dir()?;
    #[cfg(feature = "demo")]
    let demo = demo || global.is_demo();
    #[cfg(not(feature = "demo"))]
    let demo = false;
    let mount = |clients: Clients| {
        let options = MountOptions {
            mountpoint,
            source: device.unwrap_or_else(|| clients.services.cache_name()),
            metadata_ttl: serving.metadata_ttl,
            exact_size: match serving.exact_size {
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
            greets,
        )
    };
    #[cfg(feature = "demo")]
    if demo {
        let (_portal, clients) = super::demo::start_embedded(global.http()?)?;
        let folders = super::demo::cache_folders(&clients.services, &cache_dir);
        let result = mount(clients);
        super::demo::remove_cache(&folders);
        return result;
    }
    mount(global.clients(Some(login))?)
}

/// Mounts and serves until the file system is unmounted or a signal arrives.
fn serve(
    clients: Clients,
    cache_dir: &Path,
    storage: StorageArgs,
    selection: ObjectSelection,
    options: &MountOptions,
    greets: bool,
) -> anyhow::Result<()> {
    let (ttl, mountpoint) = (options.metadata_ttl, &options.mountpoint);
    let front = FrontEnd::Mount {
        mountpoint: mountpoint.clone(),
    };
    let codes = ErrorCodes {
        of_cache: |error| errno::name(errno::of_cache(error)),
        of_catalog: |error| errno::name(errno::of_catalog(error)),
    };
    let DaemonParts {
        runtime,
        tree,
        contents,
        store,
        report,
        account,
        meta_probe,
        _control,
    } = DaemonParts::open(clients, cache_dir, storage, selection, ttl, front, codes)?;
    // Before the mount: a signal that arrives from now on unmounts it again.
    let signals = Signals::watch(&runtime)?;
    let shared = Arc::clone(&contents);
    let mounted = MountSession::new(tree, contents, report, runtime.handle().clone(), options)
        .with_context(|| format!("cannot mount at {}", mountpoint.display()))?;
    if let Some(account) = account {
        runtime.spawn(account.monitor());
    }
    warn_if_unreachable(&runtime, meta_probe);
    if greets {
        greeting::print(mountpoint)?;
    }
    lifecycle::serve(runtime, mounted, signals, &store, &shared)
}
