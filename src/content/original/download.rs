//! The state of one download: how far it is, how far it may run, how fast it
//! is, and the pieces it received last.
//!
//! Its readers and its transfer share it. A reader raises the offset up to which
//! the download runs ([`Download::run_until`]) and waits for its position
//! ([`Download::wait_for`]). The transfer moves the position
//! ([`Download::set_position`]) and pauses while it is ahead of all readers
//! ([`Download::wait_to_resume`]). The locks are leaves: nothing is locked under them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::ContentError;
use super::recent_pieces::RecentPieces;
use crate::content::planner::{self, DownloadSnapshot, Pace};
use crate::memory::{MemoryBudget, PIECE};

/// One request for a range of an original, and the response to it.
#[derive(Debug)]
pub(super) struct Download {
    /// The requested range.
    range: Range<u64>,
    progress: watch::Sender<DownloadProgress>,
    /// Up to which offset readers want it to run.
    run_until: watch::Sender<u64>,
    /// The end of the last large read that waits for it.
    awaited: AtomicU64,
    /// The pieces that it received last.
    pub(super) recent: RecentPieces,
    times: Mutex<DownloadTimes>,
}

#[derive(Clone, Debug)]
struct DownloadProgress {
    /// Everything before this, within the download's range, was stored in the cache.
    position: u64,
    /// The result, once the download has ended.
    ended: Option<Result<(), ContentError>>,
}

/// When what happened, for the download's [`Pace`].
#[derive(Debug)]
struct DownloadTimes {
    requested: Instant,
    /// When the response began.
    answered: Option<Instant>,
    /// The length of all past pauses, and the beginning of the present one.
    paused: Duration,
    paused_since: Option<Instant>,
}

impl Download {
    /// A download of `range` that pauses at `run_until` unless readers want
    /// more.
    pub(super) fn new(range: Range<u64>, run_until: u64) -> Self {
        Self {
            progress: watch::Sender::new(DownloadProgress {
                position: range.start,
                ended: None,
            }),
            run_until: watch::Sender::new(run_until),
            awaited: AtomicU64::new(0),
            recent: RecentPieces::default(),
            times: Mutex::new(DownloadTimes {
                requested: Instant::now(),
                answered: None,
                paused: Duration::ZERO,
                paused_since: None,
            }),
            range,
        }
    }

    /// The requested range.
    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The offset before which everything in the range was stored in the cache.
    pub(super) fn position(&self) -> u64 {
        self.progress.borrow().position
    }

    /// How many bytes it has stored in the cache.
    pub(super) fn received(&self) -> u64 {
        self.position() - self.range.start
    }

    /// Whether it has ended, by success or failure.
    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().ended.is_some()
    }

    /// What the planner needs to know.
    pub(super) fn snapshot(&self) -> DownloadSnapshot {
        DownloadSnapshot {
            range: self.range(),
            position: self.position(),
            pace: self.times().pace(Instant::now()),
        }
    }

    /// Lets it run up to `end` at least.
    pub(super) fn run_until(&self, end: u64) {
        self.run_until.send_if_modified(|run_until| {
            let is_further = *run_until < end;
            *run_until = (*run_until).max(end);
            is_further
        });
    }

    /// Notes that a reader is about to wait for the end of `read`.
    pub(super) fn expect(&self, read: &Range<u64>) {
        if read.end - read.start >= PIECE as u64 {
            self.awaited.store(read.end, Ordering::Relaxed);
        }
    }

    /// Where large pieces should end, or a multiple of their length from there:
    /// the end of the last large read.
    pub(super) fn awaited(&self) -> u64 {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Waits until everything before `end` was stored in the cache, or the download
    /// has ended.
    ///
    /// # Errors
    ///
    /// The download's error, if it ended before `end`.
    pub(super) async fn wait_for(&self, end: u64) -> Result<(), ContentError> {
        let end = end.min(self.range.end);
        let mut progress = self.progress.subscribe();
        let reached = progress
            .wait_for(|progress| progress.position >= end || progress.ended.is_some())
            .await;
        match reached {
            // Bytes that arrived before a failure are valid.
            Ok(progress) if progress.position >= end => Ok(()),
            Ok(progress) => progress.ended.clone().unwrap_or(Ok(())),
            // Never: `self` holds the sender.
            Err(_) => Ok(()),
        }
    }

    /// Notes that the request is sent now.
    pub(super) fn note_request(&self) {
        self.times().requested = Instant::now();
    }

    /// Notes that the response begins now.
    pub(super) fn note_response(&self) {
        self.times().answered = Some(Instant::now());
    }

    /// Notes that everything before `position` was stored in the cache.
    pub(super) fn set_position(&self, position: u64) {
        self.progress
            .send_modify(|progress| progress.position = position);
    }

    /// Ends the download with `result`.
    pub(super) fn end(&self, result: Result<(), ContentError>) {
        self.recent.clear();
        self.progress
            .send_modify(|progress| progress.ended = Some(result));
    }

    /// Whether the bytes at `position` should be received now.
    pub(super) fn continues(&self, position: u64) -> bool {
        planner::continues(&self.range, position, *self.run_until.borrow())
    }

    /// Pauses until readers want the bytes at `position`; false if they do not
    /// within [`planner::IDLE`], or if another stream needs the memory.
    pub(super) async fn wait_to_resume(&self, position: u64, memory: &MemoryBudget) -> bool {
        self.recent.set_paused(true);
        self.times().paused_since = Some(Instant::now());
        let mut run_until = self.run_until.subscribe();
        let wanted = run_until.wait_for(|&end| position < end);
        let is_wanted = tokio::select! {
            biased;
            _ = wanted => true,
            () = memory.stream_wanted() => false,
            () = tokio::time::sleep(planner::IDLE) => false,
        };
        self.recent.set_paused(false);
        let mut times = self.times();
        let since = times.paused_since.take();
        times.paused += since.map_or(Duration::ZERO, |since| since.elapsed());
        is_wanted
    }

    fn times(&self) -> MutexGuard<'_, DownloadTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DownloadTimes {
    fn pace(&self, now: Instant) -> Option<Pace> {
        let answered = self.answered?;
        let until = self.paused_since.unwrap_or(now);
        let receiving = until.duration_since(answered);
        Some(Pace {
            round_trip: answered.duration_since(self.requested),
            receiving: receiving.saturating_sub(self.paused),
            is_paused: self.paused_since.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pace_excludes_pauses_and_includes_stalls() {
        let requested = Instant::now();
        let mut times = DownloadTimes {
            requested,
            answered: None,
            paused: Duration::ZERO,
            paused_since: None,
        };
        let later = requested + 10_070 * MS;
        let pace = |times: &DownloadTimes| {
            let pace = times.pace(later)?;
            Some((pace.round_trip, pace.receiving, pace.is_paused))
        };
        assert_eq!(pace(&times), None, "no response yet");
        times.answered = Some(requested + 50 * MS);
        assert_eq!(pace(&times), Some((50 * MS, 10_020 * MS, false)), "stalled");
        times.paused_since = Some(requested + 70 * MS);
        assert_eq!(pace(&times), Some((50 * MS, 20 * MS, true)), "paused");
        times.paused_since = None;
        times.paused = 10_000 * MS;
        assert_eq!(pace(&times), Some((50 * MS, 20 * MS, false)), "resumed");
    }
}
