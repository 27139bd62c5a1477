//! The settings of a mount, for commands that are given a path in it: portal, services,
//! cache folder and login come from the mount, whatever the options are. Thus
//! `icosfs info ~/icos/objects/...` works for any mount, also for a demo.
//!
//! Trusts `.icosfs/status.json` only of mounts by this user or root: a login is sent to
//! the services that it names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::unistd::{Uid, User, geteuid};

use super::config::nearest;
use super::settings::GlobalArgs;
use super::status::{read_status_of, read_status_within};
use super::target::Target;
use crate::daemon::report::DaemonInfo;
use crate::mount::absolute;
use crate::mount::mountinfo::{self, MountEntry};
use icos_portal::Envri;

/// Timeout for reading the status of a mount.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// A mount of this user or root.
#[derive(Clone, Debug)]
pub(super) struct MountContext {
    info: DaemonInfo,
    /// Whether its cache folder is this user's.
    own: bool,
}

impl MountContext {
    /// The mount that `path` is in; `None` if it is in none, or does not exist.
    pub(super) fn of_path(path: &Path) -> anyhow::Result<Option<Self>> {
        let Ok(path) = absolute(path) else {
            return Ok(None);
        };
        mount_of(&mountinfo::mounts()?, &path)
            .map(|entry| Self::of_entry(&entry))
            .transpose()
    }

    /// The mount, or the server, that the user named.
    pub(super) fn of_target(target: &Target) -> anyhow::Result<Self> {
        match target {
            Target::Mount(entry) => Self::of_entry(entry),
            Target::Server(_) => Ok(Self {
                info: read_status_of(target)?.info,
                own: true,
            }),
        }
    }

    /// The mount that `path` is in, which must be in one.
    pub(super) fn required(path: &Path) -> anyhow::Result<Self> {
        Self::of_path(path)?.with_context(|| not_mounted(path, ""))
    }

    /// The mount of the demo portal that was made last; one whose cache is in
    /// `cache_dir`, if there is any.
    fn of_demo(cache_dir: Option<&Path>) -> anyhow::Result<Self> {
        let mounts = mountinfo::mounts_without_binds()?.into_iter();
        let contexts = mounts.filter_map(|entry| Self::of_entry(&entry).ok());
        let demos = contexts.filter(|one| one.info.login_from.is_demo());
        let in_cache = |one: &Self| one.info.cache.parent() == cache_dir;
        demos
            .max_by_key(|one| (in_cache(one), one.info.since))
            .context(
                "no demo is mounted; mount one with `icosfs mount --demo FOLDER`, which --portal demo then uses",
            )
    }

    fn of_entry(entry: &MountEntry) -> anyhow::Result<Self> {
        let shown = entry.mountpoint.display();
        let user = geteuid();
        let status = read_status_within(entry, STATUS_TIMEOUT)
            .with_context(|| format!("cannot read the status of the mount at {shown}"))?;
        Ok(Self {
            info: status.info,
            own: entry.owner == Some(user.as_raw()),
        })
    }

    /// Returns `global` with portal, services, cache folder and login of the mount.
    pub(super) fn apply(&self, global: &GlobalArgs) -> anyhow::Result<GlobalArgs> {
        let portal: Envri = self.info.portal.parse()?;
        let settings = global.at(portal, &self.info.services, self.info.login_from.clone());
        // The cache of another user's mount cannot be used.
        match self.info.cache.parent().filter(|_| self.own) {
            Some(folder) => Ok(settings.with_cache_dir(folder)),
            None => Ok(settings),
        }
    }
}

