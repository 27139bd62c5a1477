//! Writes a table, or some of its columns and rows, to a stream. Only the selected
//! cells are downloaded, in one request if the cache can hold them.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use super::columns::{Columns, RefetchLimit};
use super::landing_pages::ObjectInfo;
use super::netcdf::NetCdfValues;
use super::{ContentError, Contents};
use crate::catalog::{Object, Representation};
use icos_portal::meta::Subject;
use icos_sync::run_blocking;
use icos_table::flags::flag_of;
use icos_table::{Column, CsvWriter, GoodFlags, ParquetWriter, Schema, TableError};

mod error;
mod netcdf;

pub use error::ExportError;

/// The approximate length of the columns that are read and written at once.
const WINDOW_LEN: u64 = 4 << 20;
/// The length of the reads that copy a file as it is.
const COPY_LEN: usize = 1 << 20;
/// The columns and rows of a table to export.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RowSelection {
    /// Names of columns in output order; `None` for all. A name may be a
    /// comma-separated list, unless a column has this name. Case matters only between
    /// columns whose names differ in nothing else.
    pub columns: Option<Vec<String>>,
    /// Row numbers from 0; `None` for all. Rows after the last are ignored.
    pub rows: Option<Range<u64>>,
    /// Whether to write nulls for values whose quality flag is not good.
    pub good_only: bool,
}

impl RowSelection {
    /// Whether this selects the complete table, unchanged.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// The output format of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExportFormat {
    /// Text as the portal writes it.
    Csv,
    /// Parquet with types and units.
    Parquet,
    /// NetCDF with units and origin.
    NetCdf,
    /// Columns one after another, big-endian. A complete table ends with the trailer of
    /// a `.cpb` file.
    Cpb,
}

/// The progress of an export.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExportProgress {
    /// The current stage.
    pub stage: ExportStage,
    /// How much of the stage is done.
    pub done: u64,
    /// The size of the stage.
    pub total: u64,
}

/// The stages of an export.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExportStage {
    /// Downloading columns, in bytes.
    Fetching,
    /// Writing: in rows for a table, else in bytes.
    Writing,
}

/// The cells to export.
pub(super) struct ExportJob {
    columns: Arc<Columns>,
    /// The selected columns, with their descriptions.
    described: Vec<Column>,
    /// Where each selected column is stored.
    sources: Vec<ColumnSource>,
    good: GoodFlags,
    rows: Range<u64>,
    /// Metadata of the output file.
    about: Vec<(String, String)>,
}

/// The stored position of a column, and of the column with its quality flags if bad
/// values become nulls.
#[derive(Clone, Debug)]
struct ColumnSource {
    stored: usize,
    flag: Option<(usize, Column)>,
}

impl Contents {
    /// Copies a file as it is to `out`, and returns `out`.
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
        // Requesting the exact size first downloads a table in one request.
        let total = self.exact_size(object, representation).await?;
        let corruption_count = self.corruption_count(object.id());
        // While it is open, the checksums of evicted blocks are retained.
        let _open = match representation {
            Representation::Original if self.data_folder.is_none() => {
                Some(self.original(object).await?)
            }
            _ => None,
        };
        let mut done = 0;
        loop {
            progress(ExportProgress {
                stage: ExportStage::Writing,
                done,
                total,
            });
            let bytes = self
                .read(object, representation, corruption_count, done, COPY_LEN)
                .await?;
            if bytes.is_empty() {
                if representation == Representation::Cpb {
                    // The request that brought the last bytes may not have ended yet.
                    self.tables.open(object).await?.seal_complete().await;
                }
                return Ok(out);
            }
            done += bytes.len() as u64;
            let (back, written) = run_blocking(move || {
                let written = out.write_all(&bytes);
                (out, written)
            })
            .await;
            written.map_err(ExportError::Output)?;
            out = back;
        }
    }

    /// Writes the selected part of a table to `out`, and returns `out`.
    ///
    /// # Errors
    ///
    /// [`ExportError`]. A table that cannot be rendered here can be exported as CSV
    /// only, and only completely.
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
                return Err(ExportError::NotSelectable(error));
            }
            Err(error) => return Err(error.into()),
        };
        if format == ExportFormat::Cpb && selection.is_all() {
            return self.copy(object, Representation::Cpb, out, progress).await;
        }
        let job = self.job(columns, selection, format).await?;
        match format {
            ExportFormat::NetCdf => {
                let page = self.landing_page(&Subject::Object(object.id())).await?;
                let values = if selection.good_only {
                    NetCdfValues::Good
                } else {
                    NetCdfValues::All
                };
                job.write_netcdf(out, object, (&page, values), &progress)
                    .await
            }
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
    ) -> Result<ExportJob, ExportError> {
        let schema = columns.schema();
        let selected = selected(selection.columns.as_deref(), schema)?;
        let end = schema.rows();
        let rows = selection.rows.clone().unwrap_or(0..end);
        let rows = rows.start.min(end)..rows.end.min(end);
        let rows = rows.start..rows.end.max(rows.start);
        let is_described = matches!(format, ExportFormat::Parquet | ExportFormat::NetCdf);
        let (all, about, good) = if selection.good_only || is_described {
            let info = self.landing_pages.object_info(columns.id()).await?;
            let all = info.describe(schema.columns());
            (all, info.file_metadata(), info.good_flags())
        } else {
            let none: [&str; 0] = [];
            (schema.columns().to_vec(), Vec::new(), GoodFlags::new(&none))
        };
        let stored = |csv: usize| schema.stored_index(csv).unwrap_or(csv);
        let sources = selected
            .iter()
            .map(|&csv| ColumnSource {
                stored: stored(csv),
                flag: selection
                    .good_only
                    .then(|| flag_of(&all, csv))
                    .flatten()
                    .map(|flag| (stored(flag), all[flag].clone())),
            })
            .collect();
        Ok(ExportJob {
            described: selected.iter().map(|&csv| all[csv].clone()).collect(),
            columns,
            sources,
            good,
            rows,
            about,
        })
    }
}

