//! An original: fetched by long streams into the cache, checked against its
//! id once it is whole.
//!
//! Every request counts as a download in the repository's statistics. So a
//! small file comes whole, a sequential reader gets one long stream, and a
//! random reader ranges of a MiB or more, until it has asked so often, or has
//! so much, that the rest comes in one stream too.

use std::fs::File;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::request_stats::{RequestCounts, RequestStats};
use super::{ContentError, Origin};
use crate::cache::{Entry, Found, Life};
use crate::memory::Memory;
use icos_portal::{DataClient, ObjectId};
use icos_sync::SingleFlight;

mod bringing;
mod corrupt_files;
mod piece;
mod proof;
mod proving;
mod recent;
mod stream;

pub(super) use corrupt_files::CorruptFiles;
use proof::Proof;
use stream::{Stream, Worth};

/// The least that a random read fetches.
const LEAST: u64 = 1 << 20;
/// After so many requests what is still missing is fetched in one.
const PATIENCE: u32 = 16;
/// The most that a random read fetches of a file that is never fetched whole.
const MOST: u64 = 64 << 20;
/// How far a stream runs ahead of its readers.
const AHEAD: u64 = 16 << 20;
/// How far the streams of parallel connections run ahead of the last read of
/// any part of the file.
const FAR_AHEAD: u64 = 64 << 20;
/// A file this long may come by several connections at once, once this much
/// was read of it.
const WORTH_SPLITTING: u64 = 64 << 20;
const BEFORE_SPLITTING: u64 = 2 << 20;

/// How originals are fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DownloadOptions {
    /// How many connections may bring parts of one large file at once. Each
    /// counts as a download.
    pub connections: NonZeroU32,
    /// A longer file, in bytes, is never fetched whole for a random reader.
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

/// One original, its streams and its place in the cache.
#[derive(Debug)]
pub(super) struct OriginalFile {
    id: ObjectId,
    entry: Arc<Entry>,
    data: DataClient,
    memory: Memory,
    how: DownloadOptions,
    fetching: Mutex<Fetching>,
    proofs: SingleFlight<(), Result<(), ContentError>>,
    proof: Arc<Proof>,
    corrupt_files: Arc<CorruptFiles>,
    request_stats: Arc<RequestStats>,
}

#[derive(Debug, Default)]
struct Fetching {
    streams: Vec<Arc<Stream>>,
    asked: RequestCounts,
    /// Whether parallel streams were begun.
    split: bool,
    /// Of which life a proof was begun before anyone waited for it.
    proving: Option<Life>,
    /// Where the last read ended: the next one that begins there is part of a
    /// sequence.
    last_end: u64,
}

impl OriginalFile {
    pub(super) fn new(
        id: ObjectId,
        entry: Arc<Entry>,
        data: DataClient,
        memory: Memory,
        how: DownloadOptions,
        corrupt_files: Arc<CorruptFiles>,
        request_stats: Arc<RequestStats>,
    ) -> Self {
        if entry.is_sealed() {
            // It was proved before it got its name.
            entry.prove(entry.life());
        }
        Self {
            id,
            entry,
            data,
            memory,
            how,
            fetching: Mutex::new(Fetching {
                asked: request_stats.recall(id),
                ..Fetching::default()
            }),
            proofs: SingleFlight::default(),
            proof: Arc::default(),
            corrupt_files,
            request_stats,
        }
    }

    /// The bytes from `offset` on, at most `len`; fewer only at the end.
    pub(super) async fn read(
        self: Arc<Self>,
        generation: u64,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let end = self.entry.len().min(offset.saturating_add(len as u64));
        let range = offset.min(end)..end;
        loop {
            // What this reader got before was of another content, which turned
            // out wrong.
            if self.is_spoiled_since(generation) {
                return Err(ContentError::WrongHash { id: self.id });
            }
            // A file must have proved itself before its last bytes go out, so
            // that nobody reads a wrong one to the end.
            if self.must_prove_itself(&range).await {
                self.prove().await?;
                continue;
            }
            let gap = match self.first_gap(range.clone()) {
                Some(gap) => gap,
                None => match self.read_cached(&range).await? {
                    Ok(bytes) => {
                        // Covered, or dropped, since the checks above: a wrong
                        // file is noted before its bytes go.
                        if self.must_prove_itself(&range).await || self.is_spoiled_since(generation)
                        {
                            continue;
                        }
                        self.was_read(range.end);
                        Origin::Cache.note();
                        return Ok(bytes);
                    }
                    Err(gap) => gap,
                },
            };
            // The next content is for others to fetch.
            if self.is_spoiled_since(generation) {
                continue;
            }
            let upto = gap.end.min(range.end);
            Origin::Portal.note();
            let Some((stream, review)) = self.stream_for(&gap, range.end) else {
                continue;
            };
            stream.expect(&range);
            // If it slows down meanwhile, its own request may be the better one.
            if let Ok(waited) = tokio::time::timeout(review, stream.wait_for(upto)).await {
                waited?;
            }
        }
    }