/// The error for a path that is not in a mount; `source` says where the path is from. It
/// names the user's mount with the most similar path, or the only one.
pub(super) fn not_mounted(path: &Path, source: &str) -> String {
    let user = geteuid().as_raw();
    let mounts = mountinfo::mounts_without_binds().unwrap_or_default();
    let own: Vec<String> = (mounts.into_iter())
        .filter(|mount| mount.owner == Some(user))
        .map(|mount| mount.mountpoint.display().to_string())
        .collect();
    let shown = path.display();
    let advice = match &own[..] {
        [] => "`icosfs mount FOLDER` mounts it".to_owned(),
        [only] => format!("your only mount is at {only}"),
        all => {
            let similar = nearest(&shown.to_string(), all.iter().map(String::as_str));
            let similar = similar.map(|mount| format!("did you mean {mount}? "));
            let similar = similar.unwrap_or_default();
            format!("{similar}`icosfs status` lists the mounts")
        }
    };
    format!("no icosfs is mounted at {shown}{source}; {advice}")
}

/// Returns the mount that `path`, which is absolute and without links, is in: the origin,
/// if that is a bind mount.
pub(super) fn mount_of(mounts: &[MountEntry], path: &Path) -> Option<MountEntry> {
    let found = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        .max_by_key(|mount| mount.mountpoint.as_os_str().len())?;
    let mut all = mounts.iter();
    let origin = all.find(|mount| mount.device == found.device && !mount.is_part());
    Some(origin.unwrap_or(found).clone())
}

/// Checks that a mount is this user's or root's: what it says of itself decides where a
/// login is sent, and where files are written.
pub(super) fn require_trusted(mount: &MountEntry) -> anyhow::Result<()> {
    ensure!(
        mount.is_trusted(),
        "the mount at {} is {}; commands trust your own mounts and root's only",
        mount.mountpoint.display(),
        owned_by(mount.owner)
    );
    Ok(())
}

/// Describes the owner of a mount, as in "a mount by user ada".
pub(super) fn owned_by(owner: Option<u32>) -> String {
    let Some(owner) = owner else {
        return "by an unknown user".to_owned();
    };
    match User::from_uid(Uid::from_raw(owner)) {
        Ok(Some(user)) => format!("by user {}", user.name),
        _ => format!("by user {owner}"),
    }
}

/// The value of `--portal`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PortalChoice {
    /// A repository.
    Repository(Envri),
    /// The demo portal of a running mount.
    Demo,
    /// The portal of the mount at this folder.
    OfMount(PathBuf),
}

impl FromStr for PortalChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("demo") {
            return Ok(Self::Demo);
        }
        if text.contains('/') {
            return Ok(Self::OfMount(text.into()));
        }
        text.parse().map(Self::Repository).map_err(|_unknown| {
            let names = ["icos", "sites", "cities", "demo"].into_iter();
            let similar = nearest(text, names).map(|name| format!("; did you mean {name}?"));
            format!(
                "expected icos, sites, cities, demo, or the folder of a mount such as ./icos{}",
                similar.unwrap_or_default()
            )
        })
    }
}

impl fmt::Display for PortalChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(envri) => f.write_str(envri.flag()),
            Self::Demo => f.write_str("demo"),
            Self::OfMount(folder) => folder.display().fmt(f),
        }
    }
}

impl PortalChoice {
    /// The mount that it refers to, if any. `cache_dir` is the user's cache folder.
    pub(super) fn mount(&self, cache_dir: Option<&Path>) -> anyhow::Result<Option<MountContext>> {
        match self {
            Self::Repository(_) => Ok(None),
            Self::Demo => MountContext::of_demo(cache_dir).map(Some),
            Self::OfMount(folder) => {
                let found = MountContext::of_path(folder)?;
                let found = found.with_context(|| not_mounted(folder, " (--portal)"))?;
                Ok(Some(found))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portal_is_a_repository_the_demo_or_a_folder() {
        for text in ["icos", "sites", "cities", "demo"] {
            assert_eq!(text.parse::<PortalChoice>().unwrap().to_string(), text);
        }
        assert_eq!(
            "/mnt/icos".parse(),
            Ok(PortalChoice::OfMount("/mnt/icos".into()))
        );
        let message = "icso".parse::<PortalChoice>().unwrap_err();
        assert!(message.ends_with("; did you mean icos?"), "{message}");
    }
}
