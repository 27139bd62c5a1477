//! The `SQLite` database of the catalog, shared by all mounts with the same cache
//! folder.
//!
//! The database is a file. A corrupt file is moved aside and
//! replaced by a new one. If the disk cannot store the database, a copy in memory
//! replaces it. Readers have connections of their own and, because of `SQLite`'s
//! write-ahead log, never wait for a writer in this process or another.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Params, Row, Transaction};

use super::CatalogError;
use icos_sync::Mutex;

mod file;
mod location;
mod schema;

pub(super) use schema::VERSION;

use location::{DatabaseLocation, move_aside};

/// The database, wherever it is stored.
#[derive(Debug)]
pub(super) struct Database {
    location: Mutex<Arc<DatabaseLocation>>,
    failure: Mutex<StorageFailure>,
}

type FailureCallback = Box<dyn Fn(&CatalogError) + Send + Sync>;

/// Why the database cannot be stored on the disk, and the callback that reports it.
#[derive(Default)]
struct StorageFailure {
    reason: Option<CatalogError>,
    callback: Option<FailureCallback>,
}

impl Database {
    /// Opens the file at `path`, or creates it. If that fails, continues in memory,
    /// with the content of the file if it can be read.
    pub(super) fn open(path: &Path) -> Result<Self, CatalogError> {
        let mut failure = StorageFailure::default();
        let location = DatabaseLocation::file(path)
            .or_else(|error| {
                if !is_corrupt(&error) {
                    return Err(error);
                }
                move_aside(path, &error);
                DatabaseLocation::file(path)
            })
            .or_else(|error| {
                failure.record(path, &error);
                DatabaseLocation::copy_of(path).or_else(|_unreadable| DatabaseLocation::memory())
            })?;
        Ok(Self {
            location: Mutex::new(Arc::new(location)),
            failure: Mutex::new(failure),
        })
    }

    /// Calls `callback` when the database cannot be stored on the disk; at once if
    /// that has happened already.
    pub(super) fn on_failure(&self, callback: FailureCallback) {
        let mut failure = self.failure.lock();
        if let Some(reason) = &failure.reason {
            callback(reason);
        }
        failure.callback = Some(callback);
    }

    /// Runs a query, which must not contain another one. Blocks on the disk, but
    /// never on a writer of the file.
    pub(super) fn read<T>(
        &self,
        query: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.retry_elsewhere(|location| location.read(&query))
    }

    /// Runs `change` in a transaction. Blocks while another process writes.
    pub(super) fn write<T>(
        &self,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.retry_elsewhere(|location| location.write(&change))
    }

    /// Closes connections that have been idle for `idle`. Returns whether a later
    /// call may close more.
    pub(super) fn close_idle(&self, idle: Duration) -> bool {
        self.location().close_idle(idle)
    }

    /// Runs `work`, and runs it again at a new location if the database turns out to
    /// be corrupt or the disk fails.
    fn retry_elsewhere<T>(
        &self,
        work: impl Fn(&DatabaseLocation) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let mut location = self.location();
        // A corrupt file is replaced by a new file, and that by memory.
        for _ in 0..2 {
            match work(&location) {
                Err(error) if is_corrupt(&error) || is_disk_failure(&error) => {
                    location = self.replace(&location, error)?;
                }
                result => return Ok(result?),
            }
        }
        Ok(work(&location)?)
    }

    fn location(&self) -> Arc<DatabaseLocation> {
        Arc::clone(&self.location.lock())
    }

    /// Replaces the location `failed`, unless another thread has done so.
    fn replace(
        &self,
        failed: &Arc<DatabaseLocation>,
        error: rusqlite::Error,
    ) -> Result<Arc<DatabaseLocation>, CatalogError> {
        let mut location = self.location.lock();
        if Arc::ptr_eq(&location, failed) {
            *location = Arc::new(self.substitute(failed, error)?);
        }
        Ok(Arc::clone(&location))
    }

    fn substitute(
        &self,
        failed: &DatabaseLocation,
        error: rusqlite::Error,
    ) -> rusqlite::Result<DatabaseLocation> {
        let Some(path) = failed.path() else {
            // The copy in memory is of a corrupt file.
            return DatabaseLocation::memory();
        };
        let (substitute, error) = if is_corrupt(&error) {
            match recreate(path, &error) {
                Ok(file) => return Ok(file),
                Err(error) => (DatabaseLocation::memory(), error),
            }
        } else {
            let copy = failed.copy();
            (
                copy.or_else(|_unreadable| DatabaseLocation::memory()),
                error,
            )
        };
        self.failure.lock().record(path, &error);
        substitute
    }
}

impl StorageFailure {
    /// Records that the database cannot be stored at `path`, and reports it.
    fn record(&mut self, path: &Path, error: &rusqlite::Error) {
        let reason = CatalogError::NotStored {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        if let Some(callback) = &self.callback {
            callback(&reason);
        } else {
            tracing::warn!("{reason}");
        }
        self.reason = Some(reason);
    }
}

impl fmt::Debug for StorageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

/// Runs a query and parses all its rows.
pub(super) fn query_all<T>(
    db: &Connection,
    query: &str,
    parameters: impl Params,
    parse: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = db.prepare_cached(query)?;
    let rows = statement.query_map(parameters, parse)?;
    rows.collect()
}

/// Creates a new file at `path` in place of a corrupt one, unless another mount has
/// done so already.
fn recreate(path: &Path, error: &rusqlite::Error) -> rusqlite::Result<DatabaseLocation> {
    if let Ok(file) = DatabaseLocation::file(path)
        && file.is_intact()
    {
        return Ok(file);
    }
    move_aside(path, error);
    DatabaseLocation::file(path)
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Whether the disk cannot store the database.
fn is_disk_failure(error: &rusqlite::Error) -> bool {
    let failed = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::DiskFull
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
        )
    );
    failed && !lacks_descriptors()
}

