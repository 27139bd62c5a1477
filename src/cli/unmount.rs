//! `icosfs unmount`: unmounts, and waits for the process of the mount to end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use nix::unistd::geteuid;

use super::mount::mountpoint::responds;
use super::mount_context::{mount_of, not_mounted, owned_by};
use super::settings::GlobalArgs;
use super::status::read_status;
use super::target::Target;
use super::waiting::WaitNotice;
use super::warning::warning;
use crate::mount::mountinfo;
use crate::mount::{absolute_without_foreign_links, detach, unmount};
use crate::process::{self, ProcessState};

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
pub(super) fn run(global: &GlobalArgs, args: &UnmountArgs) -> anyhow::Result<()> {
    if let Ok(Target::Server(server)) = Target::named(global, &args.mountpoint) {
        bail!(
            "{} is a server, not a mount; `kill {}` ends it",
            server.shown(),
            server.pid
        );
    }
    let mountpoint = absolute_without_foreign_links(&args.mountpoint)?;
    let entry = mountinfo::mount_at(&mountpoint)?;
    if entry.is_none() {
        match mount_of(&mountinfo::mounts()?, &mountpoint) {
            Some(mount) => bail!(
                "{} is in the mount at {1}; `icosfs unmount {1}` unmounts that",
                mountpoint.display(),
                mount.mountpoint.display()
            ),
            None => bail!(not_mounted(&mountpoint, "")),
        }
    }
    if let Some(owner) = entry
        .as_ref()
        .filter(|entry| entry.is_icosfs())
        .and_then(|e| e.owner)
    {
        let user = geteuid();
        ensure!(
            user.is_root() || user.as_raw() == owner,
            "the mount at {} is {}; only that user and root can unmount it",
            mountpoint.display(),
            owned_by(Some(owner))
        );
    }
    if args.lazy {
        detach(&mountpoint)?;
        return Ok(());
    }
    // The process of another user may never reply, and this one could not end then.
    let queried = entry.as_ref();
    let queried = queried.filter(|entry| entry.is_icosfs() && entry.is_trusted());
    if queried.is_some() && !responds(&mountpoint) {
        bail!(
            "the process of the mount at {0} does not respond; if it is stopped, `kill -CONT PID` resumes it (`pgrep -fa 'icosfs mount'` lists such processes); `icosfs unmount --lazy {0}` unmounts it at once",
            mountpoint.display()
        );
    }
    let daemon = queried.and_then(|entry| read_status(entry).ok());
    let daemon = daemon.map(|status| status.info.pid);
    unmount(&mountpoint)?;
    let device = entry.map(|entry| entry.device);
    let mut others = mountinfo::mounts()?.into_iter();
    if let Some(bind) = others.find(|mount| Some(&mount.device) == device.as_ref()) {
        warning!(
            "unmounted here, but it is also mounted at {0} (a bind mount), so its process goes on; `icosfs unmount {0}` unmounts that one",
            bind.mountpoint.display()
        );
        return Ok(());
    }
    let mut foreign = mountinfo::foreign_mounts().into_iter();
    if let Some(other) = foreign.find(|mount| Some(&mount.entry.device) == device.as_ref()) {
        warning!(
            "unmounted here, but the mount namespace of process {} (a container, for example) has the mount too, so its process goes on",
            other.process
        );
        return Ok(());
    }
    let _notice = WaitNotice::spinner("waiting for its process to end");
    let deadline = Instant::now() + EXIT_TIMEOUT;
    let is_running = |pid| process::state_of(pid) != ProcessState::Ended;
    while daemon.is_some_and(is_running) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    if let Some(pid) = daemon.filter(|&pid| is_running(pid)) {
        warning!("unmounted, but its process {pid} has not ended yet");
    }
    Ok(())
}
