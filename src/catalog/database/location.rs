//! Where the database is: in a file, or in memory.

use std::fs;
use std::io;
use std::path::{self, Path};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use url::Url;

use super::file::{BUSY_TIMEOUT, DatabaseFile};
use super::schema::{STATEMENTS, prepare};
use icos_sync::Mutex;

/// A database and the connections to it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a process has only one")]
pub(super) enum DatabaseLocation {
    /// In a file.
    File(DatabaseFile),
    /// In memory: only this connection has it.
    Memory(Mutex<Connection>),
}

impl DatabaseLocation {
    /// Opens the file at `path`, or creates it.
    pub(super) fn file(path: &Path) -> rusqlite::Result<Self> {
        DatabaseFile::open(path).map(Self::File)
    }

    /// Creates an empty database in memory.
    pub(super) fn memory() -> rusqlite::Result<Self> {
        Self::prepared(Connection::open_in_memory()?)
    }

    fn prepared(mut memory: Connection) -> rusqlite::Result<Self> {
        memory.set_prepared_statement_cache_capacity(STATEMENTS);
        prepare(&mut memory)?;
        Ok(Self::Memory(Mutex::new(memory)))
    }

    /// Copies this database into memory.
    pub(super) fn copy(&self) -> rusqlite::Result<Self> {
        match self {
            // The open file may no longer exist at its path.
            Self::File(file) => {
                let copied = file.with_writer(|open| copy(open));
                copied.or_else(|_unreadable| Self::copy_of(file.path()))
            }
            Self::Memory(connection) => copy(&connection.lock()),
        }
    }

    /// Copies the file at `path`, which cannot be written, into memory.
    pub(super) fn copy_of(path: &Path) -> rusqlite::Result<Self> {
        // Opening a pipe would wait for a process that writes to it.
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
            return Err(rusqlite::Error::InvalidPath(path.to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags)
            .and_then(|file| copy(&file))
            // A reader needs an index of the log, which it may be unable to create.
            .or_else(|_unreadable| copy_of_immutable(path))
    }

    /// Limits the size, as a full disk does.
    #[cfg(test)]
    pub(super) fn limit(&self, pages: i64) -> rusqlite::Result<()> {
        self.with_writer(|writer| writer.pragma_update(None, "max_page_count", pages))
    }

    /// The path of the file; `None` in memory.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file.path()),
            Self::Memory(_) => None,
        }
    }

    /// Runs a query. It must not contain another one, which would deadlock in memory.
    pub(super) fn read<T>(
        &self,
        query: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match self {
            Self::File(file) => file.read(query),
            Self::Memory(connection) => query(&connection.lock()),
        }
    }

    /// Closes the connections to a file that have been idle for `idle`. Returns
    /// whether a later call may close more.
    pub(super) fn close_idle(&self, idle: Duration) -> bool {
        match self {
            Self::File(file) => file.close_idle(idle),
            Self::Memory(_) => false,
        }
    }

    /// Runs `change` in a transaction.
    pub(super) fn write<T>(
        &self,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.with_writer(|writer| {
            // Immediate: of two transactions that read before they write, one fails.
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Whether the database is not corrupt. Reads all of it.
    pub(super) fn is_intact(&self) -> bool {
        let check = "PRAGMA quick_check(1)";
        let result = self.with_writer(|db| db.query_row(check, [], |row| row.get::<_, String>(0)));
        result.is_ok_and(|result| result == "ok")
    }

    fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match self {
            Self::File(file) => file.with_writer(work),
            Self::Memory(connection) => work(&mut connection.lock()),
        }
    }
}

/// Copies the database of `source` into memory.
fn copy(source: &Connection) -> rusqlite::Result<DatabaseLocation> {
    source.busy_timeout(BUSY_TIMEOUT)?;
    let mut memory = Connection::open_in_memory()?;
    // All pages in one step: a change by another connection restarts the copy.
    let step = Backup::new(source, &mut memory)?.step(-1)?;
    if !matches!(step, StepResult::Done) {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    DatabaseLocation::prepared(memory)
}

/// Copies the file at `path` into memory, without a lock: no process may change it
/// meanwhile.
pub(super) fn copy_of_immutable(path: &Path) -> rusqlite::Result<DatabaseLocation> {
    let absolute = path::absolute(path).ok();
    let mut url = absolute
        .and_then(|path| Url::from_file_path(path).ok())
        .ok_or_else(|| rusqlite::Error::InvalidPath(path.to_owned()))?;
    url.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    copy(&Connection::open_with_flags(url.as_str(), flags)?)
}

/// Renames a corrupt file, so that it can be examined, and removes its log.
pub(super) fn move_aside(path: &Path, error: &rusqlite::Error) {
    let aside = path.with_extension("damaged");
    tracing::warn!(path = %path.display(), %error, aside = %aside.display(),
        "the catalog is corrupt; it is moved aside and will be downloaded again");
    if let Err(error) = fs::rename(path, &aside) {
        tracing::warn!(%error, "cannot move the corrupt catalog aside");
    }
    for suffix in ["-wal", "-shm"] {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        match fs::remove_file(&log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove the log of the corrupt catalog");
            }
            _ => {}
        }
    }
}
