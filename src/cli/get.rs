//! `icosfs get`: writes one object, or part of a table, to standard output or a
//! file.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::NamedTempFile;
use tokio::signal::unix::{SignalKind, signal};

use super::credentials::CredentialArgs;
use super::object_argument;
use super::settings::{Clients, GlobalArgs};
use super::storage::{FLUSH_TIMEOUT, StorageArgs};
use super::waiting::WaitNotice;
use crate::catalog::{Catalog, Object, ObjectSelection, Representation};
use crate::content::{
    Contents, ExportError, ExportFormat, ExportProgress, ExportStage, RowSelection,
};
use icos_portal::Service;

/// Lifetime of landing pages and lists in the catalog.
const TTL: Duration = Duration::from_mins(10);
/// Exit code that a shell reports for a program ended by SIGPIPE.
pub(super) const BROKEN_PIPE: u8 = 128 + 13;
/// Size of the output buffer in bytes.
const BUFFER: usize = 256 << 10;

/// Arguments of `icosfs get`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C > table.csv
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C --columns TIMESTAMP,co2 --rows 1000..2000
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C --good-only --format parquet --output co2.parquet
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C --format original --output co2.zip

Only the requested part is downloaded. It is stored in the cache that mounts use.")]
pub(super) struct GetArgs {
    /// The object: its id, PID or landing page, or a file in a mount
    #[arg(value_name = "ID")]
    object: String,
    /// Output format [default: csv for a table, else original]
    #[arg(short, long, value_enum)]
    format: Option<OutputFormat>,
    /// Only these columns, in this order; names separated by commas
    #[arg(short, long, value_name = "A,B")]
    columns: Vec<String>,
    /// Only these rows, counted from 0, end excluded; either end may be left
    /// out (1000.. or ..2000)
    #[arg(short, long, value_name = "FROM..TO", value_parser = rows)]
    rows: Option<RowRange>,
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
    /// A table's columns in the portal's binary format: complete columns, one
    /// after another, big-endian. With a selection, without the trailer of a
    /// .cpb file
    Cpb,
    /// The file that was submitted
    Original,
    /// The landing page's JSON
    Json,
}

/// The half-open range of rows given by `--rows`.
#[derive(Clone, Debug, Eq, PartialEq)]
struct RowRange(Range<u64>);

/// Parses `1000..2000`; either end may be left out.
fn rows(text: &str) -> Result<RowRange, String> {
    let number = |text: &str, without: u64| match text.trim() {
        "" => Some(without),
        digits => digits.parse().ok(),
    };
    text.split_once("..")
        .and_then(|(from, to)| Some(number(from, 0)?..number(to, u64::MAX)?))
        .filter(|rows| rows.start <= rows.end)
        .map(RowRange)
        .ok_or_else(|| "expected rows such as 1000..2000, 1000.. or ..2000".to_owned())
}

pub(super) fn run(global: &GlobalArgs, args: GetArgs) -> anyhow::Result<()> {
    let GetArgs {
        object,
        format,
        columns,
        rows,
        good_only,
        output,
        storage,
        login,
    } = args;
    let target = object_argument::parse(&object)?;
    let selection = RowSelection {
        columns: (!columns.is_empty()).then_some(columns),
        rows: rows.map(|RowRange(rows)| rows),
        good_only,
    };
    let services = global.services()?;
    let storage = storage.check(global.cache_dir()?, services.envri(), None)?;
    let http = global.http()?;
    let auth = login.provider(&http, &services)?;
    let clients = Clients::new(http, services, auth);
    let folder = (storage.cache_dir()).join(clients.services.host_name(Service::Meta));
    let catalog = Catalog::open(
        clients.meta.clone(),
        &folder,
        TTL,
        ObjectSelection::default(),
    )
    .context("the catalog cannot be opened")?;
    let id = target.id(&catalog)?;
    let store = storage.store(&clients)?;
    let contents = storage.contents(&clients, store.clone(), TTL);
    let bar = bar(output.is_some());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(async {
        // A signal ends the work with an error, so that the incomplete output
        // file is removed.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = async {
            let sign = WaitNotice::spinner("requesting the object's metadata");
            let object = catalog.object(id).await?;
            drop(sign);
            let object = object.with_context(|| format!("the repository has no object {id}"))?;
            let task = GetTask::new(&object, format, selection)?;
            let out = OutputSink::open(output.as_deref())?;
            let shown = |progress| show(&bar, progress);
            let out = task.run(&contents, &object, out, shown).await?;
            out.finish()
        };
        tokio::select! {
            done = work => done,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    });
    bar.finish_and_clear();
    // Give the cache time to write the downloaded bytes to the disk.
    let _ = runtime
        .block_on(async { tokio::time::timeout(FLUSH_TIMEOUT, store.wait_for_seals()).await });
    // A write to a pipe may block forever, so do not wait for worker threads.
    runtime.shutdown_background();
    result
}

