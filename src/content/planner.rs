//! Decides which bytes of an original to request from the portal, and which
//! download a reader should wait for.
//!
//! The functions here are pure: no clocks, no I/O, no state. They receive a
//! [`Snapshot`] and a view of what the cache lacks ([`Gaps`]), and return a
//! [`Plan`]; the caller (`original::downloads`) carries the plan out. The same
//! is done for the columns of tables in [`columns`].
//!
//! Tests: a table of named cases (`tests`), and recorded traces of reads with the
//! requests they may cause (`replay`).
//!
//! ```text
//!  reader misses a gap
//!        |
//!        v
//!  gap still missing? --no--> Nothing (read the cache again)
//!        | yes
//!        v
//!  a download covers the gap's start, and its bytes arrive soon? --yes--> Wait
//!        | no
//!        v
//!  short file, or the rest in one request --> Start, first gap to the end
//!  sequential read                        --> Start, up to the next download
//!  random read                            --> Start, 1 MiB and growing
//! ```
//!
//! Every request counts as a download in the repository's statistics, so the
//! rules trade bytes for requests:
//!
//! - A file up to [`SHORT`] is requested from its first gap to its end.
//! - A sequential reader gets one long download, up to the next download or to a
//!   long range that is present. It pauses [`AHEAD`] beyond its readers, less with
//!   a small cache, and at the beginning: reads cost at most twice the bytes that
//!   they return and [`SLACK`].
//! - If the cache does not retain the complete file, fewer reads are taken for
//!   sequential, and bytes that are not read at once are not requested beyond that
//!   limit.
//! - A random reader gets ranges of [`RANDOM_MIN`]. After
//!   [`RANDOM_REQUESTS`] requests, or a quarter of the file, one request
//!   fetches everything that is missing. A file longer than
//!   [`DownloadOptions::whole_file_limit`], or than the cache retains, is never
//!   completed that way; its ranges grow up to [`RANDOM_MAX`], or half of what the
//!   cache retains, instead.
//! - A reader waits for a download that reaches its bytes soon (see
//!   [`Pace`]), instead of sending a request of its own.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use super::request_stats::RequestCounts;
use crate::cache::MAX_BLOCK;

pub(super) use pace::Pace;
use pace::WaitDecision;

pub(super) mod columns;
mod pace;
#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges, some of one range"
)]
mod replay;
#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges, some of one range"
)]
mod tests;
pub(super) mod variables;

/// A file, or a download, up to this length in bytes is fetched to its end
/// without a pause.
const SHORT: u64 = 4 << 20;
/// Random reads request at least this many bytes, aligned to as much.
const RANDOM_MIN: u64 = 1 << 20;
/// A random read of a file that is never completed requests at most this many
/// bytes.
const RANDOM_MAX: u64 = 64 << 20;
/// After this many requests, one more fetches all that is missing. In a file
/// that is never completed, the range of a random read doubles instead.
const RANDOM_REQUESTS: u32 = 16;
/// How far a download runs ahead of its readers.
const AHEAD: u64 = 16 << 20;
/// How far parallel downloads run ahead of their positions at the last read of
/// any part of the file.
const PARALLEL_AHEAD: u64 = 64 << 20;
/// A file of this length is split over several connections, if the user allows
/// more than one.
const SPLIT_MIN_LEN: u64 = 64 << 20;
/// The split happens once a reader is this far, so that a look at the head
/// costs one request.
const SPLIT_AFTER: u64 = 2 << 20;
/// The least length of a present range that ends a sequential download early:
/// over a shorter one the download continues, which saves a request.
const PRESENT_MIN: u64 = 4 << 20;
/// A read that begins this close to the file's start is taken for a sequential
/// one: the kernel's readahead arrives out of order.
const NEAR_START: u64 = 2 << 20;

/// What reads may cost in bytes beyond twice the bytes that they return. What is on its
/// way when a download ends comes in addition.
const SLACK: u64 = 5 << 20;
/// How many bytes are on their way, at most, when a download ends early.
pub(super) const IN_FLIGHT: u64 = 1 << 20;

