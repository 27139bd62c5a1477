//! `icosfs get`: writes one object, or part of a table, to standard output or a
//! file.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use super::catalog_access::{self, TTL};
use super::credentials::CredentialArgs;
use super::exit::EndedEarly;
use super::object_argument;
use super::output;
use super::output_file::{self, UnfinishedFile};
use super::period;
use super::settings::{GlobalArgs, runtime};
use super::storage::{FLUSH_TIMEOUT, StorageArgs};
use super::subject::no_such;
use super::waiting::{Progress, with_spinner};
use super::warning::warning;
use crate::catalog::{Object, ObjectSelection, Representation};
use crate::content::{
    Contents, ExportError, ExportFormat, ExportProgress, ExportStage, RowSelection,
};
use icos_portal::Service;
use icos_portal::http::Http;

/// Interval at which the progress of an original is shown.
const INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `icosfs get`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs get wutiYS2ccUslON67rA30gK0z > table.csv
  icosfs get wutiYS2ccUslON67rA30gK0z --columns TIMESTAMP,co2 \\
    --from 2023-05 --to 2023-06
  icosfs get wutiYS2ccUslON67rA30gK0z -c TIMESTAMP,co2 --rows 1000..2000
  icosfs get wutiYS2ccUslON67rA30gK0z --good-only --output co2.parquet
  icosfs get wutiYS2ccUslON67rA30gK0z --format netcdf --output co2.nc
  icosfs get wutiYS2ccUslON67rA30gK0z --format original --output co2.zip

Only the requested part is downloaded. It is stored in the cache that mounts use.")]
pub(super) struct GetArgs {
    /// The object: its id, PID, DOI, landing page, data URL or file name, or a file in a
    /// mount
    #[arg(value_name = "ID")]
    object: String,
    /// Output format [default: by the ending of --output or of the file in the mount, else
    /// csv for a table and original for other objects]
    #[arg(short, long, value_enum)]
    format: Option<OutputFormat>,
    /// Only these columns, in this order; names separated by commas, in any case
    #[arg(short, long, value_name = "A,B")]
    columns: Vec<String>,
    /// Only these rows, counted from 0, end excluded; either end may be left
    /// out (1000.. or ..2000)
    #[arg(short, long, value_name = "FROM..TO", value_parser = rows)]
    rows: Option<Range<u64>>,
    /// Only rows from this time on, e.g. 2023-05 or 2023-05-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = period::start, conflicts_with = "rows")]
    from: Option<Timestamp>,
    /// Only rows up to this time, which is included; a year, month or day counts to its
    /// end
    #[arg(long, value_name = "TIME", value_parser = period::end, conflicts_with = "rows")]
    to: Option<Timestamp>,
    /// Only values whose quality flag is good; other values become empty
    #[arg(short, long)]
    good_only: bool,
    /// Write to this file, which appears once it is complete [default: standard
    /// output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    login: CredentialArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OutputFormat {
    /// A table as text, exactly as the portal writes it
    Csv,
    /// A table with types and units
    Parquet,
    /// A table as a CF-conforming NetCDF-3 file
    #[value(alias = "nc")]
    Netcdf,
    /// A table's columns in the portal's binary format: complete columns, one
    /// after another, big-endian. With a selection, without the trailer of a
    /// .cpb file
    Cpb,
    /// The file that was submitted
    Original,
    /// The landing page's JSON
    Json,
}

/// What decides the format of the output.
#[derive(Clone, Copy, Debug)]
struct FormatChoice {
    /// `--format`.
    given: Option<OutputFormat>,
    /// By the ending of `--output`.
    of_output: Option<OutputFormat>,
    /// By the file of a mount that was given.
    of_input: Option<OutputFormat>,
}

