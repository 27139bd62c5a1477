//! Collects received bytes into complete blocks of a file in the cache.

use std::mem;
use std::sync::Arc;

use crate::cache::{CacheError, CacheFile, MAX_BLOCK};

/// Blocks are written together until they have this many bytes.
const MIN_WRITE: usize = MAX_BLOCK;

/// Writes bytes that arrive in order, from the start of a block on.
pub(super) struct BlockWriter {
    cached: Arc<CacheFile>,
    /// Where the next bytes are written.
    position: u64,
    /// Received bytes that are not written yet.
    buffer: Vec<u8>,
}

impl BlockWriter {
    /// Begins at `position`, the start of a block.
    pub(super) fn new(cached: Arc<CacheFile>, position: u64) -> Self {
        Self {
            cached,
            position,
            buffer: Vec::with_capacity(MIN_WRITE),
        }
    }

    /// Everything before this, from the start on, is written.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Everything before this was received.
    pub(super) fn received(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }

    /// Continues at `position`, the start of a block, without what is not written.
    pub(super) fn seek(&mut self, position: u64) {
        self.position = position;
        self.buffer.clear();
    }

    /// Takes the next bytes.
    pub(super) async fn push(&mut self, mut bytes: &[u8]) -> Result<(), CacheError> {
        while !bytes.is_empty() {
            let room = MIN_WRITE.saturating_sub(self.buffer.len()).max(1);
            let (taken, rest) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(taken);
            bytes = rest;
            if self.buffer.len() >= MIN_WRITE {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes the blocks that are complete.
    pub(super) async fn flush(&mut self) -> Result<(), CacheError> {
        let complete = self.cached.grid().block_start(self.received());
        let len = usize::try_from(complete.saturating_sub(self.position)).unwrap_or(0);
        if len > 0 {
            let mut rest = Vec::with_capacity(MIN_WRITE);
            rest.extend_from_slice(&self.buffer[len..]);
            let mut blocks = mem::replace(&mut self.buffer, rest);
            blocks.truncate(len);
            let offset = self.position;
            self.position += len as u64;
            self.cached.write_in_pool(offset, blocks.into()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, CachePath, CacheRead, Grid, Store};

    #[tokio::test]
    async fn bytes_of_any_length_become_complete_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 30, 1 << 20);
        let store = Store::open(dir.path().to_owned(), CacheLimits { disk, memory });
        let grid = Grid::of_table(&[8, 1], 100_000, 50);
        let cached = store.file(&CachePath::new("x", "y").unwrap(), grid);
        let bytes: Vec<u8> = (0..=250).cycle().take(900_050).collect();
        let mut writer = BlockWriter::new(Arc::clone(&cached), 0);
        for chunk in bytes[..500_000].chunks(70_001) {
            writer.push(chunk).await.unwrap();
        }
        writer.flush().await.unwrap();
        let (received, position) = (writer.received(), writer.position());
        assert_eq!((received, position), (500_000, 8 * 15 * 4096));
        assert_eq!(cached.first_missing(&(0..900_050)), Some(position..900_050));
        let at = usize::try_from(position).unwrap();
        writer.seek(position);
        writer.push(&bytes[at..]).await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(writer.position(), 900_050);
        assert!(cached.read(0..900_050).unwrap() == CacheRead::Bytes(bytes));
    }
}
