//! Exit codes: one scheme for all commands, which the help, the manual pages and
//! docs/settings.md show.

use std::fmt::Write as _;

use super::output::OutputError;
use crate::catalog::did_you_mean;
use crate::content::ExportError;

/// The command failed.
pub(super) const FAILED: u8 = 1;
/// The command line or the configuration is invalid.
pub(super) const USAGE: u8 = 2;
/// A search found nothing.
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
    (USAGE, "invalid command line or config.toml"),
    (NO_MATCH, "the search is valid, but nothing matches"),
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
    /// The values of the options contradict each other, or the repository does not
    /// have what they name.
    #[error("{0}")]
    Usage(String),
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
        Some(EndedEarly::NoMatch { .. }) => (NO_MATCH, true),
        // The user knows.
        Some(EndedEarly::Interrupted) => (INTERRUPTED, false),
        Some(EndedEarly::Terminated) => (TERMINATED, false),
        None => (failed, true),
    }
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
