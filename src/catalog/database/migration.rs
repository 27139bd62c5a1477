//! What is in the database: its tables, of one version.

use rusqlite::{Connection, TransactionBehavior};

/// Raised with each change of the schema: a file of another version is thrown
/// away, since all it holds can be asked for again.
pub(super) const VERSION: i64 = 4;
/// Prepared statements kept by each connection.
pub(super) const STATEMENTS: usize = 64;
const SCHEMA: &str = include_str!("../schema.sql");

/// The version that `connection` finds; zero if there is nothing.
fn version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Sees to it that the tables are there.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another mount may have been first.
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
        tracing::info!(
            found,
            VERSION,
            "the catalog is of another version and is begun anew"
        );
    }
    for table in tables {
        transaction.execute_batch(&format!("DROP TABLE \"{}\"", table.replace('"', "\"\"")))?;
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