impl FormatChoice {
    /// Refuses a format that contradicts the name of the output.
    fn check(self, output: Option<&Path>) -> anyhow::Result<()> {
        match (self.given, self.of_output, output) {
            (Some(given), Some(named), Some(path))
                if given != named && given != OutputFormat::Original =>
            {
                Err(EndedEarly::usage(format!(
                    "--format {} contradicts the name {}; change one of them",
                    given.name(),
                    path.display()
                )))
            }
            _ => Ok(()),
        }
    }

    /// The format of `object`, if it is written to `output`.
    ///
    /// # Errors
    ///
    /// [`EndedEarly::Usage`] if the object is a table, and its format follows from the ending
    /// of the output, which no format has.
    fn decide(self, object: &Object, output: Option<&Path>) -> anyhow::Result<OutputFormat> {
        let is_table = object.as_table().is_some();
        // An original may have the ending of a table.
        let of_output = (self.of_output).filter(|&format| is_table || format == OutputFormat::Json);
        if let Some(format) = self.given.or(of_output).or(self.of_input) {
            return Ok(format);
        }
        let original = Path::new(object.file_name()).extension();
        let ending = output.and_then(Path::extension);
        match ending.and_then(OsStr::to_str) {
            _ if !is_table => Ok(OutputFormat::Original),
            None | Some("txt") => Ok(OutputFormat::Csv),
            Some(_) if ending == original => Ok(OutputFormat::Original),
            Some(ending) => Err(EndedEarly::usage(format!(
                "no format has the ending .{ending}; use .csv, .parquet, .nc, .cpb or .json, or choose a format with --format"
            ))),
        }
    }
}

impl OutputFormat {
    /// The format of a representation.
    fn of(representation: Representation) -> Self {
        match representation {
            Representation::Csv | Representation::GoodCsv => Self::Csv,
            Representation::Parquet | Representation::GoodParquet => Self::Parquet,
            Representation::NetCdf | Representation::GoodNetCdf => Self::Netcdf,
            Representation::Cpb => Self::Cpb,
            Representation::Original => Self::Original,
            Representation::Json => Self::Json,
        }
    }

    /// The format that the ending of a name tells.
    fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match &*ending {
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            "nc" => Some(Self::Netcdf),
            "cpb" => Some(Self::Cpb),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Its name in `--format`.
    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Netcdf => "netcdf",
            Self::Cpb => "cpb",
            Self::Original => "original",
            Self::Json => "json",
        }
    }

    /// The usual ending of a file in this format; `original` is the name of the original.
    fn ending(self, original: &str) -> String {
        match self {
            Self::Netcdf => ".nc".to_owned(),
            Self::Original => {
                let ending = Path::new(original).extension();
                ending.map_or_else(String::new, |one| format!(".{}", one.to_string_lossy()))
            }
            format => format!(".{}", format.name()),
        }
    }

    /// Whether a terminal cannot show it; `original` is the name of the original.
    fn is_binary(self, original: &str) -> bool {
        const TEXT: [&str; 7] = [".csv", ".txt", ".json", ".xml", ".tsv", ".md", ".dat"];
        match self {
            Self::Csv | Self::Json => false,
            Self::Parquet | Self::Netcdf | Self::Cpb => true,
            Self::Original => !TEXT.contains(&&*self.ending(original).to_ascii_lowercase()),
        }
    }
}

/// Parses a half-open range of rows such as `1000..2000`; either end may be left out.
fn rows(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str, without: u64| match text.trim() {
        "" => Some(without),
        digits => digits.parse().ok(),
    };
    text.split_once("..")
        .and_then(|(from, to)| Some(number(from, 0)?..number(to, u64::MAX)?))
        .filter(|rows| rows.start <= rows.end)
        .ok_or_else(|| "expected rows such as 1000..2000, 1000.. or ..2000".to_owned())
}

