//! What columns tables have, worked out once for all tables that are alike: to
//! match their names is too slow for every `stat`.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::kept;
use crate::catalog::{Object, Spec};
use icos_portal::lists::ColumnRow;
use icos_table::dataset::{Presence, Title};
use icos_table::{
    Column, CsvWriter, Dataset, DatasetColumn, Layout, Schema, TableError, ValueFormat,
};

/// How many lists of column names are remembered of each dataset.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// The shapes of all tables, by their datasets' IRIs.
#[derive(Debug, Default)]
pub(super) struct Shapes(Mutex<HashMap<String, Known>>);

/// What is known of the tables of one dataset.
#[derive(Debug)]
struct Known {
    /// Whose columns the dataset was made of: definitions change.
    spec: Arc<Spec>,
    dataset: Result<Dataset, TableError>,
    /// By the tables' own column names.
    shapes: LruCache<Names, Result<Arc<Shape>, TableError>>,
}

/// A table's own column names, if it has them.
type Names = Option<Arc<[String]>>;

/// A table but for its rows.
#[derive(Debug)]
pub(super) struct Shape {
    /// Without rows; its columns may not be in the CSV's order.
    schema: Schema,
    writer: CsvWriter,
    /// Says its columns.
    columns: u64,
}

/// A table, as far as the metadata tell.
#[derive(Debug)]
pub(super) struct Outline {
    shape: Arc<Shape>,
    rows: u64,
}

impl Shapes {
    /// What is known of `object` as a table.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is none, or one that cannot be drawn.
    pub(super) fn of(&self, object: &Object) -> Result<Outline, TableError> {
        let (rows, _) = object.as_table().ok_or(TableError::NoColumns)?;
        let spec = object.spec().ok_or(TableError::NoColumns)?;
        let shape = self.shape(spec, object.column_names())?;
        shape.schema.check_rows(rows)?;
        Ok(Outline { shape, rows })
    }

    fn shape(
        &self,
        spec: &Arc<Spec>,
        names: Option<&Arc<[String]>>,
    ) -> Result<Arc<Shape>, TableError> {
        let iri = spec.dataset().unwrap_or_default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Data types share their dataset's columns.
        let same = |known: &Known| std::ptr::eq(known.spec.columns(), spec.columns());
        if !all.get(iri).is_some_and(same) {
            all.insert(iri.to_owned(), Known::new(spec));
        }
        let known = all.get_mut(iri).ok_or(TableError::NoColumns)?;
        if let Some(shape) = known.shapes.get(&names.cloned()) {
            return shape.clone();
        }
        let shape = known.shape(names);
        known.shapes.put(names.cloned(), shape.clone());
        shape
    }
}

impl Known {
    fn new(spec: &Arc<Spec>) -> Self {
        let columns: Result<_, TableError> = spec.columns().iter().map(definition).collect();
        Self {
            spec: Arc::clone(spec),
            dataset: columns.map(Dataset::new),
            shapes: LruCache::new(REMEMBERED),
        }
    }

    fn shape(&self, names: Option<&Arc<[String]>>) -> Result<Arc<Shape>, TableError> {
        let dataset = self.dataset.as_ref().map_err(Clone::clone)?;
        let columns = match names {
            Some(names) => dataset.ingested(names)?,
            None => dataset.mandatory()?,
        };
        let schema = Schema::new(0, columns)?;
        Ok(Arc::new(Shape {
            writer: CsvWriter::new(schema.columns()),
            columns: kept::columns_key(&schema),
            schema,
        }))
    }
}

impl Outline {
    /// The table, its columns in an order that may not be the CSV's.
    pub(super) fn schema(&self) -> Result<Schema, TableError> {
        Schema::new(self.rows, self.shape.schema.columns().to_vec())
    }

    /// A length that the CSV does not exceed.
    pub(super) fn csv_bound(&self) -> u64 {
        self.shape.writer.size_bound(self.rows)
    }

    /// The length of the `.cpb` file.
    pub(super) fn cpb_len(&self) -> u64 {
        Layout::len_of(&self.shape.schema, self.rows)
    }

    /// What the text of this table, which is that of `object`, is remembered
    /// by.
    pub(super) fn text_key(&self, object: &Object) -> u64 {
        kept::key(object.id(), self.rows, self.shape.columns)
    }
}

fn definition(row: &ColumnRow) -> Result<DatasetColumn, TableError> {
    Ok(DatasetColumn {
        column: Column::new(&*row.title, ValueFormat::from_iri(&row.format)?),
        title: if row.regex {
            Title::Pattern
        } else {
            Title::Verbatim
        },
        presence: if row.optional {
            Presence::Optional
        } else {
            Presence::Mandatory
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(titles: &[(&str, bool)]) -> Arc<Spec> {
        let column = |&(title, regex): &(&str, bool)| ColumnRow {
            dataset: "d".to_owned(),
            title: title.to_owned(),
            format: "http://meta.icos-cp.eu/ontologies/cpmeta/float32".to_owned(),
            optional: false,
            regex,
            value: None,
            unit: None,
        };
        Arc::new(Spec::for_test("d", titles.iter().map(column).collect()))
    }

    fn labels(shape: &Shape) -> Vec<&str> {
        let columns = shape.schema.columns().iter();
        columns.map(|column| column.label.as_str()).collect()
    }

    /// A dataset's columns were once kept for as long as a mount lived: a
    /// table with a column that came later was read by a wrong layout.
    #[test]
    fn a_dataset_that_gains_a_column_is_looked_at_again() {
        let (shapes, old) = (Shapes::default(), spec(&[("a", false)]));
        let names: Arc<[String]> = ["a", "b_1", "c"].map(str::to_owned).into();
        let shape = shapes.shape(&old, Some(&names)).unwrap();
        assert_eq!(labels(&shape), ["a"]);
        let again = shapes.shape(&old, Some(&names)).unwrap();
        assert!(Arc::ptr_eq(&shape, &again), "worked out once");

        let new = spec(&[("a", false), (r"^b_\d$", true)]);
        let shape = shapes.shape(&new, Some(&names)).unwrap();
        assert_eq!(labels(&shape), ["a", "b_1"]);
        assert_eq!(labels(&shapes.shape(&new, None).unwrap()), ["a"]);
    }
}
