//! Cuts the bytes of a download into pieces for the cache.
//!
//! A slow download is cut into pieces of [`MAX_BLOCK`], a block of the cache, so
//! that no reader waits for bytes that have arrived. A fast one is cut into pieces
//! of [`PIECE`](crate::memory::PIECE), the kernel's largest read, so that each byte
//! passes through few calls. Pieces begin on multiples of [`MAX_BLOCK`] after the
//! download's start.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::time::Instant;

use crate::cache::MAX_BLOCK;
use crate::memory::{Buffer, MemoryBudget, PIECE as LARGE};

/// A large piece that takes longer than this to arrive is cut before it is
/// full.
const MAX_DELAY: Duration = Duration::from_millis(4);

/// A piece that is being received.
#[derive(Debug)]
pub(super) struct PieceBuilder {
    offset: u64,
    buffer: PieceBuffer,
    /// The length of the full piece.
    len: usize,
    /// When its first bytes were expected.
    since: Instant,
    /// Where the download ends.
    end: u64,
}

#[derive(Debug)]
enum PieceBuffer {
    Small(Vec<u8>),
    Large(Buffer),
}

/// A piece to store.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its offset in the file.
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
    /// Whether its memory is reserved, so that it may be retained after it is
    /// stored.
    pub(super) may_retain: bool,
}

impl Piece {
    /// Where it ends in the file.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl PieceBuilder {
    /// Begins the first piece of a download of `range`.
    pub(super) fn new(range: Range<u64>) -> Self {
        Self {
            offset: range.start,
            buffer: PieceBuffer::Small(Vec::with_capacity(MAX_BLOCK)),
            len: len_before_end(range.end, range.start, MAX_BLOCK),
            since: Instant::now(),
            end: range.end,
        }
    }

    /// The piece's offset in the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the bytes of this piece from `chunk`.
    pub(super) fn take(&mut self, chunk: &mut Bytes) {
        let taken = chunk.len().min(self.len - self.buffer.len());
        self.buffer.bytes().extend_from_slice(&chunk[..taken]);
        chunk.advance(taken);
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() == self.len
    }

    /// When the received blocks of a large piece should be cut off, even though
    /// it is not full; `None` without a complete block.
    pub(super) fn due(&self) -> Option<Instant> {
        let may_be_cut = self.len > MAX_BLOCK && self.buffer.len() >= MAX_BLOCK;
        may_be_cut.then(|| self.since + MAX_DELAY)
    }

    /// Measures the delay from now on: the time that the last piece took to be
    /// stored, or that the download was paused, does not show how fast the
    /// connection is.
    pub(super) fn restart_clock(&mut self) {
        self.since = Instant::now();
    }

    /// Returns the received bytes, and begins the next piece. If `more` bytes
    /// follow, the returned piece has complete blocks only, and the rest moves
    /// to the next one.
    ///
    /// A large next piece ends at `awaited`, where a reader waits, or at a
    /// multiple of the large length from there.
    pub(super) fn cut(&mut self, more: bool, awaited: u64, memory: &MemoryBudget) -> Piece {
        let now = Instant::now();
        let received = self.buffer.len();
        let complete = if more && !self.is_full() {
            received - received % MAX_BLOCK
        } else {
            received
        };
        let delay = now.duration_since(self.since);
        let is_fast = delay * blocks(LARGE) <= MAX_DELAY * blocks(complete);
        let large = (more && is_fast).then(|| memory.piece_buffer()).flatten();
        let offset = self.offset + complete as u64;
        let max_len = if large.is_some() {
            large_len(awaited, offset)
        } else {
            MAX_BLOCK
        };
        let rest = (received - complete).next_multiple_of(MAX_BLOCK);
        let len = len_before_end(self.end, offset, max_len).max(rest);
        let capacity = if more { len } else { 0 };
        let mut buffer = large.map_or_else(
            || PieceBuffer::Small(Vec::with_capacity(capacity)),
            PieceBuffer::Large,
        );
        let bytes = self.buffer.bytes();
        buffer.bytes().extend_from_slice(&bytes[complete..]);
        bytes.truncate(complete);
        let next = Self {
            offset,
            buffer,
            len,
            since: now,
            end: self.end,
        };
        let Self { offset, buffer, .. } = std::mem::replace(self, next);
        let may_retain = matches!(buffer, PieceBuffer::Large(_));
        Piece {
            offset,
            may_retain,
            bytes: match buffer {
                PieceBuffer::Small(bytes) => Bytes::from(bytes),
                PieceBuffer::Large(buffer) => buffer.freeze(),
            },
        }
    }
}

impl PieceBuffer {
    fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(buffer) => buffer.len(),
        }
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(buffer) => buffer.bytes(),
        }
    }
}

