//! Where files of the cache lie.

use std::path::{Path, PathBuf};

use super::CacheError;

/// Where a file lies once it is complete: `<folder>/<name>`, each one safe
/// path component.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CachePath {
    folder: String,
    name: String,
}

/// What separates folder and name where both make one name. Neither has it.
const SEPARATOR: char = '~';

impl CachePath {
    /// The folder for documents.
    pub const DOCUMENTS: &'static str = "documents";
    /// The folder for CSV that the portal itself wrote.
    pub const CSV: &'static str = "csv";
    /// The folder for files that were made here from the portal's. All other
    /// folders are named after a file format.
    pub const VIEWS: &'static str = "views";

    /// A place for `name` in `folder`.
    ///
    /// # Errors
    ///
    /// [`CacheError::UnsafeName`] if either could lead elsewhere: both may
    /// come from strangers.
    pub fn new(folder: &str, name: &str) -> Result<Self, CacheError> {
        for part in [folder, name] {
            let safe = part.len() <= 100
                && !part.starts_with('.')
                && !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !safe {
                return Err(CacheError::UnsafeName(part.chars().take(80).collect()));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<folder>/<name>`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(&self.folder).join(&self.name)
    }

    /// The place whose journal or partial file is called `name`.
    pub(super) fn of_beside(name: &str) -> Option<Self> {
        let (folder, name) = name.split_once(SEPARATOR)?;
        Self::new(folder, name).ok()
    }

    /// Where the file lies under its own name.
    pub(super) fn complete_in(&self, root: &Path) -> PathBuf {
        let folder = if [Self::DOCUMENTS, Self::CSV, Self::VIEWS].contains(&&*self.folder) {
            root.join(&self.folder)
        } else {
            root.join("dataAppStorage").join(&self.folder)
        };
        folder.join(&self.name)
    }

    /// The same place among files of another kind.
    pub(super) fn beside_in(&self, root: &Path, kind: Kind) -> PathBuf {
        let Self { folder, name } = self;
        let (dir, ending) = match kind {
            Kind::Partial => (PARTIAL, ""),
            Kind::Journal => (PARTIAL, MAP),
            Kind::Sums => (SUMS, MAP),
        };
        root.join(dir)
            .join(format!("{folder}{SEPARATOR}{name}{ending}"))
    }
}

/// Files beside the complete ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A file of which something is missing.
    Partial,
    /// Which blocks of it are there.
    Journal,
    /// The blocks of a complete file.
    Sums,
}

/// The folder of incomplete files and their journals.
pub(super) const PARTIAL: &str = "partial";
/// The folder of complete files' journals.
pub(super) const SUMS: &str = "sums";
/// The file of lengths that are remembered.
pub(super) const LENGTHS: &str = "lengths";
/// How journals' names end.
pub(super) const MAP: &str = ".map";
/// How the names of files end that grow.
pub(super) const NEW: &str = ".new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_plain_names_that_can_be_told_from_their_journals() {
        let place =
            CachePath::new("asciiAtcProductTimeSer", "UNhY4JhezH9gQYqvDMWrWH9C.cpb").unwrap();
        let beside = place.beside_in(Path::new("/c"), Kind::Partial);
        let name = beside.file_name().unwrap().to_str().unwrap();
        assert_eq!(CachePath::of_beside(name), Some(place));
        for bad in ["", ".", "..", "a/b", "a\0", "~x", ".hidden"] {
            assert!(CachePath::new(bad, "x").is_err(), "{bad:?}");
            assert!(CachePath::new("x", bad).is_err(), "{bad:?}");
        }
    }
}
