//! `icosfs log-level`: sends a level to a running mount or server by a control socket, in
//! a folder that only its owner can enter.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use directories::ProjectDirs;
use icos_files::SafeFolder;

use crate::cli::serve::client;
use crate::cli::settings::GlobalArgs;
use crate::cli::status::read_status_of;
use crate::cli::target::Target;
use crate::cli::warning::warning;

/// Timeout of both sides.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum length of a request and of a response.
const MAX_MESSAGE: u64 = 4096;
/// The response of a mount that set the level, but writes no log.
const WITHOUT_LOG: &str = "ok, without a log\n";

/// Arguments of `icosfs log-level`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs log-level ~/icos debug                       # and back: warn
  icosfs log-level ~/icos icosfs::cache=trace,warn
  icosfs log-level http://127.0.0.1:8080/ debug       # a server

The log is the file that --log-file named when the mount or server was started.")]
pub(in crate::cli) struct LogLevelArgs {
    /// The mount point, or the URL or socket of a server
    mountpoint: PathBuf,
    /// error, warn, info, debug or trace, or directives
    #[arg(value_parser = super::directives)]
    level: String,
}

/// Runs the command.
pub(in crate::cli) fn run(global: &GlobalArgs, args: &LogLevelArgs) -> anyhow::Result<()> {
    let target = Target::named(global, &args.mountpoint)?;
    let shown = target.shown();
    let status =
        read_status_of(&target).with_context(|| format!("cannot read the status of {shown}"))?;
    let socket = status.info.control.with_context(|| {
        format!("the process of {shown} has no control socket; its log has the reason")
    })?;
    let mut stream = client::connect(&socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    writeln!(stream, "{}", args.level)?;
    let mut response = String::new();
    stream
        .take(MAX_MESSAGE)
        .read_to_string(&mut response)
        .with_context(|| format!("{shown} does not respond"))?;
    if response == WITHOUT_LOG {
        warning!(
            "the level is set, but the mount in the background has no log file; mount it again with --log-file FILE"
        );
        return Ok(());
    }
    ensure!(response == "ok\n", "{shown} refused: {}", response.trim());
    Ok(())
}

/// The folder for sockets: the user's runtime folder, or else one below `cache`.
pub(in crate::cli) fn runtime_folder(cache: &Path) -> PathBuf {
    ProjectDirs::from("", "", "icosfs")
        .and_then(|dirs| dirs.runtime_dir().map(Path::to_owned))
        .unwrap_or_else(|| cache.join("run"))
}

/// The control socket of a mount. Dropping it removes the file.
#[derive(Debug)]
pub(in crate::cli) struct ControlSocket {
    folder: SafeFolder,
    name: OsString,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens on a socket in the user's runtime folder, or below `cache`. Returns
    /// `None` if that fails, since a mount works without a control socket.
    pub(in crate::cli) fn listen(cache: &Path) -> Option<Self> {
        let folder = runtime_folder(cache);
        Self::listen_in(&folder)
            // A mount that ends at this moment may have removed the folder.
            .or_else(|_| Self::listen_in(&folder))
            .inspect_err(|error| {
                tracing::warn!(folder = %folder.display(), "cannot listen on the control socket: {error:#}");
            })
            .ok()
    }

    fn listen_in(folder: &Path) -> anyhow::Result<Self> {
        let opened = SafeFolder::private(folder, true)?;
        let attributes = opened.metadata();
        if attributes.mode() & 0o077 != 0 || attributes.uid() != nix::unistd::geteuid().as_raw() {
            bail!("expected a folder that only its owner can enter (mode 0700)");
        }
        let name = OsString::from(format!("{}.sock", std::process::id()));
        // An earlier process may have had the same id.
        let _ = opened.remove(&name);
        let listener = UnixListener::bind(opened.path().join(&name))?;
        let socket = Self {
            path: folder.join(&name),
            folder: opened,
            name,
        };
        std::thread::Builder::new().spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Err(error) = handle(stream) {
                    tracing::debug!("cannot serve a control request: {error:#}");
                }
            }
        })?;
        Ok(socket)
    }

    /// Returns the path of the socket.
    pub(in crate::cli) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = self.folder.remove(&self.name);
        // Fails while the folder has sockets of other mounts.
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

/// Reads one request from `stream` and responds to it.
fn handle(mut stream: UnixStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_MESSAGE)).read_line(&mut line)?;
    match super::set_level(line.trim()) {
        Ok(()) if super::is_written() => writeln!(stream, "ok")?,
        Ok(()) => write!(stream, "{WITHOUT_LOG}")?,
        Err(error) => writeln!(stream, "{error:#}")?,
    }
    Ok(())
}
