//! Where the lists are: in a file, or in memory.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::database_file::{BUSY, DatabaseFile};
use super::lock;
use super::migration::{STATEMENTS, prepare};

/// A database, and the connections to it.
#[derive(Debug)]
pub(super) enum DatabaseLocation {
    /// In a file.
    File(DatabaseFile),
    /// Nowhere else than in the one connection.
    Memory(Mutex<Connection>),
}

impl DatabaseLocation {
    /// Opens, or creates, the file at `path`.
    pub(super) fn file(path: &Path) -> Result<Self, rusqlite::Error> {
        Ok(Self::File(DatabaseFile::open(path)?))
    }

    /// An empty one in memory.
    pub(super) fn memory() -> Result<Self, rusqlite::Error> {
        let mut writer = Connection::open_in_memory()?;
        prepare(&mut writer)?;
        Ok(Self::Memory(Mutex::new(writer)))
    }

    /// In memory, what this one has.
    pub(super) fn copy(&self) -> Result<Self, rusqlite::Error> {
        match self {
            // What is open may be there no more by its name.
            Self::File(file) => {
                (file.by_open_writer(copy)).unwrap_or_else(|| Self::copy_of(file.path()))
            }
            Self::Memory(connection) => copy(&lock(connection)),
        }
    }

    /// In memory, what the file at `path` has, which cannot be written.
    pub(super) fn copy_of(path: &Path) -> Result<Self, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags);
        opened
            .and_then(|file| copy(&file))
            // Readers share an index of the log, which cannot be made there.
            .or_else(|_unreadable| copy_of_immutable(path))
    }

    /// Lets it grow no further, as a full disk does.
    #[cfg(test)]
    pub(super) fn limit(&self, pages: i64) -> Result<(), rusqlite::Error> {
        self.with_writer(|writer| writer.pragma_update(None, "max_page_count", pages))
    }

    /// The file that it is in, if any.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file.path()),
            Self::Memory(_) => None,
        }
    }

    /// Asks something; never within another question, which in memory would
    /// wait for itself.
    pub(super) fn read<T>(
        &self,
        query: impl Fn(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        match self {
            Self::File(file) => file.read(query),
            Self::Memory(connection) => query(&lock(connection)),
        }
    }

    /// Closes the connections to a file that were not used for `idle`; whether
    /// there are others.
    pub(super) fn close_idle(&self, idle: Duration) -> bool {
        match self {
            Self::File(file) => file.close_idle(idle),
            Self::Memory(_) => false,
        }
    }

    /// Changes something, all of it or nothing.
    pub(super) fn write<T>(
        &self,
        change: impl Fn(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        self.with_writer(|writer| {
            // Immediate: two that read first and then write would both fail.
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Whether all that is in it is sound. Reads all of it.
    pub(super) fn is_sound(&self) -> bool {
        let check = "PRAGMA quick_check(1)";
        let said = self.with_writer(|db| db.query_row(check, [], |row| row.get::<_, String>(0)));
        said.is_ok_and(|said| said == "ok")
    }

    fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        match self {
            Self::File(file) => file.with_writer(work),
            Self::Memory(connection) => work(&mut lock(connection)),
        }
    }
}

/// What `file` has, in memory.
fn copy(file: &Connection) -> Result<DatabaseLocation, rusqlite::Error> {
    file.busy_timeout(BUSY)?;
    let mut writer = Connection::open_in_memory()?;
    // All pages in one step: others' changes would make it begin anew.
    let step = Backup::new(file, &mut writer)?.step(-1)?;
    if !matches!(step, StepResult::Done) {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    writer.set_prepared_statement_cache_capacity(STATEMENTS);
    prepare(&mut writer)?;
    Ok(DatabaseLocation::Memory(Mutex::new(writer)))
}

/// In memory, what the file at `path` has, if no process changes it meanwhile.
pub(super) fn copy_of_immutable(path: &Path) -> Result<DatabaseLocation, rusqlite::Error> {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    copy(&Connection::open_with_flags(uri + "?immutable=1", flags)?)
}

/// Moves a damaged file out of the way: it may tell someone what happened.
pub(super) fn set_aside(path: &Path, error: &rusqlite::Error) {
    let aside = path.with_extension("damaged");
    tracing::warn!(path = %path.display(), %error, aside = %aside.display(),
        "the catalog is damaged; it is set aside and will be asked for again");
    if let Err(error) = fs::rename(path, &aside) {
        tracing::warn!(%error, "a damaged catalog cannot be set aside");
    }
    for beside in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a damaged catalog's log cannot be removed");
            }
            _ => {}
        }
    }
}
