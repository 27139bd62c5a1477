//! Tables for people and lines for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

/// Columns are this far apart.
const GAP: usize = 2;

/// Rows of text under a header.
#[derive(Debug)]
pub(super) struct TextTable {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(super) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Prints it: aligned and cut to fit a terminal, with tabs to anything
    /// else.
    pub(super) fn print(&self) -> io::Result<()> {
        let stdout = io::stdout();
        let text = if stdout.is_terminal() {
            let width = terminal_size::terminal_size().map_or(80, |(width, _)| width.0.into());
            self.aligned(width, std::env::var_os("NO_COLOR").is_none())
        } else {
            self.tabbed()
        };
        let mut out = stdout.lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // `| head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
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

/// Without what would move a terminal's cursor, or end a line.
pub(super) fn blank_control(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A number of bytes for a person.
pub(super) fn bytes(count: u64) -> String {
    let mut whole = count;
    for unit in ["", "K", "M", "G"] {
        if whole < 10_000 {
            return format!("{whole}{unit}");
        }
        whole = whole.div_ceil(1024);
    }
    format!("{whole}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_the_terminal_and_lines_are_whole() {
        let mut table = TextTable::new(&["ID", "NAME"]);
        table.push(vec!["HTM".to_owned(), "Hyltemossa\n\x1b[2J".to_owned()]);
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
