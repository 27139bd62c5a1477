//! Bytes that come: compared with what was there, and kept.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::slice;

use bytes::Bytes;

use super::super::CacheError;
use super::super::blocks::{Block, LONGEST};
use super::super::held::{Admitted, Held};
use super::super::paths::State;
use super::super::spill::LEAST;
use super::CacheFile;

impl CacheFile {
    /// Keeps `bytes`, which lie at `offset`; what is there already is left.
    ///
    /// # Errors
    ///
    /// [`CacheError::Differs`] if they are not what was there before: unless
    /// that is proved, all is dropped, for either may be wrong. None for want
    /// of room or a disk: then the latest bytes are there, and older ones
    /// missing again.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), CacheError> {
        let range = offset..offset + bytes.len() as u64;
        assert!(range.end <= self.len, "writes end within the file");
        let part = |part: &Range<u64>| {
            let at = |place: u64| usize::try_from(place - offset).expect("within bytes");
            &bytes[at(part.start)..at(part.end)]
        };
        let (gaps, there): (Vec<_>, Vec<_>) = {
            let held = self.held();
            let gaps = held.blocks.gaps(range.clone()).collect();
            (gaps, held.blocks.touching(range.clone()).collect())
        };
        for block in there {
            let within = range.start <= block.range().start && block.range().end <= range.end;
            if !within {
                // It cannot be compared without reading it.
                self.held().turn();
            } else if !block.matches(part(&block.range())) {
                return Err(self.differs());
            }
        }
        for gap in gaps {
            let longest = LONGEST as u64;
            let (mut at, mut blocks) = (gap.start, Vec::new());
            while at < gap.end {
                // Wherever they are written from, so that they can be compared.
                let end = gap.end.min((at / longest + 1) * longest);
                blocks.push(Block::of(at, part(&(at..end))));
                at = end;
            }
            self.keep(&blocks, part(&gap))?;
        }
        Ok(())
    }

    /// Keeps `blocks`, which follow one another: together if nothing is in the
    /// way, else one by one.
    fn keep(&self, blocks: &[Block], bytes: &[u8]) -> Result<(), CacheError> {
        match self.write_to_disk(blocks, bytes) {
            Ok(Some(admitted)) => return self.settle(admitted),
            Ok(None) => {}
            Err(error) => {
                self.cache.space.release(bytes.len() as u64);
                self.note(&error);
            }
        }
        if let &[block] = blocks {
            return self.keep_in_memory(block, bytes);
        }
        let mut rest = bytes;
        blocks.iter().try_for_each(|block| {
            let (bytes, others) = rest.split_at(block.len as usize);
            rest = others;
            self.keep(slice::from_ref(block), bytes)
        })
    }

    /// Keeps a block that the disk does not take.
    pub(in crate::cache) fn keep_in_memory(
        &self,
        block: Block,
        bytes: &[u8],
    ) -> Result<(), CacheError> {
        let len = u64::from(block.len);
        let admitted = {
            let mut held = self.held();
            let admitted = held.admit(block);
            if admitted == Admitted::Added {
                let bytes = Bytes::copy_from_slice(bytes);
                held.in_memory.insert(block.offset, bytes);
                held.memory_used += len;
                let first = held.memory_used == len;
                self.cache.spill.add(&self.me, block.offset, len, first);
            }
            admitted
        };
        self.cache.spill.make_room();
        self.settle(admitted)
    }

    fn settle(&self, admitted: Admitted) -> Result<(), CacheError> {
        match admitted {
            Admitted::Added | Admitted::ThereAlready => Ok(()),
            Admitted::Differs => Err(self.differs()),
        }
    }

    /// Drops all that may be wrong, now that bytes came that differ.
    fn differs(&self) -> CacheError {
        let _disk = self.disk.lock();
        let mut held = self.held();
        if !held.proved {
            self.drop_all(&mut held);
        }
        CacheError::Differs {
            path: self.paths.complete.clone(),
        }
    }

    /// What became of the blocks, if the disk took them; those behind one that
    /// differs were not looked at.
    fn write_to_disk(&self, blocks: &[Block], bytes: &[u8]) -> io::Result<Option<Admitted>> {
        let (Some(file), Some(first)) = (&self.file, blocks.first()) else {
            return Ok(None);
        };
        let _disk = self.disk.lock();
        {
            let mut held = self.held();
            // To a complete file nothing may be written, nor may room be made in it.
            if !matches!(held.state, State::Partial(_)) {
                return Ok(None);
            }
            // Another was first: its bytes stay.
            let range = first.offset..first.offset + bytes.len() as u64;
            if held.blocks.touching(range).next().is_some() {
                return Ok(match blocks {
                    &[block] => Some(held.admit(block)),
                    _ => None,
                });
            }
        }
        let wanted = bytes.len() as u64;
        let room = self.cache.claim(wanted) || (self.shed(wanted) && self.cache.claim(wanted));
        if !room {
            return Ok(None);
        }
        file.write_all_at(bytes, first.offset)?;
        let mut held = self.held();
        let (mut added, mut used, mut result) = (Vec::new(), 0, Admitted::Added);
        for &block in blocks {
            match held.admit(block) {
                Admitted::Added => {
                    added.push(block);
                    used += u64::from(block.len);
                }
                Admitted::ThereAlready => result = Admitted::ThereAlready,
                Admitted::Differs => {
                    result = Admitted::Differs;
                    break;
                }
            }
        }
        self.cache.space.release(wanted - used);
        let Held { state, written, .. } = &mut *held;
        written.extend(added.iter().map(|block| block.offset));
        if let State::Partial(journal) = state
            // A journal that cannot be written only means that the bytes are
            // fetched again another time.
            && let Err(error) = journal.add(&added)
        {
            self.note(&error);
        }
        Ok(Some(result))
    }

    /// Gives up the oldest blocks of this file for `wanted` new bytes, but for
    /// the last few; false if there are no more.
    fn shed(&self, wanted: u64) -> bool {
        let mut held = self.held();
        let mut freed = 0;
        while freed < wanted.max(1 << 20) && held.blocks.present() > LEAST {
            let Some(oldest) = held.written.pop_front() else {
                break;
            };
            freed += self.drop_block(&mut held, oldest);
        }
        freed >= wanted
    }
}
