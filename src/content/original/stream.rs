//! A request under way: how far it is, how far it is wanted, and until when.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::ContentError;
use super::recent::Recent;
use crate::content::planner::{self, DownloadSnapshot};
use crate::memory::PIECE;

/// A request under way.
#[derive(Debug)]
pub(super) struct Stream {
    /// What it will fetch.
    range: Range<u64>,
    progress: watch::Sender<ExportProgress>,
    /// How far readers want it to run.
    wanted: watch::Sender<u64>,
    /// Where someone waits who needs as much as the kernel asks for at once.
    awaited: AtomicU64,
    /// What it has brought last.
    pub(super) recent: Recent,
    /// Taken for moments only.
    pace: Mutex<Pace>,
}

/// How fast it is: from the answer's beginning on, so that what a connection
/// takes to get up to speed counts.
#[derive(Debug)]
struct Pace {
    asked: Instant,
    answered: Option<Instant>,
    /// For how long nobody wanted more, and since when again.
    paused: Duration,
    paused_since: Option<Instant>,
}

#[derive(Clone, Debug)]
struct ExportProgress {
    /// All before this, within the stream's range, is in the cache.
    position: u64,
    /// Set when the stream is over.
    ended: Option<Result<(), ContentError>>,
}

impl Stream {
    /// A stream of `range` that may run until `wanted` for now.
    pub(super) fn new(range: Range<u64>, wanted: u64) -> Self {
        Self {
            progress: watch::Sender::new(ExportProgress {
                position: range.start,
                ended: None,
            }),
            wanted: watch::Sender::new(wanted),
            awaited: AtomicU64::new(0),
            recent: Recent::default(),
            pace: Mutex::new(Pace {
                asked: Instant::now(),
                answered: None,
                paused: Duration::ZERO,
                paused_since: None,
            }),
            range,
        }
    }

    /// What it fetches.
    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// How far it is.
    pub(super) fn position(&self) -> u64 {
        self.progress.borrow().position
    }

    pub(super) fn is_over(&self) -> bool {
        self.progress.borrow().ended.is_some()
    }

    /// It is asked for now.
    pub(super) fn asked(&self) {
        self.pace().asked = Instant::now();
    }

    /// The answer has begun.
    pub(super) fn answered(&self) {
        self.pace().answered = Some(Instant::now());
    }

    /// Everything before `position` is in the cache.
    pub(super) fn reached(&self, position: u64) {
        self.progress
            .send_modify(|progress| progress.position = position);
    }

    /// What the planner knows of it.
    pub(super) fn snapshot(&self) -> DownloadSnapshot {
        DownloadSnapshot {
            range: self.range(),
            position: self.position(),
            pace: self.pace().snapshot(Instant::now()),
        }
    }

    /// It is over, and how.
    pub(super) fn end(&self, result: Result<(), ContentError>) {
        self.recent.clear();
        self.progress
            .send_modify(|progress| progress.ended = Some(result));
    }

    /// A reader wants it to run until `end` at least.
    pub(super) fn want(&self, end: u64) {
        self.wanted.send_if_modified(|wanted| {
            let further = *wanted < end;
            *wanted = (*wanted).max(end);
            further
        });
    }

    /// A reader is about to wait for the end of `read`.
    pub(super) fn expect(&self, read: &Range<u64>) {
        if read.end - read.start >= PIECE as u64 {
            self.awaited.store(read.end, Ordering::Relaxed);
        }
    }

    /// Where large pieces of it should end, or a number of them from there.
    pub(super) fn awaited(&self) -> u64 {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Waits until the stream is past `end`, or over.
    pub(super) async fn wait_for(&self, end: u64) -> Result<(), ContentError> {
        let end = end.min(self.range.end);
        let mut progress = self.progress.subscribe();
        let reached = progress
            .wait_for(|progress| progress.position >= end || progress.ended.is_some())
            .await;
        match reached {
            // Bytes that arrived before a failure are as good as any.
            Ok(progress) if progress.position >= end => Ok(()),
            Ok(progress) => progress.ended.clone().unwrap_or(Ok(())),
            // Never: `self` holds the sender.
            Err(_) => Ok(()),
        }
    }

    /// Whether what lies at `at` should be fetched already.
    pub(super) fn is_wanted(&self, at: u64) -> bool {
        planner::continues(&self.range, at, *self.wanted.borrow())
    }

    /// Waits until what lies at `at` is wanted; false if the stream is far
    /// enough ahead of its readers, and they do not come back.
    pub(super) async fn is_wanted_again(&self, at: u64) -> bool {
        self.recent.rest(true);
        self.pace().paused_since = Some(Instant::now());
        let mut wanted = self.wanted.subscribe();
        let further =
            tokio::time::timeout(planner::IDLE, wanted.wait_for(|wanted| at < *wanted)).await;
        self.recent.rest(false);
        let mut pace = self.pace();
        let since = pace.paused_since.take();
        pace.paused += since.map_or(Duration::ZERO, |since| since.elapsed());
        further.is_ok()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn snapshot(&self, now: Instant) -> Option<planner::Pace> {
        let answered = self.answered?;
        let until = self.paused_since.unwrap_or(now);
        let receiving = until.duration_since(answered);
        Some(planner::Pace {
            round_trip: answered.duration_since(self.asked),
            receiving: receiving.saturating_sub(self.paused),
            is_paused: self.paused_since.is_some(),
        })
    }
}
