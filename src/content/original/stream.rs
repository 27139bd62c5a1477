//! A request under way: how far it is, how far it is wanted, and until when.

use std::ops::Range;
use std::time::Duration;

use tokio::sync::watch;

use super::ContentError;

/// A stream no longer than this runs to its end, whoever still wants it.
pub(super) const SHORT: u64 = 4 << 20;
/// How long a stream waits for a reader to come back.
const IDLE: Duration = Duration::from_secs(20);

/// A request under way.
#[derive(Debug)]
pub(super) struct Stream {
    /// What it will fetch.
    range: Range<u64>,
    progress: watch::Sender<Progress>,
    /// How far readers want it to run.
    wanted: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct Progress {
    /// All before this, within the stream's range, is in the cache.
    position: u64,
    /// Set when the stream is over.
    ended: Option<Result<(), ContentError>>,
}

impl Stream {
    /// A stream of `range` that may run until `wanted` for now.
    pub(super) fn new(range: Range<u64>, wanted: u64) -> Self {
        Self {
            progress: watch::Sender::new(Progress {
                position: range.start,
                ended: None,
            }),
            wanted: watch::Sender::new(wanted),
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

    /// Everything before `position` is in the cache.
    pub(super) fn reached(&self, position: u64) {
        self.progress
            .send_modify(|progress| progress.position = position);
    }

    /// It is over, and how.
    pub(super) fn end(&self, result: Result<(), ContentError>) {
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

    /// Waits while the stream is far enough ahead of its readers; false if
    /// they do not come back.
    pub(super) async fn is_wanted(&self, at: u64) -> bool {
        let short = self.range.end - self.range.start <= SHORT;
        if short || at < *self.wanted.borrow() {
            return true;
        }
        let mut wanted = self.wanted.subscribe();
        let further = tokio::time::timeout(IDLE, wanted.wait_for(|wanted| at < *wanted)).await;
        further.is_ok()
    }
}
