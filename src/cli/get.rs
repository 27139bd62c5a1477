//! `icosfs get`: one object, or some of a table, to standard output or a file.

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
use crate::catalog::{Catalog, Object, Representation, Selection as Shown};
use crate::content::{
    Contents, ExportError, ExportFormat, ExportProgress, ExportStage, RowSelection,
};
use icos_portal::Service;

/// Landing pages are read once.
const TTL: Duration = Duration::from_mins(10);
/// What a shell says of a program whose reader has gone (SIGPIPE).
pub(super) const BROKEN_PIPE: u8 = 128 + 13;
/// Written to at once.
const BUFFER: usize = 256 << 10;

/// What `icosfs get` takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C > table.csv
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C --columns TIMESTAMP,co2 --rows 1000..2000
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C --good-only --format parquet --output co2.parquet
  icosfs get UNhY4JhezH9gQYqvDMWrWH9C --format original --output co2.zip

Only what is asked for is fetched; it is kept in the cache, as by a mount.")]
pub(super) struct GetArgs {
    /// The object: its id, PID or landing page, or a file in a mount
    #[arg(value_name = "ID")]
    object: String,
    /// As what: a table as csv without, anything else as it was submitted
    #[arg(short, long, value_enum)]
    format: Option<OutputFormat>,
    /// Only these columns, in this order; names with commas between
    #[arg(short, long, value_name = "A,B")]
    columns: Vec<String>,
    /// Only these rows, counted from 0, the end excluded; 1000.. and ..2000
    /// are understood
    #[arg(short, long, value_name = "FROM..TO", value_parser = rows)]
    rows: Option<RowRange>,
    /// Only values whose quality flag is good: others become empty
    #[arg(short, long)]
    good_only: bool,
    /// To this file, which is there once it is whole; standard output without
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    login: CredentialArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OutputFormat {
    /// A table as text, as the portal writes it
    Csv,
    /// A table with types and units
    Parquet,
    /// A table's columns as the portal keeps them: each whole, one after
    /// another, big-endian. Of a selection, without the trailer of a .cpb file
    Cpb,
    /// The file that was submitted
    Original,
    /// The landing page's JSON
    Json,
}

/// RowRange as they were asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
struct RowRange(Range<u64>);

/// Reads `1000..2000`; either may be left out.
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
    let catalog = Catalog::open(clients.meta.clone(), &folder, TTL, Shown::default())
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
        // Ends by an error, so that half a file is removed on the way.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = async {
            let sign = WaitNotice::spinner("asking the portal about it");
            let object = catalog.object(id).await?;
            drop(sign);
            let object = object.with_context(|| format!("the repository has no object {id}"))?;
            let job = GetTask::new(&object, format, selection)?;
            let out = OutputSink::open(output.as_deref())?;
            let shown = |progress| show(&bar, progress);
            let out = job.run(&contents, &object, out, shown).await?;
            out.finish()
        };
        tokio::select! {
            done = work => done,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to end"),
        }
    });
    bar.finish_and_clear();
    // It is kept, too: the disk may still be taking it.
    let _ = runtime
        .block_on(async { tokio::time::timeout(FLUSH_TIMEOUT, store.wait_for_seals()).await });
    // A write may wait for a reader who never comes.
    runtime.shutdown_background();
    result
}

/// What to write.
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
        let without = if is_table {
            OutputFormat::Csv
        } else {
            OutputFormat::Original
        };
        let format = match format.unwrap_or(without) {
            OutputFormat::Csv => ExportFormat::Csv,
            OutputFormat::Parquet => ExportFormat::Parquet,
            OutputFormat::Cpb => ExportFormat::Cpb,
            other => {
                ensure!(
                    selection.is_all(),
                    "columns, rows and good values can be selected of a table, as --format csv, \
                     parquet or cpb"
                );
                return Ok(Self::File(match other {
                    OutputFormat::Json => Representation::Json,
                    _ => Representation::Original,
                }));
            }
        };
        ensure!(
            is_table,
            "object {} ({}) is no table; get it with --format original",
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

/// Where it goes.
enum OutputSink {
    Stream(BufWriter<Box<dyn Write + Send>>),
    /// A file beside the one that it will replace once it is whole.
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl OutputSink {
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let stream = |out| Ok(Self::Stream(BufWriter::with_capacity(BUFFER, out)));
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return stream(Box::new(io::stdout()));
        };
        let failed = || format!("cannot write to {}", path.display());
        // A link is followed, as by any shell's `>`.
        let path = match path.canonicalize() {
            Ok(real) if !real.is_file() => {
                // A pipe or a device is no file to be replaced.
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
            // What any new file gets, less the umask.
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

/// Whether a command failed since nobody reads what it writes: no failure to
/// speak of.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe
    )
}

/// A progress bar for a person: not where the data themselves are shown.
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
        // Its name, to be told from the other.
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
    fn rows_are_read_with_either_end_left_out() {
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
