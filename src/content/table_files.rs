//! Opens the representations of tables, one state each for all readers.

use std::sync::Arc;

use super::built_views::BuiltView;
use super::csv::CsvFile;
use super::last_sizes::ChangingFile;
use super::netcdf::NetCdfValues;
use super::open_files::{OpenFileState, TableContent};
use super::portal_csv::portal_csv;
use super::{ContentError, Contents, file_id, row_index_store};
use crate::catalog::{FileId, Object, Representation};
use icos_table::{Column, TableError};

impl Contents {
    /// The length of a CSV that was rendered or downloaded at any time.
    pub(super) fn csv_length(&self, object: &Object) -> Option<u64> {
        if let Some(csv) = self.files.table(file_id(object, Representation::Csv)) {
            return csv.size();
        }
        let sizes = self.store.sizes();
        let rendered = self.tables.text_key(object).and_then(|key| sizes.get(key));
        rendered.or_else(|| sizes.get(row_index_store::portal_csv_key(object.id())))
    }

    pub(super) async fn csv(&self, object: &Arc<Object>) -> Result<TableContent, ContentError> {
        let id = file_id(object, Representation::Csv);
        if let Some(csv) = self.files.table(id) {
            return Ok(csv);
        }
        let store = self.store.clone();
        let csv = match self.tables.open(object).await {
            Ok(columns) => {
                let text_cache = Arc::clone(&self.text_cache);
                let csv = CsvFile::open(columns, text_cache, store).await?;
                TableContent::Csv(Arc::new(csv))
            }
            Err(ContentError::Table(error)) if error.portal_may_serve_csv() => {
                tracing::info!(id = %object.id(), %error, "cannot render this table; using the portal's CSV");
                let csv = portal_csv(object, error, store, self.data.clone()).await?;
                TableContent::Complete(Arc::new(csv))
            }
            Err(error) => return Err(error),
        };
        Ok(self.insert_table(id, csv))
    }

    /// The table `object` in one of its representations.
    pub(super) async fn table(
        &self,
        object: &Arc<Object>,
        representation: Representation,
    ) -> Result<TableContent, ContentError> {
        match representation {
            Representation::Csv => self.csv(object).await,
            Representation::Parquet => self.view(object, BuiltView::Parquet).await,
            Representation::GoodParquet => self.view(object, BuiltView::GoodParquet).await,
            Representation::GoodCsv => self.view(object, BuiltView::GoodCsv).await,
            Representation::Cpb => self.cpb(object).await,
            Representation::NetCdf => self.netcdf(object, NetCdfValues::All).await,
            Representation::GoodNetCdf => self.netcdf(object, NetCdfValues::Good).await,
            Representation::Original | Representation::Json => Err(TableError::NoColumns.into()),
        }
    }

    pub(super) async fn view(
        &self,
        object: &Arc<Object>,
        view: BuiltView,
    ) -> Result<TableContent, ContentError> {
        let id = file_id(object, view.representation());
        if let Some(file) = self.files.table(id) {
            return Ok(file);
        }
        let (builder, object) = (self.view_builder.clone(), Arc::clone(object));
        let open = move || builder.file(&object, view);
        let file = self.store.disk().run(open).await??;
        Ok(self.insert_table(id, TableContent::Complete(Arc::new(file))))
    }

    /// Opens a view of a table. Blocks on the disk.
    pub(super) fn open_view(
        &self,
        object: &Arc<Object>,
        view: BuiltView,
    ) -> Result<TableContent, ContentError> {
        let file = Arc::new(self.view_builder.file(object, view)?);
        let id = file_id(object, view.representation());
        Ok(self.insert_table(id, TableContent::Complete(file)))
    }

    pub(super) fn last_size(&self, object: &Object, view: BuiltView) -> Option<u64> {
        ChangingFile::View(object.id(), view).last_size(self.store.sizes())
    }

    pub(super) async fn cpb(&self, object: &Arc<Object>) -> Result<TableContent, ContentError> {
        let id = file_id(object, Representation::Cpb);
        if let Some(columns) = self.files.table(id) {
            return Ok(columns);
        }
        let columns = self.tables.open(object).await?;
        Ok(self.insert_table(id, TableContent::Cpb(columns)))
    }

    pub(super) async fn netcdf(
        &self,
        object: &Arc<Object>,
        values: NetCdfValues,
    ) -> Result<TableContent, ContentError> {
        let representation = match values {
            NetCdfValues::All => Representation::NetCdf,
            NetCdfValues::Good => Representation::GoodNetCdf,
        };
        let id = file_id(object, representation);
        if let Some(file) = self.files.table(id) {
            return Ok(file);
        }
        let file = Arc::new(self.netcdf_opener.open(object, values).await?);
        Ok(self.insert_table(id, TableContent::NetCdf(file)))
    }

    /// The columns of a table, with units and descriptions from the landing page. Their
    /// order may differ from the CSV.
    ///
    /// # Errors
    ///
    /// [`ContentError::Table`] if it is not a table, or one that cannot be rendered here;
    /// [`ContentError::Portal`] if the landing page cannot be downloaded.
    pub async fn described_columns(&self, object: &Object) -> Result<Vec<Column>, ContentError> {
        let columns = self.tables.columns(object)?;
        let info = self.landing_pages.object_info(object.id()).await?;
        Ok(info.describe(&columns))
    }

    /// Whether the kernel probably reads these bytes of a file ahead of its reader, and
    /// they would have to be downloaded. If so, the kernel may get an error in reply: it
    /// ignores errors of its readahead, and requests the bytes again once the reader
    /// needs them. True only once for the same bytes.
    #[must_use]
    pub fn is_costly_readahead(
        &self,
        object: &Object,
        representation: Representation,
        offset: u64,
        len: usize,
    ) -> bool {
        if !matches!(
            representation,
            Representation::NetCdf | Representation::GoodNetCdf
        ) {
            return false;
        }
        match self.files.table(file_id(object, representation)) {
            Some(TableContent::NetCdf(file)) => file.is_costly_readahead(offset, len),
            _ => false,
        }
    }

    /// Inserts `table`, and returns the state that a reader inserted first.
    pub(super) fn insert_table(&self, id: FileId, table: TableContent) -> TableContent {
        let state = OpenFileState::Table(table.clone());
        match self.files.get_or_insert(id, state) {
            OpenFileState::Table(first) => first,
            OpenFileState::Original(_) | OpenFileState::PortalFile(_) => table,
        }
    }
}
