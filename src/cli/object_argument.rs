//! The argument of a command that names an object, a collection or a station: an
//! identifier or an address (see [`link`]), a name, or a path in a mount.
//!
//! Parsing needs no request; [`subject`](super::subject) finds out what the argument
//! means in the repository.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::exit::EndedEarly;
use super::link::{self, Link};
use super::mount_context::MountContext;
use super::settings::GlobalArgs;
use crate::catalog::{Catalog, Representation};
use crate::mount::absolute;
use crate::tree::Inode;
use icos_portal::ObjectId;

/// Prefix that distinguishes an id with a leading hyphen from an option; also
/// the folder of the id in a mount, so that the result remains valid.
const ID_PREFIX: &str = "objects/";

/// The extended attribute whose last segment is the id of an object.
const LANDING_PAGE: &str = "user.icos.landing_page";
/// The longest value of it.
const MAX_VALUE: usize = 4096;
/// The ending of an archive's folder.
const CONTENTS: &str = ".contents";

/// Something in a repository, as it is given on the command line.
#[derive(Clone, Debug)]
pub(super) enum ObjectArgument {
    /// Given by an identifier or an address.
    Link(Link),
    /// Given by the name of its file, or the id or the name of a station.
    Name(String),
    /// Given by a path in a mount.
    File(Box<MountedFile>),
}

/// A file or folder in a mount.
#[derive(Clone, Debug)]
pub(super) struct MountedFile {
    path: PathBuf,
    kind: MountedKind,
    mount: MountContext,
}

/// What a path in a mount belongs to.
#[derive(Clone, Debug)]
pub(super) enum MountedKind {
    /// An object, which the inode number identifies.
    Object(Inode),
    /// The collection of this folder.
    Collection(ObjectId),
    /// The station whose folder has this name.
    Station(String),
}

impl MountedFile {
    pub(super) fn kind(&self) -> &MountedKind {
        &self.kind
    }

    /// Returns the object's id; looks its inode number up in `catalog`, which must be
    /// that of [`ObjectArgument::settings`].
    pub(super) fn object(&self, inode: Inode, catalog: &Catalog) -> anyhow::Result<ObjectId> {
        if let Some((first, mask, _)) = inode.file()
            && let Some(object) = catalog.known_by_bits(first, mask)?
        {
            return Ok(object.id());
        }
        id_of_file(&self.path)
            .with_context(|| format!("{} does not belong to an object", self.path.display()))
    }
}

impl ObjectArgument {
    /// The representation whose file in a mount was given.
    pub(super) fn representation(&self) -> Option<Representation> {
        match self {
            ObjectArgument::File(file) => match file.kind {
                MountedKind::Object(inode) => Some(inode.file()?.2),
                MountedKind::Collection(_) | MountedKind::Station(_) => None,
            },
            ObjectArgument::Link(_) | ObjectArgument::Name(_) => None,
        }
    }

    /// Returns the settings with which to read the object: those of the mount that has
    /// the file, or of the repository that a link names, else `global`.
    pub(super) fn settings(&self, global: &GlobalArgs) -> anyhow::Result<GlobalArgs> {
        match self {
            ObjectArgument::Link(Link {
                repository: Some(repository),
                ..
            }) => Ok(global.for_repository(*repository)),
            ObjectArgument::Link(_) | ObjectArgument::Name(_) => Ok(global.clone()),
            ObjectArgument::File(file) => file.mount.apply(global),
        }
    }
}

/// Parses whatever names an object, a collection or a station.
///
/// # Errors
///
/// If `text` is none of the accepted forms, names several objects, or is a path outside
/// of mounts.
pub(super) fn parse(text: &str) -> anyhow::Result<ObjectArgument> {
    // A path that exists is meant, even if its name looks like an identifier, as those of
    // most files in a mount do.
    let path = Path::new(text);
    let exists = path.symlink_metadata().is_ok();
    if !(exists && text.contains('/'))
        && let Some(link) = link::parse(text)?
    {
        return Ok(ObjectArgument::Link(link));
    }
    if exists {
        return in_mount(path);
    }
    let name = text.trim();
    if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
        let found = not_an_object(name);
        return Err(EndedEarly::usage(format!("{found}; {ACCEPTED}")));
    }
    Ok(ObjectArgument::Name(name.to_owned()))
}

