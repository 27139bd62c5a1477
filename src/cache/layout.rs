//! Names of files and folders in the cache; see [`super`] for the whole layout.

use std::path::{Path, PathBuf};

use super::CacheError;

/// The folder of incomplete files and their block maps.
pub(super) const PARTIAL: &str = "partial";
/// The folder of complete originals and tables, one folder for each format.
pub(super) const DATA: &str = "dataAppStorage";
/// The folder of complete files' block maps.
pub(super) const SUMS: &str = "sums";
/// The file of known file sizes.
pub(super) const LENGTHS: &str = "lengths";
/// The file whose bytes are locked for paths.
pub(super) const LOCKS: &str = "locks";
/// The ending of a block map's name.
pub(super) const MAP: &str = ".map";
/// The ending of a temporary file's name.
pub(super) const NEW: &str = ".new";
/// Separates folder and name where both form one file name. Neither contains it.
const SEPARATOR: char = '~';

/// The path of a complete file, relative to the cache: `<folder>/<name>`, each
/// one safe path component.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CachePath {
    folder: String,
    name: String,
}

/// Files that lie beside the complete ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileKind {
    /// A file with missing blocks, or one that is not verified.
    Partial,
    /// The block map of a partial file.
    Map,
    /// The block map of a complete file.
    Sums,
}

impl CachePath {
    /// The folder for documents.
    pub const DOCUMENTS: &'static str = "documents";
    /// The folder for CSV files that the portal rendered.
    pub const CSV: &'static str = "csv";
    /// The folder for files rendered on this machine. All other folders are
    /// named after a file format.
    pub const VIEWS: &'static str = "views";

    /// The path of `name` in `folder`.
    ///
    /// # Errors
    ///
    /// [`CacheError::UnsafeName`] if either is not a plain file name. Both may
    /// come from untrusted metadata.
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

    /// The name of the partial file.
    pub(super) fn flat_name(&self) -> String {
        let Self { folder, name } = self;
        format!("{folder}{SEPARATOR}{name}")
    }

    /// Parses the name of a partial file, or of a block map without its ending.
    pub(super) fn from_flat_name(name: &str) -> Option<Self> {
        let (folder, name) = name.split_once(SEPARATOR)?;
        Self::new(folder, name).ok()
    }

    /// The absolute path of the complete file.
    pub(super) fn complete_in(&self, root: &Path) -> PathBuf {
        let folder = if [Self::DOCUMENTS, Self::CSV, Self::VIEWS].contains(&&*self.folder) {
            root.join(&self.folder)
        } else {
            root.join(DATA).join(&self.folder)
        };
        folder.join(&self.name)
    }

    /// The absolute path of the file of `kind` that belongs to the complete file.
    pub(super) fn beside_in(&self, root: &Path, kind: FileKind) -> PathBuf {
        let (dir, ending) = match kind {
            FileKind::Partial => (PARTIAL, ""),
            FileKind::Map => (PARTIAL, MAP),
            FileKind::Sums => (SUMS, MAP),
        };
        root.join(dir).join(format!("{}{ending}", self.flat_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_round_trips_through_its_flat_name_and_unsafe_names_are_rejected() {
        let path =
            CachePath::new("asciiAtcProductTimeSer", "UNhY4JhezH9gQYqvDMWrWH9C.cpb").unwrap();
        let beside = path.beside_in(Path::new("/c"), FileKind::Partial);
        let name = beside.file_name().unwrap().to_str().unwrap();
        assert_eq!(CachePath::from_flat_name(name), Some(path));
        for bad in ["", ".", "..", "a/b", "a\0", "~x", ".hidden"] {
            assert!(CachePath::new(bad, "x").is_err(), "{bad:?}");
            assert!(CachePath::new("x", bad).is_err(), "{bad:?}");
        }
    }
}
