//! Decides whether a reader waits for a download, by how fast that is.

use std::time::Duration;

use super::{DownloadSnapshot, IDLE};

/// A reader farther ahead waits if the download arrives within this many round
/// trips. Its own request would take one and would count as a download, and a
/// reader that jumps once often jumps again, into bytes that have arrived by
/// then.
const ROUND_TRIPS: u32 = 8;
/// A longer round trip shows a server that hesitated, not a long route.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(500);
/// The least time until a waiting reader plans again; otherwise it is a round
/// trip.
const MIN_REVIEW: Duration = Duration::from_millis(10);
/// The speed of a response is known once this many bytes have arrived, or once
/// a `1 / SPEED_KNOWN_PART` of a round trip has passed.
const SPEED_KNOWN_BYTES: u64 = 4 << 20;
const SPEED_KNOWN_PART: u32 = 4;

/// How fast the response of a download arrives, measured from its beginning so
/// that the connection's slow start counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::content) struct Pace {
    /// Time from the request to the beginning of the response.
    pub(in crate::content) round_trip: Duration,
    /// Time since then, without pauses.
    pub(in crate::content) receiving: Duration,
    /// Whether the download is paused because its readers are far behind.
    pub(in crate::content) is_paused: bool,
}

/// Whether a reader should wait for a download.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WaitDecision {
    /// Yes. Until the next review the download may run `portion` bytes beyond
    /// its position.
    Wait {
        review_after: Duration,
        portion: u64,
    },
    /// The download is too young to tell. Decide again after this time.
    Unknown(Duration),
    /// No.
    Refuse,
}

impl DownloadSnapshot {
    /// Whether a reader of `offset` should wait for this download, if the
    /// bytes up to there are no more than `most`. It always waits for less than
    /// `near`.
    pub(super) fn wait_decision(&self, offset: u64, near: u64, most: u64) -> WaitDecision {
        let received = self.position - self.range.start;
        let distance = offset.saturating_sub(self.position);
        if distance < near {
            return WaitDecision::Wait {
                review_after: IDLE,
                portion: u64::MAX,
            };
        }
        match self.pace {
            Some(pace) => pace.wait_decision(received, distance, most),
            None => WaitDecision::Refuse,
        }
    }
}

impl Pace {
    /// Whether to wait for bytes that lie `distance` ahead, after `received`
    /// bytes. Beyond `most` the cache would not retain them.
    pub(super) fn wait_decision(&self, received: u64, distance: u64, most: u64) -> WaitDecision {
        let round_trip = self.round_trip.min(MAX_ROUND_TRIP);
        let bytes_within = |time: Duration| {
            let receiving = self.receiving.as_nanos().max(1);
            let bytes = u128::from(received) * time.as_nanos() / receiving;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        if distance < bytes_within(round_trip * ROUND_TRIPS).min(most) {
            let review_after = round_trip.max(MIN_REVIEW);
            return WaitDecision::Wait {
                review_after,
                // Enough that it does not pause before the review.
                portion: bytes_within(review_after * 2),
            };
        }
        let left = (round_trip / SPEED_KNOWN_PART).saturating_sub(self.receiving);
        if received < SPEED_KNOWN_BYTES && !left.is_zero() && !self.is_paused {
            return WaitDecision::Unknown(left);
        }
        WaitDecision::Refuse
    }
}
