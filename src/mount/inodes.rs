//! The inodes that the kernel knows, and how often it was told of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::BackingId;

use crate::content::Life;
use crate::tree::{Inode, Node};

/// Inodes by number.
#[derive(Debug)]
pub(super) struct Inodes(Mutex<HashMap<u64, Known>>);

#[derive(Debug)]
struct Known {
    node: Node,
    /// How often the kernel looked it up and has not forgotten it.
    lookups: u64,
    /// How many handles are open.
    opens: u32,
    /// Whether the kernel was told the exact length. Until then its own idea
    /// of it is a bound, and it must not fill its page cache by it.
    told_exact: bool,
    /// How the open handles are served: the kernel does not let cached and
    /// passed-through ones mix.
    service: Option<Service>,
    /// What the kernel's pages of it show.
    pages: Pages,
}

/// What the kernel's pages of an original show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pages {
    /// What has proved itself, or nothing.
    Right,
    /// Also what has not, of this life.
    Of(Life),
    /// Of several: they may not go together.
    Mixed,
}

/// How the bytes of an open file reach its readers.
#[derive(Clone, Debug)]
pub(super) enum Service {
    /// By READ requests.
    Requests,
    /// By the kernel itself, from this file.
    Passthrough(Arc<BackingId>),
}

/// What must be known to open a file, or to answer for its attributes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Use {
    /// Whether any handle is open.
    pub(super) is_open: bool,
    /// Whether the kernel was told the exact length.
    pub(super) told_exact: bool,
}

impl Inodes {
    pub(super) fn new() -> Self {
        let inodes = Self(Mutex::default());
        inodes.remember(&Node::Root);
        inodes
    }

    pub(super) fn get(&self, number: u64) -> Option<Node> {
        self.table().get(&number).map(|known| known.node.clone())
    }

    /// Notes that the kernel is being told of `node` once more.
    pub(super) fn remember(&self, node: &Node) {
        let mut table = self.table();
        table
            .entry(node.inode().0)
            .and_modify(|known| known.lookups += 1)
            .or_insert_with(|| Known {
                node: node.clone(),
                lookups: 1,
                opens: 0,
                told_exact: false,
                service: None,
                pages: Pages::Right,
            });
    }

    /// Notes that the kernel has forgotten `count` of the times it was told.
    pub(super) fn forget(&self, number: u64, count: u64) {
        let mut table = self.table();
        if let Some(known) = table.get_mut(&number)
            && number != Inode::ROOT.0
        {
            known.lookups = known.lookups.saturating_sub(count);
            if known.lookups == 0 && known.opens == 0 {
                table.remove(&number);
            }
        }
    }

    pub(super) fn usage(&self, number: u64) -> Use {
        let table = self.table();
        let known = table.get(&number);
        Use {
            is_open: known.is_some_and(|known| known.opens > 0),
            told_exact: known.is_some_and(|known| known.told_exact),
        }
    }

    pub(super) fn tell_exact(&self, number: u64) {
        if let Some(known) = self.table().get_mut(&number) {
            known.told_exact = true;
        }
    }

    /// Notes that the kernel gets bytes of `life`, which have not proved
    /// themselves.
    pub(super) fn shows(&self, number: u64, life: Life) {
        if let Some(known) = self.table().get_mut(&number) {
            known.pages = match known.pages {
                Pages::Right => Pages::Of(life),
                Pages::Of(other) if other == life => Pages::Of(life),
                Pages::Of(_) | Pages::Mixed => Pages::Mixed,
            };
        }
    }

    /// Whether the kernel may keep its pages, now that the bytes are of `life`
    /// and have proved themselves or not. If not, it drops them.
    pub(super) fn keeps_pages(&self, number: u64, life: Life, proved: bool) -> bool {
        let mut table = self.table();
        let Some(known) = table.get_mut(&number) else {
            return false;
        };
        let keeps = match known.pages {
            Pages::Right => true,
            Pages::Of(shown) => shown == life,
            Pages::Mixed => false,
        };
        if !keeps || proved {
            known.pages = Pages::Right;
        }
        keeps
    }

    /// Notes one more open handle, and says how it is served: as those that
    /// are open already, or else as `choose` says, which may be slow.
    pub(super) fn opened(&self, number: u64, choose: impl FnOnce() -> Service) -> Service {
        let others = self.open_as(number, None);
        others.unwrap_or_else(|| {
            let chosen = choose();
            // Another opener may have chosen meanwhile: its choice holds.
            self.open_as(number, Some(&chosen)).unwrap_or(chosen)
        })
    }

    /// Counts a handle if it is settled how it is served.
    fn open_as(&self, number: u64, chosen: Option<&Service>) -> Option<Service> {
        let mut table = self.table();
        let known = table.get_mut(&number)?;
        if known.service.is_none() {
            known.service = chosen.cloned();
        }
        let service = known.service.clone()?;
        known.opens += 1;
        Some(service)
    }

    pub(super) fn released(&self, number: u64) {
        let mut table = self.table();
        if let Some(known) = table.get_mut(&number) {
            known.opens = known.opens.saturating_sub(1);
            if known.opens == 0 {
                known.service = None;
            }
            if known.lookups == 0 && known.opens == 0 {
                table.remove(&number);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_known_until_it_is_forgotten_and_closed() {
        let inodes = Inodes::new();
        let number = Node::Objects.inode().0;
        inodes.remember(&Node::Objects);
        inodes.remember(&Node::Objects);
        inodes.opened(number, || Service::Requests);
        inodes.forget(number, 2);
        assert!(inodes.get(number).is_some(), "still open");
        inodes.released(number);
        assert!(inodes.get(number).is_none());
        inodes.forget(Inode::ROOT.0, 99);
        assert!(inodes.get(Inode::ROOT.0).is_some(), "the root stays");
    }
}
