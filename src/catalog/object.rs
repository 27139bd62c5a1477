//! An object, and the files it can be seen as.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use crate::portal::ObjectId;
use crate::portal::lists::{ColumnRow, ObjectRow, SpecRow};

/// A data type, with the columns that its tables may have.
#[derive(Debug)]
pub struct Spec {
    row: SpecRow,
    columns: Option<Arc<[ColumnRow]>>,
}

impl Spec {
    pub(super) fn new(row: SpecRow, columns: Option<Arc<[ColumnRow]>>) -> Self {
        Self { row, columns }
    }

    /// Its IRI.
    #[must_use]
    pub fn iri(&self) -> &str {
        &self.row.iri
    }

    /// 0 (raw) to 3 (elaborated).
    #[must_use]
    pub fn level(&self) -> u8 {
        self.row.level
    }

    /// The last segment of the format's IRI: the folder that the portal keeps
    /// such objects in.
    #[must_use]
    pub fn format(&self) -> &str {
        let iri = &self.row.format;
        iri.rsplit('/').next().unwrap_or(iri)
    }

    /// IRI of the dataset that its tables are of.
    #[must_use]
    pub fn dataset(&self) -> Option<&str> {
        self.row.dataset.as_deref()
    }

    /// The columns that tables of this type may have; empty if they are no
    /// tables.
    #[must_use]
    pub fn columns(&self) -> &[ColumnRow] {
        self.columns.as_deref().unwrap_or_default()
    }
}

/// A data object, or a document.
#[derive(Debug)]
pub struct Object {
    row: ObjectRow,
    spec: Option<Arc<Spec>>,
}

impl Object {
    pub(super) fn new(row: ObjectRow, spec: Option<Arc<Spec>>) -> Self {
        Self { row, spec }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.row.id
    }

    /// Its own file name: not unique, and written by strangers.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.row.file_name
    }

    /// Length of the original in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.row.size
    }

    /// When its submission was complete.
    #[must_use]
    pub fn submitted(&self) -> Timestamp {
        self.row.submitted
    }

    /// Its data type; a document has none.
    #[must_use]
    pub fn spec(&self) -> Option<&Arc<Spec>> {
        self.spec.as_ref()
    }

    /// The labels of its columns, where the data type leaves them open.
    #[must_use]
    pub fn column_names(&self) -> Option<&[String]> {
        self.row.column_names.as_deref()
    }

    /// The number of rows and the data type, if the object is a table.
    #[must_use]
    pub fn as_table(&self) -> Option<(u64, &Spec)> {
        let spec = self.spec.as_deref().filter(|s| !s.columns().is_empty())?;
        Some((self.row.rows?, spec))
    }

    /// The extension that its original's name gets here, with the dot; empty
    /// if its own has none that is safe to use.
    fn extension(&self) -> Cow<'_, str> {
        let name = self.file_name();
        let plain = |ext: &str| {
            (1..=10).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let Some((stem, last)) = name.rsplit_once('.').filter(|(_, ext)| plain(ext)) else {
            return Cow::Borrowed("");
        };
        // `x.csv.gz` is a compressed CSV, and says so.
        if matches!(last, "gz" | "bz2" | "xz" | "zst")
            && let Some((_, inner)) = stem.rsplit_once('.')
            && plain(inner)
            && !inner.bytes().all(|b| b.is_ascii_digit())
        {
            return Cow::Owned(format!(".{inner}.{last}"));
        }
        Cow::Owned(format!(".{last}"))
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
                    extension.into_owned()
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

    fn ending_of(file_name: &str) -> String {
        let row = ObjectRow {
            id: ObjectId::of_content(b""),
            file_name: file_name.to_owned(),
            size: 0,
            submitted: Timestamp::UNIX_EPOCH,
            spec: None,
            station: None,
            rows: None,
            column_names: None,
        };
        Object::new(row, None).ending(Representation::Original)
    }

    #[test]
    fn an_original_keeps_its_extension_where_it_is_safe() {
        for (name, ending) in [
            ("a.zip", ".zip"),
            ("L2-2024.1_HTM.CO2.csv.gz", ".csv.gz"),
            ("v1.0.gz", ".gz"),
            ("README", ""),
            ("a.", ""),
            ("evil./../../etc", ""),
            ("x.pdf\n", ""),
            ("x.verylongextension", ""),
            ("x.json", ".original.json"),
        ] {
            assert_eq!(ending_of(name), ending, "{name:?}");
        }
    }
}