pub(super) fn run(global: &GlobalArgs, args: GetArgs) -> anyhow::Result<()> {
    let GetArgs {
        object,
        format,
        columns,
        rows,
        from,
        to,
        good_only,
        output,
        storage,
        login,
    } = args;
    period::check(from, to)?;
    let period = (from.is_some() || to.is_some()).then_some((from, to));
    let target = object_argument::parse(&object)?;
    let named = target.representation();
    let is_good = matches!(
        named,
        Some(Representation::GoodCsv | Representation::GoodParquet | Representation::GoodNetCdf)
    );
    let format = FormatChoice {
        given: format,
        of_output: output.as_deref().and_then(OutputFormat::of_name),
        of_input: named.map(OutputFormat::of),
    };
    format.check(output.as_deref())?;
    let selection = RowSelection {
        columns: (!columns.is_empty()).then_some(columns),
        rows,
        good_only: good_only || is_good,
    };
    let global = target.settings(global)?;
    let (clients, cache_dir) = (global.clients(Some(login))?, global.cache_dir()?);
    let listed = ObjectSelection::default();
    let catalog = catalog_access::open(&clients, &cache_dir, TTL, listed)?;
    let (store, contents) = storage.open(&cache_dir, &clients, TTL, None)?;
    let shown = GetProgress::new(output.as_deref().is_some_and(|path| path != Path::new("-")));
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        // A signal ends the work with an error, so that the incomplete output
        // file is removed.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = async {
            let object = async {
                let id = target.object(&catalog, &clients.meta).await?;
                let object = catalog.object(id).await?;
                object.ok_or_else(|| no_such("object", id))
            };
            let object = with_spinner("requesting the object's metadata", object).await?;
            let progress = |progress, is_copy| shown.show(progress, is_copy);
            let output = output.as_deref();
            let selection = (selection, period);
            write(&contents, &object, format, selection, output, progress).await
        };
        tokio::select! {
            done = work => done,
            () = shown.follow(&clients.http) => unreachable!("it never ends"),
            _ = interrupt.recv() => Err(EndedEarly::Interrupted.into()),
            _ = terminate.recv() => Err(EndedEarly::Terminated.into()),
        }
    });
    shown.bar.clear();
    // Give the cache time to write the downloaded bytes to the disk.
    let _ = runtime
        .block_on(async { tokio::time::timeout(FLUSH_TIMEOUT, store.wait_for_seals()).await });
    runtime.block_on(contents.flush_shared(FLUSH_TIMEOUT));
    // A write to a pipe may block forever, so do not wait for worker threads.
    runtime.shutdown_background();
    result
}

/// The first and the last time of the rows to write; an end may be open.
type Period = (Option<Timestamp>, Option<Timestamp>);

/// The rows of `object` in a period.
async fn rows_of_period(
    contents: &Contents,
    object: &Arc<Object>,
    (from, to): Period,
) -> anyhow::Result<Range<u64>> {
    let columns = contents.described_columns(object).await?;
    let times = contents.row_times(object, &columns).await?;
    let rows = times.rows_between(from, to)?;
    let outside = times.outside(&rows, from, to);
    if outside > 0 {
        warning!(
            "the table is not in the order of time: {outside} of the rows are of other times, or of none"
        );
    }
    Ok(rows.start as u64..rows.end as u64)
}

