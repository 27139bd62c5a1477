//! A table as NetCDF, at any offset: a header, and columns that are downloaded when
//! their bytes are read.
//!
//! - The header has a fixed length, which follows from the columns alone, so the size of
//!   the file is exact before any request. Its content is from the landing page. It is
//!   built when it is first read and stays in the cache, so that the file is readable
//!   without the portal, and its bytes stay the same.
//! - The columns are in the order of storage. A table of up to 1 MiB is downloaded at
//!   once. What a read of a longer one downloads is decided in
//!   [`planner::variables`](super::planner::variables).
//! - The kernel reads ahead: after a reader of one variable it requests bytes of the
//!   next, and for a memory mapping also those of the one before. See
//!   [`NetCdfFile::is_costly_readahead`].
//!
//! Locks: `readers` is held for a moment, never across a request or a disk access.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::columns::{Columns, RefetchLimit};
use super::complete_file::CompleteFile;
use super::landing_pages::LandingPages;
use super::planner::variables::VariableHistory;
use super::row_index_store::columns_key;
use super::tables::Tables;
use super::{ByteSource, ContentError};
use crate::cache::{AppendedFile, CacheFile, CachePath, Store};
use crate::catalog::Object;
use icos_portal::ObjectId;
use icos_portal::meta::Subject;
use icos_sync::run_blocking;
use icos_table::flags::flag_of;
use icos_table::netcdf::{encode, header};
use icos_table::{Column, GoodFlags, NetCdfLayout, NetCdfPart, Spacing, ValueFormat};

mod facts;

pub(super) use facts::file_facts;

/// Must be increased whenever a header is written differently.
const HEADER_VERSION: u32 = 1;
/// The number of refused reads to remember.
const MAX_REFUSED: usize = 256;
/// The smallest page of the kernel. It reads ahead more than one.
const PAGE: usize = 4 << 10;

/// What it takes to open a file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct NetCdfOpener {
    tables: Arc<Tables>,
    landing_pages: Arc<LandingPages>,
    store: Store,
}

/// A table as NetCDF.
#[derive(Debug)]
pub(super) struct NetCdfFile {
    columns: Arc<Columns>,
    layout: NetCdfLayout,
    variables: Vec<StoredVariable>,
    good: GoodFlags,
    header: CompleteFile,
    readers: Mutex<Readers>,
}

/// Which values a file has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NetCdfValues {
    All,
    /// Values whose quality flag is not good are missing.
    Good,
}

/// A variable, which has the values of a stored column.
#[derive(Clone, Debug)]
struct StoredVariable {
    stored: usize,
    column: Column,
    /// The stored column with its quality flags, if only good values are shown.
    flag: Option<(usize, ValueFormat)>,
}

impl StoredVariable {
    /// The stored columns that its values come from.
    fn sources(&self) -> Vec<usize> {
        let flag = self.flag.map(|(stored, _)| stored);
        std::iter::once(self.stored).chain(flag).collect()
    }
}

/// What readers did so far.
#[derive(Debug, Default)]
struct Readers {
    history: VariableHistory,
    /// By variable, whether a reader takes it.
    is_read: Vec<bool>,
    /// Reads that were refused once.
    refused: Vec<Range<u64>>,
}

/// Rows of a variable.
#[derive(Clone, Debug, Eq, PartialEq)]
struct VariableRows {
    variable: usize,
    rows: Range<u64>,
}

/// The path of the header of table `id` in the cache; `key` is that of its columns.
pub(super) fn header_path(
    id: ObjectId,
    key: u64,
    values: NetCdfValues,
) -> Result<CachePath, ContentError> {
    let good = match values {
        NetCdfValues::All => "",
        NetCdfValues::Good => ".good",
    };
    let name = format!("{id}.{key:016x}.{HEADER_VERSION}{good}.nc-header");
    Ok(CachePath::new(CachePath::VIEWS, &name)?)
}

impl NetCdfOpener {
    pub(super) fn new(tables: Arc<Tables>, landing_pages: Arc<LandingPages>, store: Store) -> Self {
        Self {
            tables,
            landing_pages,
            store,
        }
    }

