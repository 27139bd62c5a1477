//! `icosfs log-level`: a word to a mount that runs, by a socket in a folder that
//! only its owner can enter.

use std::fs::{self, DirBuilder};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use directories::ProjectDirs;

use crate::cli::status::read_status;
use crate::mount::{absolute, mountinfo};

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(1);
/// No request is longer.
const LONGEST: u64 = 4096;

/// What `icosfs log-level` takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs log-level ~/icos debug                       # and back: warn
  icosfs log-level ~/icos icosfs::cache=trace,warn

The mount says it where it was told to: mount with --log-file.")]
pub(in crate::cli) struct LogLevelArgs {
    /// Where it is mounted
    mountpoint: PathBuf,
    /// error, warn, info, debug or trace, or directives
    #[arg(value_parser = super::directives)]
    level: String,
}

pub(in crate::cli) fn run(args: &LogLevelArgs) -> anyhow::Result<()> {
    let mountpoint = absolute(&args.mountpoint)?;
    let shown = mountpoint.display();
    ensure!(
        mountinfo::mount_at(&mountpoint)?.is_some_and(|mount| mount.is_icosfs()),
        "no icosfs is mounted at {shown}; `icosfs status` lists the mounts"
    );
    let status = read_status(&mountpoint).with_context(|| format!("cannot ask {shown}"))?;
    let socket = status
        .info
        .control
        .with_context(|| format!("the mount at {shown} takes no commands; its log says why"))?;
    let mut stream = UnixStream::connect(&socket)
        .with_context(|| format!("cannot reach the mount by {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{}", args.level)?;
    let mut answer = String::new();
    stream
        .take(LONGEST)
        .read_to_string(&mut answer)
        .context("the mount does not answer")?;
    ensure!(answer == "ok\n", "the mount answers: {}", answer.trim());
    Ok(())
}

/// A socket that is removed at the end.
#[derive(Debug)]
pub(in crate::cli) struct ControlSocket(PathBuf);

impl ControlSocket {
    /// Listens in the user's runtime folder, or below `cache`. Without either,
    /// the mount runs all the same.
    pub(in crate::cli) fn listen(cache: &Path) -> Option<Self> {
        let folder = ProjectDirs::from("", "", "icosfs")
            .and_then(|dirs| dirs.runtime_dir().map(Path::to_owned))
            .unwrap_or_else(|| cache.join("run"));
        Self::listen_in(&folder)
            // One that ended just now may have taken the folder along.
            .or_else(|_| Self::listen_in(&folder))
            .inspect_err(|error| {
                tracing::warn!(folder = %folder.display(), "no control socket: {error:#}");
            })
            .ok()
    }

    fn listen_in(folder: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let attributes = fs::symlink_metadata(folder)?;
        if !attributes.is_dir()
            || attributes.mode() & 0o077 != 0
            || attributes.uid() != nix::unistd::geteuid().as_raw()
        {
            bail!("expected a folder that only its owner can enter (mode 0700)");
        }
        let path = folder.join(format!("{}.sock", std::process::id()));
        // An earlier process may have had the number.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Err(error) = obey(stream) {
                    tracing::debug!("a command failed: {error:#}");
                }
            }
        });
        Ok(Self(path))
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        // Others' sockets keep it.
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

fn obey(mut stream: UnixStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LONGEST)).read_line(&mut line)?;
    match super::change(line.trim()) {
        Ok(()) => writeln!(stream, "ok")?,
        Err(error) => writeln!(stream, "{error:#}")?,
    }
    Ok(())
}