/// Writes `object` in `format`, by default the most useful one, to the file at `output`
/// or to standard output.
async fn write(
    contents: &Contents,
    object: &Arc<Object>,
    format: FormatChoice,
    (mut selection, period): (RowSelection, Option<Period>),
    output: Option<&Path>,
    progress: impl Fn(ExportProgress, bool),
) -> anyhow::Result<()> {
    let is_table = object.as_table().is_some();
    let format = format.decide(object, output)?;
    let is_to_terminal = output.is_none_or(|path| path == Path::new("-")) && output::is_terminal();
    if is_to_terminal && format.is_binary(object.file_name()) {
        let (name, ending) = (format.name(), format.ending(object.file_name()));
        return Err(EndedEarly::usage(format!(
            "{name} is binary, and standard output is a terminal; add --output NAME{ending}, or redirect with >"
        )));
    }
    if let (Some(rows), Some((all, _))) = (&selection.rows, object.as_table())
        && rows.start >= all
        && !rows.is_empty()
    {
        return Err(EndedEarly::not_found(format!(
            "the table has {all} rows, none from {}",
            rows.start
        )));
    }
    let (export, copy) = match format {
        OutputFormat::Csv => (Some(ExportFormat::Csv), Representation::Csv),
        OutputFormat::Parquet => (Some(ExportFormat::Parquet), Representation::Parquet),
        OutputFormat::Netcdf => (Some(ExportFormat::NetCdf), Representation::NetCdf),
        OutputFormat::Cpb => (Some(ExportFormat::Cpb), Representation::Cpb),
        OutputFormat::Original => (None, Representation::Original),
        OutputFormat::Json => (None, Representation::Json),
    };
    ensure!(
        export.is_some() || (selection.is_all() && period.is_none()),
        "--columns, --rows, --from, --to and --good-only select parts of a table; add --format csv, parquet, netcdf or cpb"
    );
    ensure!(
        export.is_none() || is_table,
        "object {} ({}) is not a table; get it with --format original",
        object.id(),
        object.file_name()
    );
    if let Some(period) = period {
        selection.rows = Some(rows_of_period(contents, object, period).await?);
    }
    let (out, file) = output_file::open(output)?;
    let is_copy = export.is_none();
    let progress = |one| progress(one, is_copy);
    let written = match export {
        Some(format) => (contents.export(object, &selection, format, out, progress)).await,
        None => contents.copy(object, copy, out, progress).await,
    };
    written?.flush().map_err(ExportError::Output)?;
    file.map_or(Ok(()), UnfinishedFile::finish)
}

/// The progress of the work, on a terminal.
struct GetProgress {
    bar: Progress,
    /// Whether what is written may appear on the terminal: then the bar ends before.
    is_piped: bool,
    /// Bytes written of an original, and its length.
    copied: Cell<Option<(u64, u64)>>,
}

impl GetProgress {
    /// Nothing is shown if the data itself goes to the terminal.
    fn new(to_file: bool) -> Self {
        let is_shown = to_file || !output::is_terminal();
        Self {
            bar: if is_shown {
                Progress::of(None)
            } else {
                Progress::hidden()
            },
            is_piped: !to_file && output::is_pipe(),
            copied: Cell::new(None),
        }
    }

    fn show(&self, progress: ExportProgress, is_copy: bool) {
        let ExportProgress { stage, done, total } = progress;
        if stage == ExportStage::Writing && done > 0 && self.is_piped {
            return self.bar.clear();
        }
        if is_copy {
            self.copied.set(Some((done, total)));
            self.bar.begin("downloading");
            return;
        }
        self.bar.begin(match stage {
            ExportStage::Fetching => "downloading",
            ExportStage::Writing => "writing",
        });
        self.bar.set(done, total);
    }

    /// Shows the progress of an original, which is written in large pieces, by the bytes that
    /// `http` receives. Never ends.
    async fn follow(&self, http: &Http) {
        let received = || {
            let services = http.traffic().services;
            let of_data = services.get(&Service::Data.to_string());
            of_data.map_or(0, |service| service.bytes)
        };
        let before = received();
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            if let Some((written, total)) = self.copied.get() {
                // What is cached is written without being received.
                let received = received().saturating_sub(before).min(total);
                self.bar.set(written.max(received), total);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_ranges_may_omit_either_end() {
        for (text, range) in [
            ("1000..2000", 1000..2000),
            ("5..", 5..u64::MAX),
            ("..7", 0..7),
            ("..", 0..u64::MAX),
            ("3..3", 3..3),
        ] {
            assert_eq!(rows(text), Ok(range), "{text}");
        }
        for bad in ["", "5", "7..5", "a..b", "-1..2", "1...2", "1..=2"] {
            assert!(rows(bad).is_err(), "{bad}");
        }
    }
}
