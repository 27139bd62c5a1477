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
const ROUND_TRIPS: u32 = 8;
/// After so many bytes, or so much of a round trip, it is known how fast a
/// stream is; until then, whether to wait for it is not decided.
const TELLING: u64 = 4 << 20;
const YOUNG: u32 = 4;
/// How long a wait is at least, before it is asked again whether it is worth it.
const REVIEW: Duration = Duration::from_millis(100);
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

/// How fast it is: from the answer's beginning on, so that what a connection
/// takes to get up to speed counts.
#[derive(Debug)]
struct Pace {
    asked: Instant,
    answered: Option<Instant>,
    /// When the last bytes so far came.
    arrived: Option<Instant>,
    /// For how long nobody wanted more, in between.
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
                answered: None,
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

    /// The answer has begun.
    pub(super) fn answered(&self) {
        self.pace().answered = Some(Instant::now());
    }

    /// Everything before `position` is in the cache.
    pub(super) fn reached(&self, position: u64) {
        self.pace().arrived = Some(Instant::now());
        self.progress
            .send_modify(|progress| progress.position = position);
    }

    /// How far ahead of it a reader had better wait for it, in bytes.
    pub(super) fn reach(&self) -> u64 {
        let came = self.position() - self.range.start;
        self.pace().reach(came).unwrap_or(SKIP).max(SKIP)
    }

    /// For how long it is too young to tell how fast it is.
    pub(super) fn young(&self) -> Option<Duration> {
        if self.position() - self.range.start >= TELLING {
            return None;
        }
        let pace = self.pace();
        let answered = pace.answered?;
        let until = answered + answered.duration_since(pace.asked) / YOUNG;
        let left = until.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// After how long a reader who waits had better look again whether that is
    /// still the best.
    pub(super) fn review(&self) -> Duration {
        self.young().unwrap_or_else(|| {
            let round_trips = self.pace().round_trips();
            round_trips.unwrap_or(IDLE).max(REVIEW)
        })
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
    fn round_trips(&self) -> Option<Duration> {
        let answered = self.answered?;
        Some(answered.duration_since(self.asked) * ROUND_TRIPS)
    }

    /// How many bytes come within [`ROUND_TRIPS`], as far as `came` bytes tell.
    fn reach(&self, came: u64) -> Option<u64> {
        let took = self.arrived?.duration_since(self.answered?);
        let took = took.saturating_sub(self.paused).as_nanos().max(1);
        let reach = u128::from(came) * self.round_trips()?.as_nanos() / took;
        Some(u64::try_from(reach).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(round_trip: u64, took: u64, paused: u64) -> Pace {
        let asked = Instant::now();
        let answered = asked + Duration::from_millis(round_trip);
        Pace {
            asked,
            answered: Some(answered),
            arrived: Some(answered + Duration::from_millis(took)),
            paused: Duration::from_millis(paused),
        }
    }

    #[test]
    fn a_reader_waits_for_what_comes_within_a_few_round_trips() {
        // 16 MB in 20 ms, then nobody wanted more for a while.
        assert_eq!(pace(50, 520, 500).reach(16_000_000), Some(320_000_000));
        assert_eq!(pace(1, 20, 0).reach(16_000_000), Some(6_400_000));
    }

    #[test]
    fn a_stream_that_has_not_begun_tells_nothing() {
        let stream = Stream::new(0..SHORT, 0);
        assert_eq!(stream.reach(), SKIP);
        assert_eq!(stream.review(), IDLE);
        // All came at once: no division by nothing.
        assert!(pace(50, 0, 0).reach(1 << 20) > Some(1 << 40));
    }
}
