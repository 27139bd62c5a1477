//! A table, or some of its columns and rows, written to a stream: just those
//! cells are fetched, in one request if the cache can hold them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use super::columns::{Columns, RefetchLimit};
use super::parquet::off_the_loop;
use super::{ContentError, Contents};
use crate::catalog::{Object, Representation};
use icos_table::flags::flag_of;
use icos_table::parquet::ParquetError;
use icos_table::{Column, CsvWriter, GoodFlags, ParquetWriter, Schema, TableError};

/// About how many bytes of columns are drawn at once.
const WINDOW: u64 = 4 << 20;
/// Files that are no tables are read in pieces of this size.
const PIECE: usize = 1 << 20;
/// How many columns a message names.
const NAMED: usize = 20;

/// What of a table is wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RowSelection {
    /// Names of columns, in the order wanted; all without. A name may be
    /// several with commas between, unless a column is called just that.
    pub columns: Option<Vec<String>>,
    /// The rows, counted from 0; those past the last are none.
    pub rows: Option<Range<u64>>,
    /// Whether values whose quality flag is not good become nulls.
    pub good_only: bool,
}

impl RowSelection {
    /// Whether it is the whole table as it is.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// How a table is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExportFormat {
    /// As text, as the portal writes it.
    Csv,
    /// As Parquet, with types and units.
    Parquet,
    /// As columns, one after another, big-endian; the whole table with the
    /// trailer that makes it a `.cpb` file.
    Cpb,
}

/// How far an export has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExportProgress {
    /// What is being done.
    pub stage: ExportStage,
    /// Of it, so much.
    pub done: u64,
    /// All of it.
    pub total: u64,
}

/// What an export is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExportStage {
    /// Fetching columns, in bytes.
    Fetching,
    /// Writing, in rows of a table, or else in bytes.
    Writing,
}

/// Why an export did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bytes could not be had.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// There is no such column.
    #[error(
        "expected a column of the table, found {found:?}; it has {}",
        shown(has)
    )]
    NoSuchColumn {
        /// The name asked for.
        found: String,
        /// The table's columns.
        has: Vec<String>,
    },
    /// The portal alone can write this table, and only whole.
    #[error("columns and rows of this table cannot be selected, since {0}")]
    OnlyWhole(TableError),
    /// The other end does not take them.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

impl From<TableError> for ExportError {
    fn from(error: TableError) -> Self {
        Self::Content(error.into())
    }
}

impl From<ParquetError> for ExportError {
    fn from(error: ParquetError) -> Self {
        match error.into_io() {
            Ok(error) => Self::Output(error),
            Err(error) => Self::Content(error.into()),
        }
    }
}

fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names[..names.len() - more].join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Cells to export.
struct Job {
    columns: Arc<Columns>,
    /// The selected columns, with what is known of them.
    described: Vec<Column>,
    /// For each of them, where it is stored, and where its flags are if bad
    /// values are to go.
    sources: Vec<Source>,
    good: GoodFlags,
    rows: Range<u64>,
    /// What the file says of itself.
    about: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Source {
    stored: usize,
    flag: Option<(usize, Column)>,
}

impl Contents {
    /// Writes a file as it is to `out`, and gives that back.
    ///
    /// # Errors
    ///
    /// [`ExportError::Content`] or [`ExportError::Output`].
    pub async fn copy<W: Write + Send + 'static>(
        &self,
        object: &Arc<Object>,
        representation: Representation,
        mut out: W,
        progress: impl Fn(ExportProgress),
    ) -> Result<W, ExportError> {
        // Asked for first, a table comes in one request.
        let total = self.exact_size(object, representation).await?;
        let opened = self.open_original(object);
        let mut done = 0;
        loop {
            progress(ExportProgress {
                stage: ExportStage::Writing,
                done,
                total,
            });
            let piece = self
                .read(object, representation, opened.corruption_count, done, PIECE)
                .await?;
            if piece.is_empty() {
                return Ok(out);
            }
            done += piece.len() as u64;
            let (back, written) = off_the_loop(move || {
                let written = out.write_all(&piece);
                (out, written)
            })
            .await;
            written.map_err(ExportError::Output)?;
            out = back;
        }
    }

