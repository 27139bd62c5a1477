//! The inode numbers that the kernel and programs see.
//!
//! Usually they are those of the tree, which have 62 bits. With [`InodeWidth::Bits32`]
//! each file gets a number of 32 bits for as long as the kernel knows it: a hash of its
//! own number, or the next free number if another file has that hash.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fuser::INodeNo;

use super::options::InodeWidth;
use crate::tree::Inode;

/// Translates inode numbers of the tree to those that the kernel sees, and back.
#[derive(Debug)]
pub(super) struct InodeNumbers(Option<Mutex<ShortNumbers>>);

#[derive(Debug, Default)]
struct ShortNumbers {
    /// The numbers of the tree, with their lookup counts.
    own: HashMap<u32, (u64, u64)>,
    short: HashMap<u64, u32>,
}

impl InodeNumbers {
    pub(super) fn new(width: InodeWidth) -> Self {
        Self(match width {
            InodeWidth::Bits64 => None,
            InodeWidth::Bits32 => Some(Mutex::default()),
        })
    }

    /// Returns the tree's number of the kernel's inode `ino`; 0 if there is none.
    pub(super) fn own(&self, ino: INodeNo) -> u64 {
        let (Some(numbers), true) = (&self.0, ino.0 != Inode::ROOT.0) else {
            return ino.0;
        };
        let short = u32::try_from(ino.0).unwrap_or(0);
        lock(numbers).own.get(&short).map_or(0, |&(own, _)| own)
    }

    /// Returns the number for a reply that counts as a lookup, and counts the lookup.
    pub(super) fn look_up(&self, own: u64) -> INodeNo {
        let (Some(numbers), true) = (&self.0, own != Inode::ROOT.0) else {
            return INodeNo(own);
        };
        let mut numbers = lock(numbers);
        if let Some(&short) = numbers.short.get(&own) {
            if let Some((_, lookups)) = numbers.own.get_mut(&short) {
                *lookups += 1;
            }
            return INodeNo(short.into());
        }
        let mut short = hash(own);
        while numbers.own.contains_key(&short) {
            // The kernel reserves 0, and 1 is the root.
            short = short.wrapping_add(1).max(2);
        }
        numbers.own.insert(short, (own, 1));
        numbers.short.insert(own, short);
        INodeNo(short.into())
    }

    /// Returns the number for a reply that does not count as a lookup.
    pub(super) fn show(&self, own: u64) -> INodeNo {
        let (Some(numbers), true) = (&self.0, own != Inode::ROOT.0) else {
            return INodeNo(own);
        };
        let known = lock(numbers).short.get(&own).copied();
        INodeNo(known.unwrap_or_else(|| hash(own)).into())
    }

    /// Subtracts `count` lookups, as FORGET requests.
    pub(super) fn forget(&self, own: u64, count: u64) {
        let Some(numbers) = &self.0 else { return };
        let mut numbers = lock(numbers);
        let Some(&short) = numbers.short.get(&own) else {
            return;
        };
        if let Some((_, lookups)) = numbers.own.get_mut(&short) {
            *lookups = lookups.saturating_sub(count);
            if *lookups == 0 {
                numbers.own.remove(&short);
                numbers.short.remove(&own);
            }
        }
    }
}

fn lock(numbers: &Mutex<ShortNumbers>) -> MutexGuard<'_, ShortNumbers> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::cast_possible_truncation, reason = "folds all bits")]
fn hash(own: u64) -> u32 {
    ((own ^ (own >> 32)) as u32).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_are_distinct_and_decode_until_they_are_forgotten() {
        let numbers = InodeNumbers::new(InodeWidth::Bits32);
        // The first three have the same hash.
        let own = [7, 7 << 32, (5 << 32) | 2, 1 << 40, 0];
        assert_eq!(hash(own[0]), hash(own[1]));
        let shown = own.map(|own| numbers.look_up(own));
        for (own, shown) in own.into_iter().zip(shown) {
            assert!((2..1 << 32).contains(&shown.0));
            assert_eq!((numbers.own(shown), numbers.show(own)), (own, shown));
        }
        let mut distinct: Vec<u64> = shown.iter().map(|ino| ino.0).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), own.len());

        numbers.forget(own[0], 1);
        assert_eq!(numbers.own(shown[0]), 0);
        assert_eq!(numbers.own(shown[1]), own[1]);
        assert_eq!(numbers.own(INodeNo(1)), 1, "the root");
    }

    #[test]
    fn long_numbers_are_those_of_the_tree() {
        let numbers = InodeNumbers::new(InodeWidth::Bits64);
        let own = u64::MAX >> 1;
        assert_eq!(
            (numbers.look_up(own).0, numbers.own(INodeNo(own))),
            (own, own)
        );
    }
}
