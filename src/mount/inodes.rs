//! What must be kept of the inodes that the kernel knows.
//!
//! Files of objects tell by their numbers what they are, and may be millions:
//! of them only those that are open are kept. Of all others, how often the
//! kernel was told.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::BackingId;
use lru::LruCache;

use crate::content::Epoch;
use crate::tree::{Directory, Inode, Node};

/// Of how many files that had an estimated length is remembered that the kernel
/// was told the exact one. Those forgotten are opened with more care than they
/// would need.
const EXACT: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// Inodes by number.
#[derive(Debug)]
pub(super) struct Inodes(Mutex<InodeTable>);

#[derive(Debug)]
struct InodeTable {
    named: HashMap<u64, KnownNode>,
    open: HashMap<u64, OpenInode>,
    /// The exact lengths that the kernel was told last.
    exact: LruCache<u64, u64>,
    /// Originals whose pages do not only show what has proved itself.
    pages: LruCache<u64, PageEpochs>,
    /// Whether some were forgotten there: any other may be one of them.
    forgot_pages: bool,
}

/// A directory, or a file that is not of an object.
#[derive(Debug)]
struct KnownNode {
    node: Node,
    /// How often the kernel looked it up and has not forgotten it.
    lookups: u64,
}

#[derive(Debug)]
struct OpenInode {
    /// How many handles.
    handles: u32,
    /// How they are served: the kernel does not let cached and passed-through
    /// ones mix.
    service: ServeMode,
    /// The content that the first of them began with, as they are counted.
    corruption_count: u64,
}

/// What is settled about one more handle.
#[derive(Clone, Debug)]
pub(super) struct OpenedHandle {
    pub(super) service: ServeMode,
    /// Whether others may be open that began with another content.
    pub(super) beside_older: bool,
}

/// What the kernel's pages of an original show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PageEpochs {
    /// Also what has not proved itself, of this epoch.
    Of(Epoch),
    /// Of several: they may not go together.
    Mixed,
}

/// How the bytes of an open file reach its readers.
#[derive(Clone, Debug)]
pub(super) enum ServeMode {
    /// By READ requests.
    Requests,
    /// By the kernel itself, from this file.
    Passthrough(Arc<BackingId>),
}

/// What must be known to open a file, or to answer for its attributes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InodeUsage {
    /// Whether any handle is open.
    pub(super) is_open: bool,
    /// The exact length that the kernel was told. Until then its own idea of
    /// it is a bound, and it must not fill its page cache by it.
    pub(super) told: Option<u64>,
}

impl Inodes {
    pub(super) fn new() -> Self {
        let inodes = Self(Mutex::new(InodeTable {
            named: HashMap::new(),
            open: HashMap::new(),
            exact: LruCache::new(EXACT),
            pages: LruCache::new(EXACT),
            forgot_pages: false,
        }));
        inodes.remember(&Node::Directory(Directory::Root));
        inodes
    }

    /// The node, unless it is an object's file.
    pub(super) fn get(&self, number: u64) -> Option<Node> {
        self.table()
            .named
            .get(&number)
            .map(|named| named.node.clone())
    }

    /// Notes that the kernel is being told of `node` once more.
    pub(super) fn remember(&self, node: &Node) {
        if matches!(node, Node::File(..)) {
            return;
        }
        let mut table = self.table();
        let named = table
            .named
            .entry(node.inode().0)
            .or_insert_with(|| KnownNode {
                node: node.clone(),
                lookups: 0,
            });
        named.lookups += 1;
    }

    /// Notes that the kernel has forgotten `count` of the times it was told.
    pub(super) fn forget(&self, number: u64, count: u64) {
        let mut table = self.table();
        table.exact.pop(&number);
        if let Some(named) = table.named.get_mut(&number)
            && number != Inode::ROOT.0
        {
            named.lookups = named.lookups.saturating_sub(count);
            if named.lookups == 0 {
                table.named.remove(&number);
            }
        }
    }

    pub(super) fn usage(&self, number: u64) -> InodeUsage {
        let table = self.table();
        InodeUsage {
            is_open: table.open.contains_key(&number),
            told: table.exact.peek(&number).copied(),
        }
    }

    /// Notes the length that the kernel was last told, if that is exact.
    pub(super) fn told(&self, number: u64, exact: Option<u64>) {
        let mut table = self.table();
        match exact {
            Some(length) => table.exact.put(number, length),
            None => table.exact.pop(&number),
        };
    }

