//! The object argument of a command: an id, a PID, a URL or a file in a mount.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use url::Url;

use super::mount_context::MountContext;
use super::settings::GlobalArgs;
use crate::catalog::Catalog;
use crate::mount::absolute;
use crate::tree::Inode;
use icos_portal::{Envri, ObjectId};

/// Prefix that distinguishes an id with a leading hyphen from an option; also
/// the folder of the id in a mount, so that the result remains valid.
const ID_PREFIX: &str = "objects/";

/// The extended attribute whose last segment is the id of an object.
const LANDING_PAGE: &str = "user.icos.landing_page";
/// The longest value of it.
const MAX_VALUE: usize = 4096;
/// The ending of an archive's folder.
const CONTENTS: &str = ".contents";

/// An object given on the command line.
#[derive(Clone, Debug)]
pub(super) enum ObjectArgument {
    /// Given by its id or its PID.
    Id(ObjectId),
    /// Given by the address of its landing page or its data, which names the repository.
    Link(ObjectId, Envri),
    /// Given by a file in a mount, whose inode number identifies the object.
    File(Box<MountedFile>),
}

/// A file in a mount that belongs to an object.
#[derive(Clone, Debug)]
pub(super) struct MountedFile {
    path: PathBuf,
    inode: Inode,
    mount: MountContext,
}

impl ObjectArgument {
    /// Returns the settings with which to read the object: those of the mount that has
    /// the file, or of the repository that a link names, else `global`.
    pub(super) fn settings(&self, global: &GlobalArgs) -> anyhow::Result<GlobalArgs> {
        match self {
            ObjectArgument::Id(_) => Ok(global.clone()),
            ObjectArgument::Link(_, repository) => Ok(global.for_repository(*repository)),
            ObjectArgument::File(file) => file.mount.apply(global),
        }
    }

    /// Returns the object's id; looks an inode number up in `catalog`, which must be that
    /// of [`ObjectArgument::settings`].
    pub(super) fn id(&self, catalog: &Catalog) -> anyhow::Result<ObjectId> {
        let file = match self {
            ObjectArgument::Id(id) | ObjectArgument::Link(id, _) => return Ok(*id),
            ObjectArgument::File(file) => file,
        };
        if let Some((first, mask, _)) = file.inode.file()
            && let Some(object) = catalog.known_by_bits(first, mask)?
        {
            return Ok(object.id());
        }
        id_of_file(&file.path)
            .with_context(|| format!("{} does not belong to an object", file.path.display()))
    }
}

/// Parses an id in any form that the portal accepts, a PID, the URL of a
/// landing page, a handle, or the path of a file in a mount.
pub(super) fn parse(text: &str) -> anyhow::Result<ObjectArgument> {
    if let Some(object) = by_name(text) {
        return Ok(object);
    }
    let path = Path::new(text);
    if path.symlink_metadata().is_err() {
        bail!(
            "expected an object: its id, PID or landing page, or a file in a mount; found {text:?}"
        );
    }
    let path = absolute(path).with_context(|| format!("cannot find {text}"))?;
    let Some(mount) = MountContext::of_path(&path)? else {
        bail!("{text} is not in a mount of icosfs, so its object cannot be determined");
    };
    // A symbolic link to the file is followed.
    let inode = Inode(path.metadata()?.ino());
    if inode.file().is_none() {
        bail!("{text} does not belong to an object");
    }
    Ok(ObjectArgument::File(Box::new(MountedFile {
        path,
        inode,
        mount,
    })))
}

/// The object in `text`, unless `text` is a path, whose meaning depends on mounts.
fn by_name(text: &str) -> Option<ObjectArgument> {
    if let Ok(id) = text.parse() {
        return Some(ObjectArgument::Id(id));
    }
    let text = text.strip_prefix("hdl:").unwrap_or(text);
    let (path, repository) = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => (
            url.path().to_owned(),
            url.host_str().and_then(repository_at),
        ),
        Ok(_) => return None,
        Err(_) => (text.to_owned(), None),
    };
    let mut segments = path.trim_matches('/').rsplit('/');
    let id = segments.next()?.parse().ok()?;
    let before = segments.next()?;
    // A landing page, a download URL, or a handle, whose prefix is a number.
    let handle = !before.is_empty() && before.chars().all(|c| c.is_ascii_digit() || c == '.');
    if !matches!(before, "objects" | "csv") && !handle {
        return None;
    }
    Some(match repository {
        Some(repository) => ObjectArgument::Link(id, repository),
        None => ObjectArgument::Id(id),
    })
}

