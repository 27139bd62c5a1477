//! What arrives of a stream, until there is enough of it to be kept: little of a
//! slow one, so that nobody waits for what is there; much of a quick one, in the
//! pieces that the kernel asks for, so that it passes through few hands.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::time::Instant;

use crate::memory::{Buffer, MemoryBudget, PIECE as LARGE};

/// The least that is kept at once: a block of the cache.
pub(super) const SMALL: usize = 128 << 10;
/// So long may a large one take to come.
const QUICK: Duration = Duration::from_millis(4);

/// A piece that arrives.
#[derive(Debug)]
pub(super) struct Arriving {
    at: u64,
    buffer: Buffered,
    /// How long it will be.
    len: usize,
    /// Since when it is waited for.
    since: Instant,
    /// Where the stream should end.
    end: u64,
}

/// What has come of a piece.
#[derive(Debug)]
enum Buffered {
    Small(Vec<u8>),
    Large(Buffer),
}

/// A piece that has come.
#[derive(Debug)]
pub(super) struct Piece {
    /// Where it begins in the file.
    pub(super) at: u64,
    pub(super) bytes: Bytes,
    /// Whether there is memory to hold it once it was kept.
    pub(super) may_stay: bool,
}

impl Arriving {
    /// The first piece of a stream of `range`.
    pub(super) fn first(range: Range<u64>) -> Self {
        Self {
            at: range.start,
            buffer: Buffered::Small(Vec::with_capacity(SMALL)),
            len: until(range.end, range.start, SMALL),
            since: Instant::now(),
            end: range.end,
        }
    }

    /// Where it begins in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Takes from `chunk` what is part of it.
    pub(super) fn take(&mut self, chunk: &mut Bytes) {
        let taken = chunk.len().min(self.len - self.buffer.len());
        self.buffer.bytes().extend_from_slice(&chunk[..taken]);
        chunk.advance(taken);
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() == self.len
    }

    /// When that part of it should be kept which is there, in whole blocks, if
    /// there is one.
    pub(super) fn due(&self) -> Option<Instant> {
        let may_be_cut = self.len > SMALL && self.buffer.len() >= SMALL;
        may_be_cut.then(|| self.since + QUICK)
    }

    /// Is waited for from now on: what the last piece took to be kept, or a
    /// stream was not wanted, says nothing of the line.
    pub(super) fn go_on(&mut self) {
        self.since = Instant::now();
    }

    /// What is there, in whole blocks if `more` comes; what is over begins the
    /// next piece. That one ends, if it is a large one, where someone waits who
    /// waits for everything before `awaited`, or a number of large ones from
    /// there.
    pub(super) fn cut(&mut self, more: bool, awaited: u64, memory: &MemoryBudget) -> Piece {
        let now = Instant::now();
        let there = self.buffer.len();
        let whole = if more && !self.is_full() {
            there - there % SMALL
        } else {
            there
        };
        let was_quick = now.duration_since(self.since) * steps(LARGE) <= QUICK * steps(whole);
        let large = (more && was_quick).then(|| memory.piece_buffer()).flatten();
        let at = self.at + whole as u64;
        let most = if large.is_some() {
            before(awaited, at)
        } else {
            SMALL
        };
        let len = until(self.end, at, most).max((there - whole).next_multiple_of(SMALL));
        let capacity = if more { len } else { 0 };
        let mut buffer = large.map_or_else(
            || Buffered::Small(Vec::with_capacity(capacity)),
            Buffered::Large,
        );
        let came = self.buffer.bytes();
        buffer.bytes().extend_from_slice(&came[whole..]);
        came.truncate(whole);
        let next = Self {
            at,
            buffer,
            len,
            since: now,
            end: self.end,
        };
        let Self { at, buffer, .. } = std::mem::replace(self, next);
        let may_stay = matches!(buffer, Buffered::Large(_));
        Piece {
            at,
            may_stay,
            bytes: match buffer {
                Buffered::Small(bytes) => Bytes::from(bytes),
                Buffered::Large(buffer) => buffer.freeze(),
            },
        }
    }
}

