//! What is open: directories as they were, and files made for one reader.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::content::OpenOriginal;
use crate::tree::Listing;

/// What a handle stands for beyond its inode.
#[derive(Clone, Debug)]
pub(super) enum Handle {
    /// A directory's entries at the moment it was opened.
    Directory(Arc<Listing>),
    /// A file whose bytes were made at the moment it was opened.
    Made(Bytes),
    /// An original.
    Original {
        opened: OpenOriginal,
        /// Whether others were open that began with another content: its bytes
        /// must not get into the pages that those read.
        beside_older: bool,
    },
}

/// Handles by number. Number 0 stands for all that need none.
#[derive(Debug, Default)]
pub(super) struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Handle>>,
}

impl Handles {
    pub(super) fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, handle);
        number
    }

    pub(super) fn get(&self, number: u64) -> Option<Handle> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&number).cloned()
    }

    pub(super) fn remove(&self, number: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&number);
    }
}
