//! A request under way: how far it is, how far it is wanted, and until when.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::ContentError;

/// A stream no longer than this runs to its end, whoever still wants it.
pub(super) const SHORT: u64 = 4 << 20;
/// A reader this far ahead of a stream always waits for it rather than start
/// its own.
pub(super) const SKIP: u64 = 8 << 20;
/// One further ahead waits if the stream is there within so many round trips:
/// its own request would take one, and count as a download; and who jumps once
/// often jumps again, into what has come by then.
const ROUND_TRIPS: u32 = 4;
/// After so many bytes it is known how fast a stream is.
const TELLING: u64 = 1 << 20;
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
    /// Taken for moments only.
    pace: Mutex<Pace>,
}

/// When what arrived.
#[derive(Debug)]
struct Pace {
    /// When it was asked for.
    asked: Instant,
    /// When the first bytes and the last ones so far came.
    arrived: Option<(Instant, Instant)>,
    /// For how long nobody wanted more, between these.
    paused: Duration,
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
            pace: Mutex::new(Pace {
                asked: Instant::now(),
                arrived: None,
                paused: Duration::ZERO,
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

    /// Everything before `position` is in the cache.
    pub(super) fn reached(&self, position: u64) {
        let now = Instant::now();
        let mut pace = self.pace();
        let first = pace.arrived.map_or(now, |(first, _)| first);
        pace.arrived = Some((first, now));
        drop(pace);
        self.progress
            .send_modify(|progress| progress.position = position);
    }

    /// How far ahead of it a reader had better wait for it, in bytes.
    pub(super) fn reach(&self) -> u64 {
        let came = self.position() - self.range.start;
        self.pace().reach(came).unwrap_or(SKIP).max(SKIP)
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
        let since = Instant::now();
        let mut wanted = self.wanted.subscribe();
        let further = tokio::time::timeout(IDLE, wanted.wait_for(|wanted| at < *wanted)).await;
        self.pace().paused += since.elapsed();
        further.is_ok()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// How many bytes come within [`ROUND_TRIPS`], as far as `came` bytes tell.
    fn reach(&self, came: u64) -> Option<u64> {
        let (first, last) = self.arrived.filter(|_| came >= TELLING)?;
        let round_trips = first.duration_since(self.asked) * ROUND_TRIPS;
        let took = (last.duration_since(first)).saturating_sub(self.paused);
        let reach = u128::from(came) * round_trips.as_nanos() / took.as_nanos().max(1);
        Some(u64::try_from(reach).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(round_trip: u64, took: u64, paused: u64) -> Pace {
        let asked = Instant::now();
        let first = asked + Duration::from_millis(round_trip);
        Pace {
            asked,
            arrived: Some((first, first + Duration::from_millis(took))),
            paused: Duration::from_millis(paused),
        }
    }

    #[test]
    fn a_reader_waits_for_what_comes_within_four_round_trips() {
        // 16 MB in 20 ms, then nobody wanted more for a while.
        assert_eq!(pace(50, 520, 500).reach(16_000_000), Some(160_000_000));
        assert_eq!(pace(1, 20, 0).reach(16_000_000), Some(3_200_000));
    }

    #[test]
    fn little_tells_nothing_of_a_stream() {
        assert_eq!(pace(50, 1, 0).reach(TELLING - 1), None);
        assert_eq!(Stream::new(0..SHORT, 0).reach(), SKIP);
        // All came at once: no division by nothing.
        assert!(pace(50, 0, 0).reach(TELLING) > Some(1 << 40));
    }
}
