//! The block map of a file on the disk.
//!
//! Layout, integers little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | magic and version |
//! | 8..16 | stamp of the sealed file |
//! | 16..24 | checksum of the stamp; zeros if the file was never sealed |
//! | 24..32 | the seed of the epoch |
//! | 32..40 | checksum of the file's name |
//! | 40..48 | length of the grid's description |
//! | 48.. | the grid's description ([`Grid::encode`]), then the checksum of all from byte 24 on |
//! | from the next multiple of 8 on | one [`Word`] for each block |
//!
//! The input is untrusted. The words need no checksums of their own, and may reach
//! the disk before or after the bytes that they describe: a block counts only if its
//! bytes match its word, which cannot be guessed without the seed. A file of another
//! grid, name or version, or with a damaged header, counts as missing.
//!
//! An open map file has a shared lock, which tells other processes that the file is
//! in use. It is exclusive while the file is created or sealed, and never released in
//! between (see [`file_lock`](super::file_lock)). Each process writes the words of its own
//! blocks in place.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use twox_hash::XxHash3_64;

use super::block_map::{BlockMap, Word};
use super::file::Stamp;
use super::file_lock::{LockKind, try_lock};
use super::{Grid, open_own};
use icos_sync::sleep;

const MAGIC: [u8; 8] = *b"icosfs\x03\n";
/// Where the part of the header begins that never changes.
const FIXED: usize = 24;
/// Where the grid's description begins.
const DESCRIPTION: usize = 48;
/// The longest description of a grid: that of a table of 65 000 columns.
const MAX_DESCRIPTION: u64 = 1 << 20;
/// Words are read in parts of this length.
const PART: u64 = 64 << 10;
/// How long to wait for another process that has the exclusive lock: it needs that
/// only to create, remove or rename files.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for the header of an empty file: a process that creates the file
/// writes it at once. A power failure can leave an empty file.
const HEADER_TIMEOUT: Duration = Duration::from_millis(250);

/// An open map file.
#[derive(Debug)]
pub(super) struct MapFile {
    file: File,
    /// Where the words begin.
    words: u64,
}

/// The content of a map file when it was opened.
#[derive(Debug)]
pub(super) struct MapContents {
    pub(super) grid: Arc<Grid>,
    pub(super) seed: u64,
    /// The stamp of the sealed file.
    pub(super) stamp: Option<Stamp>,
    pub(super) map: BlockMap,
}

/// Returns a seed that cannot be guessed.
pub(super) fn new_seed() -> u64 {
    RandomState::new().hash_one(0)
}

