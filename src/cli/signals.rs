//! Signals to a process that serves a mount or a server.

use std::ffi::c_int;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a mount or server receives.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    /// Received and ignored: by default, they would kill the process, and leave a
    /// dead mount.
    _stray: Vec<Signal>,
}

/// What a signal requests.
pub(super) enum SignalRequest {
    /// To end.
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
    pub(super) async fn received(&mut self, in_background: bool) -> SignalRequest {
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
