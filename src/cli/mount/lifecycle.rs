//! A mount's life as a process: ready, told to end, gone.

use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cache::Store;
use crate::cli::background;
use crate::cli::storage::FLUSH_TIMEOUT;
use crate::mount::{self, MountSession};

/// How long readers have to finish once the daemon was told to end. Then their
/// reads fail.
const FAREWELL: Duration = Duration::from_secs(1);

/// The signals that tell a mount to end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes notice of them from now on.
    pub(super) fn watch(runtime: &Runtime) -> anyhow::Result<Self> {
        let _guard = runtime.enter();
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    async fn told_to_end(&mut self, in_background: bool) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            // A terminal that closes is no concern of a daemon.
            _ = self.hangup.recv(), if !in_background => {}
        }
    }
}

/// Says that the mount is ready, and serves until it is taken away or a signal
/// arrives.
pub(super) fn serve(
    runtime: Runtime,
    mounted: MountSession,
    mut signals: Signals,
    store: &Store,
) -> anyhow::Result<()> {
    let entry = mounted.entry();
    let (ended, mut end) = oneshot::channel();
    std::thread::spawn(move || ended.send(mounted.wait()));
    let in_background = background::is_daemon();
    if in_background {
        background::ready()?;
    }
    background::notify("READY=1");
    let result = runtime.block_on(async {
        let result = tokio::select! {
            result = &mut end => result,
            () = signals.told_to_end(in_background) => {
                tracing::info!("told to end");
                background::notify("STOPPING=1");
                if let Some(Err(error)) = entry.as_ref().map(mount::detach_mount) {
                    tracing::warn!(%error, "the mount stays behind");
                }
                // Who still reads loses the connection when this process ends.
                let end = tokio::time::timeout(FAREWELL, end).await;
                end.unwrap_or(Ok(Ok(())))
            }
        };
        // What was read last may be on its way to the disk, to be kept.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, store.wait_for_seals()).await;
        result
    });
    runtime.shutdown_background();
    match result {
        Ok(served) => served.context("the mount broke down"),
        // The thread that served it panicked.
        Err(_gone) => bail!("the mount broke down"),
    }
}

/// Each file that is read needs one or two, and each connection one: the usual
/// 1024 are few for many readers.
pub(super) fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "the limit of open files stays at {soft}");
    }
}
