//! `icosfs refresh`: downloads the lists of mounts again, before they expire.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use nix::unistd::geteuid;

use super::output::{note, print_text};
use super::status::mounted;
use super::terminal::escape_control;
use super::waiting::WaitNotice;
use crate::mount::{mountinfo, read_control_file};

/// Arguments of `icosfs refresh`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs refresh                     every mount of yours
  icosfs refresh ~/icos

`cat ~/icos/.icosfs/refresh` and the signal SIGHUP to a mount in the background do
the same.")]
pub(super) struct RefreshArgs {
    /// The mount point; by default all mounts of yours
    mountpoint: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &RefreshArgs) -> anyhow::Result<()> {
    let mounts = if let Some(path) = &args.mountpoint {
        vec![mounted(path)?]
    } else {
        let user = geteuid().as_raw();
        let mut mounts = mountinfo::mounts_without_binds()?;
        mounts.retain(|mount| mount.owner == Some(user));
        mounts
    };
    if mounts.is_empty() {
        bail!("you have no mount; `icosfs mount FOLDER` mounts the repository");
    }
    let mut failed = 0;
    for mount in &mounts {
        let notice = WaitNotice::spinner("downloading the lists");
        let text = read_control_file(mount, "refresh");
        drop(notice);
        let shown = mount.mountpoint.display();
        match text {
            Ok(text) => {
                let text = format!("{shown}: {}", String::from_utf8_lossy(&text));
                print_text!("{}", escape_control(&text))?;
            }
            Err(error) => {
                failed += 1;
                note!(
                    "the lists of {shown} cannot be refreshed: {error}; `icosfs status {shown}` shows why"
                );
            }
        }
    }
    ensure!(
        failed == 0,
        "{failed} of {} mounts could not be refreshed",
        mounts.len()
    );
    Ok(())
}
