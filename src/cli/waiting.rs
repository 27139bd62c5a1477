//! A sign of life on a terminal, while a command waits for longer than a
//! moment.

use std::io::IsTerminal as _;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::settings::block_on;

/// Nobody wonders sooner.
const MOMENT: Duration = Duration::from_secs(1);
/// How fast the sign turns.
const TICK: Duration = Duration::from_millis(100);

/// Says what is waited for, from a moment on and until this is dropped. Says
/// nothing where standard error is no terminal.
#[derive(Debug)]
pub(super) struct WaitNotice {
    over: Option<Sender<()>>,
    shower: Option<JoinHandle<()>>,
}

impl WaitNotice {
    /// Shows a line that goes again.
    pub(super) fn spinner(what: &'static str) -> Self {
        Self::showing(move |over| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner()
                .with_style(style)
                .with_message(what)
                .with_elapsed(MOMENT);
            bar.enable_steady_tick(TICK);
            // Nothing is ever sent.
            let _ = over.recv();
            bar.finish_and_clear();
        })
    }

    /// Prints a line that stays: where another process may print, too.
    pub(super) fn line(what: &'static str) -> Self {
        Self::showing(move |_| eprintln!("icosfs: {what} ..."))
    }

    fn showing(show: impl FnOnce(&Receiver<()>) + Send + 'static) -> Self {
        let (over, ends) = mpsc::channel();
        let shower = std::io::stderr().is_terminal().then(|| {
            std::thread::spawn(move || {
                if ends.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout) {
                    show(&ends);
                }
            })
        });
        Self {
            over: Some(over),
            shower,
        }
    }
}

/// Runs what a command has to wait for, and that says nothing itself; a person
/// is told `what` it is.
pub(super) fn block_on_while<T>(
    what: &'static str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let _sign = WaitNotice::spinner(what);
    block_on(work)
}

impl Drop for WaitNotice {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(shower) = self.shower.take() {
            // It has nothing to say by now, or is wiping it away.
            let _ = shower.join();
        }
    }
}
