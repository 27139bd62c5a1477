//! State of the inodes that the kernel knows.
//!
//! An inode number of an object's file encodes the object and representation,
//! and there can be millions of them: this module stores them only while they
//! are open. For directories and all other files it stores the node and its
//! lookup count.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::BackingId;
use lru::LruCache;

use crate::content::{BackingFile, Epoch};
use crate::tree::{Directory, Inode, Node};

/// Number of files for which the two LRU maps store what the kernel has. A file
/// that is no longer in a map is treated as if the kernel had stale data.
const TRACKED_FILES: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// Number of directories, and of files that do not belong to an object, that are
/// remembered after the kernel has forgotten them: their numbers are hashes, and a
/// program may have a file handle (`name_to_handle_at`), as an NFS server does.
const FORGOTTEN_NODES: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// The inodes that the kernel knows, by number. One mutex, a leaf.
#[derive(Debug)]
pub(super) struct Inodes(Mutex<InodeTable>);

#[derive(Debug)]
struct InodeTable {
    known: HashMap<u64, KnownNode>,
    forgotten: LruCache<u64, Node>,
    open: HashMap<u64, OpenInode>,
    /// The exact sizes in the most recent replies to the kernel.
    reported_sizes: LruCache<u64, u64>,
    /// Originals of which the kernel may have unverified pages.
    unverified_pages: LruCache<u64, PageEpochs>,
    /// Whether `unverified_pages` has dropped an entry. Then every file without
    /// an entry may have unverified pages of any epoch.
    dropped_entries: bool,
}

/// A directory, or a file that does not belong to an object.
#[derive(Debug)]
struct KnownNode {
    node: Node,
    /// The lookup count of the FUSE protocol.
    lookups: u64,
}

#[derive(Debug)]
struct OpenInode {
    /// Number of open handles.
    handles: u32,
    /// All handles of one inode have the same mode: the kernel does not allow
    /// cached and passthrough handles at the same time.
    mode: ServeMode,
    /// How often the file had been found corrupt when the first of the handles was
    /// opened.
    corruption_count: u64,
}

/// The mode of a handle that was just opened.
#[derive(Clone, Debug)]
pub(super) struct OpenedHandle {
    pub(super) mode: ServeMode,
    /// Whether handles of an older, corrupt content are open.
    pub(super) earlier_epoch_open: bool,
}

/// The epochs of the kernel's unverified pages of an original.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PageEpochs {
    /// All are of this epoch.
    One(Epoch),
    /// They are of several epochs, whose bytes may not match.
    Mixed,
}

/// How the bytes of an open file reach its readers.
#[derive(Clone, Debug)]
pub(super) enum ServeMode {
    /// By READ requests.
    Requests,
    /// By the kernel, directly from the backing file.
    Passthrough(Arc<Passthrough>),
}

/// A file that the kernel reads directly. It allows no other mode and no other backing
/// file until all handles of the inode are closed.
#[derive(Debug)]
pub(super) struct Passthrough {
    /// The kernel's number of the backing file.
    pub(super) id: BackingId,
    pub(super) backing: Arc<BackingFile>,
}

/// State of an inode that decides how to open it and how to reply to GETATTR.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InodeUsage {
    /// Whether any handle is open.
    pub(super) is_open: bool,
    /// The exact size that the kernel has. If `None`, the kernel has an estimate,
    /// and must not fill its page cache.
    pub(super) reported_size: Option<u64>,
}

impl Inodes {
    pub(super) fn new() -> Self {
        let inodes = Self(Mutex::new(InodeTable {
            known: HashMap::new(),
            forgotten: LruCache::new(FORGOTTEN_NODES),
            open: HashMap::new(),
            reported_sizes: LruCache::new(TRACKED_FILES),
            unverified_pages: LruCache::new(TRACKED_FILES),
            dropped_entries: false,
        }));
        inodes.add_lookup(&Node::Directory(Directory::Root));
        inodes
    }

    /// Returns the node, unless it is an object's file.
    pub(super) fn get(&self, number: u64) -> Option<Node> {
        self.table()
            .known
            .get(&number)
            .map(|named| named.node.clone())
    }

    /// As [`Inodes::get`], also for an inode that the kernel has forgotten.
    pub(super) fn recall(&self, number: u64) -> Option<Node> {
        let known = self.get(number);
        known.or_else(|| self.table().forgotten.get(&number).cloned())
    }

    /// Increments the lookup count of `node`, which a reply to the kernel names.
    pub(super) fn add_lookup(&self, node: &Node) {
        if matches!(node, Node::File(..)) {
            return;
        }
        let mut table = self.table();
        let named = table
            .known
            .entry(node.inode().0)
            .or_insert_with(|| KnownNode {
                node: node.clone(),
                lookups: 0,
            });
        named.lookups += 1;
    }

    /// Decrements the lookup count by `count`, as FORGET requests.
    pub(super) fn forget(&self, number: u64, count: u64) {
        let mut table = self.table();
        table.reported_sizes.pop(&number);
        if let Some(named) = table.known.get_mut(&number)
            && number != Inode::ROOT.0
        {
            named.lookups = named.lookups.saturating_sub(count);
            if named.lookups == 0
                && let Some(named) = table.known.remove(&number)
            {
                table.forgotten.put(number, named.node);
            }
        }
    }

    /// Returns whether the inode is open, and the size that the kernel has.
    pub(super) fn usage(&self, number: u64) -> InodeUsage {
        let table = self.table();
        InodeUsage {
            is_open: table.open.contains_key(&number),
            reported_size: table.reported_sizes.peek(&number).copied(),
        }
    }

