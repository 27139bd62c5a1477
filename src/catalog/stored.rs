//! Reads the stored lists without any wait, for the completion of command lines: neither
//! the portal is queried nor a database created.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::database::{VERSION, query_all};
use super::read::id_at;
use super::vocabulary::Vocabulary;
use super::{Collection, FILE};
use icos_portal::ObjectId;

/// How long to wait for a process that writes to the database.
const BUSY_TIMEOUT: Duration = Duration::from_millis(20);
/// Length of an id in symbols.
const ID_LEN: usize = 24;

/// The lists that a mount or a command has stored.
#[derive(Debug)]
pub struct StoredCatalog(Connection);

impl StoredCatalog {
    /// Opens the catalog in `folder`. `None` if there is none of this version.
    #[must_use]
    pub fn open(folder: &Path) -> Option<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(folder.join(FILE), flags).ok()?;
        connection.busy_timeout(BUSY_TIMEOUT).ok()?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .ok()?;
        (version == VERSION).then_some(Self(connection))
    }

    /// The stored data types and stations.
    #[must_use]
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::load(&self.0).unwrap_or_default()
    }

    /// Up to `limit` current objects whose ids begin with `prefix`, with their file names;
    /// the latest ones if it is empty.
    #[must_use]
    pub fn objects(&self, prefix: &str, limit: usize) -> Vec<(ObjectId, String)> {
        let end = |symbol: &str| {
            let rest = ID_LEN.checked_sub(prefix.len())?;
            let id: ObjectId = format!("{prefix}{}", symbol.repeat(rest)).parse().ok()?;
            Some(*id.as_bytes())
        };
        // The least and the greatest symbol of base64url.
        let (Some(first), Some(last)) = (end("A"), end("_")) else {
            return Vec::new();
        };
        let order = if prefix.is_empty() { "row DESC" } else { "id" };
        let query = format!(
            "SELECT id, name FROM object WHERE id BETWEEN ?1 AND ?2 AND shown = 1
             ORDER BY {order} LIMIT ?3"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let row = |row: &rusqlite::Row<'_>| Ok((id_at(row, 0)?, row.get(1)?));
        query_all(&self.0, &query, (first, last, limit), row).unwrap_or_default()
    }

    /// The names of the columns of the table `id`, as far as they are stored.
    #[must_use]
    pub fn columns(&self, id: ObjectId) -> Vec<String> {
        let query = "SELECT json FROM object JOIN labels ON labels.row = object.labels
             WHERE id = ?1";
        let json: Option<String> = (self.0)
            .query_row(query, [id.as_bytes()], |row| row.get(0))
            .optional()
            .unwrap_or_default();
        if let Some(json) = json {
            return serde_json::from_str(&json).unwrap_or_default();
        }
        let query = "SELECT title FROM object JOIN spec ON spec.row = object.spec
             JOIN field ON field.dataset = spec.dataset WHERE id = ?1 AND NOT regex";
        query_all(&self.0, query, [id.as_bytes()], |row| row.get(0)).unwrap_or_default()
    }

    /// The stored collections.
    #[must_use]
    pub fn collections(&self) -> Vec<Collection> {
        let query = "SELECT id, title, doi FROM collection WHERE current ORDER BY row";
        let row = |row: &rusqlite::Row<'_>| {
            let (id, title, doi) = (id_at(row, 0)?, row.get(1)?, row.get(2)?);
            Ok(Collection { id, title, doi })
        };
        query_all(&self.0, query, [], row).unwrap_or_default()
    }
}
