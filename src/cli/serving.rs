//! Options of commands that serve a repository, by a mount or over HTTP.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// How current and how exact is what programs see.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct ServingArgs {
    /// Seconds to cache metadata
    ///
    /// That is, lists of objects and landing pages; or `indefinite`.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "600",
        value_parser = ttl,
        env = "ICOSFS_METADATA_TTL"
    )]
    pub(super) metadata_ttl: Duration,
    /// When to wait for exact sizes
    ///
    /// `when-open` is correct for programs that query the size of a file that they
    /// have open: they wait until the table is downloaded and its size computed,
    /// which happens once. Before a file is open, they get an estimate. Some
    /// programs rely on that size: bsdtar, Python's tarfile, cpio, busybox tar,
    /// and file systems over the mount. For these, use `always`: every query of a
    /// size waits, so that `ls -l` downloads every table and landing page that it
    /// lists. With `never`, a CSV that is open has an upper bound, too. Programs that only read to the end (cat, grep,
    /// streaming CSV parsers) then do not wait, but programs that rely on the
    /// size fail: cp and rsync append zeros or report an error, tail and memory
    /// maps (polars, R) read past the end, and wc -c and progress bars show too
    /// many bytes. A server (`icosfs serve`) sends no estimates: with `always`, it
    /// waits as well, otherwise it leaves the size out.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ExactSizeArg::WhenOpen, env = "ICOSFS_EXACT_SIZE")]
    pub(super) exact_size: ExactSizeArg,
}

/// The values of `--exact-size`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ExactSizeArg {
    /// Always wait, also before a file is open: for archives; costs a download for
    /// each file that is listed with its size
    Always,
    /// Wait if the file is open
    WhenOpen,
    /// Never wait for a CSV, return an upper bound: for pipelines that must not wait
    Never,
}

/// Parses the value of `--metadata-ttl`.
fn ttl(text: &str) -> Result<Duration, String> {
    if text == "indefinite" {
        return Ok(Duration::MAX);
    }
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| "expected a number of seconds, or indefinite".to_owned())
}
