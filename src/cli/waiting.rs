//! Notices on the terminal while a command waits.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output;
use super::settings::block_on;

/// A notice appears after this delay.
const DELAY: Duration = Duration::from_secs(1);
/// Interval of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// Shows what a command waits for until this is dropped. Shows nothing if standard
/// error is not a terminal.
#[derive(Debug)]
pub(super) struct WaitNotice {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl WaitNotice {
    /// Shows a spinner with `what`, and removes it at the end.
    pub(super) fn spinner(what: &'static str) -> Self {
        Self::showing(move |end| {
            let bar = ProgressBar::new_spinner()
                .with_style(style_of("{spinner} {msg} ({elapsed})"))
                .with_message(what)
                .with_elapsed(DELAY);
            // Nothing is ever sent. (A steady tick would need another thread.)
            while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                bar.tick();
            }
            bar.finish_and_clear();
        })
    }

    /// Prints that `what` is not ready yet, on a line that stays, for use while another
    /// process may print to the same terminal.
    pub(super) fn line(what: &'static str) -> Self {
        Self::showing(move |_| {
            output::to_stderr(&format!("waiting for the {what} to be ready ...\n"));
        })
    }

    fn showing(show: impl FnOnce(&Receiver<()>) + Send + 'static) -> Self {
        let (end, ended) = mpsc::channel();
        let run = move || {
            if ended.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                show(&ended);
            }
        };
        // Without a thread, there is no notice.
        let thread = (output::messages_are_on_terminal())
            .then(|| std::thread::Builder::new().spawn(run).ok())
            .flatten();
        Self {
            end: Some(end),
            thread,
        }
    }
}

/// Runs `work`, which prints nothing itself, with a spinner that shows `what`.
pub(super) fn block_on_while<T>(
    what: &'static str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    block_on(with_spinner(what, work))
}

/// Waits for `work`, which prints nothing itself, with a spinner that shows `what`.
pub(super) async fn with_spinner<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let _notice = WaitNotice::spinner(what);
    work.await
}

/// The style of all progress bars: the message says what is done and how far it is.
const BAR: &str = "{bar:20} {percent:>3} %  {binary_bytes} of {binary_total_bytes}, \
    {binary_bytes_per_sec}, {eta} left  {wide_msg}";

/// A progress bar for `bytes` bytes, shown on a terminal only.
pub(super) fn progress_bar(bytes: u64) -> ProgressBar {
    ProgressBar::new(bytes).with_style(style_of(BAR))
}

/// The same while the number of bytes is not known yet.
pub(super) fn progress_bar_without_length() -> ProgressBar {
    ProgressBar::no_length().with_style(style_of(BAR))
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Drop for WaitNotice {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // The thread ends at once, after it has removed the spinner.
            let _ = thread.join();
        }
    }
}