    /// Writes what `selection` says of a table to `out`, and gives that back.
    ///
    /// # Errors
    ///
    /// [`ExportError`]; a table whose columns cannot be told for sure is
    /// written as CSV, and whole, or not at all.
    pub async fn export<W: Write + Send + 'static>(
        &self,
        object: &Arc<Object>,
        selection: &RowSelection,
        format: ExportFormat,
        out: W,
        progress: impl Fn(ExportProgress),
    ) -> Result<W, ExportError> {
        let columns = match self.tables.open(object).await {
            Ok(columns) => columns,
            Err(ContentError::Table(error)) if error.portal_may_serve_csv() => {
                if format == ExportFormat::Csv && selection.is_all() {
                    return self.copy(object, Representation::Csv, out, progress).await;
                }
                return Err(ExportError::OnlyWhole(error));
            }
            Err(error) => return Err(error.into()),
        };
        if format == ExportFormat::Cpb && selection.is_all() {
            return self.copy(object, Representation::Cpb, out, progress).await;
        }
        let job = self.job(columns, selection, format).await?;
        match format {
            ExportFormat::Csv => job.write_csv(out, &progress).await,
            ExportFormat::Parquet => job.write_parquet(out, &progress).await,
            ExportFormat::Cpb => job.write_columns(out, &progress).await,
        }
    }

    async fn job(
        &self,
        columns: Arc<Columns>,
        selection: &RowSelection,
        format: ExportFormat,
    ) -> Result<Job, ExportError> {
        let schema = columns.schema();
        let selected = selected(selection.columns.as_deref(), schema)?;
        let end = schema.rows();
        let rows = selection.rows.clone().unwrap_or(0..end);
        let rows = rows.start.min(end)..rows.end.min(end);
        let rows = rows.start..rows.end.max(rows.start);
        let (all, about, good) = if selection.good_only || format == ExportFormat::Parquet {
            let about = self.workshop.abouts.of_table(columns.id()).await?;
            let all = about.describe(schema.columns());
            (all, about.of_file(), about.good_flags())
        } else {
            let none: [&str; 0] = [];
            (schema.columns().to_vec(), Vec::new(), GoodFlags::new(&none))
        };
        let stored = |csv: usize| schema.stored_index(csv).unwrap_or(csv);
        let sources = selected
            .iter()
            .map(|&csv| Source {
                stored: stored(csv),
                flag: selection
                    .good_only
                    .then(|| flag_of(&all, csv))
                    .flatten()
                    .map(|flag| (stored(flag), all[flag].clone())),
            })
            .collect();
        Ok(Job {
            described: selected.iter().map(|&csv| all[csv].clone()).collect(),
            columns,
            sources,
            good,
            rows,
            about,
        })
    }
}

