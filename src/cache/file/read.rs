//! Reads from a file: every block on the disk is checked against its word.

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::CacheFile;
use super::files::EpochFiles;
use crate::cache::block_map::{BlockState, Word};
use crate::cache::{CacheError, display_path};
use icos_sync::schedule_point;

/// The result of a read.
#[derive(Debug, Eq, PartialEq)]
pub enum CacheRead {
    /// The requested bytes.
    Bytes(Vec<u8>),
    /// The first part of them that is not present.
    Missing(Range<u64>),
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waiting {
    Allowed,
    Forbidden,
}

/// A block to read.
struct BlockRead {
    block: u64,
    word: Word,
    /// Its bytes, if it is in memory only.
    in_memory: Option<Bytes>,
}

impl CacheFile {
    /// Reads the bytes of `range`, as far as it lies within the file, and checks every
    /// block that it reads from the disk. A block that does not match its word is
    /// evicted and reported as missing.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the disk fails, except for bad sectors and truncated
    /// files, whose blocks are missing.
    pub fn read(&self, range: Range<u64>) -> Result<CacheRead, CacheError> {
        self.count_sealed(&range);
        self.read_waiting(range)
    }

    /// As [`CacheFile::read`], without blocking the caller's thread: on this thread if the
    /// bytes are in memory or in the page cache, else in the disk pool.
    ///
    /// # Errors
    ///
    /// As for [`CacheFile::read`], and [`CacheError::DiskHangs`].
    pub async fn read_in_pool(
        self: &Arc<Self>,
        range: Range<u64>,
    ) -> Result<CacheRead, CacheError> {
        self.count_sealed(&range);
        if let Some(read) = self.read_by(range.clone(), Waiting::Forbidden)? {
            return Ok(read);
        }
        let file = Arc::clone(self);
        let read = move || file.read_waiting(range);
        self.store.disk_pool.run(read).await?
    }

    /// Counts the bytes of `range` if the file is sealed: see [`super::direct`].
    fn count_sealed(&self, range: &Range<u64>) {
        if self.is_sealed() {
            let len = range.end.min(self.len()).saturating_sub(range.start);
            self.read_sealed.fetch_add(len, Ordering::Relaxed);
        }
    }

    fn read_waiting(&self, range: Range<u64>) -> Result<CacheRead, CacheError> {
        let read = self.read_by(range.clone(), Waiting::Allowed)?;
        // Never `None` if waiting is allowed.
        Ok(read.unwrap_or(CacheRead::Missing(range)))
    }

    /// Reads `range`. `None` if it would have to wait for the disk, which is forbidden.
    fn read_by(
        &self,
        range: Range<u64>,
        waiting: Waiting,
    ) -> Result<Option<CacheRead>, CacheError> {
        let len = self.len();
        let range = range.start.min(len)..range.end.min(len);
        let blocks = self.grid.touching(&range);
        let (epoch, reads) = {
            let state = self.state();
            if let Some(gap) = state.map.first_gap(&blocks) {
                let gap = self.grid.bytes_of(&gap);
                tracing::debug!(?gap, "cache miss");
                return Ok(Some(CacheRead::Missing(
                    gap.start.max(range.start)..gap.end.min(range.end),
                )));
            }
            let reads: Vec<BlockRead> = blocks
                .clone()
                .map(|block| BlockRead {
                    block,
                    word: state.map.get(block),
                    in_memory: state.in_memory.get(&block).cloned(),
                })
                .collect();
            (state.epoch.clone(), reads)
        };
        let all = self.grid.bytes_of(&blocks);
        let index = |at: u64| usize::try_from(at - all.start).expect("a read fits into memory");
        let mut out = vec![0; index(all.end.max(all.start))];
        for run in reads.chunk_by(|one, next| one.in_memory.is_none() == next.in_memory.is_none()) {
            let run_blocks = run[0].block..run[run.len() - 1].block + 1;
            let bytes = self.grid.bytes_of(&run_blocks);
            let on_disk = run[0].in_memory.is_none();
            let part = &mut out[index(bytes.start)..index(bytes.end)];
            let is_read = on_disk
                && match waiting {
                    Waiting::Allowed => self.read_from_disk(&epoch, bytes.start, part)?,
                    Waiting::Forbidden => epoch.read_at_once(bytes.start, part),
                };
            for read in run {
                let bytes = self.grid.bytes(read.block);
                let out = &mut out[index(bytes.start)..index(bytes.end)];
                match &read.in_memory {
                    Some(bytes) => out.copy_from_slice(bytes),
                    None if is_read && Word::of(out, epoch.seed).same_bytes(read.word) => {}
                    None if waiting == Waiting::Forbidden => return Ok(None),
                    None => {
                        schedule_point();
                        if !self.read_again(read, &epoch, out)? {
                            return Ok(Some(CacheRead::Missing(
                                bytes.start.max(range.start)..bytes.end.min(range.end),
                            )));
                        }
                    }
                }
            }
        }
        if reads
            .iter()
            .any(|read| read.word.state() == BlockState::Listed)
        {
            self.mark_read(&epoch, &reads);
        }
        // Only a part of the first and the last block may be wanted.
        out.truncate(index(range.end.max(all.start)));
        if range.start > all.start {
            out.drain(..index(range.start).min(out.len()));
        }
        Ok(Some(CacheRead::Bytes(out)))
    }

