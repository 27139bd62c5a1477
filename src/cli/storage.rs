//! Options of commands that read data: bounds of cache and memory, downloads,
//! and the portal's own data folder on this machine.

use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use icos_files::{SafeFolder, UnsafeFile};

use super::settings::{Clients, bytes, size};
use super::shared_cache::SharedCacheArgs;
use super::warning::warning;
use crate::cache::{CacheLimits, Store, default_limit};
use crate::content::{Contents, DataFolder, DownloadOptions};
use crate::mount::{OpenFolderError, open_folder_outside_mounts};
use icos_portal::Envri;
use icos_portal::http::{ObjectCosts, TrafficLimits};

/// How long a command waits, before it exits, for downloaded bytes to be
/// written to the cache.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Options for the places that data are read from and cached in.
#[derive(Args, Debug)]
#[command(next_help_heading = "Cache and downloads")]
pub(super) struct StorageArgs {
    /// Size of the cache [default: disk / 10]
    ///
    /// The greatest one, such as 20G. The default is a tenth of the file system with the cache folder, at least 1G.
    #[arg(long, value_name = "SIZE", value_parser = size, env = "ICOSFS_CACHE_SIZE")]
    cache_size: Option<u64>,
    /// Maximum memory for buffers
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M", env = "ICOSFS_MEMORY")]
    memory: u64,
    /// Connections for a large file
    ///
    /// For links on which a single connection is slow. Each connection counts as a
    /// download in the portal's statistics.
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        env = "ICOSFS_CONNECTIONS"
    )]
    connections: NonZeroU32,
    /// Largest file to get whole
    ///
    /// An original of at most this size is downloaded completely after several scattered
    /// reads. Of larger ones, only the ranges that are read are downloaded.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "1G",
          env = "ICOSFS_WHOLE_FILE_LIMIT")]
    whole_file_limit: u64,
    /// Cost limit of an object
    ///
    /// How many times the requests and bytes of one download an object may cost within an
    /// hour; further requests for it are not sent.
    ///
    /// A last bound, which no use comes near that a network and a cache suit: on a
    /// connection that breaks off again and again, or with a cache that is too
    /// small for a file that is read many times, reads fail instead of requesting
    /// the same bytes without end. An object may cost N times 16 requests and one
    /// more per MiB, and N times its length and 8 MiB.
    #[arg(
        long,
        value_name = "N",
        default_value_t = ObjectCosts::DEFAULT_OVERHEAD,
        env = "ICOSFS_MAX_OVERHEAD",
        hide_short_help = true
    )]
    max_overhead: NonZeroU32,
    /// Maximum bytes of data per second, e.g. 2M
    #[arg(long, value_name = "SIZE", value_parser = rate, env = "ICOSFS_LIMIT_RATE")]
    limit_rate: Option<NonZeroU64>,
    /// Maximum requests for data per minute
    ///
    /// Further ones wait.
    #[arg(long, value_name = "N", env = "ICOSFS_LIMIT_REQUESTS")]
    limit_requests: Option<NonZeroU32>,
    /// A folder of the portal's own data files
    #[arg(
        long,
        value_name = "DIR",
        env = "ICOSFS_DATA_PATH",
        long_help = "A folder of the portal's own data files, which is read before cache and \
            portal [default: PORTAL_DATA_PATH_ICOS, _SITES or _ICOSCITIES, if set]"
    )]
    data_path: Option<PathBuf>,
    /// Do not report reads without a download
    ///
    /// That is, reads of the files of --data-path and of the shared cache.
    #[arg(long, env = "ICOSFS_NO_USAGE_REPORT")]
    no_usage_report: bool,
    #[command(flatten)]
    shared: SharedCacheArgs,
}

impl StorageArgs {
    /// Opens the cache below `cache_dir` for the repository of `clients`, and the contents
    /// that they download. Landing pages are cached for `ttl`. The data folder is left out
    /// if it lies in a mount of icosfs or in `planned`, where a mount is about to be made.
    pub(super) fn open(
        self,
        cache_dir: &Path,
        clients: &Clients,
        ttl: Duration,
        planned: Option<&Path>,
    ) -> anyhow::Result<(Store, Contents)> {
        let Self {
            cache_size,
            memory,
            connections,
            whole_file_limit,
            max_overhead,
            limit_rate,
            limit_requests,
            data_path,
            no_usage_report,
            shared,
        } = self;
        let folder = open_data_folder(data_path, clients.services.envri(), planned)?;
        let usage = (!no_usage_report).then(|| clients.usage.clone());
        let folder = folder.map(|folder| DataFolder::new(folder, usage));
        let root = clients.cache_in(cache_dir);
        require_private_cache(&root)?;
        let sharing = shared.sharing(memory, &root, clients, !no_usage_report)?;
        let limits = CacheLimits {
            disk: cache_size.unwrap_or_else(|| default_limit(&root)),
            memory,
        };
        let store = Store::open(root, limits);
        let costs = Arc::new(ObjectCosts::new(max_overhead));
        let (meta, data) = (clients.meta.clone(), clients.data.clone());
        let data = data.with_costs(costs).with_limits(TrafficLimits {
            bytes_per_second: limit_rate,
            requests_per_minute: limit_requests,
        });
        let downloads = DownloadOptions {
            connections,
            whole_file_limit,
        };
        let sharing = sharing.map(Arc::new);
        let contents = Contents::new(meta, data, store.clone(), ttl, folder, sharing);
        Ok((store, contents.with_download_options(downloads)))
    }
}

/// Parses a rate, in bytes per second. At a lower one, many downloads at once would
/// make no progress.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let rate = bytes(text)?;
    (NonZeroU64::new(rate).filter(|_| rate >= 64 << 10))
        .ok_or_else(|| "expected at least 64K".to_owned())
}

/// Opens the folder given by `--data-path`, or else by the environment variable
/// that the portal's Python library also uses. Returns `None` if no folder is
/// given, or, after a warning, if the folder lies in a mount of icosfs or in
/// `planned`, where a mount is about to be made.
fn open_data_folder(
    flag: Option<PathBuf>,
    envri: Envri,
    planned: Option<&Path>,
) -> anyhow::Result<Option<OwnedFd>> {
    let variable = envri.data_path_variable();
    let (path, source) = match flag {
        Some(path) => (path, "--data-path"),
        None => match std::env::var_os(variable).filter(|path| !path.is_empty()) {
            Some(path) => (path.into(), variable),
            None => return Ok(None),
        },
    };
    match open_folder_outside_mounts(&path, planned) {
        Ok(folder) => Ok(Some(folder)),
        // The variable is set for many programs, so it must not stop this one.
        Err(error) if source == variable || matches!(error, OpenFolderError::Inside { .. }) => {
            warning!("{source} is left out: {error}");
            Ok(None)
        }
        Err(error) => Err(error).context("bad --data-path"),
    }
}

/// Fails if other users can write to the cache or can replace it: they could insert
/// bytes that readers would see, or links to files that would be overwritten. A
/// missing folder is created with access for its owner only.
pub(super) fn require_private_cache(root: &Path) -> anyhow::Result<()> {
    match SafeFolder::private(root, false) {
        Err(error) if UnsafeFile::is_cause_of(&error) => {
            Err(error).context("the cache cannot be used; see --cache-dir")
        }
        // The cache works in memory if its folder cannot be created.
        _ => Ok(()),
    }
}