/// The forms of an argument.
pub(super) const ACCEPTED: &str = "expected an object, a collection or a station: its id, PID, DOI, landing page, data URL or \
     name, or a path in a mount";

/// Says what `text` looks like.
fn not_an_object(text: &str) -> String {
    match text {
        "" => "found nothing".to_owned(),
        _ if text.contains("://") => format!("found the address {text}, which names no object"),
        _ => format!("there is no file {text}"),
    }
}

/// What a path that exists belongs to.
fn in_mount(path: &Path) -> anyhow::Result<ObjectArgument> {
    let shown = path.display();
    let absolute = absolute(path).with_context(|| format!("cannot find {shown}"))?;
    let Some(mount) = MountContext::of_path(&absolute)? else {
        bail!("{shown} is not in a mount of icosfs, so its object cannot be determined");
    };
    // Symbolic links are followed.
    let real = absolute.canonicalize().unwrap_or(absolute);
    let inode = Inode(real.metadata()?.ino());
    let kind = match inode.file() {
        Some(_) => MountedKind::Object(inode),
        None => folder_kind(&real).with_context(|| {
            format!("{shown} belongs to no object, no collection and no station")
        })?,
    };
    Ok(ObjectArgument::File(Box::new(MountedFile {
        path: real,
        kind,
        mount,
    })))
}

/// What a folder in a mount, or the file with its metadata, is about.
fn folder_kind(path: &Path) -> Option<MountedKind> {
    let folder = match path.file_name()?.to_str()? {
        "collection.json" | "station.json" => path.parent()?,
        _ => path,
    };
    let name = folder.file_name()?.to_str()?;
    let mut above = folder.ancestors().skip(1).filter_map(Path::file_name);
    if above.next()? == "stations" {
        return Some(MountedKind::Station(name.to_owned()));
    }
    // Collections may be in collections.
    let is_in_collections = folder
        .ancestors()
        .skip(1)
        .any(|f| f.ends_with("collections"));
    let id = name.parse().ok().filter(|_| is_in_collections)?;
    Some(MountedKind::Collection(id))
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
    use crate::cli::link::LinkTarget;

    fn id_of(text: &str) -> Option<ObjectId> {
        match parse(text).ok()? {
            ObjectArgument::Link(Link {
                target: LinkTarget::Object(id),
                ..
            }) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn text_that_names_nothing_is_told_what_is_accepted() {
        for (text, found) in [
            ("", "found nothing; expected an object"),
            (" ", "found nothing; expected an object"),
            ("no/such/file", "there is no file no/such/file; expected"),
            ("ftp://x/y", "found the address ftp://x/y, which names no"),
            (
                "https://x/y",
                "found the address https://x/y, which names no",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(found), "{text}: {error}");
            assert!(error.contains("its id, PID, DOI, landing page"), "{error}");
        }
        for name in ["some table.csv", "HTM"] {
            assert!(matches!(parse(name), Ok(ObjectArgument::Name(_))), "{name}");
        }
        let error = parse("/").unwrap_err().to_string();
        assert!(
            error.starts_with("/ is not in a mount of icosfs"),
            "{error}"
        );
    }

    #[test]
    fn folders_in_a_mount_are_of_collections_and_stations() {
        let id = "UNhY4JhezH9gQYqvDMWrWH9C";
        let kind = |path: &str| folder_kind(Path::new(&path.replace("ID", id)));
        for path in [
            "/m/collections/ID",
            "/m/collections/other/ID/collection.json",
        ] {
            assert!(
                matches!(kind(path), Some(MountedKind::Collection(found)) if found.to_string() == id),
                "{path}"
            );
        }
        for path in ["/m/stations/HTM", "/m/stations/HTM/station.json"] {
            assert!(
                matches!(kind(path), Some(MountedKind::Station(name)) if name == "HTM"),
                "{path}"
            );
        }
        for path in [
            "/",
            "/m/objects/ID.contents",
            "/m/stations/HTM/type",
            "/m/datatypes/x",
        ] {
            assert!(kind(path).is_none(), "{path}");
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
