//! Serves a mount from readiness to its end: by unmount or by a signal.

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

/// How long readers have to finish after the signal to end. Then their reads fail.
const READER_GRACE: Duration = Duration::from_secs(1);

/// The signals that end a mount.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts to receive the signals.
    pub(super) fn watch(runtime: &Runtime) -> anyhow::Result<Self> {
        let _guard = runtime.enter();
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal.
    async fn received(&mut self, in_background: bool) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            // A background process survives the end of its terminal.
            _ = self.hangup.recv(), if !in_background => {}
        }
    }
}

/// Reports that the mount is ready, and serves until it is unmounted or a signal
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
            () = signals.received(in_background) => {
                tracing::info!("received a signal to end");
                background::notify("STOPPING=1");
                if let Some(Err(error)) = entry.as_ref().map(mount::detach_mount) {
                    tracing::warn!(%error, "cannot unmount");
                }
                // Remaining readers get an error when this process ends.
                let end = tokio::time::timeout(READER_GRACE, end).await;
                end.unwrap_or(Ok(Ok(())))
            }
        };
        // The last downloaded bytes may still have to be written to the cache.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, store.wait_for_seals()).await;
        result
    });
    runtime.shutdown_background();
    match result {
        Ok(served) => served.context("the mount failed"),
        // The thread that served it panicked.
        Err(_closed) => bail!("the mount failed"),
    }
}

/// Raises the limit of open files: each file that is read needs one or two, and each
/// connection one. The usual 1024 are too few for many readers.
pub(super) fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files above {soft}");
    }
}
