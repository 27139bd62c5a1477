//! How errors look, those of the parser and all others: what is wrong, then what to do
//! about it, each on a line of its own. Warnings look alike, see [`super::warning`]. On a
//! terminal, long lines are wrapped at blanks.
//!
//! ```text
//! icosfs: no icosfs is mounted at /mnt
//! hint: `icosfs status` lists the mounts
//! ```
//!
//! A message is one text, in which `; ` separates what is wrong from the advice.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::terminal::{escape_control, wrapped};
use super::{config, help, output};

/// The start of the line with advice.
const HINT: &str = "hint:";
/// The start of the line with the form of a command.
const USAGE: &str = "usage:";

/// An error as it is shown.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Failure {
    what: String,
    hints: Vec<String>,
    usage: Option<String>,
}

impl Failure {
    /// Separates the advice in `text`.
    pub(super) fn of_text(text: &str) -> Self {
        let mut parts = parts(&without_error_number(text)).into_iter();
        Self {
            what: parts.next().unwrap_or_default(),
            hints: parts.collect(),
            usage: None,
        }
    }

    /// The error with its causes. Advice is below all of them.
    pub(super) fn of_error(error: &anyhow::Error) -> Self {
        let links: Vec<Self> = (error.chain())
            .map(|link| Self::of_text(&link.to_string()))
            .collect();
        let mut what: Vec<&str> = links.iter().map(|link| link.what.as_str()).collect();
        // An error may have the text of its cause.
        what.dedup_by(|cause, error| error.ends_with(&**cause));
        Self {
            what: what.join(": "),
            hints: links.into_iter().flat_map(|link| link.hints).collect(),
            usage: None,
        }
    }

    /// An error of the parser of `command`, which must be built, for `arguments`.
    pub(super) fn of_arguments(
        error: &clap::Error,
        command: &mut Command,
        arguments: &[OsString],
    ) -> Self {
        let rendered = error.render().to_string();
        let text = rendered.trim_start_matches("error: ");
        let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = first.lines();
        let mut what = in_own_words(lines.next().unwrap_or_default());
        let mut hints = Vec::new();
        for line in lines.map(str::trim) {
            // Such as [possible values: csv, parquet].
            match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                Some(listed) => hints.push(listed.to_owned()),
                None => what = format!("{what} {line}"),
            }
        }
        let tips = rest.split("\n\n").flat_map(|part| part.split("  tip: "));
        let tips = tips.map(|tip| tip.split_whitespace().collect::<Vec<_>>().join(" "));
        let tips = tips.map(|tip| suggestion(&tip));
        hints.extend(tips.filter(|tip| is_tip(tip)));
        hints.extend(config::environment_hint(error, arguments));
        let named = help::named_mut(command, arguments);
        let name = named.get_bin_name().unwrap_or("icosfs").to_owned();
        if error.kind() == ErrorKind::MissingRequiredArgument
            && let Some(example) = help::example_of(named)
        {
            hints.push(format!("for example, {example}"));
        }
        if error.kind() == ErrorKind::InvalidSubcommand && name == "icosfs config" {
            hints.push("change a setting in ~/.config/icosfs/config.toml".to_owned());
        }
        let is_about_value = matches!(
            error.kind(),
            ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::NoEquals
        );
        if hints.is_empty() && !is_about_value {
            let listed = if named.has_subcommands() {
                "commands"
            } else {
                "options"
            };
            hints.push(format!("`{name} --help` lists the {listed}"));
        }
        let usage = named.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim().to_owned();
        let mut failure = Self::of_text(&what);
        failure.hints.extend(hints);
        Self {
            usage: (!is_about_value).then_some(usage),
            ..failure
        }
    }

    /// Prints it on standard error, with colours on a terminal.
    pub(super) fn print(&self) {
        output::to_stderr(&self.text("icosfs:", "1;31", Look::of_stderr()));
    }

    /// Prints it on standard error as a warning.
    pub(super) fn print_as_warning(&self) {
        output::to_stderr(&self.text("warning:", "1;33", Look::of_stderr()));
    }

    /// The text; `style` is that of `start`, the first word.
    fn text(&self, start: &str, style: &str, look: Look) -> String {
        let line = |start: &str, style: &str, text: &str| {
            let line = format!("{start} {}", escape_control(text));
            let line = wrapped(&line, look.width, start.len() + 1);
            match line.strip_prefix(start) {
                Some(text) if look.is_coloured => format!("\x1b[{style}m{start}\x1b[0m{text}\n"),
                _ => line + "\n",
            }
        };
        let mut text = line(start, style, &self.what);
        for hint in &self.hints {
            text += &line(HINT, "1;36", hint);
        }
        if let Some(usage) = &self.usage {
            text += &line(USAGE, "1", usage);
        }
        text
    }
}

