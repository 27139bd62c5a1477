//! `icosfs unmount`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::status::read_status;
use super::waiting::WaitNotice;
use crate::mount::{absolute, detach, unmount};

/// How long the daemon has to end, so that its cache is free for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `icosfs unmount` takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs unmount ~/icos
  icosfs unmount --lazy ~/icos       though someone has a file open there")]
pub(super) struct UnmountArgs {
    /// Where it is mounted
    mountpoint: PathBuf,
    /// Take it out of sight at once, even if it is in use
    #[arg(short, long)]
    lazy: bool,
}

pub(super) fn run(args: &UnmountArgs) -> anyhow::Result<()> {
    let mountpoint = absolute(&args.mountpoint)?;
    let daemon = read_status(&mountpoint).ok().map(|status| status.info.pid);
    if args.lazy {
        detach(&mountpoint)?;
        return Ok(());
    }
    unmount(&mountpoint)?;
    let _sign = WaitNotice::spinner("waiting for its process to end");
    let deadline = Instant::now() + PATIENCE;
    while daemon.is_some_and(is_running) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether the process does something still. One that has ended stays in the
/// table until its parent asks, which a container's first process may be slow
/// to do.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
