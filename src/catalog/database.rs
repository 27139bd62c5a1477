//! The file that the lists are kept in: opened, shared, set aside if it is
//! damaged, and left for memory if its disk does not keep it.
//!
//! Readers have connections of their own and, by `SQLite`'s write-ahead log,
//! never wait for the writer, whether it is in this process or another.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use nix::errno::Errno;
use rusqlite::{Connection, ErrorCode, Transaction};

use super::CatalogError;

mod database_file;
mod location;
mod migration;

use location::{DatabaseLocation, set_aside};

/// The lists, wherever they are.
#[derive(Debug)]
pub(super) struct Database {
    place: RwLock<Arc<DatabaseLocation>>,
    trouble: Mutex<Trouble>,
}

type Watcher = Box<dyn Fn(&CatalogError) + Send + Sync>;

/// Why the lists cannot be stored, and the callback that is notified of it.
#[derive(Default)]
struct Trouble {
    reason: Option<CatalogError>,
    watcher: Option<Watcher>,
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trouble").field(&self.reason).finish()
    }
}

impl Database {
    /// Opens, or creates, the file at `path`, anew if it is damaged. Where the
    /// disk does not let it, all goes on in memory with what can be read.
    pub(super) fn open(path: &Path) -> Result<Self, CatalogError> {
        let opened = match DatabaseLocation::file(path) {
            Err(error) if is_damage(&error) => {
                set_aside(path, &error);
                DatabaseLocation::file(path)
            }
            other => other,
        };
        let (place, error) = match opened {
            Ok(place) => (place, None),
            Err(error) => (
                DatabaseLocation::copy_of(path)
                    .or_else(|_unreadable| DatabaseLocation::memory())?,
                Some(error),
            ),
        };
        let database = Self {
            place: RwLock::new(Arc::new(place)),
            trouble: Mutex::default(),
        };
        if let Some(error) = error {
            database.left(path, &error);
        }
        Ok(database)
    }

    /// Tells `watcher` if the lists are not kept on the disk, once that is so.
    pub(super) fn watch(&self, watcher: Watcher) {
        let mut trouble = lock(&self.trouble);
        if let Some(reason) = &trouble.reason {
            watcher(reason);
        }
        trouble.watcher = Some(watcher);
    }