/// How a message is shown.
#[derive(Clone, Copy, Debug)]
struct Look {
    is_coloured: bool,
    /// Of the terminal, in characters.
    width: usize,
}

impl Look {
    /// Without colours and wrapping, as in files and pipes.
    #[cfg(test)]
    const PLAIN: Self = Self {
        is_coloured: false,
        width: usize::MAX,
    };

    fn of_stderr() -> Self {
        Self {
            is_coloured: output::messages_are_on_terminal() && !output::no_colour(),
            width: output::width_of_messages(),
        }
    }
}

/// Whether a part of the parser's text is advice: neither the form of the command nor
/// the reference to `--help`, which [`Failure`] has itself, nor how to give an unknown
/// option as a value.
fn is_tip(text: &str) -> bool {
    let others = ["Usage:", "For more information", "to pass '"];
    !text.is_empty() && !others.iter().any(|other| text.starts_with(other))
}

/// The parser's suggestion as others are: the most similar name, which it has last.
fn suggestion(tip: &str) -> String {
    let is_list = tip.contains(" similar ") && tip.contains(" exist");
    let names = tip.split_once(": ").filter(|_| is_list);
    match names.and_then(|(_, names)| names.rsplit(", ").next()) {
        Some(name) => format!("did you mean {}?", name.trim_matches('\'')),
        None => tip.to_owned(),
    }
}

/// The parser's message, in the words of this program where its own are long or are
/// those of the standard library.
pub(super) fn in_own_words(text: &str) -> String {
    text.replace("invalid digit found in string", "expected a whole number")
        .replace(
            "the following required arguments were not provided:",
            "missing",
        )
        .replace("unrecognized subcommand", "unknown command")
        .replace("unexpected argument '-", "unknown argument '-")
        .trim_end_matches(" found")
        .to_owned()
}

/// Returns `text` without the numbers that the standard library adds to errors of the
/// system, as in `No such file or directory (os error 2)`.
pub(super) fn without_error_number(text: &str) -> String {
    const START: &str = " (os error ";
    let mut parts = text.split(START);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.strip_prefix(')') {
            Some(rest) if part.len() > rest.len() + 1 => shown.push_str(rest),
            _ => {
                shown.push_str(START);
                shown.push_str(part);
            }
        }
    }
    shown
}