impl Buffered {
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

/// How many small pieces there are in `len` bytes.
fn steps(len: usize) -> u32 {
    u32::try_from(len / SMALL).unwrap_or(u32::MAX)
}

/// How long a large piece at `at` is, if someone waits for all before `awaited`.
fn before(awaited: u64, at: u64) -> usize {
    let (large, small) = (LARGE as u64, SMALL as u64);
    let odd = (at + large - awaited % large) % large;
    let len = large - odd;
    // Blocks begin and end where they would without.
    let len = if len.is_multiple_of(small) {
        len
    } else {
        large
    };
    usize::try_from(len).expect("at most LARGE")
}

/// How long a piece at `at` is that has `most` bytes, unless the stream ends
/// before. What comes behind its end is a piece like any other, for others to
/// refuse.
fn until(end: u64, at: u64, most: usize) -> usize {
    match usize::try_from(end.saturating_sub(at)) {
        Ok(0) | Err(_) => most,
        Ok(left) => left.min(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BLOCK: u64 = SMALL as u64;
    const MS: Duration = Duration::from_millis(1);

    fn memory() -> MemoryBudget {
        MemoryBudget::new(256 << 20)
    }

    /// How long the pieces are of a stream that brings `chunk` bytes `every` so
    /// often.
    async fn lengths(
        chunk: usize,
        every: Duration,
        awaited: u64,
        memory: &MemoryBudget,
    ) -> Vec<u64> {
        let (mut arriving, mut pieces) = (Arriving::first(0..1 << 40), Vec::new());
        let mut come = 0;
        while come < 8 << 20 {
            let next = Instant::now() + every;
            while let Some(due) = arriving.due().filter(|due| *due < next) {
                tokio::time::sleep_until(due).await;
                pieces.push(arriving.cut(true, awaited, memory));
            }
            tokio::time::sleep_until(next).await;
            let mut bytes = Bytes::from(vec![7; chunk]);
            come += chunk;
            while !bytes.is_empty() {
                arriving.take(&mut bytes);
                if arriving.is_full() {
                    pieces.push(arriving.cut(true, awaited, memory));
                }
            }
        }
        pieces.push(arriving.cut(false, awaited, memory));
        let mut at = 0;
        for piece in &pieces {
            assert_eq!(piece.at, at);
            at += piece.bytes.len() as u64;
        }
        assert_eq!(at, come as u64);
        pieces
            .iter()
            .map(|piece| piece.bytes.len() as u64)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_stream_comes_in_the_pieces_that_are_waited_for() {
        let memory = memory();
        let awaited = 768 << 10;
        let lengths = lengths(1_000_000, MS, awaited, &memory).await;
        assert_eq!(lengths[..4], [BLOCK, BLOCK, 4 * BLOCK, MIB]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_stream_comes_block_by_block() {
        let lengths = lengths(100_000, MS, 0, &memory()).await;
        assert!(
            lengths[..lengths.len() - 1].iter().all(|&len| len == BLOCK),
            "{lengths:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_of_a_stream_that_falters_does_not_wait_for_the_rest() {
        let memory = memory();
        let mut arriving = Arriving::first(0..1 << 40);
        arriving.take(&mut Bytes::from(vec![7; SMALL]));
        arriving.cut(true, 0, &memory);
        assert_eq!(arriving.due(), None, "there is nothing");
        arriving.take(&mut Bytes::from(vec![7; 3 * SMALL + 5]));
        assert_eq!(arriving.due(), Some(Instant::now() + QUICK));
        tokio::time::advance(QUICK).await;
        let piece = arriving.cut(true, 0, &memory);
        assert_eq!((piece.at, piece.bytes.len()), (BLOCK, 3 * SMALL));
        assert!(!arriving.is_full());
        let rest = arriving.cut(false, 0, &memory);
        assert_eq!((rest.at, rest.bytes.len()), (4 * BLOCK, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_memory_for_large_pieces_they_are_small() {
        let memory = MemoryBudget::new(1 << 20);
        let lengths = lengths(1_000_000, MS, 0, &memory).await;
        assert!(
            lengths[..lengths.len() - 1].iter().all(|&len| len == BLOCK),
            "{lengths:?}"
        );
    }

    #[test]
    fn large_pieces_end_where_someone_waits_or_large_ones_from_there() {
        let len = |awaited, at| before(awaited, at) as u64;
        assert_eq!(len(0, 0), MIB);
        assert_eq!(len(0, BLOCK), MIB - BLOCK);
        assert_eq!(len(768 << 10, 128 << 10), 640 << 10);
        assert_eq!(len((768 << 10) + 9 * MIB, 768 << 10), MIB);
        assert_eq!(len(768 << 10, (768 << 10) + 9 * MIB), MIB);
        assert_eq!(len(5000, BLOCK), MIB, "not at all");
    }
}