impl MapFile {
    /// Opens the map file at `path`; `None` if there is none for a file of this
    /// grid and name.
    pub(super) fn open(
        path: &Path,
        name: &str,
        grid: &Arc<Grid>,
    ) -> io::Result<Option<(Self, MapContents)>> {
        let started = Instant::now();
        let (file, contents) = loop {
            let file = match open_own(OpenOptions::new().read(true).write(true), path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            // Another process may have removed it before it was locked.
            if try_lock(&file, LockKind::Shared)? && file.metadata()?.nlink() > 0 {
                if let Some(contents) = read_contents(&file, name)? {
                    break (file, contents);
                }
                // Another process may be about to write the header.
                if file.metadata()?.len() > 0 || started.elapsed() > HEADER_TIMEOUT {
                    return Ok(None);
                }
            }
            drop(file);
            wait_for_lock(started)?;
        };
        if contents.grid != *grid {
            return Ok(None);
        }
        // The modification time of the map file is the time of the file's last use.
        file.set_modified(SystemTime::now())?;
        let words = words_at(grid);
        Ok(Some((Self { file, words }, contents)))
    }

    /// Creates the map file at `path` for an epoch of this seed, without blocks. Its lock
    /// is exclusive until [`MapFile::share`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if there is one, or if another process has removed it
    /// before it was locked.
    pub(super) fn create(path: &Path, name: &str, grid: &Grid, seed: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        (options.read(true).write(true))
            .create_new(true)
            .mode(0o600);
        let file = options.open(path)?;
        let started = Instant::now();
        while !try_lock(&file, LockKind::Exclusive)? {
            // Another process looks for the header.
            wait_for_lock(started)?;
        }
        if file.metadata()?.nlink() == 0 {
            return Err(ErrorKind::AlreadyExists.into());
        }
        file.write_all_at(&header(name, grid, seed), 0)?;
        let words = words_at(grid);
        Ok(Self { file, words })
    }

    /// Lets other processes open the file. This never waits: the exclusive lock permits it.
    pub(super) fn share(&self) {
        if let Err(error) = try_lock(&self.file, LockKind::Shared) {
            tracing::debug!(%error, "a block map keeps its exclusive lock; no other process can open its file");
        }
    }

    /// Reads the map file at `path` without a lock and without changing the time of
    /// last use; `None` if it is not one for a file of this name.
    pub(super) fn peek(path: &Path, name: &str) -> io::Result<Option<MapContents>> {
        let file = open_own(OpenOptions::new().read(true), path)?;
        read_contents(&file, name)
    }

    /// The grid of the file that the map file at `path` belongs to.
    pub(super) fn grid_of(path: &Path, name: &str) -> Option<Grid> {
        let file = open_own(OpenOptions::new().read(true), path).ok()?;
        let header = read_header(&file, name).ok()??;
        Some(Arc::unwrap_or_clone(header.grid))
    }

    /// Writes the words of adjacent blocks from number `first` on.
    pub(super) fn write(&self, first: u64, words: &[Word]) -> io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.0.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, self.words + 8 * first)
    }

    /// Reads the word of one block again: another process may have changed it.
    pub(super) fn read(&self, block: u64) -> io::Result<Word> {
        Ok(self
            .read_all(&(block..block + 1))?
            .into_iter()
            .next()
            .unwrap_or_default())
    }

    /// Reads the words of `blocks` again, as far as the file has them.
    pub(super) fn read_all(&self, blocks: &Range<u64>) -> io::Result<Vec<Word>> {
        let end = self.file.metadata()?.len().saturating_sub(self.words) / 8;
        let blocks = blocks.start..blocks.end.min(end).max(blocks.start);
        let len = 8 * (blocks.end - blocks.start);
        let bytes = read_at(&self.file, self.words + 8 * blocks.start, len)?;
        let words = bytes.unwrap_or_default();
        let words = words.as_chunks::<8>().0.iter();
        Ok(words.map(|word| Word(u64::from_le_bytes(*word))).collect())
    }

    /// Writes all words to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Stores the stamp of the sealed file.
    pub(super) fn set_stamp(&self, stamp: Stamp) -> io::Result<()> {
        let stamp = stamp.0.to_le_bytes();
        let check = XxHash3_64::oneshot(&stamp).to_le_bytes();
        self.file.write_all_at(&[stamp, check].concat(), 8)
    }

    /// Whether the name `path` leads to this file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        is_same(&self.file, path)
    }

    /// Whether no other process has the file open. The lock is exclusive afterwards,
    /// so only a caller that removes the file may use this.
    pub(super) fn lock_exclusively(&self) -> bool {
        matches!(try_lock(&self.file, LockKind::Exclusive), Ok(true))
    }

    /// Runs `work` under an exclusive lock; `None` if another process has the file
    /// open.
    pub(super) fn with_exclusive_lock<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        if !self.lock_exclusively() {
            return None;
        }
        let result = work();
        self.share();
        Some(result)
    }
}

/// Waits before another try to lock a file.
fn wait_for_lock(started: Instant) -> io::Result<()> {
    if started.elapsed() > LOCK_TIMEOUT {
        let error = "another process has locked it";
        return Err(io::Error::new(ErrorKind::WouldBlock, error));
    }
    sleep(Duration::from_millis(2));
    Ok(())
}

