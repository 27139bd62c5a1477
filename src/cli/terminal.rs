//! Formatting of text, sizes and durations for a terminal.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use icos_portal::is_terminal_command;

/// Returns `json` with the characters that a terminal may take for commands as escapes of JSON. They are only in strings
/// there, but for the line breaks.
pub(super) fn escape_in_json(json: &str) -> Cow<'_, str> {
    let harmless = |c: char| !is_terminal_command(c) || c == '\n';
    if json.chars().all(harmless) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if harmless(c) {
            safe.push(c);
        } else {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        }
    }
    Cow::Owned(safe)
}

/// The width of the terminal in characters, or 80.
pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| width.0.into())
}

/// Columns that are left for text beside an indent on a narrow terminal.
const MIN_TEXT: usize = 20;

/// Returns `line` in lines of at most `width` characters, of which all but the first are
/// indented by `indent`. Lines are broken at blanks; neither within what precedes the column
/// `indent`, nor within a word or a command in backticks, unless that is too long for a line.
pub(super) fn wrapped(line: &str, width: usize, indent: usize) -> String {
    let width = width.max(indent.saturating_add(MIN_TEXT));
    let length = |text: &str| text.trim_end().chars().count();
    let mut text = String::with_capacity(line.len());
    for line in line.split_inclusive('\n') {
        let mut words: Vec<String> = Vec::new();
        let mut is_in_code = false;
        for word in line.split_inclusive(' ') {
            let joined = words.last_mut().filter(|_| is_in_code);
            match joined.filter(|last| length(last) + 1 + length(word) <= width - indent) {
                Some(last) => last.push_str(word),
                None => words.push(word.to_owned()),
            }
            is_in_code ^= word.matches('`').count() % 2 == 1;
        }
        let mut used = 0;
        for word in words {
            if used > indent && used + length(&word) > width {
                text.truncate(text.trim_end().len());
                text.push('\n');
                text.extend(std::iter::repeat_n(' ', indent));
                used = indent;
            }
            used += word.chars().count();
            text.push_str(&word);
        }
    }
    text
}

/// Returns `text` with control characters escaped. File names and error
/// messages come from untrusted sources and could contain terminal commands.
pub(super) fn escape_control(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !is_terminal_command(c) || matches!(c, '\n' | '\t');
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmless(c) {
            safe.push(c);
        } else {
            let _ = write!(safe, "{}", c.escape_unicode());
        }
    }
    Cow::Owned(safe)
}

/// Formats a number of bytes in powers of 1024, rounded down.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    for (unit, shift) in UNITS {
        if bytes >= 1 << shift {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return format!("{}.{} {unit}iB", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

/// A number of things, as in `1 file` or `2 files`; `what` is one of them.
pub(super) fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Formats a time in seconds in its largest unit and the next smaller one.
pub(super) fn duration(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let first = UNITS.iter().position(|(_, length)| seconds >= *length);
    let Some(first) = first else {
        return "0 s".to_owned();
    };
    let (unit, length) = UNITS[first];
    let whole = format!("{} {unit}", seconds / length);
    match UNITS.get(first + 1) {
        Some((unit, shorter)) if seconds % length >= *shorter => {
            format!("{whole} {} {unit}", seconds % length / shorter)
        }
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escape_control("a\u{1b}[2Jb\u{9b}\r"),
            "a\\u{1b}[2Jb\\u{9b}\\u{d}"
        );
        assert!(matches!(
            escape_control("two\nlines, \u{e9}"),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn long_lines_are_wrapped_at_blanks_but_not_in_commands() {
        let line = "hint: `icosfs status` lists the mounts, and `icosfs get --help` more";
        for (width, expected) in [
            (usize::MAX, line),
            (
                40,
                "hint: `icosfs status` lists the mounts,\n      and `icosfs get --help` more",
            ),
            (
                30,
                "hint: `icosfs status` lists\n      the mounts, and\n      \
                 `icosfs get --help` more",
            ),
            (
                10,
                "hint: `icosfs status`\n      lists the mounts,\n      and\n      \
                 `icosfs get --help`\n      more",
            ),
        ] {
            assert_eq!(wrapped(line, width, 6), expected, "{width}");
        }
        let long = format!("pid        https://example.org/{}", "x".repeat(60));
        assert_eq!(wrapped(&long, 40, 11), long);
        let two = "one line\nand a second one that is longer";
        assert_eq!(
            wrapped(two, 24, 2),
            "one line\nand a second one that is\n  longer"
        );
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (600, "10 min"),
            (3700, "1 h 1 min"),
            (90_061, "1 d 1 h"),
            (86_401, "1 d"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn sizes_are_rounded_down() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }
}
