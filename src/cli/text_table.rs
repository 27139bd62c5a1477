//! Tabular output: aligned columns for a terminal, tab-separated lines for
//! programs.

use std::fmt::Write as _;

use icos_portal::is_terminal_command;
use serde_json::Value;

use super::output::{self, print_text};
use super::terminal::{self, escape_in_json};

/// Spaces between two columns.
const GAP: usize = 2;

/// Rows of text with a header.
#[derive(Debug)]
pub(super) struct TextTable {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(super) fn new(
        header: &[&'static str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        let header = header.iter().map(|&name| name.to_owned());
        Self::with_header(header.collect(), rows)
    }

    /// A table whose columns are known at run time only.
    pub(super) fn with_header(
        header: Vec<String>,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        Self {
            header,
            rows: rows.into_iter().collect(),
        }
    }

    /// Prints the table: aligned, with a header, and cut to the width of a
    /// terminal; as tab-separated rows without a header otherwise.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let text = if output::is_terminal() {
            self.aligned(terminal::width(), output::has_colours())
        } else {
            self.tabbed()
        };
        Ok(print_text!("{text}")?)
    }

    /// The names of the columns that a terminal has no room for.
    pub(super) fn left_out(&self) -> &[String] {
        if !output::is_terminal() {
            return &[];
        }
        let shown = fitted(self.lengths(), terminal::width()).len();
        &self.header[shown..]
    }

    /// The length of the longest cell of each column.
    fn lengths(&self) -> Vec<usize> {
        let longest = |column: usize| {
            let cells = self.rows.iter().chain([&self.header]);
            let lengths = cells.filter_map(|row| row.get(column).map(|c| c.chars().count()));
            lengths.max().unwrap_or(0)
        };
        (0..self.header.len()).map(longest).collect()
    }

    fn tabbed(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(|cell| blank_control(cell)).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }

    /// Aligned columns. What does not fit `width` is cut at an ellipsis; columns at the
    /// end, which are the least useful, are left out if the others become too narrow.
    fn aligned(&self, width: usize, colours: bool) -> String {
        let header = &self.header;
        let widths = fitted(self.lengths(), width);
        let mut text = String::new();
        for (number, row) in [header].into_iter().chain(&self.rows).enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = cut(&blank_control(cell), *width);
                let padding = width.saturating_sub(cell.chars().count()) + GAP;
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', padding));
            }
            let line = line.trim_end();
            if number == 0 && colours {
                let _ = writeln!(text, "\x1b[1m{line}\x1b[0m");
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

/// The least width to which a column other than the first is cut.
const MIN_WIDTH: usize = 16;

/// Reduces the `widths` of columns until they fit `width`: leaves out columns at the end,
/// and cuts the widest ones.
fn fitted(mut widths: Vec<usize>, width: usize) -> Vec<usize> {
    let total = |widths: &[usize]| widths.iter().map(|one| one + GAP).sum::<usize>() - GAP;
    let least = |widths: &[usize]| {
        let first = widths[..1].iter().copied();
        let others = widths[1..].iter().map(|one| *one.min(&MIN_WIDTH));
        total(&first.chain(others).collect::<Vec<_>>())
    };
    while widths.len() > 1 && least(&widths) > width {
        widths.pop();
    }
    while total(&widths) > width {
        let (_, widest) = match &mut widths[..] {
            [only] => (0, only),
            [_, others @ ..] => {
                let widest = others.iter_mut().enumerate().max_by_key(|(_, one)| **one);
                widest.expect("there are others")
            }
            [] => return widths,
        };
        if *widest == 0 {
            break;
        }
        *widest -= 1;
    }
    widths
}

/// Cuts `text` to `width` symbols, one of which is an ellipsis then. One word, such as the
/// name of a file, loses its middle: names of a kind begin alike.
fn cut(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let last = if text.contains(' ') { 0 } else { kept * 2 / 3 };
    let first: String = text.chars().take(kept - last).collect();
    let last: String = text.chars().skip(len - last).collect();
    first + "\u{2026}" + &last
}

/// Prints values as JSON, one per line.
pub(super) fn print_json_lines(values: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let lines = values.into_iter().map(|value| format!("{value}\n"));
    Ok(print_text!(
        "{}",
        escape_in_json(&lines.collect::<String>())
    )?)
}

/// Replaces control characters by spaces, so that the text can neither move a
/// terminal's cursor, nor break the line, nor look like another one.
pub(super) fn blank_control(text: &str) -> String {
    text.chars()
        .map(|c| if is_terminal_command(c) { ' ' } else { c })
        .collect()
}

/// Formats a number of bytes with a binary unit.
pub(super) fn bytes(count: u64) -> String {
    let mut rounded = count;
    for unit in ["", "K", "M", "G"] {
        if rounded < 10_000 {
            return format!("{rounded}{unit}");
        }
        rounded = rounded.div_ceil(1024);
    }
    format!("{rounded}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_tables_are_cut_and_tabbed_lines_are_complete() {
        let row = vec!["HTM".to_owned(), "Hyltemossa\n\x1b[2J".to_owned()];
        let table = TextTable::new(&["ID", "NAME"], [row]);
        assert_eq!(
            table.aligned(22, false),
            "ID   NAME\nHTM  Hyltemossa  [2J\n"
        );
        assert_eq!(
            table.aligned(21, false),
            "ID   NAME\nHTM  Hyltemossa  [2J\n"
        );
        assert_eq!(table.tabbed(), "HTM\tHyltemossa  [2J\n");
        assert!(table.aligned(80, true).starts_with("\x1b[1mID"));
        assert_eq!(bytes(5_000_000), "4883K");
    }

    #[test]
    fn columns_that_do_not_fit_are_cut_or_left_out() {
        let row = [
            "A".repeat(24),
            "b".repeat(40),
            "c".repeat(10),
            "d".repeat(10),
        ];
        let table = TextTable::new(&["ID", "NAME", "FROM", "TO"], [row.to_vec()]);
        for (width, cells) in [(90, [24, 40, 10, 10]), (80, [24, 30, 10, 10])] {
            assert_eq!(fitted(vec![24, 40, 10, 10], width), cells);
        }
        assert_eq!(
            fitted(vec![24, 40, 10, 10], 60),
            [24, 22, 10],
            "the last is left out"
        );
        assert_eq!(fitted(vec![24, 40], 10), [10], "something is shown");
        let text = table.aligned(80, false);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(text.contains("bbb\u{2026}"), "{text}");
    }
}
