//! The folder to mount at: empty, free, and rid of a mount that has died.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::sys::statfs::statfs;

use crate::mount::{absolute, detach, mountinfo};

/// How long a mount may take to show a sign of life.
const PATIENCE: Duration = Duration::from_secs(1);

/// The absolute path of `mountpoint`, if something can be mounted there. A
/// mount of icosfs whose process has ended is taken away first.
pub(super) fn prepare(mountpoint: &Path) -> anyhow::Result<PathBuf> {
    let shown = mountpoint.display();
    let path = absolute(mountpoint)
        .with_context(|| format!("cannot find {shown}; make it with `mkdir -p {shown}`"))?;
    while let Some(found) = mountinfo::mount_at(&path)? {
        if found.kind == "autofs" {
            // It waits for this very mount: whoever looks inside waits, too.
            return Ok(path);
        }
        ensure!(
            found.is_icosfs(),
            "a file system of type {} is mounted at {} already; choose another folder",
            found.kind,
            path.display()
        );
        if !is_dead(&path) {
            bail!(
                "{} is mounted already ({}); unmount it with `icosfs unmount {0}`",
                path.display(),
                found.source
            );
        }
        eprintln!(
            "icosfs: the mount at {} was dead, its process having ended; it is taken away",
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
        .with_context(|| format!("cannot look into {}", path.display()))?;
    ensure!(
        entries.next().is_none(),
        "{} is not empty, and a mount would hide what is in it; choose an empty folder",
        path.display()
    );
    Ok(path)
}

/// Whether the process behind the mount at `path` has ended. Asked in a thread
/// that may be left behind, and by `statfs`, which the kernel answers from no
/// cache.
pub(in crate::cli) fn is_dead(path: &Path) -> bool {
    let path = path.to_owned();
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || answer.send(statfs(&path).err()));
    matches!(
        answered.recv_timeout(PATIENCE),
        Ok(Some(Errno::ENOTCONN | Errno::ECONNABORTED))
    )
}