/// A reader that is at most this far ahead of a download always waits for it.
const NEAR: u64 = 8 << 20;
/// How long a paused download waits for a reader before it ends. Also the time
/// after which any waiting reader plans again.
pub(super) const IDLE: Duration = Duration::from_secs(20);

/// How originals are downloaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DownloadOptions {
    /// Number of connections that may download parts of one large file at the
    /// same time. Each counts as a download.
    pub connections: NonZeroU32,
    /// A file longer than this, in bytes, is never downloaded completely for a
    /// random reader.
    pub whole_file_limit: u64,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            connections: NonZeroU32::MIN,
            whole_file_limit: 1 << 30,
        }
    }
}

impl DownloadOptions {
    /// Whether a file of `len` bytes is downloaded over several connections.
    pub(super) fn splits(&self, len: u64) -> bool {
        self.connections.get() > 1 && len >= SPLIT_MIN_LEN
    }

    /// How many bytes of a file of `len` bytes each connection downloads.
    fn segment(&self, len: u64) -> u64 {
        let share = len.div_ceil(self.connections.get().into());
        share.next_multiple_of(RANDOM_MIN)
    }
}

/// The parts of a file that the cache lacks.
///
/// This is a view and not a list: to copy the gaps of a long file for each read
/// would cost more than the decision.
pub(super) trait Gaps {
    /// Returns the first part of `range` that is missing.
    fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>>;
}

/// What the planner knows of a file. The downloads' positions must be taken
/// before the planner looks at the gaps: what a download has passed by then and
/// is still missing, that download does not deliver.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) options: DownloadOptions,
    /// Length of the file in bytes.
    pub(super) len: u64,
    /// How many bytes the cache can store without evicting some of them.
    pub(super) capacity: u64,
    /// Requests so far, those of earlier states of this file included.
    pub(super) counts: RequestCounts,
    /// Whether parallel downloads were started.
    pub(super) split: bool,
    /// Where the last read ended: a read that begins there is sequential.
    pub(super) last_end: u64,
    /// The downloads under way.
    pub(super) downloads: Vec<DownloadSnapshot>,
}

/// A download under way.
#[derive(Clone, Debug)]
pub(super) struct DownloadSnapshot {
    /// The requested range.
    pub(super) range: Range<u64>,
    /// Everything before this, within the range, was stored in the cache.
    pub(super) position: u64,
    /// How fast it is; `None` until the response begins.
    pub(super) pace: Option<Pace>,
}

/// What a reader of missing bytes should do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Plan {
    /// Wait for a download.
    Wait {
        /// Its index in [`Snapshot::downloads`].
        download: usize,
        /// Let it run at least to this offset; `None` leaves it as it is.
        run_until: Option<u64>,
        /// Plan again after this time if the bytes have not arrived.
        review_after: Duration,
    },
    /// Start a download and wait for it.
    Start(Start),
    /// Read the cache again: nothing is missing any more.
    Nothing,
}

/// A download to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Start {
    /// The range to request.
    pub(super) range: Range<u64>,
    /// The offset at which the download pauses unless readers follow.
    pub(super) run_until: u64,
    /// Whether the bytes count towards [`RequestCounts::bytes`]: they do for
    /// random reads.
    pub(super) counts_bytes: bool,
}

/// What follows from a read that was served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum AfterRead {
    /// Nothing.
    Nothing,
    /// Let each download run this many bytes beyond its position.
    RunOn(u64),
    /// Start these downloads, one for each further connection.
    Split(Vec<Start>),
}

/// Whether a download of `range` at `position` continues, if its readers want
/// everything before `run_until`.
pub(super) fn continues(range: &Range<u64>, position: u64, run_until: u64) -> bool {
    let is_short = range.end - range.start <= SHORT;
    is_short || position < run_until
}

