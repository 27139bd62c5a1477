//! The bytes of originals: small ones are in memory, large ones are computed
//! block by block.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::random::mix;

/// An object's original content.
#[derive(Clone, Debug)]
pub(crate) enum OriginalContent {
    /// Held in memory.
    Bytes(Bytes),
    /// Computed: the same block of random bytes repeated, each time with
    /// another number at its start, so that no two blocks are equal.
    Blocks { seed: u64, size: u64 },
}

/// Length of a computed block, and of the pieces in which a large body is sent.
const BLOCK: u64 = 1 << 20;
const STAMP: usize = 8;

static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    (0..BLOCK / 8)
        .flat_map(|word| mix(word).to_be_bytes())
        .collect()
});

impl OriginalContent {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blocks { size, .. } => *size,
        }
    }

    /// The bytes of `range` (which ends within [`OriginalContent::size`]), in pieces.
    pub(crate) fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Bytes> + Send + use<> {
        let original = self.clone();
        let mut at = range.start;
        std::iter::from_fn(move || {
            (at < range.end).then(|| {
                let piece = original.piece(at..range.end);
                at += piece.len() as u64;
                piece
            })
        })
    }

    /// Returns a piece from the start of `range`, not empty and not longer than
    /// it.
    fn piece(&self, range: Range<u64>) -> Bytes {
        let index = |at: u64| usize::try_from(at).expect("an offset within memory");
        match self {
            Self::Bytes(bytes) => {
                let end = range.end.min(range.start + BLOCK);
                bytes.slice(index(range.start)..index(end))
            }
            Self::Blocks { seed, .. } => {
                let block = range.start / BLOCK;
                let from = index(range.start % BLOCK);
                let to = index((range.end - block * BLOCK).min(BLOCK));
                if from < STAMP {
                    let stamp = mix(seed ^ mix(block)).to_be_bytes();
                    Bytes::copy_from_slice(&stamp[from..to.min(STAMP)])
                } else {
                    NOISE.slice(from..to)
                }
            }
        }
    }

    /// Returns all bytes.
    pub(crate) fn read(&self) -> Vec<u8> {
        let pieces: Vec<_> = self.pieces(0..self.size()).collect();
        pieces.concat()
    }

    /// Returns the SHA-256 of all bytes.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for piece in self.pieces(0..self.size()) {
            hash.update(&piece);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_computed_content_equals_same_range_of_all() {
        let original = OriginalContent::Blocks {
            seed: 7,
            size: 2 * BLOCK + 100,
        };
        let whole = original.read();
        assert_eq!(whole.len() as u64, original.size());
        for range in [
            0..1,
            0..STAMP as u64,
            3..9,
            BLOCK - 1..BLOCK + 1,
            BLOCK + 2..BLOCK + 5,
            5..2 * BLOCK + 100,
            2 * BLOCK + 99..2 * BLOCK + 100,
            9..9,
        ] {
            let part: Vec<u8> = original.pieces(range.clone()).flatten().collect();
            let index = |at: u64| usize::try_from(at).unwrap();
            let expected = &whole[index(range.start)..index(range.end)];
            assert!(part == expected, "{range:?}");
        }
    }

    #[test]
    fn computed_blocks_differ_by_index_and_seed() {
        let of = |seed| OriginalContent::Blocks {
            seed,
            size: 2 * BLOCK,
        };
        let bytes = of(1).read();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        assert!(first != second);
        assert_ne!(of(1).digest(), of(2).digest());
    }
}
