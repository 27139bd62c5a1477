//! Reads collections and their members from the database.

use super::read::id_of;
use super::{Catalog, CatalogError, CatalogState, Collection};
use icos_portal::ObjectId;
use icos_portal::lists::Versions;

impl Catalog {
    /// The collections in the selection: the current ones, or all versions. Blocks
    /// on the disk.
    pub fn collections(&self) -> Result<Vec<Collection>, CatalogError> {
        let all = self.0.selection.versions == Versions::All;
        self.0.db.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, title, doi FROM collection WHERE current OR ?1 ORDER BY row",
            )?;
            let rows = statement.query_map([all], collection)?;
            rows.filter_map(Result::transpose).collect()
        })
    }

    /// The collection `id`, if it is stored. Blocks on the disk for a short time.
    pub fn collection(&self, id: ObjectId) -> Result<Option<Collection>, CatalogError> {
        self.0.db.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT id, title, doi FROM collection WHERE id = ?1")?;
            let mut rows = statement.query_map([&id.as_bytes()[..]], collection)?;
            Ok(rows.next().transpose()?.flatten())
        })
    }

    /// The collections in the collection `id`. Blocks on the disk.
    pub fn collections_in(&self, id: ObjectId) -> Result<Vec<Collection>, CatalogError> {
        self.0.db.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT collection.id, title, doi FROM member JOIN collection ON collection.id = item
                 WHERE member.collection = ?1 ORDER BY position",
            )?;
            let rows = statement.query_map([&id.as_bytes()[..]], collection)?;
            rows.filter_map(Result::transpose).collect()
        })
    }
}

fn collection(row: &rusqlite::Row<'_>) -> Result<Option<Collection>, rusqlite::Error> {
    let (title, doi) = (row.get(1)?, row.get(2)?);
    let id = row.get_ref(0)?.as_blob().ok().and_then(id_of);
    Ok(id.map(|id| Collection { id, title, doi }))
}

impl CatalogState {
    pub(super) fn collection_ids(&self) -> Result<Vec<ObjectId>, CatalogError> {
        self.ids("SELECT id FROM collection WHERE ?1 IS NULL", None)
    }

    /// Members of the collection `of`, or of any collection, that are not stored.
    pub(super) fn unknown_members(
        &self,
        of: Option<ObjectId>,
    ) -> Result<Vec<ObjectId>, CatalogError> {
        self.ids(
            "SELECT DISTINCT item FROM member
             WHERE (?1 IS NULL OR collection = ?1)
                 AND item NOT IN (SELECT id FROM object)
                 AND item NOT IN (SELECT id FROM collection)",
            of,
        )
    }

    fn ids(&self, query: &str, of: Option<ObjectId>) -> Result<Vec<ObjectId>, CatalogError> {
        self.db.read(|db| {
            let mut statement = db.prepare_cached(query)?;
            let of = of.as_ref().map(|id| &id.as_bytes()[..]);
            let rows = statement.query_map([of], |row| Ok(id_of(row.get_ref(0)?.as_blob()?)))?;
            rows.filter_map(Result::transpose).collect()
        })
    }
}