/// The number of complete blocks in `len` bytes.
fn blocks(len: usize) -> u32 {
    u32::try_from(len / MAX_BLOCK).unwrap_or(u32::MAX)
}

/// The length of a large piece at `offset`, if a reader waits for everything
/// before `awaited`.
fn large_len(awaited: u64, offset: u64) -> usize {
    let (large, block) = (LARGE as u64, MAX_BLOCK as u64);
    let len = large - (offset + large - awaited % large) % large;
    // Pieces must still begin and end on blocks.
    let len = if len.is_multiple_of(block) {
        len
    } else {
        large
    };
    usize::try_from(len).expect("at most LARGE")
}

/// The length of a piece at `offset`: `max_len`, or up to the download's end.
/// Bytes after the end form pieces, too, which the store task refuses.
fn len_before_end(end: u64, offset: u64, max_len: usize) -> usize {
    match usize::try_from(end.saturating_sub(offset)) {
        Ok(0) | Err(_) => max_len,
        Ok(left) => left.min(max_len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SMALL: u64 = MAX_BLOCK as u64;
    const MS: Duration = Duration::from_millis(1);

    fn memory() -> MemoryBudget {
        MemoryBudget::new(256 << 20)
    }

    /// The lengths of the pieces of a download that delivers `chunk` bytes each
    /// `every`.
    async fn lengths(
        chunk: usize,
        every: Duration,
        awaited: u64,
        memory: &MemoryBudget,
    ) -> Vec<u64> {
        let (mut builder, mut pieces) = (PieceBuilder::new(0..1 << 40), Vec::new());
        let mut received = 0;
        while received < 8 << 20 {
            let next = Instant::now() + every;
            while let Some(due) = builder.due().filter(|due| *due < next) {
                tokio::time::sleep_until(due).await;
                pieces.push(builder.cut(true, awaited, memory));
            }
            tokio::time::sleep_until(next).await;
            let mut bytes = Bytes::from(vec![7; chunk]);
            received += chunk;
            while !bytes.is_empty() {
                builder.take(&mut bytes);
                if builder.is_full() {
                    pieces.push(builder.cut(true, awaited, memory));
                }
            }
        }
        pieces.push(builder.cut(false, awaited, memory));
        let mut offset = 0;
        for piece in &pieces {
            assert_eq!(piece.offset, offset);
            offset += piece.bytes.len() as u64;
        }
        assert_eq!(offset, received as u64);
        pieces
            .iter()
            .map(|piece| piece.bytes.len() as u64)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_download_is_cut_where_a_reader_waits() {
        let memory = memory();
        let awaited = 768 << 10;
        let lengths = lengths(1_000_000, MS, awaited, &memory).await;
        assert_eq!(lengths[..4], [SMALL, SMALL, 4 * SMALL, MIB]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_download_is_cut_into_blocks() {
        let lengths = lengths(100_000, MS, 0, &memory()).await;
        assert!(
            lengths[..lengths.len() - 1].iter().all(|&len| len == SMALL),
            "{lengths:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_piece_that_slows_down_is_cut_when_due() {
        let memory = memory();
        let mut builder = PieceBuilder::new(0..1 << 40);
        builder.take(&mut Bytes::from(vec![7; MAX_BLOCK]));
        builder.cut(true, 0, &memory);
        assert_eq!(builder.due(), None, "no complete block");
        builder.take(&mut Bytes::from(vec![7; 3 * MAX_BLOCK + 5]));
        assert_eq!(builder.due(), Some(Instant::now() + MAX_DELAY));
        tokio::time::advance(MAX_DELAY).await;
        let piece = builder.cut(true, 0, &memory);
        assert_eq!((piece.offset, piece.bytes.len()), (SMALL, 3 * MAX_BLOCK));
        assert!(!builder.is_full());
        let rest = builder.cut(false, 0, &memory);
        assert_eq!((rest.offset, rest.bytes.len()), (4 * SMALL, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_memory_for_large_pieces_a_fast_download_is_cut_into_blocks() {
        let memory = MemoryBudget::new(1 << 20);
        let lengths = lengths(1_000_000, MS, 0, &memory).await;
        assert!(
            lengths[..lengths.len() - 1].iter().all(|&len| len == SMALL),
            "{lengths:?}"
        );
    }

    #[test]
    fn large_pieces_end_where_a_reader_waits_or_a_multiple_from_there() {
        let len = |awaited, offset| large_len(awaited, offset) as u64;
        assert_eq!(len(0, 0), MIB);
        assert_eq!(len(0, SMALL), MIB - SMALL);
        assert_eq!(len(768 << 10, 128 << 10), 640 << 10);
        assert_eq!(len((768 << 10) + 9 * MIB, 768 << 10), MIB);
        assert_eq!(len(768 << 10, (768 << 10) + 9 * MIB), MIB);
        assert_eq!(len(5000, SMALL), MIB, "not on a block");
    }
}
