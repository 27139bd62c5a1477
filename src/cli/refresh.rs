//! `icosfs refresh`: downloads the lists of mounts and servers again, before they expire.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use nix::unistd::geteuid;

use super::failure::Failure;
use super::output::print_text;
use super::settings::GlobalArgs;
use super::target::{Target, own_servers};
use super::terminal::escape_control;
use super::waiting::WaitNotice;
use crate::mount::mountinfo;

/// How long a server may take: longer than any of its requests to the portal.
const REFRESH_TIMEOUT: Duration = Duration::from_mins(30);

/// Arguments of `icosfs refresh`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs refresh                     every mount and server of yours
  icosfs refresh ~/icos
  icosfs refresh http://127.0.0.1:8080/

`cat ~/icos/.icosfs/refresh` and the signal SIGHUP to a mount in the background do
the same.")]
pub(super) struct RefreshArgs {
    /// The mount point, or the URL or socket of a server; by default all mounts and servers
    /// of yours
    mountpoint: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(global: &GlobalArgs, args: &RefreshArgs) -> anyhow::Result<()> {
    let targets = if let Some(name) = &args.mountpoint {
        vec![Target::named(global, name)?]
    } else {
        let user = geteuid().as_raw();
        let mut mounts = mountinfo::mounts_without_binds()?;
        mounts.retain(|mount| mount.owner == Some(user));
        let servers = own_servers(global).into_iter().map(Target::Server);
        mounts
            .into_iter()
            .map(Target::Mount)
            .chain(servers)
            .collect()
    };
    if targets.is_empty() {
        bail!("you have no mount and no server; `icosfs mount FOLDER` mounts the repository");
    }
    let mut failed = 0;
    for target in &targets {
        let notice = WaitNotice::spinner("downloading the lists");
        let text = target.control_file("refresh", REFRESH_TIMEOUT);
        drop(notice);
        let shown = target.shown();
        match text {
            Ok(text) => {
                let text = format!("{shown}: {}", String::from_utf8_lossy(&text));
                print_text!("{}", escape_control(&text))?;
            }
            Err(error) => {
                failed += 1;
                let text = format!(
                    "the lists of {shown} cannot be refreshed: {error:#}; `icosfs status {shown}` shows why"
                );
                Failure::of_text(&text).print();
            }
        }
    }
    ensure!(
        failed == 0,
        "{failed} of {} mounts and servers could not be refreshed",
        targets.len()
    );
    Ok(())
}
