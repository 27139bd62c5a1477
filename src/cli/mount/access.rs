//! Options that give other users access to a mount.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use crate::mount::{Access, missing_requirement};

/// Which other users have access.
#[derive(Args, Debug)]
pub(super) struct AccessArgs {
    /// Give every user of this machine access. They read with your login,
    /// although the data licence is personal
    #[arg(long, env = "ICOSFS_ALLOW_OTHER", conflicts_with = "allow_root")]
    allow_other: bool,
    /// Give root access
    #[arg(long, env = "ICOSFS_ALLOW_ROOT")]
    allow_root: bool,
}

impl AccessArgs {
    /// Returns the access, if this machine meets the requirements for it.
    pub(super) fn checked(self, mountpoint: &Path) -> anyhow::Result<Access> {
        let Self {
            allow_other,
            allow_root,
        } = self;
        let access = match (allow_other, allow_root) {
            (true, _) => Access::Everyone,
            (false, true) => Access::OwnerAndRoot,
            (false, false) => Access::Owner,
        };
        match missing_requirement(access) {
            Some(missing) => bail!("cannot mount at {}: {missing}", mountpoint.display()),
            None => Ok(access),
        }
    }
}

/// Warns a user that gives all others access.
pub(super) fn warn(access: Access) {
    if access == Access::Everyone {
        eprintln!(
            "icosfs: every user of this machine can read this mount, and does so with your login; the data licence that you accepted is personal"
        );
    }
}
