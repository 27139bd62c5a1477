//! Inode numbers that are the same in every mount: derived from what a file is, not
//! from when it was first seen.
//!
//! The number of an object's file tells which file it is, so that no table is needed
//! for the millions of inodes the kernel may know. Some programs store inode numbers
//! in signed integers, so the highest bit is clear.

use twox_hash::XxHash3_64;

use crate::catalog::{FileId, Representation, first_bits};

/// An inode number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Inode(pub u64);

/// Set in the numbers of objects' files, clear in all others.
const FILE: u64 = 1 << 62;
/// The number of bits for the representation.
const KINDS: u32 = 4;
/// The number of bits of the object's id, which is a hash: among ten million
/// objects, two share them with a probability of 1 in 5000.
const BITS: u32 = 62 - KINDS;

impl Inode {
    /// The mount point, by the convention of the kernel.
    pub const ROOT: Inode = Inode(1);

    /// The number of a node other than an object's file, by its path or name.
    pub(super) fn of_path(path: &str) -> Self {
        let hash = XxHash3_64::oneshot(path.as_bytes()) >> 2;
        // The kernel reserves 0, and 1 is the root.
        Self(hash.max(2))
    }

    /// The number of `file`.
    #[must_use]
    pub fn of_file(file: FileId) -> Self {
        let id = first_bits(file.object) >> (64 - BITS);
        Self(FILE | id << KINDS | kind(file.representation))
    }

    /// Decodes the number of an object's file: the first bits of the object's id, a mask
    /// of those that count, and the representation.
    #[must_use]
    pub fn file(self) -> Option<(u64, u64, Representation)> {
        if self.0 >> 62 != 1 {
            return None;
        }
        let representation = Representation::ALL
            .into_iter()
            .find(|&r| kind(r) == self.0 & ((1 << KINDS) - 1))?;
        let mask = u64::MAX << (64 - BITS);
        Some(((self.0 >> KINDS) << (64 - BITS), mask, representation))
    }
}

fn kind(representation: Representation) -> u64 {
    match representation {
        Representation::Original => 0,
        Representation::Csv => 1,
        Representation::Json => 2,
        Representation::Parquet => 3,
        Representation::Cpb => 4,
        Representation::NetCdf => 5,
        Representation::GoodCsv => 6,
        Representation::GoodParquet => 7,
        Representation::GoodNetCdf => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icos_portal::ObjectId;

    #[test]
    fn inode_of_file_decodes_to_its_object_and_representation() {
        for content in [b"a", b"b", b"c"] {
            let object = ObjectId::of_content(content);
            for representation in Representation::ALL {
                let inode = Inode::of_file(FileId {
                    object,
                    representation,
                });
                assert!(inode.0 < 1 << 63);
                let (first, mask, found) = inode.file().unwrap();
                assert_eq!(found, representation);
                assert_eq!(first & mask, first_bits(object) & mask);
            }
        }
        assert!(Inode::ROOT.file().is_none());
        assert!(Inode::of_path("stations/HTM").file().is_none());
    }
}