/// Splits `text` at each `; ` that is not in quotes, in code or in parentheses.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quote, mut depth) = (None, 0_u32);
    let mut symbols = text.chars().peekable();
    while let Some(symbol) = symbols.next() {
        match symbol {
            // As in the Debug form of a text.
            '\\' if quote == Some('"') => {
                let last = parts.last_mut().expect("there is one from the start");
                last.push(symbol);
                last.extend(symbols.next());
                continue;
            }
            '"' | '`' if quote == Some(symbol) => quote = None,
            '"' | '`' if quote.is_none() => quote = Some(symbol),
            '(' if quote.is_none() => depth += 1,
            ')' if quote.is_none() => depth = depth.saturating_sub(1),
            ';' if quote.is_none() && depth == 0 && symbols.peek() == Some(&' ') => {
                symbols.next();
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts
            .last_mut()
            .expect("there is one from the start")
            .push(symbol);
    }
    parts
}

/// The option that the error is about, such as `--portal <PORTAL>`.
pub(super) fn argument_of(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(shown) => Some(shown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use proptest::prelude::*;

    use super::*;

    fn of_command(words: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let mut command = crate::cli::command();
        command.build();
        let error = command.clone().try_get_matches_from(&words).unwrap_err();
        Failure::of_arguments(&error, &mut command, &words).text("icosfs:", "", Look::PLAIN)
    }

    #[test]
    fn errors_of_the_parser_look_like_all_others() {
        for (words, expected) in [
            (
                &["icosfs", "get", "x", "--fromat", "csv"][..],
                "icosfs: unknown argument '--fromat'\n\
                 hint: did you mean --format?\n\
                 usage: icosfs get [OPTIONS] <ID>\n",
            ),
            (
                &["icosfs", "gett"],
                "icosfs: unknown command 'gett'\n\
                 hint: did you mean get?\n\
                 usage: icosfs [OPTIONS] <COMMAND>\n",
            ),
            (
                &["icosfs", "get"],
                "icosfs: missing <ID>\n\
                 hint: for example, icosfs get wutiYS2ccUslON67rA30gK0z > table.csv\n\
                 usage: icosfs get [OPTIONS] <ID>\n",
            ),
            (
                &["icosfs", "get", "x", "--format", "xml"],
                "icosfs: invalid value 'xml' for '--format <FORMAT>'\n\
                 hint: possible values: csv, parquet, netcdf, cpb, original, json\n",
            ),
            (
                &["icosfs", "find", "--limit", "ten"],
                "icosfs: invalid value 'ten' for '--limit <N>': expected a whole number\n",
            ),
            (
                &["icosfs", "--portal", "icso", "find"],
                "icosfs: invalid value 'icso' for '--portal <PORTAL>': expected icos, sites, cities, demo, or the folder of a mount such as ./icos\n\
                 hint: did you mean icos?\n",
            ),
            (
                &["icosfs", "config", "set", "portal"],
                "icosfs: unknown command 'set'\n\
                 hint: change a setting in ~/.config/icosfs/config.toml\n\
                 usage: icosfs config [OPTIONS] <COMMAND>\n",
            ),
            (
                &["icosfs", "find", "--zzzz"],
                "icosfs: unknown argument '--zzzz'\n\
                 hint: `icosfs find --help` lists the options\n\
                 usage: icosfs find [OPTIONS] [TEXT]...\n",
            ),
        ] {
            assert_eq!(of_command(words), expected);
        }
    }

    #[test]
    fn advice_is_below_the_error_and_its_causes() {
        let cause = Err::<(), _>(anyhow::anyhow!("no space (4 KiB; of 8); free some"));
        let error = cause.context("cannot write \"a; b\"; name another file");
        let shown = Failure::of_error(&error.unwrap_err()).text("icosfs:", "", Look::PLAIN);
        assert_eq!(
            shown,
            "icosfs: cannot write \"a; b\": no space (4 KiB; of 8)\n\
             hint: name another file\nhint: free some\n"
        );
        let quoted = format!("found {:?}; correct it", "a\"; b");
        assert_eq!(Failure::of_text(&quoted).hints, ["correct it"]);
    }

    /// Regression: messages had the number of the system's error, and some the error twice.
    #[test]
    fn errors_of_the_system_are_shown_once_and_without_their_number() {
        let error = || std::io::Error::from_raw_os_error(libc::ENOENT);
        let wrapped = Err::<(), _>(anyhow::anyhow!("cannot open a: {}", error()));
        let shown = Failure::of_error(&wrapped.context(error()).unwrap_err());
        assert_eq!(
            shown.what,
            "No such file or directory: cannot open a: No such file or directory"
        );
        let twice = Err::<(), _>(error()).context(format!("cannot open a: {}", error()));
        let shown = Failure::of_error(&twice.unwrap_err());
        assert_eq!(shown.what, "cannot open a: No such file or directory");
        for other in ["a (os error ) b", "a (os error 2", "a (os error x)", ""] {
            assert_eq!(without_error_number(other), other);
        }
    }

    /// Regression: the terminal broke long lines in the middle of words.
    #[test]
    fn long_messages_are_wrapped_below_the_first_word() {
        let failure = Failure::of_text(
            "no icosfs is mounted at /mnt/icos (--portal); your only mount is at /home/ada/icos",
        );
        let look = Look {
            is_coloured: true,
            width: 41,
        };
        assert_eq!(
            failure.text("icosfs:", "1;31", look),
            "\x1b[1;31micosfs:\x1b[0m no icosfs is mounted at /mnt/icos\n        (--portal)\n\
             \x1b[1;36mhint:\x1b[0m your only mount is at\n      /home/ada/icos\n"
        );
    }

    proptest! {
        #[test]
        fn no_text_is_lost(text in ".{0,60}") {
            prop_assert_eq!(parts(&text).join("; "), text);
        }
    }
}
