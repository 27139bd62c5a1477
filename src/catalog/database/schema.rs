//! Creates the tables of the database.

use rusqlite::{Connection, TransactionBehavior};

/// Incremented with each change of the schema. A file of another version is emptied,
/// since everything in it can be downloaded again.
pub(in crate::catalog) const VERSION: i64 = 6;
/// Capacity of the cache of prepared statements of each connection.
pub(super) const STATEMENTS: usize = 64;
const SCHEMA: &str = include_str!("../schema.sql");

/// The version of the database; zero if it is empty.
fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Creates the tables if they do not exist in this version.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another mount may have created them meanwhile.
    let found = version(&transaction)?;
    if found == VERSION {
        return Ok(());
    }
    let tables: Vec<String> = transaction
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if !tables.is_empty() {
        tracing::info!(found, VERSION, "emptying a catalog of another version");
    }
    for table in tables {
        transaction.execute_batch(&format!("DROP TABLE \"{}\"", table.replace('"', "\"\"")))?;
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
