//! Whether a CSV that the portal wrote agrees with the metadata of its table.
//!
//! Such a text has no checksum, and a response may be an error page, empty, or
//! cut off without a sign of it: a body that the end of the connection ends
//! counts as complete. Therefore the header must have a title that the metadata
//! list, and there must be as many rows as the metadata state.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::cache::{CacheError, CacheFile, CacheRead};
use crate::catalog::{Object, Spec};
use icos_portal::{PortalError, Service};

/// The number of bytes at the start of the text in which a title must occur.
const MAX_HEAD: usize = 256 << 10;
/// The number of bytes of a file that are read at once.
const WINDOW: u64 = 1 << 20;

/// What the metadata tell of a CSV.
#[derive(Clone, Debug)]
pub(super) struct CsvCheck {
    /// Titles of columns, of which the header has at least one.
    titles: Vec<String>,
    rows: u64,
    /// How many line ends the header has. Titles may contain some.
    header_lines: RangeInclusive<u64>,
}

/// What the metadata tell of the header of any table of a data type.
#[derive(Debug)]
pub(super) struct HeaderCheck(Vec<String>);

/// What is known of a text, of which the parts are added one after another.
#[derive(Debug, Default)]
pub(super) struct CsvOutline {
    head: Vec<u8>,
    lines: u64,
    last: Option<u8>,
}

impl CsvCheck {
    /// The check of the CSV of `object`.
    pub(super) fn of(object: &Object) -> Self {
        let (rows, columns) = object
            .as_table()
            .map_or((0, &[][..]), |(rows, spec)| (rows, spec.columns()));
        let own: Option<HashSet<&str>> = object
            .column_names()
            .map(|names| names.iter().map(String::as_str).collect());
        let mandatory: Vec<&str> = (columns.iter())
            .filter(|column| !column.optional && !column.regex)
            .map(|column| column.title.as_str())
            .filter(|title| own.as_ref().is_none_or(|own| own.contains(title)))
            .collect();
        let breaks = |title: &str| title.matches('\n').count() as u64;
        let fewest = 1 + mandatory.iter().map(|title| breaks(title)).sum::<u64>();
        let most = own.as_ref().map_or(fewest, |own| {
            1 + own.iter().map(|name| breaks(name)).sum::<u64>()
        });
        let titles = own.map_or(mandatory, |own| own.into_iter().collect());
        Self {
            titles: titles.into_iter().map(str::to_owned).collect(),
            rows,
            header_lines: fewest..=most.max(fewest),
        }
    }

    /// Checks a complete text.
    ///
    /// # Errors
    ///
    /// [`PortalError::BadResponse`] with what was expected and what was found.
    pub(super) fn check(&self, text: &CsvOutline) -> Result<(), PortalError> {
        text.expect_one_of(&self.titles)?;
        let fewest = self.header_lines.start().saturating_add(self.rows);
        let most = self.header_lines.end().saturating_add(self.rows);
        let is_cut = text.last.is_none_or(|last| last != b'\n');
        if is_cut || text.lines < fewest || text.lines > most {
            let rows = text.lines.saturating_sub(*self.header_lines.start());
            let tail = if is_cut { " and a part of a line" } else { "" };
            return Err(contradiction(
                &format!("{} rows", self.rows),
                &format!("{rows}{tail}"),
            ));
        }
        Ok(())
    }

    /// Checks a file of the cache. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// As [`CsvCheck::check`]; an unreadable file does not pass either.
    pub(super) fn check_file(&self, file: &CacheFile) -> Result<(), super::ContentError> {
        let (mut text, mut at) = (CsvOutline::default(), 0);
        while at < file.len() {
            let end = file.len().min(at + WINDOW);
            match file.read(at..end)? {
                CacheRead::Bytes(bytes) => text.add(&bytes),
                CacheRead::Missing(_) => return Err(CacheError::TooSmall.into()),
            }
            at = end;
        }
        Ok(self.check(&text)?)
    }
}

impl HeaderCheck {
    /// The check of the headers of tables of type `spec`.
    pub(super) fn of(spec: &Spec) -> Self {
        let columns = spec.columns().iter();
        let named = columns.filter(|column| !column.regex);
        Self(named.map(|column| column.title.clone()).collect())
    }

    /// Checks a header line.
    ///
    /// # Errors
    ///
    /// [`PortalError::BadResponse`] if it has none of the titles.
    pub(super) fn check(&self, header: &[u8]) -> Result<(), PortalError> {
        let mut line = CsvOutline::default();
        line.add(header);
        line.expect_one_of(&self.0)
    }
}

impl CsvOutline {
    /// Adds the next part of the text.
    #[allow(clippy::naive_bytecount)] // Another crate would not be faster by much.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = MAX_HEAD - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.last = bytes.last().copied().or(self.last);
    }

    /// Fails if the header has none of `titles`, unless there are none.
    fn expect_one_of(&self, titles: &[String]) -> Result<(), PortalError> {
        let has_title = |title: &String| self.has_title(title.as_bytes());
        if titles.is_empty() || titles.iter().any(has_title) {
            return Ok(());
        }
        let start = &self.head[..self.head.len().min(60)];
        let found = format!("{:?}", String::from_utf8_lossy(start));
        Err(contradiction("a header with one of its columns", &found))
    }

    /// Whether a field at the start of the text is `title`. There are no quotes,
    /// so a title may contain separators.
    fn has_title(&self, title: &[u8]) -> bool {
        let is_edge = |byte: Option<&u8>| byte.is_none_or(|byte| b",\n".contains(byte));
        !title.is_empty()
            && (self.head.windows(title.len()).enumerate()).any(|(at, found)| {
                found == title
                    && is_edge(at.checked_sub(1).map(|before| &self.head[before]))
                    && is_edge(self.head.get(at + title.len()))
            })
    }
}

/// The error of a response that contradicts the metadata.
fn contradiction(expected: &str, found: &str) -> PortalError {
    PortalError::BadResponse {
        service: Service::Data,
        reason: format!(
            "expected {expected} in the portal's CSV, according to the metadata, found {found}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(titles: &[&str], rows: u64, header_lines: RangeInclusive<u64>) -> CsvCheck {
        CsvCheck {
            titles: titles.iter().map(|&title| title.to_owned()).collect(),
            rows,
            header_lines,
        }
    }

    #[test]
    fn csv_passes_only_with_a_known_title_and_all_rows() {
        let simple = check(&["a", "b,c"], 2, 1..=1);
        let broken = check(&["li\nne"], 1, 2..=2);
        let vague = check(&["a"], 1, 1..=2);
        for (check, text, passes) in [
            (&simple, "a,x\n1,2\n3,4\n", true),
            (&simple, "x,b,c\n1,2\n3,4\n", true),
            (&simple, "x,y\n1,2\n3,4\n", false),
            (&simple, "aa,y\n1,2\n3,4\n", false),
            (&simple, "a,x\n1,2\n3,4", false),
            (&simple, "a,x\n1,2\n", false),
            (&simple, "a,x\n1,2\n3,4\n5,6\n", false),
            (&simple, "<html>\n<a>\n</html>\n", false),
            (&simple, "", false),
            (&broken, "x,li\nne\n1,2\n", true),
            (&broken, "x,li\nne\n", false),
            (&vague, "a,o\nther\n1\n", true),
            (&vague, "a\n1\n", true),
        ] {
            let mut outline = CsvOutline::default();
            for part in text.as_bytes().chunks(3) {
                outline.add(part);
            }
            assert_eq!(check.check(&outline).is_ok(), passes, "{text:?}");
        }
    }
}