    pub(super) async fn open(
        &self,
        object: &Arc<Object>,
        values: NetCdfValues,
    ) -> Result<NetCdfFile, ContentError> {
        let columns = self.tables.open(object).await?;
        let schema = columns.schema();
        let layout = NetCdfLayout::new(schema.stored(), schema.rows(), Spacing::Lazy)?;
        let stored: Vec<Column> = schema.stored().cloned().collect();
        let (flags, good) = match values {
            NetCdfValues::All => (vec![None; stored.len()], GoodFlags::new::<&str>(&[])),
            NetCdfValues::Good => {
                let info = self.landing_pages.object_info(object.id()).await?;
                let described = info.describe(&stored);
                let flags = (0..stored.len())
                    .map(|at| flag_of(&described, at))
                    .collect();
                (flags, info.good_flags())
            }
        };
        let variables = layout.sources().map(|at| StoredVariable {
            stored: at,
            column: stored[at].clone(),
            flag: flags[at].map(|flag| (flag, stored[flag].format)),
        });
        let variables: Vec<_> = variables.collect();
        let path = header_path(object.id(), columns_key(schema), values)?;
        let (store, sealed) = (self.store.clone(), path.clone());
        let cached = (self
            .store
            .disk()
            .run(move || store.open_sealed(&sealed))
            .await?)
            .filter(|cached| cached.len() == layout.header_len());
        let (opener, described, of) = (self.clone(), layout.clone(), Arc::clone(object));
        let make = move || {
            let (opener, layout, path) = (opener.clone(), described.clone(), path.clone());
            let (object, stored) = (Arc::clone(&of), stored.clone());
            async move {
                opener
                    .build_header(&object, &layout, &stored, values, path)
                    .await
            }
        };
        let header = CompleteFile::new(object.id(), self.store.clone(), cached, None, make);
        Ok(NetCdfFile {
            readers: Mutex::new(Readers {
                is_read: vec![false; variables.len()],
                ..Readers::default()
            }),
            columns,
            layout,
            variables,
            good,
            header,
        })
    }

    async fn build_header(
        &self,
        object: &Object,
        layout: &NetCdfLayout,
        stored: &[Column],
        values: NetCdfValues,
        path: CachePath,
    ) -> Result<Arc<CacheFile>, ContentError> {
        let info = self.landing_pages.object_info(object.id()).await?;
        let page = (self.landing_pages)
            .get(&Subject::Object(object.id()))
            .await?;
        let facts = file_facts(&page, object, values);
        let bytes = header::header(layout, &info.describe(stored), &facts);
        let store = self.store.clone();
        let write = move || {
            let mut file = AppendedFile::new(store, path);
            file.append(&bytes)?;
            Ok(file.finish()?)
        };
        self.store.disk().run(write).await?
    }
}

impl NetCdfFile {
    /// The exact length.
    pub(super) fn file_len(&self) -> u64 {
        self.layout.file_len()
    }

    /// The cache file with the header, once it was built.
    pub(super) fn header_file(&self) -> Option<Arc<CacheFile>> {
        self.header.cached_file()
    }

    /// The columns that the values come from.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Reads at most `len` bytes from `offset`; fewer only at the end of the file.
    pub(super) async fn read(
        self: Arc<Self>,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let end = offset.saturating_add(len as u64).min(self.file_len());
        let range = offset.min(end)..end;
        let parts: Arc<[NetCdfPart]> = self.layout.cover(range.clone()).collect();
        let cells = cells_of(&parts);
        let mut refetches = RefetchLimit::default();
        loop {
            self.fetch(&cells).await?;
            let header = match parts.first() {
                Some(NetCdfPart::Header { bytes }) => {
                    let len = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
                    let header = self.header.read(bytes.start, len).await?;
                    if parts.len() == 1 {
                        return Ok(header);
                    }
                    // Without its reservation: replies do not hold memory while they
                    // wait for more.
                    Bytes::copy_from_slice(&header)
                }
                _ => Bytes::new(),
            };
            let memory = self.columns.memory();
            // The values as stored, and as in the file.
            let reservation = memory.reserve_reply(3 * (range.end - range.start)).await?;
            let (file, drawing) = (Arc::clone(&self), Arc::clone(&parts));
            let drawn = run_blocking(move || file.draw(&drawing, &header)).await?;
            if let Some(drawn) = drawn {
                let begin = parts.first().map_or(range.start, |part| part.bytes().start);
                let skipped = usize::try_from(range.start - begin).unwrap_or(usize::MAX);
                let taken = usize::try_from(range.end - begin).unwrap_or(usize::MAX);
                return Ok(reservation.attach(drawn).slice(skipped..taken));
            }
            // Some cells are corrupt or evicted: download them again.
            refetches.attempt(range.start)?;
        }
    }

