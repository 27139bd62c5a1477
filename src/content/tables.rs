//! What is known of tables beyond the catalog: which columns each has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::ContentError;
use super::columns::Columns;
use super::direct::DataFolder;
use super::headers::Headers;
use super::request_stats::RequestStats;
use super::shapes::Shapes;
use super::table_file::TableFile;
use crate::cache::{CachePath, Store};
use crate::catalog::{Object, Spec};
use icos_portal::{DataClient, ObjectId};
use icos_table::{Layout, Schema, TableError};

/// What a line of a CSV is guessed to be long.
const LINE_GUESS: u64 = 256;

/// All tables.
#[derive(Debug)]
pub(super) struct Tables {
    data: DataClient,
    store: Store,
    data_folder: Option<DataFolder>,
    shapes: Shapes,
    headers: Headers,
    /// Those in use: whatever a table is seen as, its columns are fetched once.
    open: Mutex<HashMap<ObjectId, Weak<Columns>>>,
    request_stats: Arc<RequestStats>,
}

impl Tables {
    pub(super) fn new(data: DataClient, store: Store, data_folder: Option<DataFolder>) -> Self {
        Self {
            headers: Headers::new(data.clone(), store.clone()),
            data,
            store,
            data_folder,
            shapes: Shapes::default(),
            open: Mutex::default(),
            request_stats: Arc::default(),
        }
    }

    /// A length that the CSV of `object` does not exceed; a guess if only the
    /// portal can write it, 0 if nobody can, which a read will explain.
    pub(super) fn csv_bound(&self, object: &Object) -> u64 {
        match self.shapes.of(object) {
            Ok(outline) => outline.csv_bound(),
            Err(error) if error.portal_may_serve_csv() => {
                let rows = object.as_table().map_or(0, |(rows, _)| rows);
                rows.saturating_mul(LINE_GUESS)
            }
            Err(_) => 0,
        }
    }

    /// The length of `object`'s `.cpb` file, which does not depend on the order
    /// of the CSV's columns; `None` if it is no table that can be read here.
    pub(super) fn cpb_len(&self, object: &Object) -> Option<u64> {
        Some(self.shapes.of(object).ok()?.cpb_len())
    }

    /// What the text of `object` is remembered by; `None` if it is no table
    /// that can be drawn.
    pub(super) fn text_key(&self, object: &Object) -> Option<u64> {
        Some(self.shapes.of(object).ok()?.text_key(object))
    }

    /// The columns that `object` has as a table.
    pub(super) async fn open(&self, object: &Object) -> Result<Arc<Columns>, ContentError> {
        let at_hand = self.opened().get(&object.id()).and_then(Weak::upgrade);
        if let Some(columns) = at_hand {
            return Ok(columns);
        }
        let (_, spec) = object.as_table().ok_or(TableError::NoColumns)?;
        let schema = self.ordered(object, spec).await?;
        let len = Layout::new(&schema).file_len();
        let place = cpb_place(object)?;
        let direct = match &self.data_folder {
            Some(folder) => folder.find(object.id(), &place, len).await,
            None => None,
        };
        let mut opened = self.opened();
        // Another reader may have been first.
        if let Some(columns) = opened.get(&object.id()).and_then(Weak::upgrade) {
            return Ok(columns);
        }
        opened.retain(|_, columns| columns.strong_count() > 0);
        let columns = Arc::new(Columns::new(
            object.id(),
            spec.format().to_owned(),
            schema,
            TableFile::new(direct, self.store.clone(), place, len),
            self.data.clone(),
            Arc::clone(&self.request_stats),
        ));
        opened.insert(object.id(), Arc::downgrade(&columns));
        Ok(columns)
    }

    /// The table of `object`, its columns in the order of the CSV.
    async fn ordered(&self, object: &Object, spec: &Spec) -> Result<Schema, ContentError> {
        let schema = self.shapes.of(object)?.schema()?;
        if object.column_names().is_some() {
            return Ok(schema);
        }
        // A download that could tell nothing is not asked for.
        schema.check_labels()?;
        let header = self.headers.of(object.id(), spec).await?;
        match schema.ordered_by_header(&header) {
            // It may be of the dataset as it was long ago.
            Err(TableError::HeaderMismatch { .. }) => {
                let header = self.headers.anew(object.id(), spec).await?;
                Ok(schema.ordered_by_header(&header)?)
            }
            ordered => Ok(ordered?),
        }
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<ObjectId, Weak<Columns>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the portal, and the cache, keep a table's columns.
pub(super) fn cpb_place(object: &Object) -> Result<CachePath, ContentError> {
    let folder = object
        .spec()
        .map_or(CachePath::DOCUMENTS, |spec| spec.format());
    Ok(CachePath::new(folder, &format!("{}.cpb", object.id()))?)
}
