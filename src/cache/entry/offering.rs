//! Bytes that the disk did not take when they came: offered to it again.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::super::held::Held;
use super::super::paths::State;
use super::CacheFile;

impl CacheFile {
    /// Offers the disk what is in memory only: others may have left it room
    /// meanwhile. Blocks on the disk. Whether nothing is left in memory.
    pub fn move_to_disk(&self) -> bool {
        let Some(file) = &self.file else {
            return !self.has_memory_blocks();
        };
        let offsets: Vec<u64> = self.held().in_memory.keys().copied().collect();
        offsets.into_iter().all(|at| self.move_block(file, at)) && !self.has_memory_blocks()
    }

    /// Whether the block at `offset` is not in memory any more.
    fn move_block(&self, file: &File, offset: u64) -> bool {
        let _disk = self.disk.lock();
        let bytes = {
            let held = self.held();
            let Some(bytes) = held.in_memory.get(&offset) else {
                return true;
            };
            // To a complete file nothing may be written.
            if !matches!(held.state, State::Partial(_)) {
                return false;
            }
            bytes.clone()
        };
        let len = bytes.len() as u64;
        if !self.cache.claim(len) {
            return false;
        }
        let written = file.write_all_at(&bytes, offset);
        let mut held = self.held();
        let Held {
            state,
            in_memory,
            memory_used,
            written: order,
            blocks,
            ..
        } = &mut *held;
        let block = blocks.touching(offset..offset + 1).next();
        // It may have been pushed out of memory meanwhile, and another be there.
        let same = in_memory.get(&offset).map(|now| now.as_ptr()) == Some(bytes.as_ptr());
        let (Ok(()), State::Partial(journal), Some(block), true) = (&written, state, block, same)
        else {
            drop(held);
            self.cache.space.release(len);
            if let Err(error) = written {
                self.note(&error);
            }
            return false;
        };
        in_memory.remove(&offset);
        *memory_used -= len;
        order.push_back(offset);
        let noted = journal.add(&[block]);
        self.cache.spill.remove(len, *memory_used == 0);
        drop(held);
        // Then the bytes are fetched again another time.
        if let Err(error) = noted {
            self.note(&error);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::{CacheLimits, CachePath, CacheRead, Store};

    #[test]
    fn what_had_no_room_on_the_disk_goes_there_once_others_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = CacheLimits {
            disk: 6 << 20,
            memory: 64 << 20,
        };
        let store = Store::open(dir.path().to_owned(), bounds);
        let place = |name| CachePath::new("netcdf", name).unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(5 << 20).collect();
        let found = || CacheRead::Bytes(bytes[..3 << 20].to_vec());
        let other = store.file(&place("other"), 5 << 20);
        other.write(0, &bytes).unwrap();
        let entry = store.file(&place("x"), 3 << 20);
        entry.write(0, &bytes[..3 << 20]).unwrap();
        assert!(entry.is_complete() && entry.has_memory_blocks());
        assert!(!entry.move_to_disk(), "the other is open");
        drop(other);
        // That there was no room is remembered for a while.
        let settled = (0..80).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            entry.move_to_disk()
        });
        assert!(settled && entry.is_complete() && !entry.has_memory_blocks());
        assert_eq!(entry.read(0..3 << 20).unwrap(), found());
        drop(entry);
        let entry = store.file(&place("x"), 3 << 20);
        assert_eq!(entry.read(0..3 << 20).unwrap(), found());
    }
}
