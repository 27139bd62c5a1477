//! Tabular output: aligned columns for a terminal, tab-separated lines for
//! programs.

use std::fmt::Write as _;

use serde_json::Value;

use super::output::{self, print_text};

/// Spaces between two columns.
const GAP: usize = 2;

/// Rows of text with a header.
#[derive(Debug)]
pub(super) struct TextTable {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(super) fn new(
        header: &[&'static str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        Self {
            header: header.to_vec(),
            rows: rows.into_iter().collect(),
        }
    }

    /// Prints the table: aligned, with a header, and cut to the width of a
    /// terminal; as tab-separated rows without a header otherwise.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let text = if output::is_terminal() {
            let width = terminal_size::terminal_size().map_or(80, |(width, _)| width.0.into());
            self.aligned(width, std::env::var_os("NO_COLOR").is_none())
        } else {
            self.tabbed()
        };
        Ok(print_text!("{text}")?)
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

    fn aligned(&self, width: usize, colours: bool) -> String {
        let header: Vec<String> = self.header.iter().map(|&name| name.to_owned()).collect();
        let widths: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&header]);
                let lengths = cells.filter_map(|row| row.get(column).map(|c| c.chars().count()));
                lengths.max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (number, row) in [&header].into_iter().chain(&self.rows).enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = blank_control(cell);
                let padding = width.saturating_sub(cell.chars().count()) + GAP;
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', padding));
            }
            let line: String = line.trim_end().chars().take(width).collect();
            if number == 0 && colours {
                let _ = writeln!(text, "\x1b[1m{line}\x1b[0m");
            } else {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    }
}

/// Prints values as JSON, one per line.
pub(super) fn print_json_lines(values: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let lines = values.into_iter().map(|value| format!("{value}\n"));
    Ok(print_text!("{}", lines.collect::<String>())?)
}

/// Replaces control characters by spaces, so that the text can neither move a
/// terminal's cursor nor break the line.
pub(super) fn blank_control(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
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
            table.aligned(12, false),
            "ID   NAME\nHTM  Hyltemo\n",
            "cut at the width"
        );
        assert_eq!(table.tabbed(), "HTM\tHyltemossa  [2J\n");
        assert!(table.aligned(80, true).starts_with("\x1b[1mID"));
        assert_eq!(bytes(5_000_000), "4883K");
    }
}
