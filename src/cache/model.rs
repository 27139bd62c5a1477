//! A model of a file in the cache: random operations of two processes, damage and
//! crashes. Whatever happens, a read returns the right bytes, or says that they are
//! missing.

#![allow(clippy::cast_possible_truncation, reason = "the file is short")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::{CacheError, CacheFile, CacheLimits, CachePath, CacheRead, Grid, Store};

/// Blocks in the file.
const BLOCKS: u64 = 40;
/// The length of a block, except for the last one.
const BLOCK: u64 = 3000;
/// The length of the file.
const LEN: u64 = BLOCK * BLOCKS - 1234;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// A process downloads these blocks, and some bytes around them.
    Write {
        process: usize,
        blocks: (u64, u64),
        around: u64,
    },
    /// A process stores these blocks in memory.
    WriteInMemory { process: usize, blocks: (u64, u64) },
    /// A process moves blocks in memory to the disk.
    Move { process: usize },
    /// A process reads a range.
    Read { process: usize, range: (u64, u64) },
    /// A process evicts a block.
    Evict { process: usize, block: u64 },
    /// A process reads everything, and seals the file if it is complete.
    Seal { process: usize },
    /// A process finds the epoch corrupt.
    Discard { process: usize },
    /// A process closes the file and opens it again.
    Reopen { process: usize },
    /// A byte of the data file changes on the disk.
    Damage { at: u64 },
    /// The data file is cut.
    Truncate { at: u64 },
    /// A word of the block map changes.
    DamageMap { at: u64, byte: u8 },
    /// All processes end, and what was written to the disk since the last crash
    /// reaches it in part.
    Crash { kept: u64 },
}

fn content() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(LEN as usize).collect()
}

fn steps() -> impl Strategy<Value = Step> {
    let process = || 0..2_usize;
    let blocks = || (0..BLOCKS, 1..12_u64).prop_map(|(at, count)| (at, (at + count).min(BLOCKS)));
    let range = (0..LEN, 1..3 * BLOCK).prop_map(|(at, len)| (at, (at + len).min(LEN)));
    prop_oneof![
        8 => (process(), blocks(), 0..BLOCK).prop_map(|(process, blocks, around)| Step::Write { process, blocks, around }),
        2 => (process(), blocks()).prop_map(|(process, blocks)| Step::WriteInMemory { process, blocks }),
        2 => process().prop_map(|process| Step::Move { process }),
        8 => (process(), range).prop_map(|(process, range)| Step::Read { process, range }),
        3 => (process(), 0..BLOCKS).prop_map(|(process, block)| Step::Evict { process, block }),
        2 => process().prop_map(|process| Step::Seal { process }),
        1 => process().prop_map(|process| Step::Discard { process }),
        2 => process().prop_map(|process| Step::Reopen { process }),
        1 => (0..LEN).prop_map(|at| Step::Damage { at }),
        1 => (0..LEN).prop_map(|at| Step::Truncate { at }),
        1 => (0..8 * BLOCKS, 1..=u8::MAX).prop_map(|(at, byte)| Step::DamageMap { at, byte }),
        1 => any::<u64>().prop_map(|kept| Step::Crash { kept }),
    ]
}

/// The files in a folder and below it, with their bytes.
type Snapshot = Vec<(PathBuf, Vec<u8>)>;

fn snapshot(folder: &Path) -> Snapshot {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::read(&path) {
            Ok(bytes) => files.push((path, bytes)),
            Err(_folder) => files.extend(snapshot(&path)),
        }
    }
    files
}

