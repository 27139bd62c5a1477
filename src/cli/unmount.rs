//! `icosfs unmount`: unmounts, and waits for the process of the mount to end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::status::read_status;
use super::waiting::WaitNotice;
use crate::mount::{absolute, detach, unmount};

/// How long to wait for the process to end, so that its cache is no longer in use.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `icosfs unmount`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs unmount ~/icos
  icosfs unmount --lazy ~/icos       even if files are open there")]
pub(super) struct UnmountArgs {
    /// The mount point
    mountpoint: PathBuf,
    /// Detach it at once, even if it is in use
    #[arg(short, long)]
    lazy: bool,
}

/// Runs the command.
pub(super) fn run(args: &UnmountArgs) -> anyhow::Result<()> {
    let mountpoint = absolute(&args.mountpoint)?;
    let daemon = read_status(&mountpoint).ok().map(|status| status.info.pid);
    if args.lazy {
        detach(&mountpoint)?;
        return Ok(());
    }
    unmount(&mountpoint)?;
    let _notice = WaitNotice::spinner("waiting for its process to end");
    let deadline = Instant::now() + EXIT_TIMEOUT;
    while daemon.is_some_and(is_running) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether the process is running. A zombie is not: in a container, the first
/// process may take long to reap it.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
