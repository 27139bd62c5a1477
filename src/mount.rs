//! The kernel side: translates FUSE requests into calls of [`Tree`] and
//! [`Contents`], and their results into FUSE replies.
//!
//! # Threads and tasks
//!
//! - `EVENT_LOOPS` threads of fuser receive requests and call the callbacks
//!   in `adapter`. A callback never waits for the network; from the disk it
//!   reads at most a few rows of the catalog's database.
//! - Tasks on the tokio runtime produce the replies that may have to wait. A
//!   task owns the reply, and watches whether its caller is interrupted
//!   (`interrupt`).
//! - One task (`idle`) closes idle files and returns memory.
//! - Threads of tokio's blocking pool count objects for `statfs`, close idle
//!   files and read the values for `.icosfs/status.json`.
//! - One thread makes the kernel drop its pages of corrupt files
//!   (`page_invalidator`).
//!
//! | callback | replies at once | hands the reply to a task |
//! |---|---|---|
//! | `lookup` | the catalog knows the name without a request to the portal | otherwise |
//! | `getattr` | the exact size is known, or need not be: the file is closed (unless `ExactSize::Always`), or a CSV with `ExactSize::Never` | otherwise |
//! | `open` | `README.md` | all other files; interruptible only for `.icosfs/refresh` |
//! | `read` | `README.md`, control files | all other files |
//! | `opendir`, `statfs` | | always |
//! | `readdir`, `readdirplus` | the listing has entries after the offset, or is complete | the listing is still being downloaded |
//! | `getxattr` | the catalog has the value | the value is on the landing page |
//! | `listxattr`, `release`, `releasedir`, `forget`, `flush`, `access` | always | |
//!
//! # Locks
//!
//! The locks of this module (`inodes`, `handles`, `stat_ahead`, the totals in `mount_state`,
//! the failures in `report`) are leaves: code that holds one of them takes no
//! other lock, does no I/O, does not notify the kernel, and does not await.
//!
//! # Errors
//!
//! Only [`errno`] turns an error into an errno. `report` records the reason,
//! which users read in `.icosfs/errors` and by `icosfs status`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};

use crate::content::Contents;
use crate::daemon::DaemonReport;
use crate::tree::Tree;

mod adapter;
mod attributes;
mod crawlers;
mod directory_reply;
pub mod errno;
mod handles;
mod host_check;
mod idle;
mod inode_numbers;
mod inodes;
mod interrupt;
mod mount_state;
pub mod mountinfo;
mod open;
mod options;
mod outside_mounts;
mod page_invalidator;
mod read;
mod request_trace;
mod stat_ahead;
mod unmount;
mod xattrs;

pub use crawlers::Crawlers;
pub use host_check::{MissingRequirement, missing_requirement};
pub use options::{Access, ExactSize, InodeWidth, MountOptions};
pub use outside_mounts::{OpenFolderError, open_folder_outside_mounts};
pub use unmount::{UnmountError, detach, detach_mount, unmount};

use adapter::Adapter;
use mount_state::MountState;
use mountinfo::{MountEntry, SUBTYPE};

/// Number of threads that receive requests from the kernel. They never wait, so
/// that a few suffice on any machine.
const EVENT_LOOPS: usize = 4;

/// The kernel's readahead window in KiB. Its default of 128 causes eight times as
/// many requests. One request is never longer than a MiB.
const READ_AHEAD_KIB: u32 = 1024;

/// The kernel's limit of symbolic links in a path.
const LINKS: usize = 40;

/// An active mount. It serves requests until it is unmounted.
#[derive(Debug)]
pub struct MountSession {
    session: BackgroundSession,
    entry: Option<MountEntry>,
    refresher: Refresher,
}

/// Refreshes the lists of a mount.
#[derive(Clone, Debug)]
pub struct Refresher(Weak<MountState>);

impl Refresher {
    /// Downloads all stored lists again. A failure is in the mount's report.
    pub async fn refresh(&self) {
        if let Some(state) = self.0.upgrade() {
            // Reported already.
            let _ = state.refresh().await;
        }
    }
}

impl MountSession {
    /// Mounts the file system and starts to serve requests. Replies that have to
    /// wait are produced by tasks on `runtime`.
    ///
    /// # Errors
    ///
    /// The error of the operating system or of `fusermount3`.
    pub fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<DaemonReport>,
        runtime: tokio::runtime::Handle,
        options: &MountOptions,
    ) -> io::Result<Self> {
        let state = Arc::new(MountState::new(tree, contents, report, runtime, options)?);
        crate::daemon::idle::spawn_closer(&state, &state.runtime, state.released.subscribe());
        let adapter = Adapter(Arc::clone(&state));
        let config = config(options);
        let serve = |session: Session<Adapter>| {
            let _ = state.notifier.set(session.notifier());
            session.spawn()
        };
        let session = match host_check::mount_as_root(options)? {
            Some(device) => {
                let session = Session::from_fd(adapter, device, config.acl, config);
                session.and_then(serve).inspect_err(|_| {
                    let _ = detach(&options.mountpoint);
                })?
            }
            None => serve(Session::new(adapter, &options.mountpoint, &config)?)?,
        };
        let entry = mountinfo::mount_at(&options.mountpoint)?;
        if let Some(entry) = &entry {
            raise_readahead(entry);
        }
        let refresher = Refresher(Arc::downgrade(&state));
        Ok(Self {
            session,
            entry,
            refresher,
        })
    }

    /// The mount's entry in the kernel's mount table, if it was found there.
    #[must_use]
    pub fn entry(&self) -> Option<MountEntry> {
        self.entry.clone()
    }

    /// A handle to refresh the lists.
    #[must_use]
    pub fn refresher(&self) -> Refresher {
        self.refresher.clone()
    }

    /// Waits until the file system is unmounted, by this process or another.
    ///
    /// # Errors
    ///
    /// The error that ended an event loop.
    pub fn wait(self) -> io::Result<()> {
        // fuser unmounts only what is still mounted.
        self.session.join()
    }
}

/// Raises the readahead of `mount` by its file in `/sys`, since the FUSE protocol
/// cannot negotiate more than the default. Without permission to write that
/// file, the default stays.
fn raise_readahead(mount: &MountEntry) {
    let setting = format!("/sys/class/bdi/{}/read_ahead_kb", mount.device);
    if let Err(error) = std::fs::write(&setting, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%error, setting, "cannot raise the readahead");
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
        MountOption::FSName(options.source.clone()),
        // As root, fuser drops its own `Subtype`.
        MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
    ];
    config.acl = match options.access {
        Access::Owner => SessionACL::Owner,
        Access::OwnerAndRoot => SessionACL::RootAndOwner,
        Access::Everyone => SessionACL::All,
    };
    config.n_threads = Some(EVENT_LOOPS);
    config.clone_fd = true;
    config
}

/// Returns `path` as an absolute path without symbolic links. Does not access the
/// file at `path` itself: on a dead mount, every access to it fails.
///
/// # Errors
///
/// The errors of `canonicalize` on the parent folder, and ELOOP.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return path.canonicalize();
        };
        let folder = parent.canonicalize()?;
        path = folder.join(name);
        // Accesses the file system of the parent folder only.
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_not_a_link) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}
