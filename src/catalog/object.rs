//! Objects and their representations.

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
}

impl Object {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Its file name: untrusted and not unique.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Length of the original in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When its submission was completed.
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

    /// Its DOI, without the address of a resolver.
    #[must_use]
    pub fn doi(&self) -> Option<&str> {
        self.doi.as_deref()
    }

    /// The version that supersedes it, if that is one object.
    #[must_use]
    pub fn next_version(&self) -> Option<ObjectId> {
        self.next
    }

    /// Start and end of the time that its data cover.
    #[must_use]
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.span
    }

    /// Height of the sampling, in metres above ground.
    #[must_use]
    pub fn height(&self) -> Option<f64> {
        self.height
    }

    /// Labels of its columns, if the data type does not determine them. Tables with
    /// the same labels share them.
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

    /// Whether the original is an archive whose entries the portal lists.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        let extension = extension(&self.file_name);
        extension.to_ascii_lowercase().ends_with(".zip")
    }

    /// The part before the ending in names made of the file name. `shares_name` says
    /// that another object has the same, so that the id is added.
    #[must_use]
    pub fn stem(&self, shares_name: bool) -> String {
        let stem = Stem::of(&self.file_name);
        if shares_name || stem.needs_id {
            stem.with(self.id)
        } else {
            stem.text
        }
    }

    /// Its representations in folders of objects, in the order of listings. (The
    /// `.cpb` file of a table is in another folder.)
    #[must_use]
    pub fn representations(&self) -> &'static [Representation] {
        use Representation::{Csv, Json, NetCdf, Original, Parquet};
        if self.as_table().is_some() {
            &[Csv, Parquet, NetCdf, Json, Original]
        } else {
            &[Original, Json]
        }
    }

    /// Further representations, which no folder lists.
    #[must_use]
    pub fn unlisted_representations(&self) -> &'static [Representation] {
        use Representation::{GoodCsv, GoodNetCdf, GoodParquet};
        if self.as_table().is_some() {
            &[GoodCsv, GoodParquet, GoodNetCdf]
        } else {
            &[]
        }
    }

    /// The ending of the name of `representation`.
    #[must_use]
    pub fn ending(&self, representation: Representation) -> String {
        match representation {
            Representation::Csv => ".csv".to_owned(),
            Representation::Parquet => ".parquet".to_owned(),
            Representation::NetCdf => ".nc".to_owned(),
            Representation::GoodCsv => ".good.csv".to_owned(),
            Representation::GoodParquet => ".good.parquet".to_owned(),
            Representation::GoodNetCdf => ".good.nc".to_owned(),
            Representation::Cpb => ".cpb".to_owned(),
            Representation::Json => ".json".to_owned(),
            Representation::Original => {
                let extension = extension(&self.file_name);
                // Not the name of the sidecar or of another representation.
                if self.as_table().is_some() || extension == ".json" || extension == ".contents" {
                    format!(".original{extension}")
                } else {
                    extension.to_owned()
                }
            }
        }
    }
}

/// A form in which an object is shown. Each is one file, which may have several
/// names.
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
    /// A table's columns, as the portal stores them.
    Cpb,
    /// A table as NetCDF.
    NetCdf,
    /// [`Representation::Csv`] without values whose quality flag is not good.
    GoodCsv,
    /// [`Representation::Parquet`] without them.
    GoodParquet,
    /// [`Representation::NetCdf`] without them.
    GoodNetCdf,
}

impl Representation {
    /// Every representation.
    pub const ALL: [Representation; 9] = [
        Representation::Original,
        Representation::Csv,
        Representation::Json,
        Representation::Parquet,
        Representation::Cpb,
        Representation::NetCdf,
        Representation::GoodCsv,
        Representation::GoodParquet,
        Representation::GoodNetCdf,
    ];
}

/// A file: one representation of one object.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileId {
    /// The object.
    pub object: ObjectId,
    /// The representation.
    pub representation: Representation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn original_keeps_its_extension_unless_another_file_has_it() {
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
            };
            assert_eq!(object.ending(Representation::Original), ending, "{name:?}");
        }
    }
}
