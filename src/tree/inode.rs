//! Inode numbers that are the same in every mount: drawn from what a file is,
//! not from when it was first seen.

use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::{FileId, Representation};

/// An inode number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Inode(pub u64);

/// Numbers below this are given out by hand.
const FIXED: u64 = 1024;

impl Inode {
    /// The mount point's, by the kernel's rule.
    pub const ROOT: Inode = Inode(1);

    pub(super) const fn fixed(number: u64) -> Self {
        assert!(number < FIXED);
        Self(number)
    }

    /// The number of `file`: 63 bits of a hash, so that among ten million
    /// files two share one with a chance of 1 in 100 000.
    pub(super) fn of_file(file: FileId) -> Self {
        let mut bytes = [0; 19];
        bytes[..18].copy_from_slice(file.object.as_bytes());
        bytes[18] = match file.representation {
            Representation::Original => 0,
            Representation::Csv => 1,
            Representation::Json => 2,
            Representation::Parquet => 3,
            Representation::Cpb => 4,
        };
        // Some programs keep inode numbers in signed integers.
        Self((xxh3_64(&bytes) >> 1).max(FIXED))
    }
}
