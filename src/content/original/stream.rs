//! A request under way: how far it is, how far it is wanted, and until when.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::ContentError;
use super::recent::Recent;
use crate::memory::PIECE;

/// A stream no longer than this runs to its end, whoever still wants it.
pub(super) const SHORT: u64 = 4 << 20;
/// A reader this far ahead of a stream always waits for it rather than start
/// its own.
pub(super) const SKIP: u64 = 8 << 20;
/// One further ahead waits if the stream is there within so many round trips:
/// its own request would take one, and count as a download; and who jumps once
/// often jumps again, into what has come by then.
const ROUND_TRIPS: u32 = 8;
/// What is longer was not the way, but a server that hesitated.
const LONGEST_TRIP: Duration = Duration::from_millis(500);
/// A reader looks again after a round trip whether waiting is still the best,
/// but not more often than this.
const REVIEW: Duration = Duration::from_millis(10);
/// Once so many bytes came, or a part of a round trip went by, it is known how
/// fast an answer that has begun is.
const TELLING: u64 = 4 << 20;
const PART: u32 = 4;
/// How long a stream waits for a reader to come back.
pub(super) const IDLE: Duration = Duration::from_secs(20);

/// A request under way.
#[derive(Debug)]
pub(super) struct Stream {
    /// What it will fetch.
    range: Range<u64>,
    progress: watch::Sender<Progress>,
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

/// Whether a reader should wait for a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Worth {
    /// Yes, and look again after a while; until then, so many bytes from where
    /// it is may be wanted of it.
    Waiting { review: Duration, portion: u64 },
    /// That will be known after a while.
    Unknown(Duration),
    /// No.
    Nothing,
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

    /// Whether who needs what lies at `offset` should wait for it, if it is no
    /// further away than `most`.
    pub(super) fn worth(&self, offset: u64, most: u64) -> Worth {
        let position = self.position();
        let (came, distance) = (position - self.range.start, offset.saturating_sub(position));
        self.pace().worth(came, distance, most, Instant::now())
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
        let short = self.range.end - self.range.start <= SHORT;
        short || at < *self.wanted.borrow()
    }

    /// Waits until what lies at `at` is wanted; false if the stream is far
    /// enough ahead of its readers, and they do not come back.
    pub(super) async fn is_wanted_again(&self, at: u64) -> bool {
        self.recent.rest(true);
        self.pace().paused_since = Some(Instant::now());
        let mut wanted = self.wanted.subscribe();
        let further = tokio::time::timeout(IDLE, wanted.wait_for(|wanted| at < *wanted)).await;
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
    /// As [`Stream::worth`], after `came` bytes.
    fn worth(&self, came: u64, distance: u64, most: u64, now: Instant) -> Worth {
        if distance < SKIP {
            let (review, portion) = (IDLE, u64::MAX);
            return Worth::Waiting { review, portion };
        }
        let Some(answered) = self.answered else {
            return Worth::Nothing;
        };
        let round_trip = (answered.duration_since(self.asked)).min(LONGEST_TRIP);
        let until = self.paused_since.unwrap_or(now);
        let took = until.duration_since(answered).saturating_sub(self.paused);
        let within = |time: Duration| {
            let bytes = u128::from(came) * time.as_nanos() / took.as_nanos().max(1);
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        if distance < within(round_trip * ROUND_TRIPS).min(most) {
            let review = round_trip.max(REVIEW);
            // Enough that it does not pause before.
            let portion = within(review * 2);
            return Worth::Waiting { review, portion };
        }
        let left = (round_trip / PART).saturating_sub(took);
        if came < TELLING && !left.is_zero() && self.paused_since.is_none() {
            return Worth::Unknown(left);
        }
        Worth::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const MS: Duration = Duration::from_millis(1);

    /// A stream that was answered after a while, and when that was.
    fn pace_after(hesitation: Duration) -> (Pace, Instant) {
        let asked = Instant::now();
        let answered = asked + hesitation;
        let pace = Pace {
            asked,
            answered: Some(answered),
            paused: Duration::ZERO,
            paused_since: None,
        };
        (pace, answered)
    }

    #[test]
    fn a_reader_waits_for_what_comes_within_a_few_round_trips() {
        let (pace, answered) = pace_after(50 * MS);
        let worth = |distance, most| pace.worth(16 * MB, distance, most, answered + 20 * MS);
        let (review, portion) = (50 * MS, 80 * MB);
        let waiting = Worth::Waiting { review, portion };
        assert_eq!(worth(319 * MB, u64::MAX), waiting);
        assert_eq!(worth(321 * MB, u64::MAX), Worth::Nothing);
        // What the cache does not hold so long is of no use.
        assert_eq!(worth(319 * MB, 100 * MB), Worth::Nothing);
    }

    #[test]
    fn a_pause_tells_nothing_of_a_stream_and_a_stall_does() {
        let (mut pace, answered) = pace_after(50 * MS);
        let later = answered + 10_020 * MS;
        let worth = |pace: &Pace| pace.worth(16 * MB, 100 * MB, u64::MAX, later);
        assert_eq!(worth(&pace), Worth::Nothing, "it stalls");
        pace.paused_since = Some(answered + 20 * MS);
        let waiting = worth(&pace);
        assert!(matches!(waiting, Worth::Waiting { .. }), "{waiting:?}");
        pace.paused_since = None;
        pace.paused = 10_000 * MS;
        assert_eq!(worth(&pace), waiting, "it goes on");
    }

    #[test]
    fn a_young_stream_is_given_a_part_of_a_round_trip() {
        let (mut pace, answered) = pace_after(50 * MS);
        let worth = |pace: &Pace, after| pace.worth(1, 100 * MB, u64::MAX, answered + after);
        let unknown = Worth::Unknown(Duration::from_micros(10_500));
        assert_eq!(worth(&pace, 2 * MS), unknown);
        assert_eq!(worth(&pace, 13 * MS), Worth::Nothing);
        // It would never get older.
        pace.paused_since = Some(answered + 2 * MS);
        assert_eq!(worth(&pace, 2 * MS), Worth::Nothing);
        pace.answered = None;
        assert_eq!(worth(&pace, 2 * MS), Worth::Nothing);
    }

    #[test]
    fn a_server_that_hesitated_is_not_taken_for_a_long_way() {
        let (pace, answered) = pace_after(15_000 * MS);
        let worth = pace.worth(10 * MB, 50 * MB, u64::MAX, answered + 10_000 * MS);
        assert_eq!(worth, Worth::Nothing);
    }
}
