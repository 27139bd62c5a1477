//! Notices on the terminal while a command waits.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

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

/// The style of all progress bars: the message says what is done, or how far it is.
const BAR: &str = "{msg} {wide_bar} {percent:>3} %  {binary_bytes} of {binary_total_bytes}{rate}";

/// A progress bar appears after this delay: most work takes less time.
const BAR_DELAY: Duration = Duration::from_millis(500);

/// A progress bar for bytes, shown on a terminal only.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    /// Whether it is on the screen, or may not be any more.
    is_decided: AtomicBool,
}

impl Progress {
    /// For `bytes` bytes; `None` while their number is not known yet.
    pub(super) fn of(bytes: Option<u64>) -> Self {
        let target = ProgressDrawTarget::hidden();
        Self {
            bar: ProgressBar::with_draw_target(bytes, target).with_style(bar_style()),
            started: Instant::now(),
            is_decided: AtomicBool::new(!output::messages_are_on_terminal()),
        }
    }

    /// One that is never shown.
    pub(super) fn hidden() -> Self {
        Self {
            is_decided: AtomicBool::new(true),
            ..Self::of(None)
        }
    }

    /// The number of bytes so far.
    pub(super) fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Says what is done.
    pub(super) fn say(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Begins another kind of work, of `total` bytes.
    pub(super) fn begin(&self, what: &'static str) {
        if self.bar.message() != what {
            self.bar.set_message(what);
            self.bar.reset();
        }
    }

    pub(super) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.appear();
    }

    pub(super) fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.appear();
    }

    pub(super) fn change_length(&self, change: impl FnOnce(u64) -> u64) {
        self.bar.set_length(change(self.bar.length().unwrap_or(0)));
    }

    /// Removes it from the screen, for good.
    pub(super) fn clear(&self) {
        self.is_decided.store(true, Ordering::Relaxed);
        self.bar.finish_and_clear();
    }

    /// Prints a line without a bar on it.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    fn appear(&self) {
        if self.started.elapsed() >= BAR_DELAY && !self.is_decided.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

/// The style of [`Progress`]: rate and time left are shown once there is a rate.
fn bar_style() -> ProgressStyle {
    style_of(BAR).with_key(
        "rate",
        |state: &ProgressState, text: &mut dyn fmt::Write| {
            let rate = state.per_sec();
            if rate >= 1.0 && state.pos() > 0 {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let shown = BinaryBytes(rate as u64);
                let _ = write!(text, ", {shown}/s, {} left", HumanSeconds(state.eta()));
            }
        },
    )
}

/// A time in its greatest unit, such as `12s`.
struct HumanSeconds(Duration);

impl fmt::Display for HumanSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..60 => write!(f, "{seconds}s"),
            seconds @ 60..3600 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{}h", seconds / 3600),
        }
    }
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
