//! How much is said, and where: standard error, or a file that is never too
//! long. What is said can be changed while a mount runs.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use anyhow::Context as _;
use clap::{ArgAction, Args};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

pub(super) mod control;
mod file;

use file::LogFile;

/// Changes what this process says.
static CHANGE: OnceLock<Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>> =
    OnceLock::new();

/// Options on what is said.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// Say more: -v what happens, -vv every request
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// How much to say: error, warn, info, debug or trace, or directives such
    /// as `icosfs::cache=debug,warn`; without, -v or `RUST_LOG` decide
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        value_parser = directives,
        env = "ICOSFS_LOG_LEVEL",
        hide_short_help = true
    )]
    log_level: Option<String>,
    /// Where to say it, rather than on standard error; at 8 MiB the file is
    /// put aside as FILE.1
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
    pub(super) fn start(&self, serves: bool) -> anyhow::Result<()> {
        let Self {
            verbose,
            log_level,
            log_file,
        } = self;
        let by_count = match verbose {
            // What makes reading data fail, or soon will.
            0 if serves => "error,icos_portal=warn",
            // A command that ends says itself that nothing answers.
            0 => "error,icos_portal=warn,icos_portal::http=error",
            1 => "icos=info,warn",
            2 => "icos=debug,info",
            _ => "trace",
        };
        let filter = match log_level {
            Some(directives) => EnvFilter::new(directives),
            None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(by_count)),
        };
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let (writer, colours) = match log_file {
            None => {
                let colours = std::io::stderr().is_terminal() && !plain;
                (BoxMakeWriter::new(std::io::stderr), colours)
            }
            Some(path) => {
                let file = LogFile::open(path.clone());
                let file = file.with_context(|| format!("cannot log to {}", path.display()))?;
                (BoxMakeWriter::new(Mutex::new(file)), false)
            }
        };
        let builder = tracing_subscriber::fmt()
            .with_writer(writer)
            .with_ansi(colours)
            .with_env_filter(filter)
            .with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = CHANGE.set(Box::new(move |filter| Ok(handle.reload(filter)?)));
        builder.init();
        Ok(())
    }
}

/// Makes this process say what `level` asks for, from now on.
fn change(level: &str) -> anyhow::Result<()> {
    let directives = directives(level).map_err(anyhow::Error::msg)?;
    let change = CHANGE.get().context("there is no log yet")?;
    change(EnvFilter::new(directives))
}

/// The directives that `level` stands for: a word means this program, and what
/// it is built of more quietly.
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
    fn levels_are_words_or_directives() {
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
