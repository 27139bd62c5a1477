//! Where the bytes of a slice go: column after column.

use std::ops::Range;

use crate::cache::CacheFile;
use crate::content::ContentError;

/// Columns are cached in pieces of this size: a window of rows touches one
/// piece of each column, and a read checks whole pieces.
const PIECE: usize = 16 << 10;

/// The places of a slice's bytes in the `.cpb` file, to be filled in order.
pub(super) struct Target<'a> {
    entry: &'a CacheFile,
    /// What is still to come, first column first.
    ranges: std::vec::IntoIter<Range<u64>>,
    current: Range<u64>,
    piece: Vec<u8>,
    received: u64,
}

/// Why bytes were not taken.
pub(super) enum Rest {
    /// There is no place left for them.
    TooMuch,
    /// The cache failed.
    Failed(ContentError),
}

impl<'a> Target<'a> {
    pub(super) fn new(entry: &'a CacheFile, ranges: Vec<Range<u64>>) -> Self {
        Self {
            entry,
            ranges: ranges.into_iter(),
            current: 0..0,
            piece: Vec::with_capacity(PIECE),
            received: 0,
        }
    }

    /// Where in the file the next bytes go.
    pub(super) fn position(&self) -> u64 {
        self.current.start
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Rest> {
        self.received += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.current.is_empty() {
                self.current = self.ranges.next().ok_or(Rest::TooMuch)?;
                continue;
            }
            let room = (self.current.end - self.current.start) - self.piece.len() as u64;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let taken = bytes.len().min(room).min(PIECE - self.piece.len());
            self.piece.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if taken == room || self.piece.len() == PIECE {
                self.flush().map_err(Rest::Failed)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ContentError> {
        self.entry.write(self.current.start, &self.piece)?;
        self.current.start += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Keeps the rest; returns how many bytes came.
    pub(super) fn finish(mut self) -> Result<u64, ContentError> {
        self.flush()?;
        Ok(self.received)
    }
}