    /// Whether bytes that were read under `generation` turned out wrong.
    fn is_spoiled_since(&self, generation: u64) -> bool {
        self.corrupt_files.count(self.id) != generation
    }

    /// The bytes of `range`, or a stretch of them that is gone again.
    async fn read_cached(
        &self,
        range: &Range<u64>,
    ) -> Result<Result<Bytes, Range<u64>>, ContentError> {
        if let Some(parts) = self.recent(range) {
            return self.join(parts).await.map(Ok);
        }
        let bytes = range.end - range.start + Entry::SURPLUS;
        let share = self.memory.for_answer(bytes).await?;
        Ok(match self.entry.read(range.clone())? {
            Found::Bytes(bytes) => Ok(share.hold(bytes)),
            Found::Missing(gap) => Err(gap),
        })
    }

    /// The bytes of `range`, in parts, if a stream has just brought them.
    fn recent(&self, range: &Range<u64>) -> Option<Vec<Bytes>> {
        let life = self.entry.life();
        let fetching = self.fetching();
        let mut found = fetching
            .streams
            .iter()
            .map(|stream| stream.recent.find(range, life));
        found.find_map(|parts| parts)
    }

    async fn join(&self, mut parts: Vec<Bytes>) -> Result<Bytes, ContentError> {
        if let [_] = parts[..] {
            return Ok(parts.swap_remove(0));
        }
        let len: usize = parts.iter().map(Bytes::len).sum();
        let share = self.memory.for_answer(len as u64).await?;
        Ok(share.hold(parts.concat()))
    }

    /// Its place in the cache: whoever holds it keeps what is known of bytes
    /// that were there.
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Offers the disk what only memory has; whether it takes all of it. Blocks
    /// on the disk.
    pub(super) fn offer_to_disk(&self) -> bool {
        let settled = self.entry.offer_to_disk();
        let life = self.entry.life();
        if settled
            && self.entry.is_proved()
            && let Err(error) = self.entry.seal(life)
        {
            tracing::warn!(%error, id = %self.id, "a complete object got no name of its own");
        }
        settled
    }

    /// Notes that a reader got as far as `end`.
    fn was_read(self: &Arc<Self>, end: u64) {
        let mut fetching = self.fetching();
        fetching.last_end = end;
        if fetching.split {
            for stream in &fetching.streams {
                stream.want(stream.position().saturating_add(FAR_AHEAD));
            }
        } else if self.splits() && end >= BEFORE_SPLITTING && !fetching.streams.is_empty() {
            fetching.split = true;
            let mut start = self.segment();
            while start < self.entry.len() {
                let end = start.saturating_add(self.segment()).min(self.entry.len());
                if let Some(gap) = self.first_gap(start..end) {
                    let range = gap.start..end;
                    self.begin(&mut fetching, range, gap.start.saturating_add(FAR_AHEAD));
                }
                start = end;
            }
        }
    }

    /// Whether the file comes by several connections at once.
    fn splits(&self) -> bool {
        self.how.connections.get() > 1 && self.entry.len() >= WORTH_SPLITTING
    }

    /// How much of the file each connection brings.
    fn segment(&self) -> u64 {
        let share = self.entry.len().div_ceil(self.how.connections.get().into());
        share.next_multiple_of(LEAST)
    }

    /// The file in the cache, if it is whole and has proved itself.
    pub(super) fn sealed_file(&self) -> Option<File> {
        self.entry.sealed_file()
    }

    /// The stream that will bring the start of `gap`: one under way, or a new
    /// one; and how long to wait before this is asked again. `end` is the end of
    /// the read. None if nothing of it is missing any more.
    fn stream_for(self: &Arc<Self>, gap: &Range<u64>, end: u64) -> Option<(Arc<Stream>, Duration)> {
        let mut fetching = self.fetching();
        fetching.streams.retain(|stream| !stream.is_over());
        let ahead = self.ahead();
        let wanted = end.saturating_add(ahead);
        // Before a last look at what is missing: what a stream has passed by
        // then, and is missing all the same, it does not bring.
        let streams: Vec<_> = (fetching.streams.iter())
            .map(|stream| (stream.position(), Arc::clone(stream)))
            .collect();
        let gap = &self.first_gap(gap.clone())?;
        let nearest = (streams.iter())
            .filter(|(position, stream)| (*position..stream.range().end).contains(&gap.start))
            .max_by_key(|(position, _)| *position)
            .map(|(_, stream)| stream);
        if let Some(stream) = nearest {
            let worth = if fetching.split || self.wants_whole(&fetching) {
                // Once all of it is on its way, everyone waits for that.
                let (review, portion) = (stream::IDLE, u64::MAX);
                Worth::Waiting { review, portion }
            } else {
                stream.worth(gap.start, self.entry.capacity() / 2)
            };
            match worth {
                Worth::Waiting { review, portion } => {
                    let portion = stream.position().saturating_add(portion.max(ahead));
                    stream.want(wanted.min(portion));
                    return Some((Arc::clone(stream), review));
                }
                Worth::Unknown(review) => return Some((Arc::clone(stream), review)),
                Worth::Nothing => {}
            }
        }
        let range = self.plan(gap, end, &mut fetching);
        Some((self.begin(&mut fetching, range, wanted), stream::IDLE))
    }

