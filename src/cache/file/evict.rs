//! Eviction: blocks of an open file become missing, to make room or because they are
//! corrupt, and their space is released. The end of an epoch evicts all of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::data::Stamp;
use super::files::EpochFiles;
use super::state::FileStage;
use super::{CacheFile, Epoch};
use crate::cache::block_map::Word;
use crate::cache::memory_tier::MIN_RETAINED;

/// Blocks are evicted from an open file in runs of this many bytes at least.
const RUN: u64 = 1 << 20;

impl CacheFile {
    /// Evicts all bytes of `epoch`, which turned out to be corrupt, and begins the next
    /// epoch, with new files. Does nothing if the epoch has ended. Otherwise calls
    /// `before` first, while no other thread can see the state of the file.
    pub fn discard(&self, epoch: Epoch, before: impl FnOnce()) {
        let (old, claim) = {
            let mut state = self.state();
            if state.epoch.number != epoch {
                return;
            }
            before();
            let old = Arc::clone(&state.epoch);
            self.store
                .disk_budget
                .release(state.map.present() - state.memory_used);
            if state.memory_used > 0 {
                self.store.memory_tier.remove(state.memory_used, true);
            }
            state.begin_epoch();
            // Writers wait until there are files.
            let all = 0..self.grid.blocks().max(1);
            (old, self.try_claim(&mut state, &all))
        };
        let _names = self.names.lock();
        let (Some(disk), Some(claim)) = (&old.disk, claim) else {
            return;
        };
        let EpochFiles { number, seed, .. } = *claim.epoch;
        let created = self
            .paths
            .remove(disk)
            .and_then(|()| self.paths.create(&self.grid, seed));
        match created {
            Ok(opened) => {
                let mut state = self.state();
                if state.epoch.number == number {
                    state.epoch = Arc::new(EpochFiles {
                        number,
                        ..opened.epoch
                    });
                    state.map = opened.map;
                    state.stage = opened.stage;
                }
            }
            Err(error) => self.report(&error),
        }
    }

    /// Evicts the oldest blocks on the disk for `wanted` new bytes, except for the
    /// last few; false if that does not free enough, or if the memory tier retains
    /// new bytes for longer.
    pub(super) fn evict_oldest(&self, wanted: u64) -> bool {
        let mut freed = 0;
        while freed < wanted {
            let (blocks, _claim) = {
                let mut state = self.state();
                let on_disk = state.map.present() - state.memory_used;
                let retained = self.store.memory_tier.share(state.memory_used > 0);
                if freed == 0 && on_disk < retained || state.map.present() <= MIN_RETAINED {
                    return false;
                }
                // Evicted blocks may have been written again later.
                let written = state.written.iter();
                let gone = written
                    .take_while(|&&block| !state.is_on_disk(block))
                    .count();
                state.written.drain(..gone);
                let Some(&first) = state.written.front() else {
                    return false;
                };
                let mut blocks = first..first + 1;
                let run = (state.written.iter().zip(first..)).skip(1);
                let run =
                    run.take_while(|&(&block, next)| block == next && state.is_on_disk(block));
                for (&block, _) in run {
                    let bytes = self.grid.bytes_of(&blocks);
                    if bytes.end - bytes.start >= RUN {
                        break;
                    }
                    blocks.end = block + 1;
                }
                let Some(claim) = self.try_claim(&mut state, &blocks) else {
                    return false;
                };
                let count = usize::try_from(blocks.end - blocks.start).unwrap_or(usize::MAX);
                state.written.drain(..count);
                (blocks, claim)
            };
            match self.evict_claimed(&blocks) {
                Some(bytes) => freed += bytes,
                None => return false,
            }
        }
        true
    }

    /// Has the present blocks of `ranges` evicted after all others: a reader needs all
    /// of the ranges at once, and is about to have the rest of them downloaded.
    pub fn evict_last(&self, ranges: &[Range<u64>]) {
        let wanted: Vec<Range<u64>> = (ranges.iter())
            .map(|range| self.grid.touching(range))
            .collect();
        let is_wanted = |block: &u64| wanted.iter().any(|blocks| blocks.contains(block));
        let mut state = self.state();
        let written = std::mem::take(&mut state.written);
        let (last, first): (VecDeque<u64>, VecDeque<u64>) =
            written.into_iter().partition(is_wanted);
        state.written = first;
        state.written.extend(last);
    }

    /// Makes blocks missing, which the caller has claimed, and releases their space;
    /// returns how many bytes of the disk that frees. `None` if the file system
    /// frees them with the file only.
    pub(super) fn evict_claimed(&self, blocks: &Range<u64>) -> Option<u64> {
        if let Some(stamp) = self.sealed_stamp() {
            self.lose_complete_name(stamp);
        }
        let (epoch, words, pages) = {
            let mut state = self.state();
            let lose = |block| {
                if state.in_memory.contains_key(&block) {
                    // It has no word on the disk.
                    Word::default()
                } else {
                    state.lose(block)
                }
            };
            let words: Vec<Word> = blocks.clone().map(lose).collect();
            (Arc::clone(&state.epoch), words, state.pages(blocks))
        };
        let disk = epoch.disk.as_ref()?;
        // The words first: a block that is listed and lacks its bytes would be taken
        // for damaged.
        if let Err(error) = disk.map.write(blocks.start, &words) {
            self.report(&error);
        }
        let len = pages.end - pages.start;
        if len > 0 {
            disk.data.release(pages.start, len).then_some(())?;
            self.store.disk_budget.release(len);
        }
        Some(len)
    }

    /// Takes the complete name from a file that was sealed with `stamp`, and is about to
    /// lose a block or has lost its stamp.
    pub(super) fn lose_complete_name(&self, stamp: Stamp) {
        let _names = self.names.lock();
        let epoch = {
            let state = self.state();
            // It may have been sealed again meanwhile.
            if state.stage != FileStage::Sealed(stamp) {
                return;
            }
            Arc::clone(&state.epoch)
        };
        let disk = epoch.disk.as_ref();
        let renamed = disk.map_or(Ok(()), |disk| self.paths.rename_to_partial(disk));
        self.state().stage = match renamed {
            Ok(()) => FileStage::Partial,
            // The file is not complete any more in any case; it continues in memory,
            // where new blocks are safe.
            Err(error) => {
                self.report(&error);
                FileStage::MemoryOnly
            }
        };
    }

    /// Evicts the block at `offset`, as eviction for space does.
    #[cfg(test)]
    pub(in crate::cache) fn evict(&self, offset: u64) {
        use crate::cache::memory_tier::MemoryBlocks as _;
        let blocks = self.grid.touching(&(offset..offset + 1));
        self.evict_from_memory(blocks.start);
        let _claim = self.claim(&blocks);
        let _ = self.evict_claimed(&blocks);
    }
}
