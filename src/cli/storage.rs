//! Options of commands that read data: how much is kept, and what is on this
//! machine already.

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use nix::unistd::geteuid;

use super::data_folder;
use super::settings::{Clients, bytes, size};
use crate::cache::{CacheLimits, Store, default_limit};
use crate::content::{Contents, DataFolder, DownloadOptions};
use icos_portal::Envri;

/// How long a command that ends waits for the disk to take what was read last.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where bytes are had before the portal is asked.
#[derive(Args, Debug)]
pub(super) struct StorageArgs {
    /// The most that is kept on the disk, e.g. 20G; a tenth of the file system
    /// (at least 1G) without
    #[arg(long, value_name = "SIZE", value_parser = size, env = "ICOSFS_CACHE_SIZE")]
    cache_size: Option<u64>,
    /// The most memory for buffers
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M", env = "ICOSFS_MEMORY")]
    memory: u64,
    /// Fetch large originals over so many connections at once, for links on
    /// which one is slow; each counts as a download in the portal's statistics
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        env = "ICOSFS_CONNECTIONS"
    )]
    connections: NonZeroU32,
    /// Never fetch all of an original larger than this because of scattered
    /// reads; smaller ones are, once they were asked for often
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "1G",
          env = "ICOSFS_WHOLE_FILE_LIMIT")]
    whole_file_limit: u64,
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
}

/// The same, checked.
#[derive(Debug)]
pub(super) struct StorageConfig {
    cache_dir: PathBuf,
    cache_size: Option<u64>,
    memory: u64,
    fetch: DownloadOptions,
    /// The portal's own files.
    data_folder: Option<std::os::fd::OwnedFd>,
    report_usage: bool,
}

impl StorageArgs {
    /// Checks them. No folder may lie in a mount of icosfs, or in `planned`,
    /// where one is to be.
    pub(super) fn check(
        self,
        cache_dir: PathBuf,
        envri: Envri,
        planned: Option<&Path>,
    ) -> anyhow::Result<StorageConfig> {
        let Self {
            cache_size,
            memory,
            connections,
            whole_file_limit,
            data_path,
            no_usage_report,
        } = self;
        Ok(StorageConfig {
            data_folder: data_folder::open(data_path, envri, planned)?,
            cache_dir,
            cache_size,
            memory,
            fetch: DownloadOptions {
                connections,
                whole_file_limit,
            },
            report_usage: !no_usage_report,
        })
    }
}

impl StorageConfig {
    /// The folder of all repositories' caches.
    pub(super) fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// Where what `clients` deliver is kept.
    pub(super) fn store(&self, clients: &Clients) -> anyhow::Result<Store> {
        let root = clients.cache_in(&self.cache_dir);
        expect_ours_alone(&root)?;
        let limits = CacheLimits {
            disk: self.cache_size.unwrap_or_else(|| default_limit(&root)),
            memory: self.memory,
        };
        Ok(Store::open(root, limits))
    }

    /// What `clients` deliver, kept in `store`. Landing pages are believed for
    /// `ttl`.
    pub(super) fn contents(self, clients: &Clients, store: Store, ttl: Duration) -> Contents {
        let usage = self.report_usage.then(|| clients.usage.clone());
        let folder = (self.data_folder).map(|folder| DataFolder::new(folder, usage));
        let (meta, data) = (clients.meta.clone(), clients.data.clone());
        Contents::new(meta, data, store, ttl, folder).with_download_options(self.fetch)
    }
}

/// What others can write to, they can fill with bytes that would be shown, and
/// with links to files that would be overwritten.
fn expect_ours_alone(root: &Path) -> anyhow::Result<()> {
    // Not there yet, it will be made for its owner alone.
    let Ok(found) = fs::metadata(root) else {
        return Ok(());
    };
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    // An administrator may provide one that can only be read.
    if [geteuid().as_raw(), 0].contains(&owner) && mode & 0o022 == 0 {
        return Ok(());
    }
    bail!(
        "expected a cache that only you can write to, found {} of user {owner} with mode {mode:04o}; \
         take others' rights away (chmod go-w), or name another folder with --cache-dir",
        root.display()
    )
}
