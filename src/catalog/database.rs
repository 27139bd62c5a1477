//! The file that the lists are kept in: opened, shared and, if it is damaged,
//! set aside.
//!
//! Readers have connections of their own and, by `SQLite`'s write-ahead log,
//! never wait for the writer, whether it is in this process or another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::CatalogError;

/// Raised with each change of the schema: a file of another version is thrown
/// away, since all it holds can be asked for again.
const VERSION: i64 = 2;
const SCHEMA: &str = include_str!("schema.sql");
/// Another mount's page of a list is written in less.
const BUSY: Duration = Duration::from_secs(10);
/// As many threads as take requests from the kernel, and some.
const IDLE: usize = 8;
/// Prepared statements kept by each connection.
const STATEMENTS: usize = 64;

/// Connections to one file.
#[derive(Debug)]
pub(super) struct Database {
    /// Nowhere: in memory, by the one connection that writes.
    path: Option<PathBuf>,
    idle: Mutex<Vec<Connection>>,
    writer: Mutex<Connection>,
}

impl Database {
    /// Opens, or creates, the file at `path`. Where the disk does not let it,
    /// all is kept in memory.
    pub(super) fn open(path: &Path) -> Result<Self, CatalogError> {
        match Self::open_file(path) {
            Ok(writer) => Ok(Self {
                path: Some(path.to_owned()),
                idle: Mutex::default(),
                writer: Mutex::new(writer),
            }),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error,
                    "the catalog cannot be kept on the disk; it will be asked for again at the next mount");
                let mut writer = Connection::open_in_memory()?;
                prepare(&mut writer)?;
                Ok(Self {
                    path: None,
                    idle: Mutex::default(),
                    writer: Mutex::new(writer),
                })
            }
        }
    }

    /// Opens the file for writing, anew if it is damaged.
    fn open_file(path: &Path) -> Result<Connection, rusqlite::Error> {
        match connect(path) {
            Err(error) if is_damage(&error) => {
                set_aside(path, &error);
                connect(path)
            }
            other => other,
        }
    }

    /// Asks something. Blocks on the disk, and never on a writer.
    pub(super) fn read<T>(
        &self,
        question: impl Fn(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, CatalogError> {
        self.healing(|| {
            let Some(path) = &self.path else {
                return question(&lock(&self.writer));
            };
            let idle = lock(&self.idle).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connect_to_read(path)?,
            };
            let answer = question(&connection)?;
            let mut idle = lock(&self.idle);
            if idle.len() < IDLE {
                idle.push(connection);
            }
            Ok(answer)
        })
    }

    /// Changes something, all of it or nothing. Blocks while another writes.
    pub(super) fn write<T>(
        &self,
        change: impl Fn(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, CatalogError> {
        self.healing(|| {
            let mut writer = lock(&self.writer);
            // Immediate: two that read first and then write would both fail.
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Does `work`, once more if the file turns out to be damaged.
    fn healing<T>(&self, work: impl Fn() -> Result<T, rusqlite::Error>) -> Result<T, CatalogError> {
        match work() {
            Err(error) if is_damage(&error) => {
                self.heal(&error)?;
                Ok(work()?)
            }
            other => Ok(other?),
        }
    }

    /// Begins a new file, unless another mount has done so already.
    fn heal(&self, error: &rusqlite::Error) -> Result<(), CatalogError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut writer = lock(&self.writer);
        lock(&self.idle).clear();
        let sound = connect(path).and_then(|connection| {
            let said: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            Ok((said == "ok").then_some(connection))
        });
        *writer = if let Ok(Some(connection)) = sound {
            connection
        } else {
            set_aside(path, error);
            connect(path)?
        };
        Ok(())
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    if let Some(folder) = path.parent() {
        let private = std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700)
            .recursive(true)
            .create(folder);
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
    // A mapping counts as page cache, not as our memory.
    connection.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    connection.pragma_update(None, "cache_size", -2000)
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
fn set_aside(path: &Path, error: &rusqlite::Error) {
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

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(database: &Database) -> i64 {
        let count = "SELECT COUNT(*) FROM state";
        database
            .read(|db| db.query_row(count, [], |row| row.get(0)))
            .unwrap()
    }

    fn note(database: &Database, key: &str) {
        database
            .write(|db| db.execute("INSERT INTO state VALUES (?1, 7)", [key]))
            .unwrap();
    }

    #[test]
    fn what_one_mount_writes_another_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/catalog.sqlite");
        let (one, other) = (
            Database::open(&path).unwrap(),
            Database::open(&path).unwrap(),
        );
        assert_eq!(count(&other), 0);
        note(&one, "a");
        note(&other, "b");
        assert_eq!((count(&one), count(&other)), (2, 2));
    }

    #[test]
    fn a_damaged_file_is_set_aside_when_it_is_opened_and_when_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        fs::write(
            &path,
            "this is no database, but long enough to be taken for one",
        )
        .unwrap();
        let database = Database::open(&path).unwrap();
        assert!(dir.path().join("catalog.damaged").exists());
        for n in 0..2000 {
            note(
                &database,
                &format!("a long key to fill some pages with: {n}"),
            );
        }
        drop(database);
        let mut bytes = fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[8192..len].fill(0xA5);
        fs::write(&path, bytes).unwrap();
        let database = Database::open(&path).unwrap();
        assert_eq!(count(&database), 0);
        note(&database, "b");
        assert_eq!(count(&database), 1);
    }

    #[test]
    fn a_file_of_another_version_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        note(&Database::open(&path).unwrap(), "a");
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        assert_eq!(count(&Database::open(&path).unwrap()), 0);
    }

    #[test]
    fn without_a_disk_it_is_kept_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let database = Database::open(&file.path().join("below/a/file")).unwrap();
        note(&database, "a");
        assert_eq!(count(&database), 1);
    }
}
