//! Warnings: what a user should know, although the command goes on. They look like errors,
//! but begin with `warning:`, and do not change the exit code.
//!
//! ```text
//! warning: the portal cannot be reached (meta.icos-cp.eu: name not known)
//! hint: cached files can be read now, all others once it responds
//! ```

use std::fmt::Arguments;

use super::failure::Failure;

/// Prints a warning on standard error; takes the arguments of `format!`. As in errors, `; `
/// separates it from the advice.
macro_rules! warning {
    ($($text:tt)*) => {
        $crate::cli::warning::print(::std::format_args!($($text)*))
    };
}

pub(super) use warning;

/// Prints a warning. Use [`warning!`].
pub(super) fn print(text: Arguments<'_>) {
    Failure::of_text(&text.to_string()).print_as_warning();
}
