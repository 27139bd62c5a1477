//! All downloads of one original: carries out what the planner decides.
//!
//! Lock order: the state here, then the lock of the cache file or of a
//! download. The state is locked while the planner decides, so that two readers
//! do not start the same download; it is never locked across a wait.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::ContentError;
use super::context::OriginalContext;
use super::download::Download;
use super::transfer::Transfer;
use crate::cache::{CacheFile, Epoch};
use crate::content::planner::{self, AfterRead, Gaps, Plan, Snapshot, Start};
use crate::content::request_stats::{RequestCounts, RequestStats};

/// The downloads of one original.
#[derive(Debug)]
pub(super) struct Downloads {
    file: Arc<OriginalContext>,
    request_stats: Arc<RequestStats>,
    state: Mutex<DownloadsState>,
}

#[derive(Debug, Default)]
struct DownloadsState {
    /// Those under way, and some that have ended.
    downloads: Vec<Arc<Download>>,
    counts: RequestCounts,
    /// Whether parallel downloads were started.
    split: bool,
    /// Where the last read ended: a read that begins there is sequential.
    last_end: u64,
}

impl DownloadsState {
    /// Removes downloads that have ended; what they received stays counted.
    fn forget_ended(&mut self) {
        let counts = &mut self.counts;
        self.downloads.retain(|download| {
            let has_ended = download.has_ended();
            if has_ended {
                counts.received += download.received();
                if download.position() < download.range().end {
                    counts.received += planner::IN_FLIGHT;
                }
            }
            !has_ended
        });
    }

    /// The bytes received so far.
    fn received(&self) -> u64 {
        let downloads = self.downloads.iter().map(|download| download.received());
        self.counts.received + downloads.sum::<u64>()
    }
}

impl Gaps for CacheFile {
    fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.first_missing(&range)
    }
}

impl Downloads {
    pub(super) fn new(file: Arc<OriginalContext>, request_stats: Arc<RequestStats>) -> Self {
        Self {
            state: Mutex::new(DownloadsState {
                counts: request_stats.take(file.id),
                ..DownloadsState::default()
            }),
            file,
            request_stats,
        }
    }

    /// Returns the first part of `range` that the cache lacks.
    pub(super) fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.file.cached.first_gap(range)
    }

    /// Returns the download that delivers the start of `gap` to a read that
    /// ends at `read_end`, and how long to wait for it before calling this
    /// again. The download may be a new one. Returns `None` if nothing of `gap`
    /// is missing any more.
    pub(super) fn download_for(
        self: &Arc<Self>,
        gap: &Range<u64>,
        read_end: u64,
    ) -> Option<(Arc<Download>, Duration)> {
        let mut state = self.state();
        state.forget_ended();
        // The snapshot has the downloads' positions: it must be taken before
        // the planner looks at what is missing.
        let snapshot = self.snapshot(&state);
        match snapshot.plan(gap, read_end, &*self.file.cached) {
            Plan::Nothing => None,
            Plan::Wait {
                download,
                run_until,
                review_after,
            } => {
                let download = Arc::clone(&state.downloads[download]);
                if let Some(end) = run_until {
                    download.run_until(end);
                }
                Some((download, review_after))
            }
            Plan::Start(start) => Some((self.start(&mut state, start), planner::IDLE)),
        }
    }

    /// Downloads what is missing from `offset` to the end of the file.
    pub(super) async fn fetch_rest(self: &Arc<Self>, offset: u64) -> Result<(), ContentError> {
        let len = self.file.cached.len();
        while let Some(gap) = self.first_gap(offset..len) {
            let Some((download, review_after)) = self.download_for(&gap, len) else {
                continue;
            };
            let arrival = tokio::time::timeout(review_after, download.wait_for(len));
            if let Ok(arrived) = arrival.await {
                return arrived;
            }
        }
        Ok(())
    }

    /// Notes that a read of `range` was served.
    pub(super) fn after_read(self: &Arc<Self>, range: &Range<u64>) {
        let (mut state, read_end) = (self.state(), range.end);
        state.last_end = read_end;
        state.counts.served += range.end - range.start;
        if !self.file.options.splits(self.file.cached.len()) {
            return;
        }
        match (self.snapshot(&state)).after_read(read_end, &*self.file.cached) {
            AfterRead::Nothing => {}
            AfterRead::RunOn(ahead) => {
                for download in &state.downloads {
                    download.run_until(download.position().saturating_add(ahead));
                }
            }
            AfterRead::Split(starts) => {
                state.split = true;
                for start in starts {
                    self.start(&mut state, start);
                }
            }
        }
    }

    /// Returns the bytes of `range`, in parts, if a download has just received
    /// them in `epoch`.
    pub(super) fn recent(&self, range: &Range<u64>, epoch: Epoch) -> Option<Vec<Bytes>> {
        let state = self.state();
        let mut found = (state.downloads.iter()).map(|download| download.recent.find(range, epoch));
        found.find_map(|parts| parts)
    }

    /// Requests sent so far.
    #[cfg(test)]
    pub(super) fn requests(&self) -> u32 {
        self.state().counts.requests
    }

    fn start(self: &Arc<Self>, state: &mut DownloadsState, start: Start) -> Arc<Download> {
        state.counts.requests += 1;
        if start.counts_bytes {
            state.counts.bytes += start.range.end - start.range.start;
        }
        let download = Arc::new(Download::new(start.range, start.run_until));
        state.downloads.push(Arc::clone(&download));
        let transfer = Transfer::new(Arc::clone(&self.file), Arc::clone(&download));
        // The task holds `self`: while it runs, the file's state is in use.
        let downloads = Arc::clone(self);
        icos_sync::spawn_task(async move {
            transfer.run().await;
            drop(downloads);
        });
        download
    }

    fn snapshot(&self, state: &DownloadsState) -> Snapshot {
        let downloads = state.downloads.iter();
        Snapshot {
            options: self.file.options,
            len: self.file.cached.len(),
            capacity: self.file.cached.capacity(),
            counts: RequestCounts {
                received: state.received(),
                ..state.counts
            },
            split: state.split,
            last_end: state.last_end,
            downloads: downloads.map(|download| download.snapshot()).collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, DownloadsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        // A complete file needs no further requests.
        if !self.file.cached.is_complete() {
            let state = (self.state.get_mut()).unwrap_or_else(PoisonError::into_inner);
            let counts = RequestCounts {
                received: state.received(),
                ..state.counts
            };
            self.request_stats.note(self.file.id, counts);
        }
    }
}
