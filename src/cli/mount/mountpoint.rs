//! Prepares the mount point: checks that it is an empty folder without a mount, and
//! unmounts a dead mount of icosfs there.

#![cfg_attr(
    not(feature = "fuse"),
    allow(dead_code, reason = "most of it is for `icosfs mount`")
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::sys::statfs::statfs;

use crate::cli::warning::warning;
use crate::mount::{absolute_without_foreign_links, detach, mountinfo};

/// Timeout for a response of the mount.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the absolute path of `mountpoint`, if it can be mounted at. Unmounts a
/// mount of icosfs whose process has ended first.
pub(super) fn prepare(mountpoint: &Path) -> anyhow::Result<PathBuf> {
    let shown = mountpoint.display();
    let path = absolute_without_foreign_links(mountpoint).map_err(|error| {
        let context = match error.kind() {
            io::ErrorKind::NotFound => {
                format!("cannot find {shown}; make it with `mkdir -p {shown}`")
            }
            _ => format!("cannot mount at {shown}"),
        };
        anyhow::Error::new(error).context(context)
    })?;
    while let Some(found) = mountinfo::mount_at(&path)? {
        if found.kind == "autofs" {
            // The automount waits for this mount: every access to it would block.
            return Ok(path);
        }
        ensure!(
            found.is_icosfs(),
            "a file system of type {} is mounted at {} already; choose another folder",
            found.kind,
            path.display()
        );
        // The process of another user may never reply, and this one could not end then.
        if !found.is_trusted() || !is_dead(&path) {
            bail!(
                "{} is mounted already ({}); unmount it with `icosfs unmount {0}`",
                path.display(),
                found.source
            );
        }
        warning!(
            "the mount at {} was dead, since its process has ended; it is unmounted first",
            path.display()
        );
        detach(&path)?;
    }
    let attributes = match stat(&path) {
        Err(Errno::ENOENT) => {
            bail!("there is no folder {shown} to mount at; make it with `mkdir -p {shown}`")
        }
        other => other
            .map_err(io::Error::from)
            .with_context(|| format!("cannot mount at {shown}"))?,
    };
    ensure!(
        SFlag::from_bits_truncate(attributes.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR,
        "cannot mount at {}: not a folder",
        path.display()
    );
    let mut entries = path
        .read_dir()
        .with_context(|| format!("cannot list {}", path.display()))?;
    ensure!(
        entries.next().is_none(),
        "{} is not empty, and a mount would hide its files; choose an empty folder",
        path.display()
    );
    Ok(path)
}

/// Whether the process of the mount at `path` has ended.
pub(in crate::cli) fn is_dead(path: &Path) -> bool {
    let response = response(path);
    matches!(response, Some(Err(Errno::ENOTCONN | Errno::ECONNABORTED)))
}

/// Whether the mount at `path` responds, with success or an error.
pub(in crate::cli) fn responds(path: &Path) -> bool {
    response(path).is_some()
}

/// Returns the outcome of `statfs`, which the kernel never caches; `None` if it
/// does not return in time, or if this is unknown. It runs on a thread that is
/// abandoned if it blocks.
fn response(path: &Path) -> Option<Result<(), Errno>> {
    let path = path.to_owned();
    let (sender, receiver) = mpsc::channel();
    let ask = move || sender.send(statfs(&path).map(drop));
    std::thread::Builder::new().spawn(ask).ok()?;
    receiver.recv_timeout(RESPONSE_TIMEOUT).ok()
}
