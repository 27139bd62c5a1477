//! The database file and the connections to it.
//!
//! `SQLite` keeps the descriptor of a closed connection while any other connection
//! of this process to the same file is open, because closing a descriptor would
//! release the locks of all. So simultaneous readers would leave descriptors behind
//! for ever. When the database has been idle, all connections are therefore closed,
//! and two are opened again at once. Otherwise another file could take the path
//! meanwhile, and the catalog refers to rows of this file by key.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use icos_files::{SafeFolder, UnsafeFile, is_own_file};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::schema::{STATEMENTS, prepare};
use icos_sync::Mutex;

/// How long to wait for another mount's transaction, which stores one page of a list.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of idle read connections: more than there are FUSE event loops.
const MAX_IDLE: usize = 8;

/// A database in a file.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Locked for reading during a query, for writing while all connections are
    /// reopened.
    queries: RwLock<()>,
    readers: Mutex<ReadConnections>,
    /// `None` if it could not be reopened: the next write tries again.
    writer: Mutex<Option<WriteConnection>>,
}

/// The idle read connections.
#[derive(Debug, Default)]
struct ReadConnections {
    /// With the time of their last use, the latest last.
    idle: Vec<(Connection, Instant)>,
    /// Whether `SQLite` keeps descriptors of closed connections.
    keeps_descriptors: bool,
}

/// The only connection that writes.
#[derive(Debug)]
struct WriteConnection {
    connection: Connection,
    file: Option<FileIdentity>,
}

/// Device and inode of a file.
type FileIdentity = (u64, u64);

impl DatabaseFile {
    /// Opens the file at `path`, or creates it.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let file = Self {
            path: path.to_owned(),
            queries: RwLock::default(),
            readers: Mutex::default(),
            writer: Mutex::default(),
        };
        // Fails now if the file cannot be written.
        file.with_writer(|_| Ok(()))?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a query with a read connection.
    pub(super) fn read<T>(
        &self,
        query: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let _queries = self.queries.read().unwrap_or_else(PoisonError::into_inner);
        let idle = self.readers.lock().idle.pop();
        let connection = match idle {
            Some((connection, _)) => connection,
            None => connect_existing(&self.path)?,
        };
        let result = query(&connection);
        let mut readers = self.readers.lock();
        if result.is_ok() && readers.idle.len() < MAX_IDLE {
            readers.idle.push((connection, Instant::now()));
        } else {
            readers.keeps_descriptors = true;
        }
        result
    }

    /// Runs `work` with the write connection.
    pub(super) fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut writer = self.writer.lock();
        let writer = match &mut *writer {
            Some(writer) => writer,
            missing => missing.insert(WriteConnection {
                connection: connect(&self.path)?,
                file: identity(&self.path),
            }),
        };
        work(&mut writer.connection)
    }

    /// Closes the read connections that have been idle for `idle`, except one.
    /// Returns whether a later call may close more.
    pub(super) fn close_idle(&self, idle: Duration) -> bool {
        let mut readers = self.readers.lock();
        let count = readers.idle.len();
        let is_idle = |(_, used): &&(Connection, Instant)| used.elapsed() >= idle;
        let old = readers.idle.iter().take_while(is_idle).count();
        let spare = count.saturating_sub(1);
        let closed: Vec<_> = readers.idle.drain(..old.min(spare)).collect();
        readers.keeps_descriptors |= !closed.is_empty();
        let keeps_descriptors = readers.keeps_descriptors;
        drop(readers);
        drop(closed);
        old < spare || keeps_descriptors && !(old == count && self.reopen())
    }

    /// Closes all connections, so that `SQLite` closes all descriptors, and opens
    /// two. Returns false if some are in use.
    fn reopen(&self) -> bool {
        let Some(mut writer) = self.writer.try_lock() else {
            return false;
        };
        if let Some(writer) = &*writer {
            if identity(&self.path) != writer.file {
                // Only the open connections still have the content.
                return true;
            }
            // Otherwise the last connection does this as it is closed, while all
            // other threads wait.
            let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
            if let Err(error) = writer.connection.query_row(checkpoint, [], |_| Ok(())) {
                tracing::debug!(%error, "cannot move the log into the catalog");
            }
        }
        let Ok(_queries) = self.queries.try_write() else {
            return false;
        };
        let mut readers = self.readers.lock();
        *readers = ReadConnections::default();
        *writer = None;
        match connect_existing(&self.path) {
            Ok(connection) => {
                let file = identity(&self.path);
                *writer = Some(WriteConnection { connection, file });
            }
            Err(error) => tracing::debug!(%error, "cannot reopen the catalog"),
        }
        if let Ok(connection) = connect_existing(&self.path) {
            readers.idle.push((connection, Instant::now()));
        }
        true
    }
}

fn identity(path: &Path) -> Option<FileIdentity> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Opens or creates a file, and prepares it.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    if let Some(folder) = path.parent() {
        match SafeFolder::private(folder, true) {
            Err(error) if UnsafeFile::is_cause_of(&error) => {
                tracing::warn!(%error, "the catalog is not stored");
                return Err(rusqlite::Error::InvalidPath(path.to_owned()));
            }
            Err(error) => tracing::debug!(%error, "cannot create the catalog's folder"),
            Ok(_) => remove_foreign(path),
        }
    }
    let mut connection = Connection::open(path)?;
    tune(&connection)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    prepare(&mut connection)?;
    // Fails if the file cannot be written.
    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    Ok(connection)
}

/// Removes links, pipes and files of other users in place of the database and its
/// logs: the folder may have been open to others once.
fn remove_foreign(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let found = fs::symlink_metadata(&name);
        if found.is_ok_and(|found| !found.is_dir() && !is_own_file(&found)) {
            tracing::warn!(?name, "removing a file that is not the catalog's own");
            let _ = fs::remove_file(&name);
        }
    }
}

/// Opens a file that has been prepared.
fn connect_existing(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    tune(&connection)?;
    Ok(connection)
}

fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // What a crash loses can be downloaded again.
    connection.pragma_update(None, "synchronous", "normal")?;
    // In KiB, for each connection. The kernel's page cache holds the rest of the
    // file; memory-mapped, it would count as memory of this process.
    connection.pragma_update(None, "cache_size", -4000)
}
