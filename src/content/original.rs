//! An original: fetched by long streams into the cache, checked against its
//! id once it is whole.
//!
//! Every request counts as a download in the repository's statistics. So a
//! small file comes whole, a sequential reader gets one long stream, and a
//! random reader ranges of a MiB or more, until it has asked so often, or has
//! so much, that the rest comes in one stream too.

use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::planner::{self, AfterRead, DownloadOptions, Gaps, Plan, Snapshot, Start};
use super::request_stats::{RequestCounts, RequestStats};
use super::{ByteSource, ContentError};
use crate::cache::{CacheFile, CacheRead, Epoch};
use crate::memory::MemoryBudget;
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
use stream::Stream;

/// One original, its streams and its place in the cache.
#[derive(Debug)]
pub(super) struct OriginalFile {
    id: ObjectId,
    entry: Arc<CacheFile>,
    data: DataClient,
    memory: MemoryBudget,
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
    /// Of which epoch a proof was begun before anyone waited for it.
    proving: Option<Epoch>,
    /// Where the last read ended: the next one that begins there is part of a
    /// sequence.
    last_end: u64,
}

impl OriginalFile {
    pub(super) fn new(
        id: ObjectId,
        entry: Arc<CacheFile>,
        data: DataClient,
        memory: MemoryBudget,
        how: DownloadOptions,
        corrupt_files: Arc<CorruptFiles>,
        request_stats: Arc<RequestStats>,
    ) -> Self {
        if entry.is_sealed() {
            // It was proved before it got its name.
            entry.mark_verified(entry.epoch());
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
        corruption_count: u64,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let end = self.entry.len().min(offset.saturating_add(len as u64));
        let range = offset.min(end)..end;
        loop {
            // What this reader got before was of another content, which turned
            // out wrong.
            if self.is_spoiled_since(corruption_count) {
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
                        if self.must_prove_itself(&range).await
                            || self.is_spoiled_since(corruption_count)
                        {
                            continue;
                        }
                        self.was_read(range.end);
                        ByteSource::Cache.note();
                        return Ok(bytes);
                    }
                    Err(gap) => gap,
                },
            };
            // The next content is for others to fetch.
            if self.is_spoiled_since(corruption_count) {
                continue;
            }
            let upto = gap.end.min(range.end);
            ByteSource::Portal.note();
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

    /// Whether bytes that were read under `corruption_count` turned out wrong.
    fn is_spoiled_since(&self, corruption_count: u64) -> bool {
        self.corrupt_files.count(self.id) != corruption_count
    }

    /// The bytes of `range`, or a stretch of them that is gone again.
    async fn read_cached(
        &self,
        range: &Range<u64>,
    ) -> Result<Result<Bytes, Range<u64>>, ContentError> {
        if let Some(parts) = self.recent(range) {
            return self.join(parts).await.map(Ok);
        }
        let bytes = range.end - range.start + CacheFile::READ_OVERHEAD;
        let reservation = self.memory.reserve_reply(bytes).await?;
        Ok(match self.entry.read(range.clone())? {
            CacheRead::Bytes(bytes) => Ok(reservation.attach(bytes)),
            CacheRead::Missing(gap) => Err(gap),
        })
    }

    /// The bytes of `range`, in parts, if a stream has just brought them.
    fn recent(&self, range: &Range<u64>) -> Option<Vec<Bytes>> {
        let epoch = self.entry.epoch();
        let fetching = self.fetching();
        let mut found = fetching
            .streams
            .iter()
            .map(|stream| stream.recent.find(range, epoch));
        found.find_map(|parts| parts)
    }

    async fn join(&self, mut parts: Vec<Bytes>) -> Result<Bytes, ContentError> {
        if let [_] = parts[..] {
            return Ok(parts.swap_remove(0));
        }
        let len: usize = parts.iter().map(Bytes::len).sum();
        let reservation = self.memory.reserve_reply(len as u64).await?;
        Ok(reservation.attach(parts.concat()))
    }

    /// Its place in the cache: whoever holds it keeps what is known of bytes
    /// that were there.
    pub(super) fn entry(&self) -> &Arc<CacheFile> {
        &self.entry
    }

    /// Offers the disk what only memory has; whether it takes all of it. Blocks
    /// on the disk.
    pub(super) fn move_to_disk(&self) -> bool {
        let settled = self.entry.move_to_disk();
        let epoch = self.entry.epoch();
        if settled
            && self.entry.is_verified()
            && let Err(error) = self.entry.seal(epoch)
        {
            tracing::warn!(%error, id = %self.id, "a complete object got no name of its own");
        }
        settled
    }

    /// Notes that a reader got as far as `end`.
    fn was_read(self: &Arc<Self>, end: u64) {
        let mut fetching = self.fetching();
        fetching.last_end = end;
        if !self.how.splits(self.entry.len()) {
            return;
        }
        match self.snapshot(&fetching).after_read(end, &*self.entry) {
            AfterRead::Nothing => {}
            AfterRead::RunOn(ahead) => {
                for stream in &fetching.streams {
                    stream.want(stream.position().saturating_add(ahead));
                }
            }
            AfterRead::Split(starts) => {
                fetching.split = true;
                for start in starts {
                    self.begin(&mut fetching, start);
                }
            }
        }
    }

    fn snapshot(&self, fetching: &Fetching) -> Snapshot {
        Snapshot {
            options: self.how,
            len: self.entry.len(),
            capacity: self.entry.capacity(),
            counts: fetching.asked,
            split: fetching.split,
            last_end: fetching.last_end,
            downloads: fetching
                .streams
                .iter()
                .map(|stream| stream.snapshot())
                .collect(),
        }
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
        match self.snapshot(&fetching).plan(gap, end, &*self.entry) {
            Plan::Nothing => None,
            Plan::Wait {
                download,
                run_until,
                review_after,
            } => {
                let stream = Arc::clone(&fetching.streams[download]);
                if let Some(end) = run_until {
                    stream.want(end);
                }
                Some((stream, review_after))
            }
            Plan::Start(start) => Some((self.begin(&mut fetching, start), planner::IDLE)),
        }
    }

    /// Sends for a range.
    fn begin(self: &Arc<Self>, fetching: &mut Fetching, start: Start) -> Arc<Stream> {
        let Start {
            range,
            run_until,
            counts_bytes,
        } = start;
        fetching.asked.requests += 1;
        if counts_bytes {
            fetching.asked.bytes += range.end - range.start;
        }
        let stream = Arc::new(Stream::new(range, run_until));
        fetching.streams.push(Arc::clone(&stream));
        let (file, running) = (Arc::clone(self), Arc::clone(&stream));
        tokio::spawn(async move {
            running.end(file.run(&running).await);
        });
        stream
    }

    fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.entry.first_gap(range)
    }

    fn fetching(&self) -> MutexGuard<'_, Fetching> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gaps for CacheFile {
    fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.missing(range).into_iter().next()
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