/// Whether the name `path` leads to `file`.
pub(super) fn is_same(file: &File, path: &Path) -> bool {
    let (Ok(file), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (file.dev(), file.ino()) == (named.dev(), named.ino())
}

fn header(name: &str, grid: &Grid, seed: u64) -> Vec<u8> {
    let description = grid.encode();
    let mut header = MAGIC.to_vec();
    header.resize(FIXED, 0);
    for number in [
        seed,
        XxHash3_64::oneshot(name.as_bytes()),
        description.len() as u64,
    ] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    header.extend_from_slice(&description);
    let check = XxHash3_64::oneshot(&header[FIXED..]);
    header.extend_from_slice(&check.to_le_bytes());
    header
}

/// Where the words begin in the map file of a file with this grid.
fn words_at(grid: &Grid) -> u64 {
    DESCRIPTION as u64 + grid.encode().len() as u64 + 8
}

/// What the header of a map file says.
struct Header {
    grid: Arc<Grid>,
    seed: u64,
    stamp: Option<Stamp>,
}

/// Reads a map file; `None` if its header is not valid for a file of this name.
fn read_contents(file: &File, name: &str) -> io::Result<Option<MapContents>> {
    let Some(Header { grid, seed, stamp }) = read_header(file, name)? else {
        return Ok(None);
    };
    Ok(Some(MapContents {
        map: read_words(file, &grid)?,
        seed,
        stamp,
        grid,
    }))
}

fn read_header(file: &File, name: &str) -> io::Result<Option<Header>> {
    let Some(start) = read_at(file, 0, DESCRIPTION as u64)? else {
        return Ok(None);
    };
    let number = |at: usize| {
        let bytes = start[at..at + 8].try_into().expect("8 bytes");
        u64::from_le_bytes(bytes)
    };
    let len = number(40);
    if start[..8] != MAGIC || len > MAX_DESCRIPTION {
        return Ok(None);
    }
    let Some(fixed) = read_at(file, FIXED as u64, (DESCRIPTION - FIXED) as u64 + len + 8)? else {
        return Ok(None);
    };
    let (fixed, check) = fixed.split_at(fixed.len() - 8);
    let is_intact = check == XxHash3_64::oneshot(fixed).to_le_bytes();
    let is_named = number(32) == XxHash3_64::oneshot(name.as_bytes());
    let grid = Grid::decode(&fixed[DESCRIPTION - FIXED..]);
    let has_stamp = start[16..24] == XxHash3_64::oneshot(&start[8..16]).to_le_bytes();
    Ok(grid.filter(|_| is_intact && is_named).map(|grid| Header {
        grid: Arc::new(grid),
        seed: number(24),
        stamp: has_stamp.then(|| Stamp(number(8))),
    }))
}

/// Reads the words, without those in holes of the file.
fn read_words(file: &File, grid: &Arc<Grid>) -> io::Result<BlockMap> {
    let (words, mut map) = (words_at(grid), BlockMap::new(Arc::clone(grid)));
    let end = file.metadata()?.len().min(words + 8 * grid.blocks());
    let mut at = words;
    while let Some(start) = next_data(file, at)?.filter(|&start| start < end) {
        // Both are multiples of 8, and so is where the words begin.
        let start = start.max(words) / 8 * 8;
        let len = PART.min(end - start) / 8 * 8;
        if len == 0 {
            break;
        }
        let Some(bytes) = read_at(file, start, len)? else {
            break;
        };
        let first = (start - words) / 8;
        for (block, word) in (first..).zip(bytes.as_chunks::<8>().0) {
            let word = Word::from_disk(u64::from_le_bytes(*word));
            if word != Word::default() {
                map.set(block, word);
            }
        }
        at = start + len;
    }
    Ok(map)
}

/// Where data follow in a sparse file from `at` on.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match lseek(file, at.cast_signed(), Whence::SeekData) {
        Ok(start) => Ok(u64::try_from(start).ok()),
        Err(Errno::ENXIO) => Ok(None),
        // This file system cannot tell.
        Err(Errno::EINVAL) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

/// Reads `len` bytes at `at`; `None` if the file ends before.
fn read_at(file: &File, at: u64, len: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    match file.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(bytes)),
    }
}