    /// The bytes of `parts`, the first of which may be the `header`. `None` if some cells
    /// must be downloaded again. Blocks on disk I/O.
    fn draw(&self, parts: &[NetCdfPart], header: &[u8]) -> Result<Option<Vec<u8>>, ContentError> {
        let mut drawn = Vec::new();
        for part in parts {
            match part {
                NetCdfPart::Header { .. } => drawn.extend_from_slice(header),
                NetCdfPart::Padding { bytes } => {
                    let len = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
                    drawn.resize(drawn.len() + len, 0);
                }
                NetCdfPart::Cells { column, rows, .. } => {
                    let variable = &self.variables[*column];
                    let format = variable.column.format;
                    let Some(mut cells) = self.columns.cells(variable.stored, rows)? else {
                        return Ok(None);
                    };
                    if let Some((flag, flag_format)) = variable.flag {
                        let Some(flags) = self.columns.cells(flag, rows)? else {
                            return Ok(None);
                        };
                        (self.good).clear_bad_values(format, &mut cells, flag_format, &flags)?;
                    }
                    drawn.extend_from_slice(&encode(format, &cells));
                }
            }
        }
        Ok(Some(drawn))
    }

    /// Downloads what is missing of `cells`, which one read touches, and perhaps more.
    async fn fetch(&self, cells: &[VariableRows]) -> Result<(), ContentError> {
        let missing: Vec<(usize, Range<u64>)> = (cells.iter())
            .filter(|cells| self.is_missing(cells))
            .map(|cells| (cells.variable, cells.rows.clone()))
            .collect();
        if missing.is_empty() {
            if !cells.is_empty() {
                self.columns.note_present();
            }
            return Ok(());
        }
        ByteSource::Portal.note();
        let (schema, all) = (self.columns.schema(), self.layout.rows());
        if !self.layout.is_long() && schema.stored_len() <= self.columns.capacity() {
            // A further request would take longer than the bytes.
            return self.columns.ensure(0..all).await;
        }
        let widths: Vec<u64> = (self.variables.iter())
            .map(|variable| variable.column.format.width() as u64)
            .collect();
        let capacity = self.columns.capacity();
        let requests = (self.readers().history).plan(&missing, cells.len(), &widths, all, capacity);
        for request in requests {
            let variables = &self.variables[request.variables];
            let stored: BTreeSet<usize> = (variables.iter())
                .flat_map(StoredVariable::sources)
                .collect();
            let stored: Vec<usize> = stored.into_iter().collect();
            self.columns.ensure_cells(&stored, request.rows).await?;
        }
        // A request may have been cut to what the cache can hold.
        for (variable, rows) in missing {
            let stored = self.variables[variable].sources();
            self.columns.ensure_cells(&stored, rows).await?;
        }
        Ok(())
    }

    fn is_missing(&self, cells: &VariableRows) -> bool {
        let stored = self.variables[cells.variable].sources();
        self.columns.missing_bytes(&stored, &cells.rows) > 0
    }

    /// Whether the kernel probably reads these bytes ahead of its reader, and they would
    /// have to be downloaded.
    ///
    /// The kernel does not tell. But if its readahead fails, it reads the bytes again
    /// when a program needs them. So the first read of a variable that no program was
    /// seen to read is refused, unless it is shorter than any readahead, and the second
    /// one of the same bytes is not.
    pub(super) fn is_costly_readahead(&self, offset: u64, len: usize) -> bool {
        let range = offset..offset.saturating_add(len as u64);
        let parts: Vec<NetCdfPart> = self.layout.cover(range.clone()).collect();
        let cells = cells_of(&parts);
        let missing: Vec<usize> = (cells.iter())
            .filter(|cells| self.is_missing(cells))
            .map(|cells| cells.variable)
            .collect();
        let mut readers = self.readers();
        if readers.history.is_sequential() || missing.iter().all(|&at| readers.is_read[at]) {
            return false;
        }
        let overlaps =
            |refused: &Range<u64>| refused.start < range.end && range.start < refused.end;
        let is_second = readers.refused.iter().any(overlaps);
        if len > PAGE && !is_second && readers.refused.len() < MAX_REFUSED {
            readers.refused.push(range);
            return true;
        }
        // A read of the end of one variable and the beginning of another does not tell
        // which of them the program needs.
        if let [only] = cells.as_slice() {
            readers.is_read[only.variable] = true;
        }
        false
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cells_of(parts: &[NetCdfPart]) -> Vec<VariableRows> {
    let cells = parts.iter().filter_map(|part| match part {
        NetCdfPart::Cells { column, rows, .. } => Some(VariableRows {
            variable: *column,
            rows: rows.clone(),
        }),
        NetCdfPart::Header { .. } | NetCdfPart::Padding { .. } => None,
    });
    cells.collect()
}
