//! Reads collections and their members from the database.

use rusqlite::Row;

use super::database::query_all;
use super::read::id_at;
use super::{Catalog, CatalogError, CatalogState, Collection};
use icos_portal::ObjectId;
use icos_portal::lists::Versions;

impl Catalog {
    /// The collections in the selection: the current ones, or all versions. Blocks
    /// on the disk.
    pub fn collections(&self) -> Result<Vec<Collection>, CatalogError> {
        let all = self.0.selection.versions == Versions::All;
        let query = "SELECT id, title, doi FROM collection WHERE current OR ?1 ORDER BY row";
        (self.0.db).read(|db| query_all(db, query, [all], collection))
    }

    /// The collection `id`, if it is stored. Blocks on the disk for a short time.
    pub fn collection(&self, id: ObjectId) -> Result<Option<Collection>, CatalogError> {
        let query = "SELECT id, title, doi FROM collection WHERE id = ?1";
        let found = (self.0.db).read(|db| query_all(db, query, [id.as_bytes()], collection));
        Ok(found?.pop())
    }

    /// The collections in the collection `id`. Blocks on the disk.
    pub fn collections_in(&self, id: ObjectId) -> Result<Vec<Collection>, CatalogError> {
        let query = "SELECT collection.id, title, doi FROM member JOIN collection
             ON collection.id = item WHERE member.collection = ?1 ORDER BY position";
        (self.0.db).read(|db| query_all(db, query, [id.as_bytes()], collection))
    }
}

fn collection(row: &Row<'_>) -> rusqlite::Result<Collection> {
    let (id, title, doi) = (id_at(row, 0)?, row.get(1)?, row.get(2)?);
    Ok(Collection { id, title, doi })
}

impl CatalogState {
    pub(super) fn collection_ids(&self) -> Result<Vec<ObjectId>, CatalogError> {
        let query = "SELECT id FROM collection";
        (self.db).read(|db| query_all(db, query, [], |row| id_at(row, 0)))
    }

    /// Members of the collection `of`, or of any collection, that are not stored.
    pub(super) fn unknown_members(
        &self,
        of: Option<ObjectId>,
    ) -> Result<Vec<ObjectId>, CatalogError> {
        let query = "SELECT DISTINCT item FROM member
             WHERE (?1 IS NULL OR collection = ?1)
                 AND item NOT IN (SELECT id FROM object)
                 AND item NOT IN (SELECT id FROM collection)";
        let of = of.map(|id| *id.as_bytes());
        (self.db).read(|db| query_all(db, query, [of], |row| id_at(row, 0)))
    }
}