/// Checks that a map file of these bytes, after a valid header of a file of `len`
/// bytes or without it, is read without a panic and has blocks within the file only;
/// for [`crate::fuzzing`].
pub(crate) fn check_map_file(len: u64, is_valid: bool, bytes: &[u8]) -> io::Result<()> {
    let grid = Grid::from(len % (1 << 40));
    let mut content = Vec::new();
    if is_valid {
        content = header("name", &grid, 7);
        content.resize(
            usize::try_from(words_at(&grid)).map_err(io::Error::other)?,
            0,
        );
    }
    content.extend_from_slice(bytes);
    let file = File::from(nix::sys::memfd::memfd_create(
        c"map",
        nix::sys::memfd::MFdFlags::empty(),
    )?);
    file.write_all_at(&content, 0)?;
    let contents = read_contents(&file, "name")?;
    assert!(!is_valid || contents.is_some());
    if let Some(MapContents { grid, map, .. }) = contents {
        assert!(map.present() <= map.known() && map.known() <= grid.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(n: u64) -> Word {
        Word(n << 2 | 1)
    }

    #[test]
    fn words_and_stamp_are_found_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        let grid = Arc::new(Grid::in_steps(10, 30_005));
        {
            let map = MapFile::create(&path, "x", &grid, 7).unwrap();
            map.share();
            map.write(2000, &[some(1), some(2).evicted()]).unwrap();
            map.write(0, &[some(3)]).unwrap();
            map.set_stamp(Stamp(9)).unwrap();
            assert_eq!(map.read(2000).unwrap(), some(1));
            assert_eq!(map.read(3000).unwrap(), Word::default());
        }
        let (file, found) = MapFile::open(&path, "x", &grid).unwrap().unwrap();
        assert_eq!((found.seed, found.stamp), (7, Some(Stamp(9))));
        // The evicted block was not read by this process.
        assert_eq!((found.map.present(), found.map.known()), (20, 20));
        assert_eq!(found.map.get(2000).present(), some(1));
        assert!(file.is_at(&path));
        let peeked = MapFile::peek(&path, "x").unwrap().unwrap();
        assert_eq!((peeked.grid, peeked.map.present()), (grid, 20));
    }

    #[test]
    fn map_file_of_another_file_or_with_a_damaged_header_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        let grid = Arc::new(Grid::in_steps(10, 100));
        let found = |name, grid: &Arc<Grid>| MapFile::open(&path, name, grid).unwrap().is_some();
        assert!(!found("x", &grid), "there is none");
        drop(MapFile::create(&path, "x", &grid, 7).unwrap());
        assert!(found("x", &grid));
        assert!(!found("y", &grid));
        assert!(!found("x", &Arc::new(Grid::in_steps(10, 101))));
        assert!(!found("x", &Arc::new(Grid::in_steps(11, 100))));
        let mut bytes = fs::read(&path).unwrap();
        bytes[25] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(!found("x", &grid), "another seed");
        fs::write(&path, "short").unwrap();
        assert!(!found("x", &grid));
    }

    /// A map of ten million blocks of which two are known takes little space and
    /// little time.
    #[test]
    fn map_of_a_long_file_is_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        let grid = Arc::new(Grid::from(1 << 40));
        let map = MapFile::create(&path, "x", &grid, 7).unwrap();
        map.share();
        map.write(grid.blocks() - 1, &[some(1)]).unwrap();
        map.write(5, &[some(2)]).unwrap();
        let used = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(used <= 16 << 10, "{used}");
        let (_, found) = MapFile::open(&path, "x", &grid).unwrap().unwrap();
        assert_eq!(found.map.present(), 2 * super::super::MAX_BLOCK as u64);
    }

    /// Regression: the attempt to lock a map file exclusively released its shared lock, and
    /// another process could remove the file.
    #[test]
    fn failed_exclusive_lock_leaves_the_file_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.map");
        let grid = Arc::new(Grid::in_steps(10, 100));
        let map = MapFile::create(&path, "x", &grid, 7).unwrap();
        map.share();
        let (other, _) = MapFile::open(&path, "x", &grid).unwrap().unwrap();
        // As the last handle of a file does, and as sealing does.
        assert!(!map.lock_exclusively());
        assert!(map.with_exclusive_lock(|| ()).is_none());
        drop(other);
        let remover = OpenOptions::new().read(true).write(true).open(&path);
        let remover = remover.unwrap();
        assert!(!try_lock(&remover, LockKind::Exclusive).unwrap());
        assert!(map.with_exclusive_lock(|| ()).is_some());
        assert!(!try_lock(&remover, LockKind::Exclusive).unwrap());
    }
}