/// Positions of the columns that are wanted.
fn selected(names: Option<&[String]>, schema: &Schema) -> Result<Vec<usize>, ExportError> {
    let Some(names) = names else {
        return Ok((0..schema.columns().len()).collect());
    };
    let mut selected = Vec::new();
    for name in names {
        if let Some(at) = schema.find(name) {
            selected.push(at);
            continue;
        }
        let several: Vec<&str> = name.split(',').collect();
        match schema.select(&several) {
            Ok(found) => selected.extend(found),
            Err(TableError::NoSuchColumn(found)) => {
                let has = schema.columns().iter().map(|column| column.label.clone());
                let has = has.collect();
                return Err(ExportError::NoSuchColumn { found, has });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(selected)
}

impl Job {
    async fn write_csv<W: Write + Send + 'static>(
        self,
        mut out: W,
        progress: &impl Fn(ExportProgress),
    ) -> Result<W, ExportError> {
        let writer = CsvWriter::new(&self.described);
        out.write_all(writer.header())
            .map_err(ExportError::Output)?;
        let mut text = Vec::new();
        self.each_window(out, progress, move |out, rows, window| {
            text.clear();
            writer.render(rows, window, &mut text)?;
            out.write_all(&text).map_err(ExportError::Output)
        })
        .await
    }

    async fn write_parquet<W: Write + Send + 'static>(
        self,
        out: W,
        progress: &impl Fn(ExportProgress),
    ) -> Result<W, ExportError> {
        let writer = ParquetWriter::new(out, &self.described, &self.about)?;
        let writer = self
            .each_window(writer, progress, |writer, rows, window| {
                Ok(writer.write(rows, window)?)
            })
            .await?;
        off_the_loop(move || Ok(writer.finish()?)).await
    }

    /// Column after column, as the data service answers.
    async fn write_columns<W: Write + Send + 'static>(
        self,
        mut out: W,
        progress: &impl Fn(ExportProgress),
    ) -> Result<W, ExportError> {
        if self.width().saturating_mul(self.rows.end - self.rows.start) <= self.columns.capacity() {
            // All of them in one request.
            self.fetch(self.rows.clone(), progress).await?;
        }
        for at in 0..self.sources.len() {
            let one = Job {
                columns: Arc::clone(&self.columns),
                described: vec![self.described[at].clone()],
                sources: vec![self.sources[at].clone()],
                good: self.good.clone(),
                rows: self.rows.clone(),
                about: Vec::new(),
            };
            out = one
                .each_window(out, progress, |out, _, window| {
                    let [column] = window else { return Ok(()) };
                    out.write_all(column).map_err(ExportError::Output)
                })
                .await?;
        }
        Ok(out)
    }

    /// Hands the cells to `write`, window by window.
    async fn each_window<T: Send + 'static>(
        self,
        mut target: T,
        progress: &impl Fn(ExportProgress),
        write: impl FnMut(&mut T, usize, &[&[u8]]) -> Result<(), ExportError> + Send + 'static,
    ) -> Result<T, ExportError> {
        let job = Arc::new(self);
        let mut write = write;
        let width = job.width().max(1);
        let window = (WINDOW / width).max(1);
        // What the cache cannot hold together goes through it in parts.
        let part = (job.columns.capacity() / width).max(window);
        let mut row = job.rows.start;
        let mut there = row;
        let mut refetches = RefetchLimit::default();
        while row < job.rows.end {
            progress(ExportProgress {
                stage: ExportStage::Writing,
                done: row - job.rows.start,
                total: job.rows.end - job.rows.start,
            });
            if row >= there {
                there = job.rows.end.min(row.saturating_add(part));
                job.fetch(row..there, progress).await?;
            }
            let rows = row..there.min(row + window);
            let (reading, range) = (Arc::clone(&job), rows.clone());
            let (back, returned, written) = off_the_loop(move || {
                let written = match reading.window(&range) {
                    Ok(Some(window)) => {
                        let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                        let window: Vec<&[u8]> = window.iter().map(Vec::as_slice).collect();
                        write(&mut target, count, &window).map(|()| true)
                    }
                    Ok(None) => Ok(false),
                    Err(error) => Err(error.into()),
                };
                (target, write, written)
            })
            .await;
            (target, write) = (back, returned);
            if written? {
                row = rows.end;
            } else {
                // Damaged on the disk, and dropped: it comes once more.
                refetches.attempt(row)?;
                there = row;
            }
        }
        Ok(target)
    }

    /// The stored columns that are needed.
    fn needed(&self) -> Vec<usize> {
        let flags = |source: &Source| source.flag.as_ref().map(|(stored, _)| *stored);
        let needed: BTreeSet<usize> = self
            .sources
            .iter()
            .flat_map(|source| std::iter::once(source.stored).chain(flags(source)))
            .collect();
        needed.into_iter().collect()
    }

    /// Bytes of a row of those.
    fn width(&self) -> u64 {
        self.columns.width_of(&self.needed())
    }

    async fn fetch(
        &self,
        rows: Range<u64>,
        progress: &impl Fn(ExportProgress),
    ) -> Result<(), ContentError> {
        let needed = self.needed();
        let missing = self.columns.missing_bytes(&needed, &rows);
        if missing == 0 {
            return Ok(());
        }
        let before = self.columns.received();
        let mut arrived = self.columns.arrivals();
        let fetching = self.columns.ensure_cells(&needed, rows);
        tokio::pin!(fetching);
        loop {
            progress(ExportProgress {
                stage: ExportStage::Fetching,
                done: (self.columns.received() - before).min(missing),
                total: missing,
            });
            tokio::select! {
                fetched = &mut fetching => return fetched,
                _ = arrived.changed() => {}
            }
        }
    }

    /// The selected columns' bytes, bad values as nulls; `None` if some are
    /// damaged and must be fetched again. Blocks on the disk.
    fn window(&self, rows: &Range<u64>) -> Result<Option<Vec<Vec<u8>>>, ContentError> {
        let mut window = Vec::with_capacity(self.sources.len());
        for (source, column) in self.sources.iter().zip(&self.described) {
            let Some(mut values) = self.columns.cells(source.stored, rows)? else {
                return Ok(None);
            };
            if let Some((stored, flag)) = &source.flag {
                let Some(flags) = self.columns.cells(*stored, rows)? else {
                    return Ok(None);
                };
                self.good
                    .clear_bad_values(column.format, &mut values, flag.format, &flags)?;
            }
            window.push(values);
        }
        Ok(Some(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_some_columns_and_counts_the_others() {
        let names = |n: usize| (0..n).map(|at| at.to_string()).collect::<Vec<_>>();
        assert_eq!(shown(&names(2)), "0, 1");
        assert!(shown(&names(25)).ends_with("18, 19 and 5 more"));
    }
}