    /// Notes that the kernel gets bytes of `epoch`, which have not proved
    /// themselves.
    pub(super) fn shows(&self, number: u64, epoch: Epoch) {
        let mut table = self.table();
        let shown = table.pages.get(&number).copied();
        let pages = match shown {
            Some(PageEpochs::Of(other)) if other == epoch => return,
            Some(_) => PageEpochs::Mixed,
            None if table.forgot_pages => PageEpochs::Mixed,
            None => PageEpochs::Of(epoch),
        };
        if let Some((pushed_out, _)) = table.pages.push(number, pages)
            && pushed_out != number
        {
            table.forgot_pages = true;
        }
    }

    /// Whether the kernel may keep its pages, now that the bytes are of `epoch`
    /// and have proved themselves or not. If not, it drops them.
    pub(super) fn keeps_pages(&self, number: u64, epoch: Epoch, proved: bool) -> bool {
        let mut table = self.table();
        let shown = table.pages.get(&number).copied();
        let keeps = match shown {
            None => !table.forgot_pages,
            Some(PageEpochs::Of(shown)) => shown == epoch,
            Some(PageEpochs::Mixed) => false,
        };
        if !keeps || proved {
            table.pages.pop(&number);
        }
        keeps
    }

    /// Notes that all bytes of `epoch` have proved themselves: whatever the next
    /// is, pages that show them may stay.
    pub(super) fn proved(&self, number: u64, epoch: Epoch) {
        let mut table = self.table();
        if table.pages.peek(&number) == Some(&PageEpochs::Of(epoch)) {
            table.pages.pop(&number);
        }
    }

    /// Notes one more open handle, of this content, and says how it is served:
    /// as those that are open already, or else as `choose` says, which may be
    /// slow.
    pub(super) fn opened(
        &self,
        number: u64,
        corruption_count: u64,
        choose: impl FnOnce() -> ServeMode,
    ) -> OpenedHandle {
        let others = self.open_as(number, corruption_count, None);
        others.unwrap_or_else(|| {
            let service = choose();
            // Another opener may have chosen meanwhile: its choice holds.
            let opened = self.open_as(number, corruption_count, Some(&service));
            opened.unwrap_or(OpenedHandle {
                service,
                beside_older: false,
            })
        })
    }

    /// Counts a handle if it is settled how it is served.
    fn open_as(
        &self,
        number: u64,
        corruption_count: u64,
        chosen: Option<&ServeMode>,
    ) -> Option<OpenedHandle> {
        let mut table = self.table();
        if let Some(open) = table.open.get_mut(&number) {
            open.handles += 1;
            return Some(OpenedHandle {
                service: open.service.clone(),
                beside_older: open.corruption_count != corruption_count,
            });
        }
        let service = chosen?.clone();
        let open = OpenInode {
            handles: 1,
            service: service.clone(),
            corruption_count,
        };
        table.open.insert(number, open);
        Some(OpenedHandle {
            service,
            beside_older: false,
        })
    }

    pub(super) fn released(&self, number: u64) {
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
    fn an_inode_is_known_until_it_is_forgotten() {
        let inodes = Inodes::new();
        let objects = Node::Directory(Directory::Objects);
        let number = objects.inode().0;
        inodes.remember(&objects);
        inodes.remember(&objects);
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_some(), "told twice");
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_none());
        inodes.forget(Inode::ROOT.0, 99);
        assert!(inodes.get(Inode::ROOT.0).is_some(), "the root stays");
    }

    proptest! {
        #[test]
        fn what_is_known_is_what_the_kernel_was_told_more_often_than_it_forgot(
            steps in prop::collection::vec((any::<bool>(), 0_usize..4, 1_u64..4), 1..60),
        ) {
            let nodes = [Directory::Objects, Directory::Stations, Directory::Documents, Directory::Control]
                .map(Node::Directory);
            let inodes = Inodes::new();
            let mut told = [0_u64; 4];
            for (looked_up, which, count) in steps {
                let number = nodes[which].inode().0;
                if looked_up {
                    (0..count).for_each(|_| inodes.remember(&nodes[which]));
                    told[which] += count;
                } else {
                    // The kernel forgets no more than it was told.
                    let count = count.min(told[which]);
                    inodes.forget(number, count);
                    told[which] -= count;
                }
                for (node, told) in nodes.iter().zip(told) {
                    prop_assert_eq!(inodes.get(node.inode().0).is_some(), told > 0);
                }
            }
        }
    }

    #[test]
    fn handles_of_one_file_are_served_alike_until_all_are_closed() {
        let inodes = Inodes::new();
        inodes.opened(7, 0, || ServeMode::Requests);
        let second = inodes.opened(7, 0, || panic!("it is settled"));
        let third = inodes.opened(7, 1, || panic!("it is settled"));
        assert!(!second.beside_older && third.beside_older);
        inodes.released(7);
        inodes.released(7);
        assert!(inodes.usage(7).is_open);
        inodes.released(7);
        assert!(!inodes.usage(7).is_open);
    }
}