    /// Records that this process has read the bytes of listed blocks.
    fn mark_read(&self, epoch: &EpochFiles, reads: &[BlockRead]) {
        let mut state = self.state();
        if state.epoch.number != epoch.number {
            return;
        }
        for read in reads {
            if state.map.get(read.block) == read.word {
                state.map.set(read.block, read.word.present());
            }
        }
    }

    /// Reads a block again that did not match its word, while no other thread can
    /// release or write its bytes: that may have happened during the first read.
    /// Evicts it if it is corrupt. False if it is not present any more.
    fn read_again(
        &self,
        read: &BlockRead,
        epoch: &EpochFiles,
        out: &mut [u8],
    ) -> Result<bool, CacheError> {
        let block = read.block;
        let blocks = block..block + 1;
        let claim = self.claim(&blocks);
        let in_memory = {
            let state = self.state();
            let word = state.map.get(block);
            let is_same = word.is_present() && word.same_bytes(read.word);
            if claim.epoch.number != epoch.number || !is_same {
                return Ok(false);
            }
            state.in_memory.get(&block).cloned()
        };
        if let Some(bytes) = in_memory {
            out.copy_from_slice(&bytes);
            return Ok(true);
        }
        let offset = self.grid.bytes(block).start;
        if self.read_from_disk(epoch, offset, out)?
            && Word::of(out, epoch.seed).same_bytes(read.word)
        {
            return Ok(true);
        }
        // Another process may have evicted it.
        let disk = epoch.disk.as_ref();
        let is_listed = disk.is_some_and(|disk| {
            disk.map
                .read(block)
                .is_ok_and(|word| word == read.word.present())
        });
        if is_listed {
            tracing::warn!(path = %display_path(&self.paths.complete).display(), offset,
                "a cached block is corrupt and will be downloaded again");
        }
        let _ = self.evict_claimed(&blocks);
        Ok(false)
    }

    /// Reads bytes at `offset` from the disk; false if there are none, as after a
    /// truncation, or on a bad sector.
    fn read_from_disk(
        &self,
        epoch: &EpochFiles,
        offset: u64,
        out: &mut [u8],
    ) -> Result<bool, CacheError> {
        let Some(disk) = &epoch.disk else {
            return Ok(false);
        };
        match disk.data.read_exact_at(out, offset) {
            Ok(()) => Ok(true),
            Err(error)
                if error.kind() == ErrorKind::UnexpectedEof
                    || error.raw_os_error() == Some(libc::EIO) =>
            {
                Ok(false)
            }
            Err(error) => Err(CacheError::io(&self.paths.partial, &error)),
        }
    }
}
