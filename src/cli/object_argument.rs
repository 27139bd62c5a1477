//! The object argument of a command: an id, a PID, a URL or a file in a mount.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use url::Url;

use crate::catalog::Catalog;
use crate::mount::{absolute, mountinfo};
use crate::tree::Inode;
use icos_portal::ObjectId;

/// Prefix that distinguishes an id with a leading hyphen from an option; also
/// the folder of the id in a mount, so that the result remains valid.
const ID_PREFIX: &str = "objects/";

/// An object given on the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ObjectArgument {
    /// Given by its id.
    Id(ObjectId),
    /// Given by a file in a mount, whose inode number identifies the object.
    File(Inode),
}

impl ObjectArgument {
    /// Returns the object's id; looks an inode number up in `catalog`.
    pub(super) fn id(self, catalog: &Catalog) -> anyhow::Result<ObjectId> {
        match self {
            ObjectArgument::Id(id) => Ok(id),
            ObjectArgument::File(inode) => {
                let (first, mask, _) = inode
                    .file()
                    .context("the file does not belong to an object")?;
                let object = catalog.known_by_bits(first, mask)?.context(
                    "the catalog does not know the file's object; is it a mount of another portal, \
                     or with another --cache-dir?",
                )?;
                Ok(object.id())
            }
        }
    }
}

/// Parses an id in any form that the portal accepts, a PID, the URL of a
/// landing page, a handle, or the path of a file in a mount.
pub(super) fn parse(text: &str) -> anyhow::Result<ObjectArgument> {
    if let Some(id) = by_name(text) {
        return Ok(ObjectArgument::Id(id));
    }
    let path = Path::new(text);
    if path.symlink_metadata().is_err() {
        bail!(
            "expected an object: its id, PID or landing page, or a file in a mount; found {text:?}"
        );
    }
    let path = absolute(path).with_context(|| format!("cannot find {text}"))?;
    if !mountinfo::is_in_mount(&path)? {
        bail!("{text} is not in a mount of icosfs, so its object cannot be determined");
    }
    // A symbolic link to the file is followed.
    let number = path.metadata()?.ino();
    if Inode(number).file().is_none() {
        bail!("{text} does not belong to an object");
    }
    Ok(ObjectArgument::File(Inode(number)))
}

/// The id in `text`, unless `text` is a path, whose meaning depends on mounts.
fn by_name(text: &str) -> Option<ObjectId> {
    if let Ok(id) = text.parse() {
        return Some(id);
    }
    let text = text.strip_prefix("hdl:").unwrap_or(text);
    let path = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url.path().to_owned(),
        Ok(_) => return None,
        Err(_) => text.to_owned(),
    };
    let mut segments = path.trim_matches('/').rsplit('/');
    let id = segments.next()?.parse().ok()?;
    let before = segments.next()?;
    // A landing page, a download URL, or a handle, whose prefix is a number.
    let handle = !before.is_empty() && before.chars().all(|c| c.is_ascii_digit() || c == '.');
    (matches!(before, "objects" | "csv") || handle).then_some(id)
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
            assert_eq!(parse(text).ok(), Some(ObjectArgument::Id(id)), "{text}");
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
        assert_eq!(
            parse(taken[1].to_str().unwrap()).unwrap(),
            ObjectArgument::Id(id.parse().unwrap())
        );
        assert_eq!(
            taken[2..],
            ["--rows", "-vv", "-c", "--cache-dir"].map(OsString::from)
        );
    }
}