impl Snapshot {
    /// Decides how the start of `gap` arrives, for a read that ends at
    /// `read_end`.
    pub(super) fn plan(&self, gap: &Range<u64>, read_end: u64, cache: &impl Gaps) -> Plan {
        let Some(gap) = cache.first_gap(gap.clone()) else {
            return Plan::Nothing;
        };
        if let Some(wait) = self.wait(&gap, read_end) {
            return wait;
        }
        let (range, counts_bytes) = self.range_to_start(&gap, read_end, cache);
        Plan::Start(Start {
            range,
            run_until: read_end.saturating_add(self.ahead()),
            counts_bytes,
        })
    }

    /// Decides what follows from a read that was served up to `read_end`.
    pub(super) fn after_read(&self, read_end: u64, cache: &impl Gaps) -> AfterRead {
        if self.split {
            return AfterRead::RunOn(PARALLEL_AHEAD);
        }
        if !self.options.splits(self.len) || read_end < SPLIT_AFTER || self.downloads.is_empty() {
            return AfterRead::Nothing;
        }
        let segment = self.options.segment(self.len);
        let mut starts = Vec::new();
        let mut start = segment;
        while start < self.len {
            let end = start.saturating_add(segment).min(self.len);
            if let Some(gap) = cache.first_gap(start..end) {
                starts.push(Start {
                    run_until: gap.start.saturating_add(PARALLEL_AHEAD),
                    range: gap.start..end,
                    counts_bytes: false,
                });
            }
            start = end;
        }
        AfterRead::Split(starts)
    }

    /// The download to wait for, if one delivers the start of `gap` soon.
    fn wait(&self, gap: &Range<u64>, read_end: u64) -> Option<Plan> {
        let covers = |download: &DownloadSnapshot| {
            (download.position..download.range.end).contains(&gap.start)
        };
        let (index, nearest) = (self.downloads.iter().enumerate())
            .filter(|(_, download)| covers(download))
            .max_by_key(|(_, download)| download.position)?;
        let decision = if self.split || self.wants_rest() {
            // Everything is on its way: no other request is sent.
            WaitDecision::Wait {
                review_after: IDLE,
                portion: u64::MAX,
            }
        } else {
            let (near, most) = if self.stays() {
                (NEAR, self.capacity / 2)
            } else {
                (RANDOM_MIN, self.credit())
            };
            nearest.wait_decision(gap.start, near, most)
        };
        match decision {
            WaitDecision::Wait {
                review_after,
                portion,
            } => {
                let ahead = self.ahead();
                let portion = nearest.position.saturating_add(portion.max(ahead));
                Some(Plan::Wait {
                    download: index,
                    run_until: Some(read_end.saturating_add(ahead).min(portion)),
                    review_after,
                })
            }
            WaitDecision::Unknown(review_after) => Some(Plan::Wait {
                download: index,
                run_until: None,
                review_after,
            }),
            WaitDecision::Refuse => None,
        }
    }

    /// The range to request so that the start of `gap` arrives, and whether it
    /// counts as a random one.
    fn range_to_start(
        &self,
        gap: &Range<u64>,
        read_end: u64,
        cache: &impl Gaps,
    ) -> (Range<u64>, bool) {
        if self.len <= SHORT || self.wants_rest() {
            let first = cache.first_gap(0..self.len).unwrap_or(0..self.len);
            // Present ranges are requested again, as long as that costs little.
            let bound = self.len + self.len / 4 + RANDOM_MIN;
            let is_cheap = self.counts.received + (self.len - first.start) <= bound;
            let end = if is_cheap {
                self.len
            } else {
                self.end_of_rest(first.end, cache)
            };
            return (first.start..end, false);
        }
        if self.is_sequential(gap) {
            let start = if gap.start <= NEAR_START {
                0
            } else {
                // Downloaded blocks can then be compared with evicted ones.
                gap.start - gap.start % MAX_BLOCK as u64
            };
            let stop = self.stop_of(start);
            let range = match cache.first_gap(start..stop) {
                Some(first) => first.start..next_present(first.end, stop, cache),
                None => start..stop,
            };
            return (range, false);
        }
        let doublings = self.counts.requests / RANDOM_REQUESTS;
        let length = RANDOM_MIN << doublings.min(RANDOM_MAX.ilog2() - RANDOM_MIN.ilog2());
        let (length, unit) = if self.stays() {
            (length, RANDOM_MIN)
        } else if self.credit() >= RANDOM_MIN {
            // A backward reader needs the bytes before the gap next.
            (length.min(self.credit()), RANDOM_MIN)
        } else {
            // Bytes that are not read at once are lost.
            (0, MAX_BLOCK as u64)
        };
        let length = length.min(self.capacity / 2).max(unit);
        let start = gap.start - gap.start % unit;
        let stop = read_end
            .max(start.saturating_add(length))
            .next_multiple_of(unit)
            .min(self.len);
        let first = cache.first_gap(start..stop);
        let start = first.map_or(start, |first| first.start);
        (start..stop, true)
    }

