//! Columns of tables: shared with a key only, because the portal has no checksum of them.
//!
//! What is shared is the response to a request: the complete columns of a table, or rows
//! of some columns. So that machines request the same, [`ColumnSelection::for_sharing`]
//! extends a request to the complete table, or to complete columns, if that is not much.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::{Buf as _, Bytes};
use twox_hash::XxHash3_128;

use super::{DataSource, SharedBytes};
use crate::cache::CachePath;
use crate::cluster::{SharedObject, Upstream, UpstreamStream};
use crate::content::ContentError;
use icos_portal::DataClient;
use icos_portal::data::{ColumnStream, ColumnsRequest};

/// The part of the path of tables in the shared cache.
const TABLE: &str = "cpb";
/// A table, or columns of one, up to this length in bytes are shared as a whole.
const WHOLE_LIMIT: u64 = 64 << 20;
/// The longest list of columns in a path; of longer ones, a hash.
const MAX_LIST: usize = 60;

/// Rows of some columns of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::content) struct ColumnSelection {
    pub(in crate::content) columns: Vec<usize>,
    pub(in crate::content) rows: Range<u64>,
}

/// The columns of one response, one after another.
#[derive(Debug)]
pub(in crate::content) enum ColumnBytes {
    Portal(Box<ColumnStream>),
    Shared(Box<SharedBytes<ColumnsOfPortal>>),
}

/// A request for columns to the portal.
#[derive(Debug)]
pub(in crate::content) struct ColumnsOfPortal {
    data: DataClient,
    request: ColumnsRequest,
}

/// A response from some byte on: the service sends columns from their starts only.
#[derive(Debug)]
pub(in crate::content) struct ColumnsAfterSkip {
    stream: ColumnStream,
    skip: u64,
}

impl ColumnSelection {
    /// The selection to request if machines share it. `widths` are the widths of all
    /// columns in bytes, `all` the number of rows of the table; `capacity` bytes stay in the
    /// local cache.
    pub(in crate::content) fn for_sharing(self, widths: &[u64], all: u64, capacity: u64) -> Self {
        let limit = WHOLE_LIMIT.min(capacity);
        let len = |width: u64| width.saturating_mul(all);
        if len(widths.iter().sum()) <= limit {
            return Self {
                columns: (0..widths.len()).collect(),
                rows: 0..all,
            };
        }
        let selected = self.columns.iter().filter_map(|&column| widths.get(column));
        if len(selected.sum()) <= limit {
            return Self {
                rows: 0..all,
                ..self
            };
        }
        self
    }
}

impl DataSource {
    /// Whether tables are shared.
    pub(in crate::content) fn shares_tables(&self) -> bool {
        let sharing = self.sharing.as_ref();
        sharing.is_some_and(|sharing| sharing.cache.shares_unproven())
    }

    /// Requests columns, whose response has `expected` bytes.
    pub(in crate::content) async fn columns(
        &self,
        request: ColumnsRequest,
        expected: u64,
    ) -> Result<ColumnBytes, ContentError> {
        let permitted = if self.shares_tables() {
            self.permitted().await
        } else {
            None
        };
        let (id, data) = (request.table_id, self.data.clone());
        let Some(sharing) = permitted else {
            let request = ColumnsOfPortal { data, request };
            let stream = request.open(0..expected).await?.stream;
            return Ok(ColumnBytes::Portal(Box::new(stream)));
        };
        let object = SharedObject {
            path: format!("{}{}", sharing.path(TABLE, id), path_of(&request)),
            length: expected,
            digest: None,
        };
        let request = ColumnsOfPortal { data, request };
        let mut stream = sharing.cache.open(object, 0..expected, request);
        stream.begin().await?;
        let path = CachePath::new(TABLE, &format!("{id}.cpb"))?;
        let shared = SharedBytes::new(stream, id, path, sharing);
        Ok(ColumnBytes::Shared(Box::new(shared)))
    }
}