/// What to write: an export of a table, or a file as it is.
enum GetTask {
    Table(ExportFormat, RowSelection),
    File(Representation),
}

impl GetTask {
    fn new(
        object: &Object,
        format: Option<OutputFormat>,
        selection: RowSelection,
    ) -> anyhow::Result<Self> {
        let is_table = object.as_table().is_some();
        let default = if is_table {
            OutputFormat::Csv
        } else {
            OutputFormat::Original
        };
        let format = match format.unwrap_or(default) {
            OutputFormat::Csv => ExportFormat::Csv,
            OutputFormat::Parquet => ExportFormat::Parquet,
            OutputFormat::Cpb => ExportFormat::Cpb,
            other => {
                ensure!(
                    selection.is_all(),
                    "--columns, --rows and --good-only need --format csv, parquet or cpb of a table"
                );
                return Ok(Self::File(match other {
                    OutputFormat::Json => Representation::Json,
                    _ => Representation::Original,
                }));
            }
        };
        ensure!(
            is_table,
            "object {} ({}) is not a table; get it with --format original",
            object.id(),
            object.file_name()
        );
        Ok(Self::Table(format, selection))
    }

    async fn run(
        &self,
        contents: &Contents,
        object: &std::sync::Arc<Object>,
        out: OutputSink,
        progress: impl Fn(ExportProgress),
    ) -> Result<OutputSink, ExportError> {
        match self {
            Self::Table(format, selection) => {
                contents
                    .export(object, selection, *format, out, progress)
                    .await
            }
            Self::File(representation) => {
                contents.copy(object, *representation, out, progress).await
            }
        }
    }
}

/// Where the output is written.
enum OutputSink {
    Stream(BufWriter<Box<dyn Write + Send>>),
    /// A temporary file that replaces the file at the path once it is complete.
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl OutputSink {
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let stream = |out| Ok(Self::Stream(BufWriter::with_capacity(BUFFER, out)));
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return stream(Box::new(io::stdout()));
        };
        let failed = || format!("cannot write to {}", path.display());
        // Symbolic links are followed, as by a shell's `>`.
        let path = match path.canonicalize() {
            Ok(real) if !real.is_file() => {
                // A pipe or a device is written to, not replaced.
                let out = std::fs::OpenOptions::new().write(true).open(&real);
                return stream(Box::new(out.with_context(failed)?));
            }
            Ok(real) => real,
            Err(_new) => path.to_owned(),
        };
        let name = path.file_name().with_context(failed)?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(".part")
            // The default mode of a new file; the umask applies.
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(failed)?;
        Ok(Self::File(BufWriter::with_capacity(BUFFER, file), path))
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stream(mut out) => out.flush().map_err(ExportError::Output)?,
            Self::File(out, path) => {
                let file = out
                    .into_inner()
                    .map_err(|error| ExportError::Output(error.into_error()))?;
                file.persist(&path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Write for OutputSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(out) => out.write(bytes),
            Self::File(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(out) => out.flush(),
            Self::File(out, _) => out.flush(),
        }
    }
}

/// Whether a command failed because the reader of its output exited, which is
/// not reported as an error.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe
    )
}

/// A progress bar, unless standard error is not a terminal or the data itself
/// goes to the terminal.
fn bar(to_file: bool) -> ProgressBar {
    let terminal = io::stderr().is_terminal() && (to_file || !io::stdout().is_terminal());
    if terminal {
        ProgressBar::no_length()
    } else {
        ProgressBar::hidden()
    }
}

fn show(bar: &ProgressBar, progress: ExportProgress) {
    let style = match progress.stage {
        ExportStage::Fetching => "fetching {bytes} of {total_bytes} {wide_bar} {bytes_per_sec}",
        ExportStage::Writing => "writing {percent} % {wide_bar} {eta}",
    };
    if bar.message() != style {
        // The message stores the current style, to detect a change of stage.
        bar.set_message(style);
        bar.reset();
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
    }
    bar.set_length(progress.total);
    bar.set_position(progress.done);
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
            assert_eq!(rows(text), Ok(RowRange(range)), "{text}");
        }
        for bad in ["", "5", "7..5", "a..b", "-1..2", "1...2", "1..=2"] {
            assert!(rows(bad).is_err(), "{bad}");
        }
    }
}
