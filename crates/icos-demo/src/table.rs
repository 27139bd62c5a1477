//! A table as the data service stores it: its ingested columns, its `.cpb`
//! file, and its CSV.
//!
//! No file is stored: any part of it is computed from [`ColumnValues`] on
//! request.

use std::ops::Range;
use std::sync::OnceLock;

use super::cells;
use super::definition::{Matching, VariableDefinition};
use super::graph::RdfNode;
use super::random::column_salt;
use super::values::{CellFormat, ColumnValues};

/// Ends the file of a table without strings: an empty Java dictionary.
const TRAILER: [u8; 10] = [0xAC, 0xED, 0x00, 0x05, 0x77, 0x04, 0, 0, 0, 0];

/// An ingested table.
pub(crate) struct DemoTable {
    /// In the order of the file: sorted by name as Java compares strings.
    columns: Vec<TableColumn>,
    /// The columns of a CSV without a selection. Some may not have been
    /// ingested.
    header: Vec<String>,
    rows: u64,
}

/// A column of a [`DemoTable`].
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) format: CellFormat,
    values: ColumnValues,
    salt: u64,
    /// The bytes of one period, if the column's values repeat.
    period: OnceLock<Vec<u8>>,
}

impl DemoTable {
    /// Makes the table of `object` as the data service does (protocol page,
    /// section 3). Its columns are those of `hasActualColumnNames`, or else the
    /// mandatory plain columns, as far as the data type has a column with that
    /// title or with a regex that is found in the name. `None` if the object is
    /// not a table.
    pub(crate) fn of(
        object: RdfNode<'_>,
        salt: u64,
        mut values: impl FnMut(&str, CellFormat, RdfNode<'_>) -> ColumnValues,
    ) -> Option<Self> {
        let rows = object.number("cpmeta:hasNumberOfRows")?;
        let spec = object.one("cpmeta:hasObjectSpec")?;
        spec.one("cpmeta:containsDataset")?;
        let mut known = VariableDefinition::all(spec, "Column", Matching::Search);
        known.retain(|definition| {
            let format = definition.format();
            format.is_some() && definition.node.one("cpmeta:hasValueType").is_some()
        });
        let header = VariableDefinition::names(&known, object);
        let mut sorted: Vec<_> = header.iter().collect();
        sorted.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
        let columns = (sorted.into_iter())
            .filter_map(|name| {
                let definition = VariableDefinition::lookup(&known, name)?;
                let format = definition.format()?;
                Some(TableColumn {
                    name: name.clone(),
                    format,
                    values: values(name, format, definition.node),
                    salt: column_salt(salt, name),
                    period: OnceLock::new(),
                })
            })
            .collect();
        Some(Self {
            columns,
            header,
            rows,
        })
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the table has a column of strings, which the service cannot
    /// serve.
    pub(crate) fn has_text(&self) -> bool {
        self.columns.iter().any(|c| c.format == CellFormat::Text)
    }

    /// Returns the columns of a CSV as indices: the requested ones, or all.
    /// Unknown columns are dropped, repeated ones stay.
    pub(crate) fn select(&self, asked: Option<&[String]>) -> Vec<usize> {
        asked
            .unwrap_or(&self.header)
            .iter()
            .filter_map(|name| self.columns.iter().position(|c| c.name == *name))
            .collect()
    }

    /// Returns the first line of a CSV, with its line break.
    pub(crate) fn csv_header(&self, selected: &[usize]) -> String {
        let names: Vec<_> = selected.iter().map(|&c| &*self.columns[c].name).collect();
        names.join(",") + "\n"
    }

    /// Renders rows as lines of a CSV.
    pub(crate) fn csv_rows(
        &self,
        selected: &[usize],
        rows: Range<u64>,
    ) -> Result<String, cells::OutOfCalendar> {
        let mut out = String::new();
        for row in rows {
            for (at, &c) in selected.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                let column = &self.columns[c];
                let value = column.values.at(column.format, column.salt, row);
                cells::write(&mut out, column.format, value)?;
            }
            out.push('\n');
        }
        Ok(out)
    }

    /// The length of the `.cpb` file.
    pub(crate) fn file_size(&self) -> u64 {
        let row: u64 = self.columns.iter().map(|c| c.format.width()).sum();
        row * self.rows + TRAILER.len() as u64
    }

    /// Reads up to `length` bytes of the `.cpb` file at `offset`; fewer at its
    /// end.
    pub(crate) fn read_file(&self, offset: u64, length: u64) -> Vec<u8> {
        let end = offset.saturating_add(length).min(self.file_size());
        let mut out = Vec::new();
        let mut column_start = 0;
        for column in &self.columns {
            let width = column.format.width();
            let column_end = column_start + width * self.rows;
            let (from, to) = (offset.max(column_start), end.min(column_end));
            if from < to {
                let rows = (from - column_start) / width..(to - column_start).div_ceil(width);
                let first = column_start + rows.start * width;
                let mut cells = column.bytes(rows);
                cells.truncate(usize::try_from(to - first).unwrap_or(usize::MAX));
                let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
                out.extend_from_slice(&cells[skip..]);
            }
            column_start = column_end;
        }
        for (at, byte) in (column_start..).zip(TRAILER) {
            if (offset..end).contains(&at) {
                out.push(byte);
            }
        }
        out
    }
}

impl TableColumn {
    /// The bytes of these rows.
    fn bytes(&self, rows: Range<u64>) -> Vec<u8> {
        let Some(period) = self.values.period() else {
            return self.computed(rows);
        };
        let index = |bytes: u64| usize::try_from(bytes).expect("a period lies in memory");
        let width = self.format.width();
        let period_bytes = self.period.get_or_init(|| self.computed(0..period));
        let mut out = Vec::with_capacity(index((rows.end - rows.start) * width));
        let mut row = rows.start;
        while row < rows.end {
            let from = row % period;
            let to = period.min(from + rows.end - row);
            out.extend_from_slice(&period_bytes[index(from * width)..index(to * width)]);
            row += to - from;
        }
        out
    }

    fn computed(&self, rows: Range<u64>) -> Vec<u8> {
        let length = (rows.end - rows.start) * self.format.width();
        let mut out = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        for row in rows {
            self.values.at(self.format, self.salt, row).store(&mut out);
        }
        out
    }
}
