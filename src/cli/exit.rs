//! Exit codes: one scheme for all commands, which the help, the manual pages and
//! docs/settings.md show.

use std::fmt::Write as _;

use super::output::OutputError;
use crate::catalog::did_you_mean;
use crate::content::{ExportError, TimesError};
use crate::plot::ChartError;

/// The command failed.
pub(super) const FAILED: u8 = 1;
/// The command line or the configuration is invalid.
pub(super) const USAGE: u8 = 2;
/// A search found nothing, or the repository does not have what is named.
const NO_MATCH: u8 = 3;
/// mount(8) expects this code from a helper that could not mount. (For invalid usage,
/// mount(8) expects 1.)
pub(super) const MOUNT_FAILED: u8 = 32;
/// The code that a shell reports for a program ended by SIGINT.
const INTERRUPTED: u8 = 128 + 2;
/// The same for SIGPIPE.
const READER_EXITED: u8 = 128 + 13;
/// The same for SIGTERM.
const TERMINATED: u8 = 128 + 15;

/// All codes and their meanings.
pub(super) const CODES: [(u8, &str); 8] = [
    (0, "success"),
    (
        FAILED,
        "failure; standard error has the reason and a suggested fix",
    ),
    (
        USAGE,
        "invalid command line or config.toml, which is known without the portal",
    ),
    (
        NO_MATCH,
        "nothing matches: the repository or the table has no such thing",
    ),
    (MOUNT_FAILED, "when called by mount(8): the mount failed"),
    (INTERRUPTED, "interrupted by ctrl-C"),
    (READER_EXITED, "the program that read the output has exited"),
    (TERMINATED, "ended by SIGTERM before it was done"),
];

/// The codes as text for a terminal.
pub(super) fn table() -> String {
    let mut text = "Exit codes:\n".to_owned();
    for (code, meaning) in CODES {
        let _ = writeln!(text, "  {code:<4} {meaning}");
    }
    text
}

/// Why a command ended early, where this decides the exit code.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndedEarly {
    /// The values of the options are wrong or contradict each other, which is known without
    /// the portal.
    #[error("{0}")]
    Usage(String),
    /// The repository or the table does not have what the arguments name.
    #[error("{0}")]
    NotFound(String),
    /// Another process, which ended with this code, has said why.
    #[error("another process has failed")]
    Reported(u8),
    /// The search is valid, but nothing matches.
    #[error("no {what} match{}", did_you_mean(.similar))]
    NoMatch {
        /// What was searched.
        what: &'static str,
        /// Words that may have been meant.
        similar: Vec<String>,
    },
    /// By SIGINT.
    #[error("interrupted")]
    Interrupted,
    /// By SIGTERM.
    #[error("terminated")]
    Terminated,
}

impl EndedEarly {
    /// A search of `what` that found nothing; `similar` are words that may have been meant.
    pub(super) fn no_match(what: &'static str, similar: Vec<String>) -> anyhow::Error {
        Self::NoMatch { what, similar }.into()
    }

    /// The repository or the table does not have what the arguments name.
    pub(super) fn not_found(message: impl Into<String>) -> anyhow::Error {
        Self::NotFound(message.into()).into()
    }

    /// An error in the command line.
    pub(super) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self::Usage(message.into()).into()
    }
}

/// The exit code for `error`, and whether its message is to be shown. `failed` is the
/// code of an ordinary failure.
pub(super) fn code_of(error: &anyhow::Error, failed: u8) -> (u8, bool) {
    if reader_has_exited(error) {
        return (READER_EXITED, false);
    }
    match error.downcast_ref() {
        Some(EndedEarly::Usage(_)) => (USAGE, true),
        Some(EndedEarly::NoMatch { .. } | EndedEarly::NotFound(_)) => (NO_MATCH, true),
        // mount(8) knows only one code.
        Some(EndedEarly::Reported(_)) if failed != FAILED => (failed, false),
        Some(EndedEarly::Reported(code)) => (*code, false),
        // The user knows.
        Some(EndedEarly::Interrupted) => (INTERRUPTED, false),
        Some(EndedEarly::Terminated) => (TERMINATED, false),
        None if is_not_found(error) => (NO_MATCH, true),
        None => (failed, true),
    }
}

/// Whether the table does not have the columns, the rows or the values that were named.
fn is_not_found(error: &anyhow::Error) -> bool {
    let by_export = |error: &ExportError| matches!(error, ExportError::NoSuchColumn { .. });
    let by_times = |error: &TimesError| match error {
        TimesError::NoRows(..) => true,
        TimesError::Export(error) => by_export(error),
        TimesError::NoTimes => false,
    };
    let by_chart = |error: &ChartError| match error {
        ChartError::Export(error) => by_export(error),
        ChartError::Times(error) => by_times(error),
        error => matches!(error, ChartError::NoValuesBetween(..)),
    };
    error.downcast_ref().is_some_and(by_export)
        || error.downcast_ref().is_some_and(by_times)
        || error.downcast_ref().is_some_and(by_chart)
}

fn reader_has_exited(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<OutputError>() {
        return error.reader_has_exited();
    }
    matches!(
        error.downcast_ref(),
        Some(ExportError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_exit_codes_are_those_of_the_program() {
        let page = std::fs::read_to_string("docs/settings.md").unwrap();
        let rows: Vec<String> = (CODES.iter())
            .map(|(code, meaning)| format!("| {code} | {meaning} |\n"))
            .collect();
        assert!(page.contains(&rows.concat()), "expected {}", rows.concat());
    }

    #[test]
    fn errors_keep_their_exit_code_under_a_context() {
        use anyhow::Context as _;
        let ended = || Err::<(), _>(EndedEarly::no_match("objects", Vec::new()));
        let error = ended().context("cannot go on").unwrap_err();
        assert_eq!(code_of(&error, FAILED), (NO_MATCH, true));
        let pipe = OutputError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(code_of(&pipe.into(), FAILED), (READER_EXITED, false));
        let full = OutputError::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(code_of(&full.into(), FAILED), (FAILED, true));
    }
}