    /// Records the size in a reply to the kernel; `None` if it was an estimate.
    pub(super) fn set_reported_size(&self, number: u64, exact: Option<u64>) {
        let mut table = self.table();
        match exact {
            Some(size) => table.reported_sizes.put(number, size),
            None => table.reported_sizes.pop(&number),
        };
    }

    /// Records that the kernel receives unverified bytes of `epoch`.
    pub(super) fn add_unverified_pages(&self, number: u64, epoch: Epoch) {
        let mut table = self.table();
        let shown = table.unverified_pages.get(&number).copied();
        let pages = match shown {
            Some(PageEpochs::One(other)) if other == epoch => return,
            Some(_) => PageEpochs::Mixed,
            None if table.dropped_entries => PageEpochs::Mixed,
            None => PageEpochs::One(epoch),
        };
        if let Some((dropped, _)) = table.unverified_pages.push(number, pages)
            && dropped != number
        {
            table.dropped_entries = true;
        }
    }

    /// Returns whether an open may keep the kernel's pages, when the current bytes
    /// are of `epoch` and are `verified` or not. If false, the open drops them.
    pub(super) fn may_keep_pages(&self, number: u64, epoch: Epoch, verified: bool) -> bool {
        let mut table = self.table();
        let shown = table.unverified_pages.get(&number).copied();
        let keeps = match shown {
            None => !table.dropped_entries,
            Some(PageEpochs::One(shown)) => shown == epoch,
            Some(PageEpochs::Mixed) => false,
        };
        if !keeps || verified {
            table.unverified_pages.pop(&number);
        }
        keeps
    }

    /// Records that all bytes of `epoch` are verified: the kernel may keep pages
    /// of this epoch beside those of any later one.
    pub(super) fn set_verified(&self, number: u64, epoch: Epoch) {
        let mut table = self.table();
        if table.unverified_pages.peek(&number) == Some(&PageEpochs::One(epoch)) {
            table.unverified_pages.pop(&number);
        }
    }

    /// Adds an open handle of the content after `corruption_count` corrupt ones, and
    /// returns its mode: that of the handles already open, or else the result of
    /// `choose`, which may be slow and runs without the lock.
    pub(super) fn open(
        &self,
        number: u64,
        corruption_count: u64,
        choose: impl Fn() -> ServeMode,
    ) -> OpenedHandle {
        let mut chosen = None;
        loop {
            let mut table = self.table();
            if let Some(mode) = chosen.take() {
                // If a concurrent open has chosen a mode meanwhile, that mode applies.
                table.open.entry(number).or_insert(OpenInode {
                    handles: 0,
                    mode,
                    corruption_count,
                });
            }
            if let Some(open) = table.open.get_mut(&number) {
                open.handles += 1;
                return OpenedHandle {
                    mode: open.mode.clone(),
                    earlier_epoch_open: open.corruption_count != corruption_count,
                };
            }
            drop(table);
            chosen = Some(choose());
        }
    }

    /// Removes an open handle.
    pub(super) fn release(&self, number: u64) {
        let mut table = self.table();
        if let Some(open) = table.open.get_mut(&number) {
            open.handles = open.handles.saturating_sub(1);
            if open.handles == 0 {
                table.open.remove(&number);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, InodeTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn inode_is_known_until_its_lookup_count_is_zero() {
        let inodes = Inodes::new();
        let objects = Node::Directory(Directory::Objects);
        let number = objects.inode().0;
        inodes.add_lookup(&objects);
        inodes.add_lookup(&objects);
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_some(), "looked up twice");
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_none());
        assert!(inodes.recall(number).is_some(), "for handles");
        inodes.forget(Inode::ROOT.0, 99);
        assert!(
            inodes.get(Inode::ROOT.0).is_some(),
            "the root is never removed"
        );
    }

    proptest! {
        #[test]
        fn inode_is_known_exactly_while_lookups_exceed_forgets(
            steps in prop::collection::vec((any::<bool>(), 0_usize..4, 1_u64..4), 1..60),
        ) {
            let nodes = [Directory::Objects, Directory::Stations, Directory::Documents, Directory::Control]
                .map(Node::Directory);
            let inodes = Inodes::new();
            let mut lookups = [0_u64; 4];
            for (looked_up, which, count) in steps {
                let number = nodes[which].inode().0;
                if looked_up {
                    (0..count).for_each(|_| inodes.add_lookup(&nodes[which]));
                    lookups[which] += count;
                } else {
                    // The kernel forgets no more lookups than it made.
                    let count = count.min(lookups[which]);
                    inodes.forget(number, count);
                    lookups[which] -= count;
                }
                for (node, lookups) in nodes.iter().zip(lookups) {
                    prop_assert_eq!(inodes.get(node.inode().0).is_some(), lookups > 0);
                }
            }
        }
    }

    #[test]
    fn handles_of_one_file_share_their_mode_until_all_are_closed() {
        let inodes = Inodes::new();
        inodes.open(7, 0, || ServeMode::Requests);
        let second = inodes.open(7, 0, || panic!("the mode is known"));
        let third = inodes.open(7, 1, || panic!("the mode is known"));
        assert!(!second.earlier_epoch_open && third.earlier_epoch_open);
        inodes.release(7);
        inodes.release(7);
        assert!(inodes.usage(7).is_open);
        inodes.release(7);
        assert!(!inodes.usage(7).is_open);
    }
}
