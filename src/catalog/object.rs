//! An object, and the files it can be seen as.

use std::sync::Arc;

use jiff::Timestamp;

use super::name::{Stem, extension};
use super::vocabulary::{Spec, Station};
use icos_portal::ObjectId;

/// A data object, or a document.
#[derive(Debug)]
pub struct Object {
    pub(super) id: ObjectId,
    pub(super) file_name: Box<str>,
    pub(super) size: u64,
    pub(super) submitted: Timestamp,
    pub(super) spec: Option<Arc<Spec>>,
    pub(super) station: Option<Arc<Station>>,
    pub(super) rows: Option<u64>,
    pub(super) column_names: Option<Arc<[String]>>,
    pub(super) doi: Option<Box<str>>,
    pub(super) next: Option<ObjectId>,
    pub(super) span: Option<(Timestamp, Timestamp)>,
    pub(super) height: Option<f64>,
    pub(super) superseded: bool,
}

impl Object {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Its own file name: not unique, and written by strangers.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Length of the original in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When its submission was complete.
    #[must_use]
    pub fn submitted(&self) -> Timestamp {
        self.submitted
    }

    /// Its data type; a document has none.
    #[must_use]
    pub fn spec(&self) -> Option<&Arc<Spec>> {
        self.spec.as_ref()
    }

    /// The station that acquired it.
    #[must_use]
    pub fn station(&self) -> Option<&Arc<Station>> {
        self.station.as_ref()
    }

    /// Its DOI, without a resolver's address.
    #[must_use]
    pub fn doi(&self) -> Option<&str> {
        self.doi.as_deref()
    }

    /// The version that supersedes it, where that is one object.
    #[must_use]
    pub fn next_version(&self) -> Option<ObjectId> {
        self.next
    }

    /// Whether a newer version supersedes it.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.superseded
    }

    /// The time that its data span.
    #[must_use]
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.span
    }

    /// Metres above ground at which it was sampled.
    #[must_use]
    pub fn height(&self) -> Option<f64> {
        self.height
    }

    /// The labels of its columns, where the data type leaves them open. Tables
    /// with the same labels share them.
    #[must_use]
    pub fn column_names(&self) -> Option<&Arc<[String]>> {
        self.column_names.as_ref()
    }

    /// The number of rows and the data type, if the object is a table.
    #[must_use]
    pub fn as_table(&self) -> Option<(u64, &Spec)> {
        let spec = self.spec.as_deref().filter(|s| !s.columns().is_empty())?;
        Some((self.rows?, spec))
    }

    /// The extension that its original's name gets here, with the dot; empty
    /// if its own has none that is safe to use.
    fn extension(&self) -> &str {
        extension(&self.file_name)
    }

    /// Whether the original is an archive whose entries can be had.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        self.extension().eq_ignore_ascii_case(".zip")
    }

    /// What stands before the ending in names made of the file name; with the
    /// id if `shares_name` says that another has the same.
    #[must_use]
    pub fn stem(&self, shares_name: bool) -> String {
        let stem = Stem::of(&self.file_name);
        if shares_name || stem.marked {
            stem.with(self.id)
        } else {
            stem.text
        }
    }

    /// What the object can be seen as beside its id, in the order it is
    /// listed. (A table's columns are named elsewhere.)
    #[must_use]
    pub fn representations(&self) -> &'static [Representation] {
        use Representation::{Csv, Json, Original, Parquet};
        if self.as_table().is_some() {
            &[Csv, Parquet, Json, Original]
        } else {
            &[Original, Json]
        }
    }

    /// What is behind the id in the name of `representation`.
    #[must_use]
    pub fn ending(&self, representation: Representation) -> String {
        match representation {
            Representation::Csv => ".csv".to_owned(),
            Representation::Parquet => ".parquet".to_owned(),
            Representation::Cpb => ".cpb".to_owned(),
            Representation::Json => ".json".to_owned(),
            Representation::Original => {
                let extension = self.extension();
                // The sidecar's name is taken, and so is a table's view's.
                if self.as_table().is_some() || extension == ".json" || extension == ".contents" {
                    format!(".original{extension}")
                } else {
                    extension.to_owned()
                }
            }
        }
    }
}

/// What an object can be seen as: each is one file, however many names it has.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Representation {
    /// The bytes that were submitted.
    Original,
    /// A table as text.
    Csv,
    /// The landing page's JSON.
    Json,
    /// A table as Parquet.
    Parquet,
    /// A table's columns, as the portal itself stores them.
    Cpb,
}

impl Representation {
    /// Every one there is.
    pub const ALL: [Representation; 5] = [
        Representation::Original,
        Representation::Csv,
        Representation::Json,
        Representation::Parquet,
        Representation::Cpb,
    ];
}

/// A file: one representation of one object.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileId {
    /// Of which object.
    pub object: ObjectId,
    /// Which of its representations.
    pub representation: Representation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_original_keeps_its_extension_unless_it_is_taken() {
        for (name, ending) in [
            ("a.zip", ".zip"),
            ("x.pdf\n", ""),
            ("x.json", ".original.json"),
            ("x.contents", ".original.contents"),
        ] {
            let object = Object {
                id: ObjectId::of_content(b""),
                file_name: name.into(),
                size: 0,
                submitted: Timestamp::UNIX_EPOCH,
                spec: None,
                station: None,
                rows: None,
                column_names: None,
                doi: None,
                next: None,
                span: None,
                height: None,
                superseded: false,
            };
            assert_eq!(object.ending(Representation::Original), ending, "{name:?}");
        }
    }
}