    /// Asks something, but not within another question. Blocks on the disk,
    /// and, in a file, never on a writer.
    pub(super) fn read<T>(
        &self,
        query: impl Fn(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, CatalogError> {
        self.somewhere(|place| place.read(&query))
    }

    /// Changes something, all of it or nothing. Blocks while another writes.
    pub(super) fn write<T>(
        &self,
        change: impl Fn(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, CatalogError> {
        self.somewhere(|place| place.write(&change))
    }

    /// Closes what was not used for `idle`; whether there will be more in a
    /// while.
    pub(super) fn close_idle(&self, idle: Duration) -> bool {
        self.place().close_idle(idle)
    }

    /// Does `work` where the lists are; if that turns out to be no good place,
    /// where they are then.
    fn somewhere<T>(
        &self,
        work: impl Fn(&DatabaseLocation) -> Result<T, rusqlite::Error>,
    ) -> Result<T, CatalogError> {
        let mut place = self.place();
        // From a damaged file to a new one, and from there to memory.
        for _ in 0..2 {
            match work(&place) {
                Err(error) if is_damage(&error) || is_refusal(&error) => {
                    place = self.instead_of(&place, error)?;
                }
                other => return Ok(other?),
            }
        }
        Ok(work(&place)?)
    }

    fn place(&self) -> Arc<DatabaseLocation> {
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&place)
    }

    /// Another place for what was in `failed`, unless there is one already.
    fn instead_of(
        &self,
        failed: &Arc<DatabaseLocation>,
        error: rusqlite::Error,
    ) -> Result<Arc<DatabaseLocation>, CatalogError> {
        let mut place = self.place.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&place, failed) {
            return Ok(Arc::clone(&place));
        }
        let Some(path) = failed.path() else {
            // A copy of what was damaged, if anything.
            *place = Arc::new(DatabaseLocation::memory()?);
            return Ok(Arc::clone(&place));
        };
        let (other, error) = if is_damage(&error) {
            match anew(path, &error) {
                Ok(file) => (file, None),
                Err(error) => (DatabaseLocation::memory()?, Some(error)),
            }
        } else {
            let copy = failed
                .copy()
                .or_else(|_unreadable| DatabaseLocation::memory())?;
            (copy, Some(error))
        };
        if let Some(error) = error {
            self.left(path, &error);
        }
        *place = Arc::new(other);
        Ok(Arc::clone(&place))
    }

    /// Notes that the lists are not kept at `path`.
    fn left(&self, path: &Path, error: &rusqlite::Error) {
        let reason = CatalogError::NotStored {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut trouble = lock(&self.trouble);
        if let Some(watcher) = &trouble.watcher {
            watcher(&reason);
        } else {
            tracing::warn!("{reason}");
        }
        trouble.reason = Some(reason);
    }
}

/// A new file at `path` in place of a damaged one, unless another mount has
/// begun one already.
fn anew(path: &Path, error: &rusqlite::Error) -> Result<DatabaseLocation, rusqlite::Error> {
    if let Ok(file) = DatabaseLocation::file(path)
        && file.is_sound()
    {
        return Ok(file);
    }
    set_aside(path, error);
    DatabaseLocation::file(path)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Whether the disk does not do its part.
fn is_refusal(error: &rusqlite::Error) -> bool {
    let refused = matches!(
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
    refused && !lacks_descriptors()
}

/// Whether no more files can be opened just now: that passes, and is not the
/// disk's fault.
fn lacks_descriptors() -> bool {
    let lacks = |error: &io::Error| {
        [Errno::EMFILE, Errno::ENFILE].contains(&Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    };
    fs::File::open("/dev/null").is_err_and(|error| lacks(&error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::migration::VERSION;
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
        assert!(lock(&database.trouble).reason.is_some());
    }

    /// Regression: a query for lists that it did not have yet failed with EIO.
    #[test]
    fn a_disk_that_fills_up_is_left_with_all_that_was_known_and_one_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let database = Database::open(&path).unwrap();
        note(&database, "a");
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        database.watch(Box::new(move |error| lock(&heard).push(error.to_string())));
        // As a full disk says it.
        let pages: i64 =
            (database.read(|db| db.query_row("PRAGMA page_count", [], |r| r.get(0)))).unwrap();
        database.place().limit(pages).unwrap();
        for n in 0..200 {
            note(
                &database,
                &format!("a long key to fill some pages with: {n}"),
            );
        }
        assert_eq!(count(&database), 201);
        let told = lock(&told);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("full") && told[0].contains("--cache-dir"),
            "{told:?}"
        );
        assert!(count(&Database::open(&path).unwrap()) < 201, "it was full");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("100% catalog?.sqlite");
        note(&Database::open(&path).unwrap(), "a");
        let place = DatabaseLocation::copy_of(&path).unwrap();
        place
            .write(|db| db.execute("INSERT INTO state VALUES ('b', 7)", []))
            .unwrap();
        // Neither log nor index can be made beside it.
        let place = location::copy_of_immutable(&path).unwrap();
        let database = Database {
            place: RwLock::new(Arc::new(place)),
            trouble: Mutex::default(),
        };
        note(&database, "b");
        assert_eq!(count(&database), 2);
    }

    /// How many descriptors there are of files in `dir`.
    fn descriptors(dir: &Path) -> usize {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let links = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.filter(|path| path.starts_with(dir)).count()
    }

    /// There was one for each reader that there ever was at once.
    #[test]
    fn at_rest_no_descriptor_is_left_of_former_readers() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("catalog.sqlite")).unwrap();
        assert_eq!(count(&database), 0);
        let at_first = descriptors(dir.path());
        for round in 1..3 {
            read_at_once(&database, 12);
            note(&database, &format!("{round}"));
            assert!(descriptors(dir.path()) > at_first + 10);
            let hour = Duration::from_hours(1);
            assert!(database.close_idle(hour), "nothing has rested");
            database
                .read(|db| {
                    assert!(database.close_idle(Duration::ZERO), "one is in use");
                    db.query_row("SELECT 1", [], |_| Ok(()))
                })
                .unwrap();
            assert!(!database.close_idle(Duration::ZERO), "all has rested");
            assert_eq!(descriptors(dir.path()), at_first);
            assert_eq!(count(&database), round);
        }
    }

    /// What it had would be lost, and keys of its rows would be another's.
    #[test]
    fn a_file_that_vanished_is_held_on_to() {
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
    fn two_mounts_read_and_write_while_all_is_opened_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let mounts = [
            Database::open(&path).unwrap(),
            Database::open(&path).unwrap(),
        ];
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for mount in &mounts {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
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
            let fine = workers.into_iter().all(|worker| worker.join().is_ok());
            over.store(true, Ordering::Relaxed);
            assert!(fine);
        });
        assert_eq!(mounts.each_ref().map(count), [400, 400]);
        assert!(
            mounts
                .iter()
                .all(|mount| lock(&mount.trouble).reason.is_none())
        );
    }
}
