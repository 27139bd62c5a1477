//! Serves a mount from readiness to its end: by unmount or by a signal.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::cache::Store;
use crate::cli::exit::EndedEarly;
use crate::cli::signals::{SignalRequest, Signals};
use crate::cli::storage::FLUSH_TIMEOUT;
use crate::cli::{background, log};
use crate::content::Contents;
use crate::mount::mountinfo::MountEntry;
use crate::mount::{self, MountSession, UnmountError};

/// How long readers have to finish after the signal to end. Then their reads fail.
const READER_GRACE: Duration = Duration::from_secs(1);

/// Reports that the mount is ready, and serves until it is unmounted or a signal
/// arrives.
pub(super) fn serve(
    runtime: Runtime,
    mounted: MountSession,
    mut signals: Signals,
    store: &Store,
    contents: &Contents,
) -> anyhow::Result<()> {
    let (entry, refresher) = (mounted.entry(), mounted.refresher());
    let (ended, mut end) = oneshot::channel();
    let wait = move || ended.send(mounted.wait());
    let waiting = std::thread::Builder::new().spawn(wait);
    if let Err(error) = waiting {
        // The mount would stay without a process that serves it.
        detach_own(entry.as_ref());
        return Err(error).context("cannot start a thread");
    }
    let in_background = background::is_daemon();
    if in_background {
        background::ready()?;
    }
    background::notify("READY=1");
    let mut interrupted = false;
    let result = runtime.block_on(async {
        let result = loop {
            let request = tokio::select! {
                result = &mut end => break result,
                request = signals.received(in_background) => request,
            };
            match request {
                SignalRequest::Refresh => {
                    tracing::info!("received a signal to refresh");
                    log::reopen();
                    let refresher = refresher.clone();
                    icos_sync::spawn_task(async move { refresher.refresh().await });
                }
                SignalRequest::End | SignalRequest::Interrupt => {
                    interrupted = matches!(request, SignalRequest::Interrupt);
                    tracing::info!("received a signal to end");
                    background::notify("STOPPING=1");
                    detach_own(entry.as_ref());
                    // Remaining readers get an error when this process ends.
                    let end = tokio::time::timeout(READER_GRACE, end).await;
                    break end.unwrap_or(Ok(Ok(())));
                }
            }
        };
        // The last downloaded bytes may still have to be written to the cache.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, store.wait_for_seals()).await;
        contents.flush_shared(FLUSH_TIMEOUT).await;
        result
    });
    runtime.shutdown_background();
    match result {
        Ok(Ok(())) if interrupted => Err(EndedEarly::Interrupted.into()),
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            // A thread that serves it could not be started, or failed.
            detach_own(entry.as_ref());
            Err(error).context("the mount failed")
        }
        // The thread that served it panicked.
        Err(_closed) => bail!("the mount failed"),
    }
}

/// Detaches the mount of this process, if it is still mounted.
fn detach_own(mount: Option<&MountEntry>) {
    match mount.map(mount::detach_mount) {
        None | Some(Ok(()) | Err(UnmountError::NotMounted(_))) => {}
        Some(Err(error)) => tracing::warn!(%error, "cannot unmount"),
    }
}