    /// Whether a read that misses `gap` continues the last one, or begins at
    /// the file's start.
    fn is_sequential(&self, gap: &Range<u64>) -> bool {
        let stays = self.stays();
        let is_near_start = gap.start <= NEAR_START && (stays || self.counts.requests == 0);
        let reach = if stays { NEAR } else { RANDOM_MIN };
        is_near_start || (gap.start >= self.last_end && gap.start - self.last_end <= reach)
    }

    /// How far downloads run ahead. What they fetch must stay in the cache
    /// until it is read.
    fn ahead(&self) -> u64 {
        let most = AHEAD.min(self.capacity / 2);
        match (self.stays(), self.counts.requests) {
            // A look at the head should not cost much.
            (true, 0..=1) => most.min(self.credit()).max(RANDOM_MIN),
            (true, _) => most.max(RANDOM_MIN),
            (false, _) => most.min(self.credit()).max(MAX_BLOCK as u64),
        }
    }

    /// Whether the cache retains the complete file.
    fn stays(&self) -> bool {
        self.len <= self.capacity
    }

    /// How many bytes may be received beyond those that readers wait for, so that
    /// reads cost at most twice the bytes that they return, and [`SLACK`].
    fn credit(&self) -> u64 {
        let RequestCounts {
            served, received, ..
        } = self.counts;
        (2 * served + SLACK).saturating_sub(received)
    }

    /// Whether one request should fetch everything that is missing. The cache must
    /// retain it: otherwise each miss would fetch the complete file again.
    fn wants_rest(&self) -> bool {
        let many = self.counts.requests >= RANDOM_REQUESTS || self.counts.bytes >= self.len / 4;
        many && self.len <= self.options.whole_file_limit && self.stays()
    }

    /// Where a request for the rest ends if all of the file would cost too much: it goes on
    /// from `gap_end`, over present ranges, as long as these are a small part of the file.
    fn end_of_rest(&self, gap_end: u64, cache: &impl Gaps) -> u64 {
        let mut spare = self.len / 4 + RANDOM_MIN;
        let mut end = gap_end;
        while let Some(next) = cache.first_gap(end..self.len) {
            let present = next.start - end;
            if present > spare {
                break;
            }
            spare -= present;
            end = next.end;
        }
        end
    }

    /// Where a sequential download from `start` must end: where another
    /// download begins, or at the end of its connection's segment.
    fn stop_of(&self, start: u64) -> u64 {
        let own = if self.options.splits(self.len) && !self.split {
            let segment = self.options.segment(self.len);
            (start / segment + 1) * segment
        } else {
            u64::MAX
        };
        let others = self.downloads.iter().map(|download| download.range.start);
        others
            .filter(|&other| other > start)
            .fold(own.min(self.len), u64::min)
    }
}

/// Where a download that reaches the end of a gap stops: there, if a long range
/// after it is present, otherwise at `stop`.
fn next_present(gap_end: u64, stop: u64, cache: &impl Gaps) -> u64 {
    let following = gap_end..stop.min(gap_end.saturating_add(PRESENT_MIN));
    if gap_end < stop && cache.first_gap(following).is_none() {
        gap_end
    } else {
        stop
    }
}