    /// Sends for `range`.
    fn begin(
        self: &Arc<Self>,
        fetching: &mut Fetching,
        range: Range<u64>,
        wanted: u64,
    ) -> Arc<Stream> {
        fetching.asked.requests += 1;
        let stream = Arc::new(Stream::new(range, wanted));
        fetching.streams.push(Arc::clone(&stream));
        let (file, running) = (Arc::clone(self), Arc::clone(&stream));
        tokio::spawn(async move {
            running.end(file.run(&running).await);
        });
        stream
    }

    /// How far streams run ahead: what they fetch must stay until it is read.
    fn ahead(&self) -> u64 {
        AHEAD.min(self.entry.capacity() / 2).max(LEAST)
    }

    /// Whether so much was asked for that the rest had better come at once.
    fn wants_whole(&self, fetching: &Fetching) -> bool {
        let len = self.entry.len();
        let often = fetching.asked.requests >= PATIENCE || fetching.asked.bytes >= len / 4;
        often && len <= self.how.whole_file_limit
    }

    /// What to ask for so that `gap`'s start arrives: everything that follows
    /// for a sequential reader, some of it for a random one.
    fn plan(&self, gap: &Range<u64>, end: u64, fetching: &mut Fetching) -> Range<u64> {
        let len = self.entry.len();
        if len <= stream::SHORT || self.wants_whole(fetching) {
            return self
                .first_gap(0..len)
                .map_or(0..len, |first| first.start..len);
        }
        let sequential = gap.start == 0
            || (gap.start >= fetching.last_end && gap.start - fetching.last_end <= stream::SKIP)
            // The kernel's readahead arrives out of order: near the start, the
            // stream begins at the start.
            || gap.start <= 2 * LEAST;
        if sequential {
            let start = if gap.start <= 2 * LEAST {
                0
            } else {
                // What comes again must be comparable with what was there.
                gap.start - gap.start % piece::SMALL as u64
            };
            let stop = self.stop_of(start, fetching);
            return self.first_gap(start..stop).map_or(start..stop, |first| {
                // Until what is there already, if that is a good deal.
                first.start..self.next_present(first.end, stop)
            });
        }
        // Of a file that is never fetched whole, more with every request.
        let grown = LEAST << (fetching.asked.requests / PATIENCE).min(MOST.ilog2() - LEAST.ilog2());
        let start = gap.start - gap.start % LEAST;
        let stop = end
            .max(start.saturating_add(grown))
            .next_multiple_of(LEAST)
            .min(len);
        let range = self
            .first_gap(start..stop)
            .map_or(start..stop, |first| first.start..stop);
        fetching.asked.bytes += range.end - range.start;
        range
    }

    /// Where a long stream from `start` has to end: where another one that is
    /// under way begins, or at the end of its connection's part.
    fn stop_of(&self, start: u64, fetching: &Fetching) -> u64 {
        let own = if self.splits() && !fetching.split {
            (start / self.segment() + 1) * self.segment()
        } else {
            u64::MAX
        };
        let others = fetching.streams.iter().map(|stream| stream.range().start);
        others
            .filter(|&other| other > start)
            .chain([own, self.entry.len()])
            .min()
            .unwrap_or(own)
    }

    fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.entry.missing(range).into_iter().next()
    }

    /// Where a stream that reaches the end of a gap stops: there, if a good
    /// deal of what follows is present, else at `stop`.
    fn next_present(&self, gap_end: u64, stop: u64) -> u64 {
        let following = gap_end..stop.min(gap_end.saturating_add(4 * LEAST));
        if gap_end < stop && self.entry.missing(following).is_empty() {
            gap_end
        } else {
            stop
        }
    }

    fn fetching(&self) -> MutexGuard<'_, Fetching> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OriginalFile {
    fn drop(&mut self) {
        // Of what came as a whole nothing more will be asked.
        if !self.entry.is_complete() {
            let fetching = (self.fetching.get_mut()).unwrap_or_else(PoisonError::into_inner);
            self.request_stats.note(self.id, fetching.asked);
        }
    }
}
