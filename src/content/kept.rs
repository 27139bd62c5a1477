//! What is remembered of tables' texts across mounts: how long each is, and
//! where its rows begin.
//!
//! Both follow from what a table holds, which never changes, and from how it
//! is drawn, which [`RULES`] numbers: the key they are kept by says all of it.
//! They are checked all the same before they are believed.

use std::num::NonZeroU32;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::ContentError;
use crate::cache::{AppendedFile, CachePath, CacheRead, Store};
use icos_portal::ObjectId;
use icos_table::{RowIndex, Schema};

/// To be raised whenever a table's text comes out otherwise than before.
const RULES: u64 = 2;

/// What the text of a table is remembered by, whose columns have this
/// [`columns_key`].
pub(super) fn key(id: ObjectId, rows: u64, columns: u64) -> u64 {
    let mut said = Vec::from(id.as_bytes());
    for number in [RULES, rows, columns] {
        said.extend_from_slice(&number.to_le_bytes());
    }
    XxHash3_64::oneshot(&said)
}

/// Says what columns a table has; not their order, which does not change where
/// rows begin.
pub(super) fn columns_key(schema: &Schema) -> u64 {
    let mut said = Vec::new();
    for column in schema.stored() {
        for part in [&*column.label, column.format.name()] {
            said.extend_from_slice(&(part.len() as u64).to_le_bytes());
            said.extend_from_slice(part.as_bytes());
        }
    }
    XxHash3_64::oneshot(&said)
}

/// What the text of a table is remembered by that only the portal can write.
pub(super) fn portal_key(id: ObjectId) -> u64 {
    XxHash3_64::oneshot(&[b"written by the portal ", &id.as_bytes()[..]].concat())
}

/// The memory of one table's text.
#[derive(Debug)]
pub(super) struct Kept {
    store: Store,
    place: CachePath,
    key: u64,
}

impl Kept {
    pub(super) fn new(store: Store, id: ObjectId, schema: &Schema) -> Result<Self, ContentError> {
        Ok(Self {
            store,
            place: CachePath::new(CachePath::VIEWS, &format!("{id}.rows"))?,
            key: key(id, schema.rows(), columns_key(schema)),
        })
    }

    /// The text's length, if it is remembered.
    pub(super) fn length(&self) -> Option<u64> {
        self.store.sizes().get(self.key)
    }

    /// The whole index of a text whose length is remembered. Blocks on the
    /// disk.
    pub(super) fn index(&self, header: u64, every: NonZeroU32, rows: u64) -> Option<RowIndex> {
        let length = self.length()?;
        let mut index = RowIndex::new(header, every);
        if rows <= u64::from(every.get()) {
            index.push(rows, length.checked_sub(header)?).ok()?;
            return Some(index);
        }
        let entry = self.store.open_sealed(&self.place)?;
        let Ok(CacheRead::Bytes(bytes)) = entry.read(0..entry.len()) else {
            return None;
        };
        let (key, bytes) = bytes.split_first_chunk()?;
        let kept = RowIndex::from_bytes(bytes).ok()?;
        let right = u64::from_le_bytes(*key) == self.key
            && kept.every() == every
            && kept.header_len() == header
            && kept.rows() == rows
            && kept.text_len() == length;
        right.then_some(kept)
    }

    /// Remembers a whole text.
    pub(super) fn remember(self: &Arc<Self>, index: &RowIndex) {
        self.store.sizes().set(self.key, index.text_len());
        if index.rows() <= u64::from(index.every().get()) {
            return;
        }
        let bytes = [&self.key.to_le_bytes(), &*index.to_bytes()].concat();
        let kept = Arc::clone(self);
        // Nobody waits for the disk.
        tokio::task::spawn_blocking(move || {
            let mut file = AppendedFile::new(kept.store.clone(), kept.place.clone());
            let written = file.append(&bytes).and_then(|()| file.finish());
            if let Err(error) = written {
                tracing::debug!(%error, "where a table's rows begin is not remembered");
            }
        });
    }

    /// Forgets what turned out wrong.
    pub(super) fn forget(&self) {
        self.store.sizes().remove(self.key);
    }
}
