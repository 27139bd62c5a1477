//! Where the lists are: in a file, or in memory.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

/// Raised with each change of the schema: a file of another version is thrown
/// away, since all it holds can be asked for again.
pub(super) const VERSION: i64 = 3;
const SCHEMA: &str = include_str!("../schema.sql");
/// Another mount's page of a list is written in less.
const BUSY: Duration = Duration::from_secs(10);
/// As many threads as take requests from the kernel, and some.
const IDLE: usize = 8;
/// Prepared statements kept by each connection.
const STATEMENTS: usize = 64;

/// A database, and the connections to it.
#[derive(Debug)]
pub(super) struct Place {
    /// Nowhere: in memory, by the one connection that writes.
    path: Option<PathBuf>,
    /// The one used last at the end.
    idle: Mutex<Vec<(Connection, Instant)>>,
    writer: Mutex<Connection>,
}

impl Place {
    /// Opens, or creates, the file at `path`.
    pub(super) fn file(path: &Path) -> Result<Self, rusqlite::Error> {
        Ok(Self::of(Some(path.to_owned()), connect(path)?))
    }

    /// An empty one in memory.
    pub(super) fn memory() -> Result<Self, rusqlite::Error> {
        let mut writer = Connection::open_in_memory()?;
        prepare(&mut writer)?;
        Ok(Self::of(None, writer))
    }

    /// In memory, what this one has.
    pub(super) fn copy(&self) -> Result<Self, rusqlite::Error> {
        copy(&lock(&self.writer))
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
        lock(&self.writer).pragma_update(None, "max_page_count", pages)
    }

    fn of(path: Option<PathBuf>, writer: Connection) -> Self {
        Self {
            path,
            idle: Mutex::default(),
            writer: Mutex::new(writer),
        }
    }

    /// The file that it is in, if any.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Asks something; never within another question, which in memory would
    /// wait for itself.
    pub(super) fn read<T>(
        &self,
        question: impl Fn(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let Some(path) = &self.path else {
            return question(&lock(&self.writer));
        };
        let idle = lock(&self.idle).pop();
        let connection = match idle {
            Some((connection, _)) => connection,
            None => connect_to_read(path)?,
        };
        let answer = question(&connection)?;
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE {
            idle.push((connection, Instant::now()));
        }
        Ok(answer)
    }

    /// Closes the connections to read by that were not used for `idle`, but
    /// for one; whether there are others.
    pub(super) fn rest(&self, idle: Duration) -> bool {
        let mut connections = lock(&self.idle);
        let spare = connections.len().saturating_sub(1);
        let is_idle = |used: &Instant| used.elapsed() >= idle;
        let count = (connections[..spare].iter()).take_while(|(_, used)| is_idle(used));
        let count = count.count();
        let closed: Vec<_> = connections.drain(..count).collect();
        drop(connections);
        drop(closed);
        count < spare
    }

    /// Changes something, all of it or nothing.
    pub(super) fn write<T>(
        &self,
        change: impl Fn(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let mut writer = lock(&self.writer);
        // Immediate: two that read first and then write would both fail.
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = change(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Whether all that is in it is sound. Reads all of it.
    pub(super) fn is_sound(&self) -> bool {
        let check = "PRAGMA quick_check(1)";
        let said = lock(&self.writer).query_row(check, [], |row| row.get::<_, String>(0));
        said.is_ok_and(|said| said == "ok")
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    if let Some(folder) = path.parent() {
        let private = (fs::DirBuilder::new().recursive(true).mode(0o700)).create(folder);
        if let Err(error) = private {
            tracing::debug!(%error, "the catalog's folder cannot be made");
        }
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // What a crash loses can be asked for again.
    connection.pragma_update(None, "synchronous", "normal")?;
    tune(&connection)?;
    prepare(&mut connection)?;
    // That it cannot be written is found out now.
    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    Ok(connection)
}

fn connect_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    tune(&connection)?;
    Ok(connection)
}

fn tune(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // In KiB, for each connection. What else is read of the file stays in the
    // kernel's page cache; mapped, it would count as our memory.
    connection.pragma_update(None, "cache_size", -4000)
}

/// What `file` has, in memory.
fn copy(file: &Connection) -> Result<Place, rusqlite::Error> {
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
    Ok(Place::of(None, writer))
}

/// In memory, what the file at `path` has, if nobody changes it meanwhile.
pub(super) fn copy_of_immutable(path: &Path) -> Result<Place, rusqlite::Error> {
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

/// Sees to it that the tables are there.
fn prepare(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let version = |connection: &Connection| {
        connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
    };
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
