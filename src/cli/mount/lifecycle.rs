//! Serves a mount from readiness to its end: by unmount or by a signal.

use std::ffi::c_int;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cache::Store;
use crate::cli::exit::EndedEarly;
use crate::cli::output::note;
use crate::cli::storage::FLUSH_TIMEOUT;
use crate::cli::{background, log};
use crate::mount::mountinfo::MountEntry;
use crate::mount::{self, MountSession, UnmountError};

/// How long readers have to finish after the signal to end. Then their reads fail.
const READER_GRACE: Duration = Duration::from_secs(1);

/// The signals that a mount receives.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    /// Received and ignored: by default, they would kill the process and leave a dead
    /// mount.
    _stray: Vec<Signal>,
}

/// What a signal requests.
enum SignalRequest {
    /// To unmount and end.
    End,
    /// The same, by ctrl-C.
    Interrupt,
    /// To refresh the lists and to open the log file again.
    Refresh,
}

/// Signals that other programs may send by mistake, and that of a file that exceeds
/// the limit of its size (`ulimit -f`), which is an error of the write. The signals for
/// real-time programs are added to them.
const STRAY: [c_int; 9] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXFSZ,
];

impl Signals {
    /// Starts to receive the signals.
    pub(super) fn watch(runtime: &Runtime) -> anyhow::Result<Self> {
        let _guard = runtime.enter();
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            quit: watch(SignalKind::quit())?,
            hangup: watch(SignalKind::hangup())?,
            _stray: (STRAY.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()))
                .map(|number| watch(SignalKind::from_raw(number)))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Waits for a signal.
    async fn received(&mut self, in_background: bool) -> SignalRequest {
        tokio::select! {
            _ = self.interrupt.recv() => SignalRequest::Interrupt,
            _ = self.terminate.recv() => SignalRequest::End,
            _ = self.quit.recv() => SignalRequest::End,
            // A background process survives the end of its terminal.
            _ = self.hangup.recv() => {
                if in_background { SignalRequest::Refresh } else { SignalRequest::End }
            }
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
                    tokio::spawn(async move { refresher.refresh().await });
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

/// Address space that suffices for the stacks and buffers of all threads. Memory is
/// used only where it is written to.
const ADDRESS_SPACE: u64 = 2 << 30;

/// Raises the limit of the address space, and warns if it is too low: an allocation
/// that fails ends the process without a message.
pub(super) fn raise_address_space_limit() {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_AS) else {
        return;
    };
    let _ = setrlimit(Resource::RLIMIT_AS, hard, hard);
    if hard < ADDRESS_SPACE {
        let warning = format!(
            "the address space is limited to {} MiB (`ulimit -v`), and the mount ends when it needs more; raise the limit to {} MiB",
            hard >> 20,
            ADDRESS_SPACE >> 20
        );
        tracing::error!("{warning}");
        note!("{warning}");
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
