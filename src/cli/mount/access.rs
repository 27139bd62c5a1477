//! Who may look into a mount.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use crate::mount::{Access, missing_requirement};

/// Options that let others in.
#[derive(Args, Debug)]
pub(super) struct AccessArgs {
    /// Let every user of this machine look inside. They read with your login,
    /// while the data licence is personal
    #[arg(long, env = "ICOSFS_ALLOW_OTHER", conflicts_with = "allow_root")]
    allow_other: bool,
    /// Let root look inside, too
    #[arg(long, env = "ICOSFS_ALLOW_ROOT")]
    allow_root: bool,
}

impl AccessArgs {
    /// Who may look in, if this machine can mount so at all.
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

/// What whoever lets others in should know.
pub(super) fn warn(access: Access) {
    if access == Access::Everyone {
        eprintln!(
            "icosfs: every user of this machine can read this mount, and does so with your login; the data licence that you accepted is personal"
        );
    }
}
