//! The kernel's side: requests become questions to [`Tree`] and [`Contents`],
//! answers become replies.
//!
//! No callback waits for the network: what is not in memory is handed, with
//! its owned reply, to a tokio task. Only here do errors become errnos.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};

use crate::content::Contents;
use crate::tree::Tree;
use icos_portal::Envri;

mod adapter;
mod attributes;
mod directory_reply;
pub mod errno;
mod handles;
mod host_check;
mod idle;
mod inodes;
mod interrupt;
mod mount_state;
pub mod mountinfo;
mod outside_mounts;
mod read;
mod readahead;
pub mod report;
mod request_trace;
mod unmount;
mod xattrs;

pub use host_check::{MissingRequirement, missing_requirement};
pub use outside_mounts::{OpenFolderError, open_folder_outside_mounts};
pub use report::{MountInfo, MountReport, Operation};
pub use unmount::{UnmountError, detach, detach_mount, unmount};

use adapter::Adapter;
use mountinfo::MountEntry;

/// The file system type that `findmnt -t fuse.icosfs` looks for, without
/// `fuse.`.
pub const SUBTYPE: &str = "icosfs";

/// Threads that take requests from the kernel. They only take and hand on, so
/// a few suffice on any machine.
const EVENT_LOOPS: usize = 4;

/// When `fstat` on an open file of unknown length answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExactSize {
    /// Once the length is known, however long that takes: right for every
    /// program.
    #[default]
    WhenOpen,
    /// At once, with a bound: for pipelines that ask and should not wait.
    Never,
}

/// Who may look into a mount.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// Who mounted it.
    #[default]
    Owner,
    /// Root, too.
    OwnerAndRoot,
    /// All users of the machine.
    Everyone,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Where.
    pub mountpoint: PathBuf,
    /// What `mount` and `df` show as the device, e.g. the portal's host.
    pub source: String,
    /// How long metadata may be cached by the kernel.
    pub metadata_ttl: Duration,
    /// When `fstat` on an open file of unknown length answers.
    pub exact_size: ExactSize,
    /// Who may look into it.
    pub access: Access,
    /// Who owns the files, if not whoever mounts.
    pub uid: Option<u32>,
    /// Their group, if not that of whoever mounts.
    pub gid: Option<u32>,
    /// Whether files have extended attributes.
    pub xattr: bool,
    /// Whose objects they are.
    pub envri: Envri,
}

/// A mount that serves requests until it is unmounted.
#[derive(Debug)]
pub struct MountSession {
    session: BackgroundSession,
    entry: Option<MountEntry>,
}

impl MountSession {
    /// Mounts, and begins to serve: `runtime` carries all that waits.
    ///
    /// # Errors
    ///
    /// What the operating system or `fusermount3` says.
    pub fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<MountReport>,
        runtime: tokio::runtime::Handle,
        options: &MountOptions,
    ) -> io::Result<Self> {
        let notifier = Arc::new(std::sync::OnceLock::new());
        let adapter = Adapter::new(
            tree,
            contents,
            report,
            runtime,
            options,
            Arc::clone(&notifier),
        );
        let config = config(options);
        let session = match host_check::mount_as_root(options)? {
            Some(device) => {
                let session = Session::from_fd(adapter, device, config.acl, config);
                session.inspect_err(|_| {
                    let _ = detach(&options.mountpoint);
                })?
            }
            None => Session::new(adapter, &options.mountpoint, &config)?,
        };
        // Requests are answered only once the loops run, below.
        let _ = notifier.set(session.notifier());
        let session = session.spawn()?;
        let entry = mountinfo::mount_at(&options.mountpoint)?;
        if let Some(entry) = &entry {
            readahead::raise(entry);
        }
        Ok(Self { session, entry })
    }

    /// Its line in the table of mounts.
    #[must_use]
    pub fn entry(&self) -> Option<MountEntry> {
        self.entry.clone()
    }

    /// Waits until the mount is gone, whoever takes it away.
    pub fn wait(self) -> io::Result<()> {
        let mut session = self.session;
        let guard = std::mem::replace(&mut session.guard, std::thread::spawn(|| Ok(())));
        let served = guard.join();
        // fuser would unmount by path when it drops this, whatever is mounted
        // there by now.
        std::mem::forget(session);
        served.unwrap_or_else(|_panic| Err(io::Error::other("a thread of the mount panicked")))
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

/// `path` without links, and without looking at what it names: a dead mount
/// can be named, but not looked at.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return path.canonicalize();
        };
        let folder = parent.canonicalize()?;
        path = folder.join(name);
        // Asks the parent's file system only.
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_not_a_link) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// As many links as the kernel follows.
const LINKS: usize = 40;