/// What follows the id of a table in the path of the response to `request`: nothing for
/// the complete table.
fn path_of(request: &ColumnsRequest) -> String {
    let ColumnsRequest {
        schema,
        column_numbers,
        slice,
        ..
    } = request;
    if slice.is_none() && column_numbers.iter().copied().eq(0..schema.columns.len()) {
        return String::new();
    }
    let mut list = String::new();
    for number in column_numbers {
        let separator = if list.is_empty() { "" } else { "+" };
        let _ = write!(list, "{separator}{number}");
    }
    if list.len() > MAX_LIST {
        list = format!("h{:032x}", XxHash3_128::oneshot(list.as_bytes()));
    }
    let rows = slice.map_or(0..schema.size, |slice| {
        slice.offset..slice.offset.saturating_add(slice.length)
    });
    format!("/c{list}/r{}-{}", rows.start, rows.end)
}

impl ColumnBytes {
    /// Returns the next chunk, or `None` after the last one.
    pub(in crate::content) async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        match self {
            Self::Portal(stream) => Ok(stream.chunk().await?),
            Self::Shared(columns) => columns.chunk().await,
        }
    }
}

impl Upstream for ColumnsOfPortal {
    type Stream = ColumnsAfterSkip;
    type Error = ContentError;

    async fn open(&self, range: Range<u64>) -> Result<ColumnsAfterSkip, ContentError> {
        let (mut request, mut skip) = (self.request.clone(), range.start);
        let lengths = request.column_lengths();
        let before = lengths.iter().scan(0, |end, len| {
            *end += len;
            Some(*end)
        });
        let complete = before.take_while(|&end| end <= range.start).count();
        // The last column stays: a request needs one.
        let complete = complete.min(lengths.len().saturating_sub(1));
        skip -= lengths[..complete].iter().sum::<u64>();
        request.column_numbers.drain(..complete);
        let expected: u64 = lengths[complete..].iter().sum();
        let stream = self.data.columns(&request).await?;
        match stream.content_length() {
            Some(found) if found != expected => Err(ContentError::WrongLength {
                id: request.table_id,
                expected,
                found,
            }),
            _ => Ok(ColumnsAfterSkip { stream, skip }),
        }
    }
}

impl UpstreamStream for ColumnsAfterSkip {
    type Error = ContentError;

    async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        loop {
            let Some(mut chunk) = self.stream.chunk().await? else {
                return Ok(None);
            };
            let skipped = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            chunk.advance(skipped);
            self.skip -= skipped as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icos_portal::ObjectId;
    use icos_portal::data::{RowSlice, StoredTable};

    #[test]
    fn selection_grows_to_the_table_or_its_columns_if_they_are_short() {
        const MIB: u64 = 1 << 20;
        let selection = |columns: &[usize], rows: Range<u64>| ColumnSelection {
            columns: columns.to_vec(),
            rows,
        };
        let (some, none) = (u64::MAX, 0);
        for (case, widths, all, capacity, expected) in [
            (
                "short table",
                vec![8, 4, 2],
                1000,
                some,
                selection(&[0, 1, 2], 0..1000),
            ),
            (
                "short column",
                vec![8, 4, 400],
                MIB,
                some,
                selection(&[1], 0..MIB),
            ),
            (
                "long column",
                vec![8, 4],
                100 * MIB,
                some,
                selection(&[1], 5..9),
            ),
            ("no room", vec![8, 4, 2], 1000, none, selection(&[1], 5..9)),
        ] {
            let found = selection(&[1], 5..9).for_sharing(&widths, all, capacity);
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn path_tells_columns_and_rows_apart() {
        let request = |column_numbers: Vec<usize>, slice: Option<(u64, u64)>| ColumnsRequest {
            table_id: ObjectId::of_content(b""),
            sub_folder: String::new(),
            schema: StoredTable {
                columns: vec!["DOUBLE"; 200],
                size: 100,
            },
            column_numbers,
            slice: slice.map(|(offset, length)| RowSlice { offset, length }),
        };
        let all: Vec<usize> = (0..200).collect();
        assert_eq!(path_of(&request(all.clone(), None)), "");
        assert_eq!(path_of(&request(vec![3], None)), "/c3/r0-100");
        assert_eq!(path_of(&request(vec![1, 3], Some((5, 7)))), "/c1+3/r5-12");
        let long = path_of(&request(all.clone(), Some((0, 7))));
        assert!(long.starts_with("/ch") && long.ends_with("/r0-7"), "{long}");
        assert_ne!(long, path_of(&request(all[1..].to_vec(), Some((0, 7)))));
    }
}
