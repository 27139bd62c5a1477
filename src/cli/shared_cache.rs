//! Options of the cache that the machines of a cluster share.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use icos_files::SafeFolder;

use super::settings::Clients;
use super::warning::warning;
use crate::cluster::{
    ClusterKey, LeaseServerOptions, SharedCache, SharedCacheOptions, SharedCacheRole,
    SharedLocation, read_password,
};
use crate::content::Sharing;

/// How long to wait at the start for the folder of a store.
const START_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the shared cache is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Shared cache")]
pub(super) struct SharedLocationArgs {
    /// `file:///DIR` or `s3://BUCKET`
    ///
    /// Machines share downloads in this folder or bucket (`s3://BUCKET/PREFIX`).
    ///
    /// Each machine keeps its own cache, and looks into the shared one before it sends a
    /// request to the portal. Every user needs a login, and has to accept the licence;
    /// reads of shared data are reported to the portal. Without --shared-key-file, only
    /// originals are shared, and each is read completely before its first byte is used.
    /// S3 uses the variables and files of the AWS tools: `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, and `AWS_ALLOW_HTTP=true` for
    /// plain HTTP.
    #[arg(long, value_name = "URL", env = "ICOSFS_SHARED_CACHE")]
    pub(super) shared_cache: Option<SharedLocation>,
}

/// Options of the shared cache.
#[allow(clippy::struct_field_names, reason = "the names of the flags")]
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Shared cache")]
pub(super) struct SharedCacheArgs {
    #[command(flatten)]
    location: SharedLocationArgs,
    /// Key from `icosfs cluster init`
    ///
    /// It proves what other machines wrote.
    #[arg(long, value_name = "FILE", env = "ICOSFS_SHARED_KEY_FILE")]
    shared_key_file: Option<PathBuf>,
    /// `writer` or `reader`
    ///
    /// What to do with the shared cache: `writer` reads it, and writes what it downloads;
    /// `reader` only reads it. By default `writer`; with a public key, `reader`.
    #[arg(
        long,
        value_name = "ROLE",
        value_enum,
        hide_possible_values = true,
        env = "ICOSFS_SHARED_CACHE_ROLE",
        hide_short_help = true
    )]
    shared_cache_role: Option<RoleArg>,
    /// A server of Redis for leases
    ///
    /// Agree by this server which machine downloads, instead of by the shared cache:
    /// `redis://host:6379/0`, `rediss://host` with TLS. For stores that ignore conditional writes, such as `rclone serve s3`. If the server
    /// fails, machines download for themselves.
    #[arg(
        long,
        value_name = "URL",
        requires = "shared_cache",
        env = "ICOSFS_SHARED_LEASES",
        hide_short_help = true
    )]
    // Not parsed by clap, which would show a password in its message.
    shared_leases: Option<String>,
    /// A file with its password
    ///
    /// The password of the server of --shared-leases.
    #[arg(
        long,
        value_name = "FILE",
        env = "ICOSFS_SHARED_LEASES_PASSWORD_FILE",
        hide_short_help = true
    )]
    shared_leases_password_file: Option<PathBuf>,
    /// Patience in ms
    ///
    /// After so many milliseconds without progress, the portal is used instead of the shared
    /// cache.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 800,
        value_parser = clap::value_parser!(u64).range(50..=600_000),
        env = "ICOSFS_SHARED_CACHE_TIMEOUT",
        hide_short_help = true
    )]
    shared_cache_timeout: u64,
}

/// Values of `--shared-cache-role`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    Writer,
    Reader,
}

impl SharedCacheArgs {
    /// Opens the shared cache, if there is one. It may use a quarter of `memory`, and keeps
    /// what is not proven yet in `scratch`.
    ///
    /// Fails if its folder does not exist or the key cannot be used. If the folder does not
    /// respond, it is used as soon as it does.
    pub(super) fn open(self, memory: u64, scratch: &Path) -> anyhow::Result<Option<SharedCache>> {
        let Self {
            location: SharedLocationArgs { shared_cache },
            shared_key_file,
            shared_cache_role,
            shared_leases,
            shared_leases_password_file,
            shared_cache_timeout,
        } = self;
        let Some(location) = shared_cache else {
            return Ok(None);
        };
        let key = match &shared_key_file {
            Some(path) => Some(ClusterKey::read(path).with_context(|| {
                format!(
                    "cannot use the key in {} (--shared-key-file)",
                    path.display()
                )
            })?),
            None => None,
        };
        let is_public = key.as_ref().is_some_and(ClusterKey::is_public);
        let role = match shared_cache_role {
            Some(RoleArg::Writer) if is_public => bail!(
                "the file of --shared-key-file has a public key, which can only read; give the writer's key, or --shared-cache-role reader"
            ),
            Some(RoleArg::Reader) => SharedCacheRole::Reader,
            None if is_public => SharedCacheRole::Reader,
            Some(RoleArg::Writer) | None => SharedCacheRole::Writer,
        };
        let password = match &shared_leases_password_file {
            Some(path) => Some(read_password(path).with_context(|| {
                format!(
                    "cannot use the password in {} (--shared-leases-password-file)",
                    path.display()
                )
            })?),
            None => None,
        };
        let leases = match shared_leases {
            Some(url) => {
                let location = url.parse().context("cannot use --shared-leases")?;
                Some(LeaseServerOptions { location, password })
            }
            None => None,
        };
        expect_folder(&location)?;
        let shown = location.to_string();
        let cache = SharedCache::new(SharedCacheOptions {
            location,
            leases,
            key,
            role,
            timeout: Duration::from_millis(shared_cache_timeout),
            memory: memory / 4,
            scratch: scratch.to_owned(),
        });
        let cache = cache.with_context(|| format!("cannot use {shown} (--shared-cache)"))?;
        Ok(Some(cache))
    }

    /// The same for downloads with the login of `clients`.
    pub(super) fn sharing(
        self,
        memory: u64,
        scratch: &Path,
        clients: &Clients,
        reports_usage: bool,
    ) -> anyhow::Result<Option<Sharing>> {
        let Some(cache) = self.open(memory, scratch)? else {
            return Ok(None);
        };
        let Some(account) = clients.account.clone() else {
            warning!("--shared-cache is left out: shared data need a login; see `icosfs login`");
            return Ok(None);
        };
        let host = clients.services.cache_name();
        let usage = reports_usage.then(|| clients.usage.clone());
        Ok(Some(Sharing::new(cache, account, host, usage)))
    }
}

/// Fails if it is a folder that does not exist.
fn expect_folder(location: &SharedLocation) -> anyhow::Result<()> {
    let SharedLocation::Folder(path) = location else {
        return Ok(());
    };
    let (sender, receiver) = mpsc::channel();
    let asked = path.clone();
    // The thread is abandoned if the file system hangs.
    std::thread::Builder::new()
        .spawn(move || {
            let is_folder = std::fs::metadata(&asked).and_then(|found| {
                if found.is_dir() {
                    SafeFolder::open(&asked)?;
                }
                Ok(found.is_dir())
            });
            // Fails if the caller has given up.
            let _ = sender.send(is_folder);
        })
        .context("cannot start a thread")?;
    let shown = path.display();
    match receiver.recv_timeout(START_TIMEOUT) {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => bail!("expected a folder at {shown} (--shared-cache), found a file"),
        Ok(Err(error)) => Err(error).with_context(|| {
            format!(
                "cannot use the folder {shown} (--shared-cache); create it with access for all its users"
            )
        }),
        Err(_timeout) => {
            warning!("the folder {shown} (--shared-cache) does not respond; it is used once it does");
            Ok(())
        }
    }
}
