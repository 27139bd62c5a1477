//! The one place that writes to standard output and standard error.
//!
//! Nothing here panics if a stream is closed, and clippy's list of disallowed macros
//! (`clippy.toml`) keeps `println!` and the like out of all other modules. A command
//! passes an [`OutputError`] on; `cli::main` ends the process silently, as a shell's
//! `cat` does, if the reason is that the reader of standard output has exited.
//! Standard error is for people: what cannot be written there is dropped.
//!
//! Columns are in `text_table`, spinners and progress bars in `waiting`.

#![allow(
    clippy::disallowed_methods,
    reason = "no other module may use the standard streams"
)]

use std::fmt::Arguments;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::terminal::{self, escape_in_json};

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(super) struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether the program that read standard output, such as `head`, has exited.
    pub(super) fn reader_has_exited(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints a line on standard output; takes the arguments of `format!`.
macro_rules! print_line {
    ($($text:tt)*) => {
        $crate::cli::output::print(::std::format_args!("{}\n", ::std::format_args!($($text)*)))
    };
}

/// Prints text without an end of line on standard output; takes the arguments of
/// `format!`.
macro_rules! print_text {
    ($($text:tt)*) => {
        $crate::cli::output::print(::std::format_args!($($text)*))
    };
}

pub(super) use {print_line, print_text};

/// Prints on standard output. Use [`print_line!`] or [`print_text!`].
pub(super) fn print(text: Arguments<'_>) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    // Formatted first: one call of the system writes it, and an error cannot be lost.
    out.write_all(text.to_string().as_bytes())?;
    Ok(out.flush()?)
}

/// Prints `value` as indented JSON.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(print_line!("{}", escape_in_json(&text))?)
}

/// Prints `text` on standard error as it is: a prompt, for example. Errors and warnings
/// have a form of their own, see [`super::failure`].
pub(super) fn to_stderr(text: &str) {
    let mut stream = io::stderr().lock();
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
}

/// Standard output, for data that are written in pieces.
pub(super) fn stdout() -> io::Stdout {
    io::stdout()
}

/// Standard error, for the log.
pub(super) fn stderr() -> io::Stderr {
    io::stderr()
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether text on standard output may have colours.
pub(super) fn has_colours() -> bool {
    is_terminal() && !no_colour()
}

/// Whether the user wants no colours: see <https://no-color.org>.
pub(super) fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The width at which text on standard output is wrapped: that of the terminal, if it is
/// one.
pub(super) fn width_of_text() -> usize {
    if is_terminal() {
        return terminal::width();
    }
    usize::MAX
}

/// The width at which messages on standard error are wrapped.
pub(super) fn width_of_messages() -> usize {
    if messages_are_on_terminal() {
        return terminal::width();
    }
    usize::MAX
}

/// Whether standard output is a pipe: its reader may write to the same terminal.
pub(super) fn is_pipe() -> bool {
    let found = nix::sys::stat::fstat(io::stdout());
    found.is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFIFO)
}

/// Whether standard error is a terminal.
pub(super) fn messages_are_on_terminal() -> bool {
    io::stderr().is_terminal()
}
