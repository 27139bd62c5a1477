//! Measures the files that a program will probably query next, with
//! [`ExactSize::Always`]: `ls -l` queries the sizes of a listing one after another, and
//! each may be a download.
//!
//! The pages of listings that the kernel received are remembered, the latest ones. Once
//! a program has queried several files of a page in their order, the next ones are
//! measured as well, a few at a time.
//!
//! [`ExactSize::Always`]: super::options::ExactSize::Always

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use lru::LruCache;
use tokio::sync::Semaphore;

use super::mount_state::MountState;
use crate::content::FileSize;
use crate::tree::Node;

/// How many files are measured ahead of the queries, and at once.
const AHEAD: usize = 8;
/// How many queries in order make further ones probable. The files of one object, of
/// which there are three in a row, do not suffice.
const MIN_RUN: usize = 4;
/// How many files of listings are remembered.
const MAX_FILES: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// The latest pages of listings. One mutex, a leaf.
#[derive(Debug)]
pub(super) struct StatAhead {
    pages: Mutex<LruCache<u64, PagePosition>>,
    permits: Arc<Semaphore>,
}

/// Where a file is in a page.
#[derive(Clone, Debug)]
struct PagePosition {
    page: Arc<ListedPage>,
    index: usize,
}

#[derive(Debug)]
struct ListedPage {
    files: Vec<Node>,
    queries: Mutex<PageQueries>,
}

/// The queries of the files of a page.
#[derive(Debug, Default)]
struct PageQueries {
    /// The index after the last query.
    next: usize,
    /// How many queries there were in order.
    run: usize,
    /// The index up to which files were returned to be measured.
    measured: usize,
}

impl StatAhead {
    pub(super) fn new() -> Self {
        Self {
            pages: Mutex::new(LruCache::new(MAX_FILES)),
            permits: Arc::new(Semaphore::new(AHEAD)),
        }
    }

    /// Remembers a page of a listing.
    pub(super) fn add_page(&self, files: Vec<Node>) {
        let page = Arc::new(ListedPage {
            files,
            queries: Mutex::default(),
        });
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, file) in page.files.iter().enumerate() {
            let page = Arc::clone(&page);
            pages.put(file.inode().0, PagePosition { page, index });
        }
    }

    /// Records a query of the size of file `number`. Returns the files to measure, each
    /// once.
    fn files_after(&self, number: u64) -> Vec<Node> {
        let found = {
            let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            pages.get(&number).cloned()
        };
        let Some(PagePosition { page, index }) = found else {
            return Vec::new();
        };
        let mut queries = page.queries.lock().unwrap_or_else(PoisonError::into_inner);
        // Files whose size is known are not queried.
        let in_order = (queries.next..=queries.next + AHEAD).contains(&index);
        queries.run = if in_order { queries.run + 1 } else { 1 };
        queries.next = index + 1;
        if queries.run < MIN_RUN {
            return Vec::new();
        }
        let end = page.files.len().min(index + 1 + AHEAD);
        let start = queries.measured.clamp(index + 1, end);
        queries.measured = end;
        page.files[start..end].to_vec()
    }
}

impl MountState {
    /// Records that a program waits for the size of file `number`, and measures those
    /// that it will probably query next.
    pub(super) fn stat_ahead(self: &Arc<Self>, number: u64) {
        for node in self.stat_ahead.files_after(number) {
            if matches!(self.size(&node), FileSize::Exact(_)) {
                continue;
            }
            let state = Arc::clone(self);
            let measure = async move {
                // The semaphore is never closed.
                let _permit = state.stat_ahead.permits.acquire().await;
                // A query of this file reports the failure.
                if let Err(error) = state.reader.exact_size(&node).await {
                    tracing::debug!(%node, %error, "cannot measure a file in advance");
                }
            };
            self.runtime.spawn(measure.boxed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ControlFile::{Errors, Metrics, Refresh, Status};
    use crate::tree::Directory;

    #[test]
    fn files_after_several_queries_in_order_are_measured_once() {
        // Any nodes do.
        let mut files: Vec<Node> = [Status, Errors, Metrics, Refresh]
            .map(Node::ControlFile)
            .into();
        files.extend(
            [
                Directory::Objects,
                Directory::Stations,
                Directory::DataTypes,
                Directory::Storage,
                Directory::Documents,
                Directory::Collections,
                Directory::Control,
            ]
            .map(Node::Directory),
        );
        files.push(Node::Readme);
        let number = |index: usize| files[index].inode().0;
        let ahead = StatAhead::new();
        let query = |index| -> Vec<u64> {
            let after = ahead.files_after(number(index));
            after.iter().map(|node| node.inode().0).collect()
        };
        assert!(query(0).is_empty(), "never listed");
        ahead.add_page(files.clone());
        let numbers = |range: std::ops::Range<usize>| range.map(number).collect::<Vec<_>>();
        for index in [5, 4, 3, 2, 1, 0, 1, 2] {
            assert!(query(index).is_empty(), "not in order, or too few");
        }
        assert_eq!(query(3), numbers(4..12));
        assert!(query(5).is_empty(), "measured already");

        ahead.add_page(files.clone());
        for index in [0, 1, 2] {
            assert!(query(index).is_empty());
        }
        assert_eq!(query(3), numbers(4..12), "listed again");
    }
}
