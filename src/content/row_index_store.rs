//! Lengths and row indexes of rendered texts, stored across mounts.
//!
//! Both follow from a table's content, which never changes, and from the rendering,
//! which [`RENDERING_VERSION`] numbers. The key of a record is a hash of all of
//! these. Records are untrusted nevertheless: the caller compares them with the
//! rendered text.

use std::num::NonZeroU32;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::ContentError;
use crate::cache::{AppendedFile, CachePath, CacheRead, Store};
use icos_portal::ObjectId;
use icos_table::{RowIndex, Schema};

/// Must be increased whenever the text of a table is rendered differently.
const RENDERING_VERSION: u64 = 2;

/// The key of the text of table `id`; `columns` is its [`columns_key`].
pub(super) fn text_key(id: ObjectId, rows: u64, columns: u64) -> u64 {
    let mut input = Vec::from(id.as_bytes());
    for number in [RENDERING_VERSION, rows, columns] {
        input.extend_from_slice(&number.to_le_bytes());
    }
    XxHash3_64::oneshot(&input)
}

/// A hash of a table's columns, independent of their order, which does not change
/// where rows begin.
pub(super) fn columns_key(schema: &Schema) -> u64 {
    let mut input = Vec::new();
    for column in schema.stored() {
        for part in [&*column.label, column.format.name()] {
            input.extend_from_slice(&(part.len() as u64).to_le_bytes());
            input.extend_from_slice(part.as_bytes());
        }
    }
    XxHash3_64::oneshot(&input)
}

/// The key of a text that only the portal can write, and that was held against the
/// metadata; see [`portal_csv`](super::portal_csv::portal_csv).
pub(super) fn portal_csv_key(id: ObjectId) -> u64 {
    XxHash3_64::oneshot(&[b"written by the portal, checked ", &id.as_bytes()[..]].concat())
}

/// The stored length and row index of one table.
#[derive(Debug)]
pub(super) struct RowIndexStore {
    store: Store,
    path: CachePath,
    key: u64,
}

impl RowIndexStore {
    pub(super) fn new(store: Store, id: ObjectId, schema: &Schema) -> Result<Self, ContentError> {
        Ok(Self {
            store,
            path: CachePath::new(CachePath::VIEWS, &format!("{id}.rows"))?,
            key: text_key(id, schema.rows(), columns_key(schema)),
        })
    }

    /// The recorded length of the text.
    pub(super) fn length(&self) -> Option<u64> {
        self.store.sizes().get(self.key)
    }

    /// The complete index of a text whose length is recorded. Blocks on disk I/O.
    pub(super) fn index(&self, header: u64, every: NonZeroU32, rows: u64) -> Option<RowIndex> {
        let length = self.length()?;
        let mut index = RowIndex::new(header, every);
        if rows <= u64::from(every.get()) {
            index.push(rows, length.checked_sub(header)?).ok()?;
            return Some(index);
        }
        let cached = self.store.open_sealed(&self.path)?;
        let Ok(CacheRead::Bytes(bytes)) = cached.read(0..cached.len()) else {
            return None;
        };
        let (key, bytes) = bytes.split_first_chunk()?;
        let index = RowIndex::from_bytes(bytes).ok()?;
        let right = u64::from_le_bytes(*key) == self.key
            && index.every() == every
            && index.header_len() == header
            && index.rows() == rows
            && index.text_len() == length;
        right.then_some(index)
    }

    /// Records the length and the index of a complete text.
    pub(super) fn store(self: &Arc<Self>, index: &RowIndex) {
        self.store.sizes().set(self.key, index.text_len());
        let is_stored = index.rows() > u64::from(index.every().get());
        let bytes = is_stored.then(|| [&self.key.to_le_bytes(), &*index.to_bytes()].concat());
        let this = Arc::clone(self);
        // The caller does not wait for the disk.
        icos_sync::spawn_blocking(move || {
            this.store.sizes().write();
            let Some(bytes) = bytes else {
                return;
            };
            let mut file = AppendedFile::new(this.store.clone(), this.path.clone());
            let written = file.append(&bytes).and_then(|()| file.finish());
            if let Err(error) = written {
                tracing::debug!(%error, "cannot store a row index");
            }
        });
    }

    /// Discards a record that turned out to be wrong.
    pub(super) fn discard(&self) {
        self.store.sizes().remove(self.key);
        let store = self.store.clone();
        icos_sync::spawn_blocking(move || store.sizes().write());
    }
}
