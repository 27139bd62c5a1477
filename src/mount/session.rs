//! An active mount: starts the event loops, and ends with them.

use std::io;
use std::sync::{Arc, Weak};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};

use super::adapter::Adapter;
use super::mount_state::MountState;
use super::mountinfo::{self, MountEntry, SUBTYPE};
use super::options::{Access, MountOptions};
use super::{detach, host_check};
use crate::content::Contents;
use crate::daemon::DaemonReport;
use crate::daemon::idle::spawn_closer;
use crate::tree::Tree;

/// Number of threads that receive requests from the kernel. They never wait, so
/// that a few suffice on any machine.
const EVENT_LOOPS: usize = 4;

/// The kernel's readahead window in KiB. Its default of 128 causes eight times as
/// many requests. One request is never longer than a MiB.
const READ_AHEAD_KIB: u32 = 1024;

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
        spawn_closer(&state, &state.runtime, state.released.subscribe());
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