/// Two processes with one cache.
struct World {
    dir: tempfile::TempDir,
    right: Vec<u8>,
    files: Vec<Arc<CacheFile>>,
    /// As after the last crash.
    before: Snapshot,
    /// Whether words may be wrong: right bytes may then end the epoch.
    has_wrong_words: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            right: content(),
            files: Vec::new(),
            before: Vec::new(),
            has_wrong_words: false,
        };
        world.files = vec![world.open(), world.open()];
        world
    }

    /// Opens the file as another process would.
    fn open(&self) -> Arc<CacheFile> {
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(self.dir.path().to_owned(), CacheLimits { disk, memory });
        store.file(
            &CachePath::new("netcdf", "x").unwrap(),
            Grid::in_steps(BLOCK, LEN),
        )
    }

    fn bytes(&self, from: u64, to: u64) -> &[u8] {
        &self.right[from as usize..to.min(LEN) as usize]
    }

    /// Changes a file under one of its names, whichever it has.
    fn change(&self, names: [&str; 2], change: impl Fn(&fs::File)) {
        for name in names {
            if let Ok(file) = OpenOptions::new()
                .read(true)
                .write(true)
                .open(self.dir.path().join(name))
            {
                change(&file);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write {
                process,
                blocks,
                around,
            } => {
                let from = (blocks.0 * BLOCK).saturating_sub(around);
                let bytes = self.bytes(from, blocks.1 * BLOCK + around);
                self.check(self.files[process].write(from, bytes));
            }
            Step::WriteInMemory { process, blocks } => {
                let from = blocks.0 * BLOCK;
                let bytes = self.bytes(from, blocks.1 * BLOCK);
                self.check(self.files[process].write_in_memory(from, bytes));
            }
            Step::Move { process } => drop(self.files[process].move_to_disk()),
            Step::Read { process, range } => {
                let _ = self.read(process, range.0, range.1);
            }
            Step::Evict { process, block } => self.files[process].evict(block * BLOCK),
            Step::Seal { process } => {
                let file = &self.files[process];
                let epoch = file.epoch();
                if self.read(process, 0, LEN) && file.mark_verified(epoch) {
                    file.seal(epoch).unwrap();
                }
            }
            Step::Discard { process } => {
                let file = &self.files[process];
                file.discard(file.epoch(), || ());
            }
            Step::Reopen { process } => {
                let file = self.open();
                drop(std::mem::replace(&mut self.files[process], file));
            }
            Step::Damage { at } => {
                self.change(["partial/netcdf~x", "dataAppStorage/netcdf/x"], |file| {
                    let mut byte = [0];
                    let _ = file.read_exact_at(&mut byte, at);
                    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
                });
            }
            Step::Truncate { at } => {
                self.change(["partial/netcdf~x", "dataAppStorage/netcdf/x"], |file| {
                    file.set_len(at).unwrap();
                });
            }
            Step::DamageMap { at, byte } => {
                self.has_wrong_words = true;
                self.change(["partial/netcdf~x.map", "sums/netcdf~x.map"], |file| {
                    let end = file.metadata().unwrap().len();
                    let at = end.saturating_sub(8 * BLOCKS) + at;
                    file.write_all_at(&[byte], at).unwrap();
                });
            }
            Step::Crash { kept } => self.crash(kept),
        }
    }

    /// Checks the result of a write.
    fn check(&self, written: Result<(), CacheError>) {
        match written {
            Err(CacheError::ChecksumMismatch { .. }) if self.has_wrong_words => {}
            written => written.unwrap(),
        }
    }

    /// Reads a range; whether it was complete.
    fn read(&self, process: usize, from: u64, to: u64) -> bool {
        match self.files[process].read(from..to).unwrap() {
            CacheRead::Bytes(bytes) => {
                assert!(bytes == self.bytes(from, to), "wrong bytes in {from}..{to}");
                true
            }
            CacheRead::Missing(gap) => {
                assert!(
                    gap.start < gap.end && from <= gap.start && gap.end <= to,
                    "{gap:?}"
                );
                false
            }
        }
    }

    /// Of each file, pieces of four bytes are as now, or as before: `kept` says
    /// which.
    fn crash(&mut self, kept: u64) {
        self.has_wrong_words = true;
        self.files.clear();
        let now = snapshot(self.dir.path());
        for (path, bytes) in &now {
            let before = self.before.iter().find(|(name, _)| name == path);
            let before = before.map_or(&[][..], |(_, bytes)| bytes);
            let mut mixed = bytes.clone();
            for (n, piece) in mixed.chunks_mut(4).enumerate() {
                let is_kept = kept.rotate_left(n as u32 % 61) & 1 == 1;
                if !is_kept {
                    let old = before.get(4 * n..).unwrap_or_default();
                    piece.fill(0);
                    let len = old.len().min(piece.len());
                    piece[..len].copy_from_slice(&old[..len]);
                }
            }
            fs::write(path, mixed).unwrap();
        }
        self.before = snapshot(self.dir.path());
        self.files = vec![self.open(), self.open()];
    }

    /// In the end, the file can be downloaded and sealed by the last process that
    /// uses it.
    fn finish(mut self) {
        self.files.truncate(1);
        self.files[0] = self.open();
        // Each read finds one damaged block.
        let mut is_complete = false;
        for _ in 0..=BLOCKS {
            self.check(self.files[0].write(0, &self.right));
            is_complete = self.read(0, 0, LEN);
            if is_complete {
                break;
            }
        }
        assert!(is_complete);
        let file = &self.files[0];
        file.move_to_disk();
        file.seal(file.epoch()).unwrap();
        assert!(file.is_sealed());
        let complete = self.dir.path().join("dataAppStorage/netcdf/x");
        assert!(fs::read(complete).unwrap() == self.right);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn file_has_the_right_bytes_whatever_two_processes_damage_and_crashes_do(
        steps in prop::collection::vec(steps(), 1..40),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}
