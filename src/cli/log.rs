//! Logging: the level and the destination, which is standard error or a file of
//! bounded size. `icosfs log-level` changes the level of a running mount.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::Context as _;
use clap::{ArgAction, Args};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

pub(super) mod control;
mod fields;
mod file;

use super::{background, output};
use fields::EscapedFields;
use file::LogFile;

/// Requests that the log file be opened again.
static REOPEN: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Replaces the filter of this process.
static RELOAD_FILTER: OnceLock<Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>> =
    OnceLock::new();

/// Options of logging.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// Log more: -v events, -vv every request
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Log level: error, warn, info, debug or trace, or directives such as
    /// `icosfs::cache=debug,warn`; by default from -v or `RUST_LOG`
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        value_parser = directives,
        env = "ICOSFS_LOG_LEVEL",
        hide_short_help = true
    )]
    log_level: Option<String>,
    /// Log to FILE instead of standard error; at 8 MiB, FILE is renamed to
    /// FILE.1
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ICOSFS_LOG_FILE",
        hide_short_help = true
    )]
    log_file: Option<PathBuf>,
}

impl LogArgs {
    /// Starts logging; `serves` is true for a command that serves a mount.
    pub(super) fn start(&self, serves: bool) -> anyhow::Result<()> {
        let Self {
            verbose,
            log_level,
            log_file,
        } = self;
        let by_count = match verbose {
            // Problems that make reads fail, now or soon.
            0 if serves && !background::is_daemon() => DEFAULT,
            // A command reports an unreachable portal in its own error message, and so does
            // a mount that starts in the background, whose log is not seen later.
            0 => "error,icos_portal=warn,icos_portal::http=error",
            1 => "icos=info,warn",
            2 => "icos=debug,info",
            _ => "trace",
        };
        let filter = match (log_level, of_variable()) {
            (Some(directives), _) => EnvFilter::new(directives),
            (None, Some(directives)) => EnvFilter::new(directives),
            (None, None) => EnvFilter::new(by_count),
        };
        let (writer, colours) = match log_file {
            None => {
                let colours = output::messages_are_on_terminal() && !output::no_colour();
                (BoxMakeWriter::new(output::stderr), colours)
            }
            Some(path) => {
                let file = LogFile::open(path);
                let file = file.with_context(|| format!("cannot log to {}", path.display()))?;
                let _ = REOPEN.set(file.reopen_request());
                (BoxMakeWriter::new(Mutex::new(file)), false)
            }
        };
        let builder = tracing_subscriber::fmt()
            .with_writer(writer)
            // It would be written by `eprintln!`, which panics if nothing reads it.
            .log_internal_errors(false)
            .with_ansi(colours)
            .fmt_fields(EscapedFields)
            .with_env_filter(filter)
            .with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = RELOAD_FILTER.set(Box::new(move |filter| Ok(handle.reload(filter)?)));
        builder.init();
        Ok(())
    }
}

/// The directives of a mount in the foreground.
const DEFAULT: &str = "error,icos_portal=warn";

/// The directives of `RUST_LOG`, if they are valid.
fn of_variable() -> Option<String> {
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).ok()?;
    let is_valid = !directives.is_empty() && EnvFilter::try_new(&directives).is_ok();
    is_valid.then_some(directives)
}

/// The level if none is given, and where it is from.
pub(super) fn default_level() -> (String, &'static str) {
    match of_variable() {
        Some(directives) => (directives, EnvFilter::DEFAULT_ENV),
        None => (DEFAULT.to_owned(), "default"),
    }
}

/// Opens the log file again before the next line, for programs that rename log files.
pub(super) fn reopen() {
    if let Some(request) = REOPEN.get() {
        request.store(true, Ordering::Relaxed);
    }
}

/// Whether the log goes somewhere: not that of a process in the background without a log
/// file, whose standard error is not read.
fn is_written() -> bool {
    REOPEN.get().is_some() || !background::is_daemon()
}

/// Sets the level of this process.
fn set_level(level: &str) -> anyhow::Result<()> {
    let directives = directives(level).map_err(anyhow::Error::msg)?;
    let reload = RELOAD_FILTER.get().context("logging has not started")?;
    reload(EnvFilter::new(directives))
}

/// Returns the filter directives of `level`. A plain level applies to this program;
/// its dependencies get a higher one.
fn directives(level: &str) -> Result<String, String> {
    // A directive matches by prefix: `icos` means icosfs, icos_portal, icos_demo.
    let wide = match level {
        "error" => "error",
        "warn" => "warn",
        "info" => "icos=info,warn",
        "debug" => "icos=debug,info",
        "trace" => "icos=trace,debug",
        other if other.contains(['=', ',']) => other,
        _ => {
            return Err(
                "expected error, warn, info, debug or trace, or directives such as icosfs::cache=debug,warn"
                    .to_owned(),
            );
        }
    };
    EnvFilter::try_new(wide).map_err(|error| error.to_string())?;
    Ok(wide.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_a_word_or_directives() {
        assert_eq!(directives("debug").unwrap(), "icos=debug,info");
        assert!(directives("icosfs::cache=debug,warn").is_ok());
        assert!(
            directives("loud")
                .unwrap_err()
                .starts_with("expected error, warn")
        );
        assert!(directives("icosfs=loud").is_err());
    }
}
