//! `icosfs unmount`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::status::read_status;
use crate::mount::{absolute, detach, unmount};

/// How long the daemon has to end, so that its cache is free for others.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `icosfs unmount` takes.
#[derive(Args, Debug)]
pub(super) struct UnmountArgs {
    /// Where it is mounted
    mountpoint: PathBuf,
    /// Take it out of sight at once, even if it is in use
    #[arg(short, long)]
    lazy: bool,
}

pub(super) fn run(args: &UnmountArgs) -> anyhow::Result<()> {
    let mountpoint = absolute(&args.mountpoint)?;
    let daemon = read_status(&mountpoint).ok().map(|status| status.about.pid);
    if args.lazy {
        detach(&mountpoint)?;
        return Ok(());
    }
    unmount(&mountpoint)?;
    let deadline = Instant::now() + PATIENCE;
    while let Some(pid) = daemon.and_then(|pid| i32::try_from(pid).ok())
        && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
