//! Columns of tables, derived from the catalog.
//!
//! Matching a table's own column names against the patterns of its dataset is too
//! slow for every `stat`, so the result is cached for all tables with the same
//! names.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::row_index_store;
use crate::catalog::{Object, Spec};
use icos_portal::lists::ColumnRow;
use icos_table::dataset::{Presence, Title};
use icos_table::parquet::len_bound;
use icos_table::{
    Column, CsvWriter, Dataset, DatasetColumn, Layout, NetCdfLayout, Schema, Spacing, TableError,
    ValueFormat,
};

/// The number of column sets to cache for each dataset.
const COLUMN_SETS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// The cache of column sets, by the IRI of the dataset.
#[derive(Debug, Default)]
pub(super) struct TableDescriptions(Mutex<HashMap<String, DatasetTables>>);

/// The column sets of one dataset.
#[derive(Debug)]
struct DatasetTables {
    /// The specification that `dataset` was made from. A refresh of the catalog may
    /// replace it.
    spec: Arc<Spec>,
    dataset: Result<Dataset, TableError>,
    /// By the tables' own column names.
    column_sets: LruCache<OwnColumnNames, Result<Arc<ColumnSet>, TableError>>,
}

/// A table's own column names, if its metadata list them.
type OwnColumnNames = Option<Arc<[String]>>;

/// The columns that many tables share.
#[derive(Debug)]
pub(super) struct ColumnSet {
    /// Has no rows. The order of columns may differ from the CSV.
    schema: Schema,
    writer: CsvWriter,
    /// See [`row_index_store::columns_key`].
    columns: u64,
}

/// What the catalog knows of a table.
#[derive(Debug)]
pub(super) struct TableDescription {
    column_set: Arc<ColumnSet>,
    rows: u64,
}

impl TableDescriptions {
    /// Describes `object` as a table.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is not a table, or one that cannot be rendered.
    pub(super) fn of(&self, object: &Object) -> Result<TableDescription, TableError> {
        let (rows, _) = object.as_table().ok_or(TableError::NoColumns)?;
        let spec = object.spec().ok_or(TableError::NoColumns)?;
        let column_set = self.column_set(spec, object.column_names())?;
        column_set.schema.check_rows(rows)?;
        Ok(TableDescription { column_set, rows })
    }

    fn column_set(
        &self,
        spec: &Arc<Spec>,
        names: Option<&Arc<[String]>>,
    ) -> Result<Arc<ColumnSet>, TableError> {
        let iri = spec.dataset().unwrap_or_default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Data types of one dataset share the list of its columns.
        let same = |known: &DatasetTables| std::ptr::eq(known.spec.columns(), spec.columns());
        if !all.get(iri).is_some_and(same) {
            all.insert(iri.to_owned(), DatasetTables::new(spec));
        }
        let known = all.get_mut(iri).ok_or(TableError::NoColumns)?;
        if let Some(column_set) = known.column_sets.get(&names.cloned()) {
            return column_set.clone();
        }
        let column_set = known.column_set(names);
        known.column_sets.put(names.cloned(), column_set.clone());
        column_set
    }
}

impl DatasetTables {
    fn new(spec: &Arc<Spec>) -> Self {
        let columns: Result<_, TableError> = spec.columns().iter().map(definition).collect();
        Self {
            spec: Arc::clone(spec),
            dataset: columns.map(Dataset::new),
            column_sets: LruCache::new(COLUMN_SETS),
        }
    }

    fn column_set(&self, names: Option<&Arc<[String]>>) -> Result<Arc<ColumnSet>, TableError> {
        let dataset = self.dataset.as_ref().map_err(Clone::clone)?;
        let columns = match names {
            Some(names) => dataset.ingested(names)?,
            None => dataset.mandatory()?,
        };
        let schema = Schema::new(0, columns)?;
        Ok(Arc::new(ColumnSet {
            writer: CsvWriter::new(schema.columns()),
            columns: row_index_store::columns_key(&schema),
            schema,
        }))
    }
}

impl TableDescription {
    /// The schema. The order of columns may differ from the CSV.
    pub(super) fn schema(&self) -> Result<Schema, TableError> {
        Schema::new(self.rows, self.column_set.schema.columns().to_vec())
    }

    /// An upper bound of the length of the CSV.
    pub(super) fn csv_bound(&self) -> u64 {
        self.column_set.writer.size_bound(self.rows)
    }

    /// An upper bound of the length of the Parquet file, unless its metadata are
    /// unusually long.
    pub(super) fn parquet_bound(&self) -> u64 {
        len_bound(self.column_set.schema.columns(), self.rows)
    }

    /// The length of the `.cpb` file.
    pub(super) fn cpb_len(&self) -> u64 {
        Layout::len_of(&self.column_set.schema, self.rows)
    }

    /// The length of the NetCDF file.
    ///
    /// # Errors
    ///
    /// [`TableError::TooLarge`].
    pub(super) fn netcdf_len(&self) -> Result<u64, TableError> {
        let columns = self.column_set.schema.stored();
        Ok(NetCdfLayout::new(columns, self.rows, Spacing::Lazy)?.file_len())
    }

    /// A hash of the columns, whatever their order.
    pub(super) fn columns_key(&self) -> u64 {
        self.column_set.columns
    }

    /// The key under which the length of the text is recorded. `object` is the
    /// described table.
    pub(super) fn text_key(&self, object: &Object) -> u64 {
        row_index_store::text_key(object.id(), self.rows, self.column_set.columns)
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

    fn labels(column_set: &ColumnSet) -> Vec<&str> {
        let columns = column_set.schema.columns().iter();
        columns.map(|column| column.label.as_str()).collect()
    }

    /// Regression: a dataset's columns were once cached until the mount ended, so that
    /// a table with a column that was added later was read with a wrong layout.
    #[test]
    fn column_sets_are_rebuilt_when_a_dataset_gains_a_column() {
        let (column_sets, old) = (TableDescriptions::default(), spec(&[("a", false)]));
        let names: Arc<[String]> = ["a", "b_1", "c"].map(str::to_owned).into();
        let column_set = column_sets.column_set(&old, Some(&names)).unwrap();
        assert_eq!(labels(&column_set), ["a"]);
        let again = column_sets.column_set(&old, Some(&names)).unwrap();
        assert!(Arc::ptr_eq(&column_set, &again), "computed once");

        let new = spec(&[("a", false), (r"^b_\d$", true)]);
        let column_set = column_sets.column_set(&new, Some(&names)).unwrap();
        assert_eq!(labels(&column_set), ["a", "b_1"]);
        assert_eq!(labels(&column_sets.column_set(&new, None).unwrap()), ["a"]);
    }
}