/// Whether the process or the system has no file descriptor left: a temporary state
/// that is not the fault of the disk.
fn lacks_descriptors() -> bool {
    fs::File::open("/dev/null")
        .is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)))
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests may fail if no thread starts"
)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

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
    fn mounts_read_what_others_write() {
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
    fn corrupt_file_is_moved_aside_on_open_and_on_read() {
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
    fn file_of_another_version_is_emptied() {
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
    fn database_without_a_disk_is_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let database = Database::open(&file.path().join("below/a/file")).unwrap();
        note(&database, "a");
        assert_eq!(count(&database), 1);
        assert!(database.failure.lock().reason.is_some());
    }

    /// Regression: a query for lists that it did not have yet failed with EIO.
    #[test]
    fn full_disk_moves_the_database_to_memory_and_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let database = Database::open(&path).unwrap();
        note(&database, "a");
        let reports = Arc::new(Mutex::new(Vec::new()));
        let reported = Arc::clone(&reports);
        database.on_failure(Box::new(move |error| {
            reported.lock().push(error.to_string());
        }));
        // The error of a full disk.
        let pages: i64 =
            (database.read(|db| db.query_row("PRAGMA page_count", [], |r| r.get(0)))).unwrap();
        database.location().limit(pages).unwrap();
        for n in 0..200 {
            note(
                &database,
                &format!("a long key to fill some pages with: {n}"),
            );
        }
        assert_eq!(count(&database), 201);
        let reports = reports.lock();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(
            reports[0].contains("full") && reports[0].contains("--cache-dir"),
            "{reports:?}"
        );
        assert!(count(&Database::open(&path).unwrap()) < 201, "it was full");
    }

    #[test]
    fn read_only_file_is_copied_to_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("100% catalog?.sqlite");
        note(&Database::open(&path).unwrap(), "a");
        let copy = DatabaseLocation::copy_of(&path).unwrap();
        copy.write(|db| db.execute("INSERT INTO state VALUES ('b', 7)", []))
            .unwrap();
        // In a folder where neither log nor index can be created.
        let copy = location::copy_of_immutable(&path).unwrap();
        let database = Database {
            location: Mutex::new(Arc::new(copy)),
            failure: Mutex::default(),
        };
        note(&database, "b");
        assert_eq!(count(&database), 2);
    }

    /// The number of descriptors of files in `dir`.
    fn descriptors(dir: &Path) -> usize {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let links = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.filter(|path| path.starts_with(dir)).count()
    }

    /// Regression: the descriptors of all simultaneous readers stayed open.
    #[test]
    fn close_idle_closes_the_descriptors_of_former_readers() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("catalog.sqlite")).unwrap();
        assert_eq!(count(&database), 0);
        let initial = descriptors(dir.path());
        for round in 1..3 {
            read_at_once(&database, 12);
            note(&database, &format!("{round}"));
            assert!(descriptors(dir.path()) > initial + 10);
            let hour = Duration::from_hours(1);
            assert!(database.close_idle(hour), "no connection is idle");
            database
                .read(|db| {
                    assert!(database.close_idle(Duration::ZERO), "one is in use");
                    db.query_row("SELECT 1", [], |_| Ok(()))
                })
                .unwrap();
            assert!(!database.close_idle(Duration::ZERO), "all are idle");
            assert_eq!(descriptors(dir.path()), initial);
            assert_eq!(count(&database), round);
        }
    }

    /// Reopening would lose the content, and keys of its rows would denote others.
    #[test]
    fn deleted_file_stays_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let database = Database::open(&path).unwrap();
        note(&database, "a");
        read_at_once(&database, 3);
        fs::remove_file(&path).unwrap();
        assert!(!database.close_idle(Duration::ZERO));
        note(&database, "b");
        assert_eq!(count(&database), 2);
    }

    fn read_at_once(database: &Database, readers: usize) {
        let all = Barrier::new(readers);
        thread::scope(|scope| {
            for _ in 0..readers {
                scope.spawn(|| {
                    database.read(|db| {
                        all.wait();
                        db.query_row("SELECT COUNT(*) FROM state", [], |row| row.get::<_, i64>(0))
                    })
                });
            }
        });
    }

    #[test]
    fn reads_and_writes_succeed_while_connections_are_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let mounts = [
            Database::open(&path).unwrap(),
            Database::open(&path).unwrap(),
        ];
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for mount in &mounts {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        mount.close_idle(Duration::ZERO);
                        thread::yield_now();
                    }
                });
            }
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    let mount = &mounts[worker % 2];
                    scope.spawn(move || {
                        let mut last = 0;
                        for n in 0..100 {
                            note(mount, &format!("{worker}: {n}"));
                            let now = count(mount);
                            assert!(now > last, "{now} after {last}");
                            last = now;
                        }
                    })
                })
                .collect();
            let succeeded = workers.into_iter().all(|worker| worker.join().is_ok());
            done.store(true, Ordering::Relaxed);
            assert!(succeeded);
        });
        assert_eq!(mounts.each_ref().map(count), [400, 400]);
        assert!(
            mounts
                .iter()
                .all(|mount| mount.failure.lock().reason.is_none())
        );
    }
}
