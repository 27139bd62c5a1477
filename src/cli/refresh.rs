//! `icosfs refresh`: downloads the lists of mounts again, before they expire.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::output::print_text;
use super::status::mounted;
use super::waiting::WaitNotice;
use crate::mount::mountinfo;

/// Arguments of `icosfs refresh`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs refresh                     every mount
  icosfs refresh ~/icos

`cat ~/icos/.icosfs/refresh` and the signal SIGHUP to a mount in the background do
the same.")]
pub(super) struct RefreshArgs {
    /// The mount point; by default all mounts
    mountpoint: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &RefreshArgs) -> anyhow::Result<()> {
    let mountpoints: Vec<PathBuf> = match &args.mountpoint {
        Some(path) => vec![mounted(path)?],
        None => (mountinfo::mounts_without_binds()?.into_iter())
            .map(|mount| mount.mountpoint)
            .collect(),
    };
    if mountpoints.is_empty() {
        bail!("nothing is mounted; `icosfs mount FOLDER` mounts the repository");
    }
    for mountpoint in mountpoints {
        let notice = WaitNotice::spinner("downloading the lists");
        let text = std::fs::read_to_string(mountpoint.join(".icosfs/refresh"));
        drop(notice);
        let shown = mountpoint.display();
        let text = text.with_context(|| {
            format!("the lists of {shown} cannot be refreshed; `icosfs status {shown}` shows why")
        })?;
        print_text!("{shown}: {text}")?;
    }
    Ok(())
}
