//! The file that the lists are in, and the connections to it.
//!
//! `SQLite` keeps the descriptors of closed connections for as long as any other
//! to the same file is open in this process: to close one would drop the locks
//! of all. So there would be one for each that ever read at once; when nobody
//! has for a while, all are closed, and two opened again. At once, lest it be
//! another file by then: keys of its rows are all around.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::lock;
use super::migration::{STATEMENTS, prepare};

/// Another mount's page of a list is written in less.
pub(super) const BUSY: Duration = Duration::from_secs(10);
/// As many threads as take requests from the kernel, and some.
const IDLE: usize = 8;

/// A database in a file.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Held shared by readers; taken exclusively to keep readers out.
    gate: RwLock<()>,
    readers: Mutex<ReadConnections>,
    /// Missing if it could not be opened again: the next write reports why.
    writer: Mutex<Option<WriteConnection>>,
}

/// The idle read connections.
#[derive(Debug, Default)]
struct ReadConnections {
    /// The one used last at the end.
    idle: Vec<(Connection, Instant)>,
    /// Whether some were closed while others were open.
    left_some: bool,
}

/// The connection to write by.
#[derive(Debug)]
struct WriteConnection {
    connection: Connection,
    file: Option<FileIdentity>,
}

/// Device and inode of a file.
type FileIdentity = (u64, u64);

impl DatabaseFile {
    /// Opens, or creates, the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, rusqlite::Error> {
        let writer = WriteConnection::to(path)?;
        Ok(Self {
            path: path.to_owned(),
            gate: RwLock::default(),
            readers: Mutex::default(),
            writer: Mutex::new(Some(writer)),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks something by a connection to read by.
    pub(super) fn read<T>(
        &self,
        query: impl Fn(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let idle = lock(&self.readers).idle.pop();
        let connection = match idle {
            Some((connection, _)) => connection,
            None => connect_to_read(&self.path)?,
        };
        let answer = query(&connection);
        let mut readers = lock(&self.readers);
        if answer.is_ok() && readers.idle.len() < IDLE {
            readers.idle.push((connection, Instant::now()));
        } else {
            readers.left_some = true;
        }
        answer
    }

    /// Does `work` by the connection to write by, of which there is one.
    pub(super) fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let mut writer = lock(&self.writer);
        let writer = match &mut *writer {
            Some(writer) => writer,
            missing => missing.insert(WriteConnection::to(&self.path)?),
        };
        work(&mut writer.connection)
    }

    /// What `work` makes of the connection to write by, if there is one.
    pub(super) fn by_open_writer<T>(&self, work: impl FnOnce(&Connection) -> T) -> Option<T> {
        let writer = lock(&self.writer);
        writer.as_ref().map(|writer| work(&writer.connection))
    }

    /// Closes the connections to read by that were not used for `idle`, but for
    /// one; whether there is more to close in a while.
    pub(super) fn close_idle(&self, idle: Duration) -> bool {
        let mut readers = lock(&self.readers);
        let (count, is_idle) = (readers.idle.len(), |used: &Instant| used.elapsed() >= idle);
        let rested = (readers.idle.iter()).take_while(|(_, used)| is_idle(used));
        let rested = rested.count();
        let spare = count.saturating_sub(1);
        let closed: Vec<_> = readers.idle.drain(..rested.min(spare)).collect();
        readers.left_some |= !closed.is_empty();
        let left_some = readers.left_some;
        drop(readers);
        drop(closed);
        rested < spare || left_some && !(rested == count && self.open_again())
    }

    /// Closes all connections, so that no descriptor of former ones is left,
    /// and opens two; not if they are in use.
    fn open_again(&self) -> bool {
        let Some(mut writer) = unless_held(self.writer.try_lock()) else {
            return false;
        };
        if let Some(writer) = &*writer {
            if identity(&self.path) != writer.file {
                // Only this connection has the lists that are known by now.
                return true;
            }
            // Who closes last would do so, with all others waiting.
            let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
            if let Err(error) = writer.connection.query_row(checkpoint, [], |_| Ok(())) {
                tracing::debug!(%error, "the catalog's log is not in it yet");
            }
        }
        let Some(_gate) = unless_held(self.gate.try_write()) else {
            return false;
        };
        let mut readers = lock(&self.readers);
        *readers = ReadConnections::default();
        *writer = None;
        match connect_to_write(&self.path) {
            Ok(connection) => *writer = Some(WriteConnection::by(connection, &self.path)),
            Err(error) => tracing::debug!(%error, "the catalog cannot be opened again"),
        }
        if let Ok(connection) = connect_to_read(&self.path) {
            readers.idle.push((connection, Instant::now()));
        }
        true
    }
}

impl WriteConnection {
    fn to(path: &Path) -> Result<Self, rusqlite::Error> {
        Ok(Self::by(connect(path)?, path))
    }

    fn by(connection: Connection, path: &Path) -> Self {
        let file = identity(path);
        Self { connection, file }
    }
}

fn identity(path: &Path) -> Option<FileIdentity> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// What was asked for, unless another has it.
fn unless_held<G>(asked: TryLockResult<G>) -> Option<G> {
    match asked {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
        Err(TryLockError::WouldBlock) => None,
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
    tune_to_write(&connection)?;
    prepare(&mut connection)?;
    // That it cannot be written is found out now.
    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    Ok(connection)
}

/// To a file that was prepared before.
fn connect_to_write(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect_to_read(path)?;
    tune_to_write(&connection)?;
    Ok(connection)
}

fn connect_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    tune(&connection)?;
    Ok(connection)
}

fn tune_to_write(connection: &Connection) -> Result<(), rusqlite::Error> {
    tune(connection)?;
    // What a crash loses can be asked for again.
    connection.pragma_update(None, "synchronous", "normal")
}

fn tune(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // In KiB, for each connection. What else is read of the file stays in the
    // kernel's page cache; mapped, it would count as our memory.
    connection.pragma_update(None, "cache_size", -4000)
}