/// The repository whose metadata or data service has this host name.
fn repository_at(host: &str) -> Option<Envri> {
    let is_at = |url: &str| url.strip_prefix("https://") == Some(host);
    let mut all = Envri::ALL.into_iter();
    all.find(|envri| is_at(envri.meta_url()) || is_at(envri.data_url()))
}

/// The object that a file in a mount belongs to, by its name or its attributes.
pub(super) fn id_of_file(path: &Path) -> Option<ObjectId> {
    // Files in archives are below a folder named by the archive's id.
    let archive = path.ancestors().skip(1).find_map(|folder| {
        let name = folder.file_name()?.to_str()?;
        name.strip_suffix(CONTENTS)?.parse().ok()
    });
    let named = || {
        let name = path.file_name()?.to_str()?;
        name.split('.').next()?.parse().ok()
    };
    let attribute = || {
        let mut value = [0; MAX_VALUE];
        let len = rustix::fs::getxattr(path, LANDING_PAGE, &mut value).ok()?;
        let url = std::str::from_utf8(value.get(..len)?).ok()?;
        url.rsplit('/').next()?.parse().ok()
    };
    archive.or_else(named).or_else(attribute)
}

/// Prefixes arguments that are ids with a leading hyphen (one id in 64) so that
/// clap does not parse them as options. Other arguments pass unchanged.
pub(super) fn escape_leading_hyphens(
    arguments: impl Iterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    arguments.map(|argument| {
        let id = argument
            .to_str()
            .filter(|text| text.starts_with('-') && text.parse::<ObjectId>().is_ok());
        match id {
            Some(id) => format!("{ID_PREFIX}{id}").into(),
            None => argument,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(text: &str) -> Option<ObjectId> {
        match parse(text).ok()? {
            ObjectArgument::Id(id) | ObjectArgument::Link(id, _) => Some(id),
            ObjectArgument::File(_) => None,
        }
    }

    #[test]
    fn link_names_its_repository() {
        let id = "UNhY4JhezH9gQYqvDMWrWH9C";
        for (url, repository) in [
            ("https://meta.icos-cp.eu/objects/", Envri::Icos),
            ("https://data.fieldsites.se/csv/", Envri::Sites),
            ("https://citymeta.icos-cp.eu/objects/", Envri::IcosCities),
        ] {
            let parsed = parse(&format!("{url}{id}")).unwrap();
            assert!(matches!(parsed, ObjectArgument::Link(_, found) if found == repository));
        }
        let handle = parse(&format!("https://hdl.handle.net/11676/{id}"));
        assert!(matches!(handle, Ok(ObjectArgument::Id(_))));
    }

    #[test]
    fn all_forms_of_an_object_argument_are_parsed() {
        let id: ObjectId = "UNhY4JhezH9gQYqvDMWrWH9C".parse().unwrap();
        for text in [
            "UNhY4JhezH9gQYqvDMWrWH9C",
            "UNhY4JhezH9gQYqvDMWrWH9CwlcKiECVqejMrND2VFw",
            "11676/UNhY4JhezH9gQYqvDMWrWH9C",
            "hdl:11676/UNhY4JhezH9gQYqvDMWrWH9C",
            "https://hdl.handle.net/11676/UNhY4JhezH9gQYqvDMWrWH9C",
            "https://hdl.handle.net/11676.1/UNhY4JhezH9gQYqvDMWrWH9C",
            "https://meta.icos-cp.eu/objects/UNhY4JhezH9gQYqvDMWrWH9C",
            "https://meta.icos-cp.eu/objects/UNhY4JhezH9gQYqvDMWrWH9C/",
            "https://data.icos-cp.eu/csv/UNhY4JhezH9gQYqvDMWrWH9C?limit=5",
        ] {
            assert_eq!(id_of(text), Some(id), "{text}");
        }
        for text in [
            "",
            "/",
            "nowhere/UNhY4JhezH9gQYqvDMWrWH9C",
            "ftp://x/objects/UNhY4JhezH9gQYqvDMWrWH9C",
            "https://meta.icos-cp.eu/collections/UNhY4JhezH9gQYqvDMWrWH9C",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_with_leading_hyphens_are_escaped_and_options_are_not() {
        let id = "-cABCDEFGHIJKLMNOPQRSTUV";
        let given = ["get", id, "--rows", "-vv", "-c", "--cache-dir"].map(OsString::from);
        let taken: Vec<_> = escape_leading_hyphens(given.into_iter()).collect();
        assert_eq!(taken[0], "get");
        assert_eq!(id_of(taken[1].to_str().unwrap()), id.parse().ok());
        assert_eq!(
            taken[2..],
            ["--rows", "-vv", "-c", "--cache-dir"].map(OsString::from)
        );
    }
}
