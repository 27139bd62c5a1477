//! Tables: opens the columns of an object, and answers what is known of a table
//! without opening it.
//!
//! Everything that needs a table (CSV, Parquet, `.cpb`, exports) shares one
//! [`Columns`], so that its bytes are downloaded once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::ContentError;
use super::columns::Columns;
use super::csv_headers::CsvHeaders;
use super::portal_files::DataFolder;
use super::request_stats::RequestStats;
use super::sharing::DataSource;
use super::table_descriptions::TableDescriptions;
use super::table_file::TableFile;
use crate::cache::{CachePath, Grid, Store};
use crate::catalog::{Object, Spec};
use icos_portal::ObjectId;
use icos_table::{Column, Layout, Schema, TableError};

/// The assumed length of a CSV line, if only the portal can write the table.
const LINE_GUESS: u64 = 256;

/// All tables.
#[derive(Debug)]
pub(super) struct Tables {
    data: DataSource,
    store: Store,
    data_folder: Option<DataFolder>,
    descriptions: TableDescriptions,
    headers: CsvHeaders,
    /// Open tables. All representations of a table share its columns.
    open: Mutex<HashMap<ObjectId, Weak<Columns>>>,
    request_stats: Arc<RequestStats>,
}

impl Tables {
    pub(super) fn new(data: DataSource, store: Store, data_folder: Option<DataFolder>) -> Self {
        Self {
            headers: CsvHeaders::new(data.clone(), store.clone()),
            data,
            store,
            data_folder,
            descriptions: TableDescriptions::default(),
            open: Mutex::default(),
            request_stats: Arc::default(),
        }
    }

    /// An upper bound of the length of the CSV of `object`; an estimate if only the
    /// portal can write it; 0 if it cannot be written, which a read reports as an
    /// error.
    pub(super) fn csv_bound(&self, object: &Object) -> u64 {
        match self.descriptions.of(object) {
            Ok(table) => table.csv_bound(),
            Err(error) if error.portal_may_serve_csv() => {
                let rows = object.as_table().map_or(0, |(rows, _)| rows);
                rows.saturating_mul(LINE_GUESS)
            }
            Err(_) => 0,
        }
    }

    /// An upper bound of the length of `object` as Parquet, unless its metadata are
    /// unusually long; 0 if it cannot be written, which a read reports as an error.
    pub(super) fn parquet_bound(&self, object: &Object) -> u64 {
        (self.descriptions.of(object)).map_or(0, |table| table.parquet_bound())
    }

    /// The length of `object`'s `.cpb` file; `None` if it is not a table that can be
    /// read here.
    pub(super) fn cpb_len(&self, object: &Object) -> Option<u64> {
        Some(self.descriptions.of(object).ok()?.cpb_len())
    }

    /// The columns of `object`. Their order may differ from the CSV.
    pub(super) fn columns(&self, object: &Object) -> Result<Vec<Column>, TableError> {
        Ok(self.descriptions.of(object)?.schema()?.columns().to_vec())
    }

    /// The length of `object` as NetCDF; `None` if it is not a table that can be read
    /// here.
    pub(super) fn netcdf_len(&self, object: &Object) -> Option<u64> {
        self.descriptions.of(object).ok()?.netcdf_len().ok()
    }

    /// A hash of the columns of `object`; `None` if it is not a table that can be read
    /// here.
    pub(super) fn columns_key(&self, object: &Object) -> Option<u64> {
        Some(self.descriptions.of(object).ok()?.columns_key())
    }

    /// The key under which the length of the text of `object` is recorded; `None` if it
    /// is not a table that can be rendered.
    pub(super) fn text_key(&self, object: &Object) -> Option<u64> {
        Some(self.descriptions.of(object).ok()?.text_key(object))
    }

    /// Opens `object` as a table.
    pub(super) async fn open(&self, object: &Object) -> Result<Arc<Columns>, ContentError> {
        let open = self.open_tables().get(&object.id()).and_then(Weak::upgrade);
        if let Some(columns) = open {
            columns.open_file().await?;
            return Ok(columns);
        }
        let (_, spec) = object.as_table().ok_or(TableError::NoColumns)?;
        let schema = self.schema_in_csv_order(object, spec).await?;
        let layout = Layout::new(&schema);
        let len = layout.file_len();
        let widths: Vec<u64> = (0..layout.columns())
            .map(|column| layout.width(column))
            .collect::<Result<_, _>>()?;
        let grid = Grid::of_table(&widths, schema.rows(), len - schema.stored_len());
        let path = cpb_path(object)?;
        let portal_file = match &self.data_folder {
            Some(folder) => folder.find(object.id(), &path, len).await,
            None => None,
        };
        let columns = {
            let mut opened = self.open_tables();
            opened.retain(|_, columns| columns.strong_count() > 0);
            // Another reader may have opened it meanwhile.
            if let Some(columns) = opened.get(&object.id()).and_then(Weak::upgrade) {
                columns
            } else {
                let columns = Arc::new(Columns::new(
                    object.id(),
                    spec.format().to_owned(),
                    schema,
                    TableFile::new(portal_file, self.store.clone(), path, grid),
                    self.data.clone(),
                    Arc::clone(&self.request_stats),
                ));
                opened.insert(object.id(), Arc::downgrade(&columns));
                columns
            }
        };
        columns.open_file().await?;
        columns.seal_complete().await;
        Ok(columns)
    }

    /// The schema of `object`, with columns in the order of the CSV.
    async fn schema_in_csv_order(
        &self,
        object: &Object,
        spec: &Spec,
    ) -> Result<Schema, ContentError> {
        let schema = self.descriptions.of(object)?.schema()?;
        if object.column_names().is_some() {
            return Ok(schema);
        }
        // Without distinct labels a header could not tell the order: avoid the
        // download.
        schema.check_labels()?;
        let header = self.headers.of(object.id(), spec).await?;
        match schema.ordered_by_header(&header) {
            // The stored header may be older than the dataset's columns.
            Err(TableError::HeaderMismatch { .. }) => {
                let header = self.headers.reload(object.id(), spec).await?;
                Ok(schema.ordered_by_header(&header)?)
            }
            ordered => Ok(ordered?),
        }
    }

    fn open_tables(&self) -> MutexGuard<'_, HashMap<ObjectId, Weak<Columns>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a table's columns, at the portal and in the cache.
pub(super) fn cpb_path(object: &Object) -> Result<CachePath, ContentError> {
    let folder = object
        .spec()
        .map_or(CachePath::DOCUMENTS, |spec| spec.format());
    Ok(CachePath::new(folder, &format!("{}.cpb", object.id()))?)
}