/// The positions of the selected columns in the CSV.
fn selected(names: Option<&[String]>, schema: &Schema) -> Result<Vec<usize>, ExportError> {
    let Some(names) = names else {
        return Ok((0..schema.columns().len()).collect());
    };
    let mut selected = Vec::new();
    for name in names {
        if let Some(at) = schema.find_ignoring_case(name) {
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

impl ExportJob {
    /// The job to export all of a table, with what `info` says about it.
    pub(super) fn complete_table(columns: Arc<Columns>, info: &ObjectInfo) -> Self {
        let schema = columns.schema();
        let stored = 0..schema.columns().len();
        let sources = stored.map(|csv| ColumnSource {
            stored: schema.stored_index(csv).unwrap_or(csv),
            flag: None,
        });
        Self {
            sources: sources.collect(),
            described: info.describe(schema.columns()),
            good: info.good_flags(),
            rows: 0..schema.rows(),
            about: info.file_metadata(),
            columns,
        }
    }

    pub(super) async fn write_csv<W: Write + Send + 'static>(
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

    /// The same, with nulls for values whose quality flag is not good.
    pub(super) fn good_values(columns: Arc<Columns>, info: &ObjectInfo) -> Self {
        let mut job = Self::complete_table(columns, info);
        let stored = |csv: usize| job.columns.schema().stored_index(csv).unwrap_or(csv);
        let flags: Vec<_> = (0..job.described.len())
            .map(|csv| flag_of(&job.described, csv))
            .map(|flag| flag.map(|flag| (stored(flag), job.described[flag].clone())))
            .collect();
        for (source, flag) in job.sources.iter_mut().zip(flags) {
            source.flag = flag;
        }
        job
    }

    pub(super) async fn write_parquet<W: Write + Send + 'static>(
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
        run_blocking(move || Ok(writer.finish()?)).await
    }

    /// Writes column after column, as the data service does.
    async fn write_columns<W: Write + Send + 'static>(
        self,
        mut out: W,
        progress: &impl Fn(ExportProgress),
    ) -> Result<W, ExportError> {
        if self.width().saturating_mul(self.rows.end - self.rows.start) <= self.columns.capacity() {
            // Download all of them in one request.
            self.fetch(self.rows.clone(), progress).await?;
        }
        for at in 0..self.sources.len() {
            let one = ExportJob {
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

    /// Passes the cells to `write`, window by window.
    async fn each_window<T: Send + 'static>(
        self,
        mut target: T,
        progress: &impl Fn(ExportProgress),
        write: impl FnMut(&mut T, usize, &[&[u8]]) -> Result<(), ExportError> + Send + 'static,
    ) -> Result<T, ExportError> {
        let job = Arc::new(self);
        let mut write = write;
        let width = job.width().max(1);
        let window = (WINDOW_LEN / width).max(1);
        // More cells than the cache can hold are downloaded in parts.
        let part = (job.columns.capacity() / width).max(window);
        let mut row = job.rows.start;
        let mut downloaded = row;
        let mut refetches = RefetchLimit::default();
        while row < job.rows.end {
            progress(ExportProgress {
                stage: ExportStage::Writing,
                done: row - job.rows.start,
                total: job.rows.end - job.rows.start,
            });
            if row >= downloaded {
                downloaded = job.rows.end.min(row.saturating_add(part));
                job.fetch(row..downloaded, progress).await?;
            }
            let rows = row..downloaded.min(row + window);
            let (reading, range) = (Arc::clone(&job), rows.clone());
            let (back, returned, written) = run_blocking(move || {
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
                // Some cells were corrupt on the disk: download them again.
                refetches.attempt(row)?;
                downloaded = row;
            }
        }
        Ok(target)
    }

    /// The stored positions of the columns to read.
    fn needed(&self) -> Vec<usize> {
        let flags = |source: &ColumnSource| source.flag.as_ref().map(|(stored, _)| *stored);
        let needed: BTreeSet<usize> = self
            .sources
            .iter()
            .flat_map(|source| std::iter::once(source.stored).chain(flags(source)))
            .collect();
        needed.into_iter().collect()
    }

    /// The length of a row of those columns in bytes.
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

    /// The cells of the selected columns, with nulls for bad values. `None` if some are
    /// missing and must be downloaded again. Blocks on disk I/O.
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
