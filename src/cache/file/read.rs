//! Reads from a file: every block on the disk is checked against its checksum.

use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use super::CacheFile;
use crate::cache::CacheError;
use crate::cache::blocks::{Block, MAX_BLOCK};
use icos_sync::schedule_point;

/// The result of a read.
#[derive(Debug, Eq, PartialEq)]
pub enum CacheRead {
    /// The requested bytes.
    Bytes(Vec<u8>),
    /// The first part of them that is not present.
    Missing(Range<u64>),
}

impl CacheFile {
    /// Reads the bytes of `range`, as far as it lies within the file, and checks
    /// every block that it reads from the disk. A block that does not match its
    /// checksum is evicted and reported as missing.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the disk fails, except for bad sectors and truncated
    /// files, whose blocks are missing.
    pub fn read(&self, range: Range<u64>) -> Result<CacheRead, CacheError> {
        let range = range.start.min(self.len)..range.end.min(self.len);
        let touching: Vec<(Block, Option<Bytes>)> = {
            let state = self.state();
            if let Some(gap) = state.blocks.gaps(range.clone()).next() {
                tracing::debug!(?gap, "cache miss");
                return Ok(CacheRead::Missing(gap));
            }
            let in_memory = |block: Block| (block, state.in_memory.get(&block.offset).cloned());
            state
                .blocks
                .touching(range.clone())
                .map(in_memory)
                .collect()
        };
        let wanted = usize::try_from(range.end.saturating_sub(range.start))
            .expect("a read fits into memory");
        let mut out = Vec::with_capacity(wanted + MAX_BLOCK);
        for (block, in_memory) in touching {
            let before = out.len();
            match in_memory {
                Some(bytes) => out.extend_from_slice(&bytes),
                None if self.read_block(block, &mut out)? => {}
                None => {
                    out.truncate(before);
                    schedule_point();
                    if !self.read_again(block, &mut out)? {
                        return Ok(CacheRead::Missing(block.range()));
                    }
                }
            }
            // Only a part of the first and the last block may be wanted.
            let end = block.range().end;
            if end > range.end {
                let surplus = usize::try_from(end - range.end).expect("within a block");
                out.truncate(out.len() - surplus);
            }
            if block.offset < range.start {
                let surplus = usize::try_from(range.start - block.offset).expect("within a block");
                out.drain(before..before + surplus);
            }
        }
        Ok(CacheRead::Bytes(out))
    }

    /// Reads `block` again, which did not match its checksum, while no other thread
    /// of this process can evict it: its space may have been released during the
    /// first read. Evicts it if it is corrupt. False if it is not present any more.
    fn read_again(&self, block: Block, out: &mut Vec<u8>) -> Result<bool, CacheError> {
        let _disk = self.disk_lock.lock();
        let in_memory = {
            let state = self.state();
            if state.blocks.touching(block.range()).next() != Some(block) {
                return Ok(false);
            }
            state.in_memory.get(&block.offset).cloned()
        };
        if let Some(bytes) = in_memory {
            out.extend_from_slice(&bytes);
            return Ok(true);
        }
        if self.read_block(block, out)? {
            return Ok(true);
        }
        tracing::warn!(path = %self.paths.complete.display(), offset = block.offset,
            "a cached block is corrupt and will be downloaded again");
        self.evict_block(&mut self.state(), block.offset);
        Ok(false)
    }

    /// Appends the bytes of `block` to `out`; false if they do not match its
    /// checksum.
    fn read_block(&self, block: Block, out: &mut Vec<u8>) -> Result<bool, CacheError> {
        let Some(data) = &self.data else {
            return Ok(false);
        };
        let before = out.len();
        out.resize(before + block.len as usize, 0);
        match data.read_exact_at(&mut out[before..], block.offset) {
            Ok(()) => Ok(block.matches(&out[before..])),
            // A truncated file or a bad sector: the block can be downloaded again.
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
