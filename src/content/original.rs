//! An original: fetched by long streams into the cache, checked against its
//! id once it is whole.

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::ContentError;
use crate::cache::{Entry, Found};
use crate::flight::Flights;
use crate::memory::Memory;
use crate::portal::{DataClient, ObjectId};

/// A file up to this size is fetched whole, whatever is read of it.
const SMALL: u64 = 4 << 20;
/// The least that a random read fetches.
const LEAST: u64 = 1 << 20;
/// After so many requests what is still missing is fetched in one: each
/// request counts as a download.
const PATIENCE: u32 = 16;
/// How far a stream runs ahead of its readers.
const AHEAD: u64 = 16 << 20;
/// A reader this far ahead of a stream waits for it rather than start its own.
const SKIP: u64 = 8 << 20;
/// How long a stream waits for a reader to come back.
const IDLE: Duration = Duration::from_secs(20);
/// Bytes are written to the cache in pieces of this size.
const PIECE: usize = 128 << 10;

/// How often originals turned out wrong.
#[derive(Debug)]
pub(super) struct Spoiled(Mutex<LruCache<ObjectId, u64>>);

impl Default for Spoiled {
    fn default() -> Self {
        let bound = NonZeroUsize::new(10_000).expect("not zero");
        Self(Mutex::new(LruCache::new(bound)))
    }
}

impl Spoiled {
    pub(super) fn generation(&self, id: ObjectId) -> u64 {
        let mut spoiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spoiled.get(&id).copied().unwrap_or(0)
    }

    fn note(&self, id: ObjectId) {
        let mut spoiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *spoiled.get_or_insert_mut(id, || 0) += 1;
    }
}

/// Bytes of one life are of one content, and prove themselves together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Life {
    /// Which [`OriginalFile`].
    file: u64,
    /// How many blocks it had lost.
    lost: u64,
}

/// One original, its streams and its place in the cache.
#[derive(Debug)]
pub(super) struct OriginalFile {
    id: ObjectId,
    /// Unlike any other's, of this object or another.
    number: u64,
    entry: Arc<Entry>,
    data: DataClient,
    memory: Memory,
    fetching: Mutex<Fetching>,
    seals: Flights<(), Result<(), ContentError>>,
    /// Whether the bytes that are there proved right together. (Where the disk
    /// cannot be written to, nothing is ever sealed.)
    proved: Arc<AtomicBool>,
    spoiled: Arc<Spoiled>,
}

#[derive(Debug, Default)]
struct Fetching {
    streams: Vec<Arc<Stream>>,
    requests: u32,
    /// Where the last read ended: the next one that begins there is part of a
    /// sequence.
    last_end: u64,
}

/// A request under way.
#[derive(Debug)]
struct Stream {
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

impl OriginalFile {
    pub(super) fn new(
        id: ObjectId,
        entry: Arc<Entry>,
        data: DataClient,
        memory: Memory,
        spoiled: Arc<Spoiled>,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self {
            id,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            entry,
            data,
            memory,
            fetching: Mutex::default(),
            seals: Flights::default(),
            proved: Arc::default(),
            spoiled,
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
            // out wrong; and one that waits must not fetch the next in vain.
            if self.spoiled.generation(self.id) != generation {
                return Err(ContentError::WrongHash { id: self.id });
            }
            // A whole file must have proved itself before its last bytes go
            // out, so that nobody reads a wrong one to the end.
            if self.must_prove_itself() {
                self.seal().await?;
            }
            let gap = match self.first_gap(range.clone()) {
                Some(gap) => gap,
                None => match self.read_cached(&range).await? {
                    Ok(bytes) => {
                        // Completed between the check above and the read.
                        if self.must_prove_itself() {
                            continue;
                        }
                        self.fetching().last_end = range.end;
                        return Ok(bytes);
                    }
                    Err(gap) => gap,
                },
            };
            let upto = gap.end.min(range.end);
            let stream = self.stream_for(&gap, range.end);
            stream.wait_for(upto).await?;
        }
    }

    /// The bytes of `range`, or a stretch of them that is gone again.
    async fn read_cached(
        &self,
        range: &Range<u64>,
    ) -> Result<Result<Bytes, Range<u64>>, ContentError> {
        let bytes = range.end - range.start + Entry::SURPLUS;
        let share = self.memory.for_answer(bytes).await?;
        Ok(match self.entry.read(range.clone())? {
            Found::Bytes(bytes) => Ok(share.hold(bytes)),
            Found::Missing(gap) => Err(gap),
        })
    }

    /// The life that its bytes are of.
    pub(super) fn life(&self) -> Life {
        Life {
            file: self.number,
            lost: self.entry.lost(),
        }
    }

    /// Whether all bytes are there and known to be the right ones.
    pub(super) fn is_proved(&self) -> bool {
        self.entry.is_complete() && !self.must_prove_itself()
    }

    /// Whether all bytes are there, and not yet known to be the right ones.
    fn must_prove_itself(&self) -> bool {
        self.entry.is_complete() && !self.entry.is_sealed() && !self.proved.load(Ordering::Relaxed)
    }

    /// The file in the cache, if it is whole and has proved itself.
    pub(super) fn sealed_file(&self) -> Option<File> {
        self.entry.sealed_file()
    }

    /// The stream that will bring the start of `gap`: one under way, or a new
    /// one. `end` is the end of the read.
    fn stream_for(self: &Arc<Self>, gap: &Range<u64>, end: u64) -> Arc<Stream> {
        let mut fetching = self.fetching();
        fetching
            .streams
            .retain(|stream| stream.progress.borrow().ended.is_none());
        for stream in &fetching.streams {
            let position = stream.progress.borrow().position;
            // Once all of it is on its way, everyone waits for that.
            let skip = if fetching.requests > PATIENCE {
                u64::MAX
            } else {
                SKIP
            };
            let ahead = position <= gap.start && gap.start < position.saturating_add(skip);
            if ahead && gap.start < stream.range.end {
                stream.want(end.saturating_add(self.ahead()));
                return Arc::clone(stream);
            }
        }
        let range = self.plan(gap, end, &fetching);
        fetching.requests += 1;
        self.proved.store(false, Ordering::Relaxed);
        let stream = Arc::new(Stream {
            progress: watch::Sender::new(Progress {
                position: range.start,
                ended: None,
            }),
            wanted: watch::Sender::new(end.saturating_add(self.ahead())),
            range,
        });
        fetching.streams.push(Arc::clone(&stream));
        let (file, running) = (Arc::clone(self), Arc::clone(&stream));
        tokio::spawn(async move {
            let result = file.run(&running).await;
            running
                .progress
                .send_modify(|progress| progress.ended = Some(result));
        });
        stream
    }

    /// How far streams run ahead: what they fetch must stay until it is read.
    fn ahead(&self) -> u64 {
        AHEAD.min(self.entry.capacity() / 2).max(LEAST)
    }

    /// What to ask for so that `gap`'s start arrives: everything that follows
    /// for a sequential reader, some of it for a random one.
    fn plan(&self, gap: &Range<u64>, end: u64, fetching: &Fetching) -> Range<u64> {
        let len = self.entry.len();
        if len <= SMALL || fetching.requests >= PATIENCE {
            return self
                .first_gap(0..len)
                .map_or(0..len, |first| first.start..len);
        }
        let sequential = gap.start == 0
            || (gap.start >= fetching.last_end && gap.start - fetching.last_end <= SKIP)
            // The kernel's readahead arrives out of order: near the start, the
            // stream begins at the start.
            || gap.start <= 2 * LEAST;
        if sequential {
            let start = if gap.start <= 2 * LEAST { 0 } else { gap.start };
            return self.first_gap(start..len).map_or(gap.start..len, |first| {
                // Until what is there already, if that is a good deal.
                first.start..self.next_present(first.end, len)
            });
        }
        let start = gap.start - gap.start % LEAST;
        let stop = end.next_multiple_of(LEAST).min(len);
        self.first_gap(start..stop)
            .map_or(gap.clone(), |first| first.start.min(gap.start)..stop)
    }

    fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.entry.missing(range).into_iter().next()
    }

    /// Where a stream that reaches the end of a gap stops: there, if a good
    /// deal of what follows is present, else at the end of the file.
    fn next_present(&self, gap_end: u64, len: u64) -> u64 {
        let following = gap_end..len.min(gap_end.saturating_add(4 * LEAST));
        if gap_end < len && self.entry.missing(following).is_empty() {
            gap_end
        } else {
            len
        }
    }

    /// Fetches `stream`'s range into the cache.
    async fn run(&self, stream: &Stream) -> Result<(), ContentError> {
        let _buffers = self.memory.for_stream().await?;
        let len = self.entry.len();
        let to = (stream.range.end < len).then_some(stream.range.end);
        let mut original = self.data.original(self.id, stream.range.start, to).await?;
        if original.total != len {
            return Err(ContentError::WrongLength {
                id: self.id,
                expected: len,
                found: original.total,
            });
        }
        let mut at = stream.range.start;
        let mut piece = Vec::with_capacity(PIECE);
        while let Some(chunk) = original.chunk().await? {
            let mut chunk = &chunk[..];
            while !chunk.is_empty() {
                let room = PIECE - piece.len();
                let taken = chunk.len().min(room);
                piece.extend_from_slice(&chunk[..taken]);
                chunk = &chunk[taken..];
                if piece.len() == PIECE {
                    at = self.keep(stream, at, &mut piece)?;
                }
            }
            if !stream.is_wanted(at).await {
                return Ok(());
            }
        }
        self.keep(stream, at, &mut piece)?;
        Ok(())
    }

    fn keep(&self, stream: &Stream, at: u64, piece: &mut Vec<u8>) -> Result<u64, ContentError> {
        let end = at + piece.len() as u64;
        if end > stream.range.end {
            return Err(ContentError::WrongLength {
                id: self.id,
                expected: stream.range.end,
                found: end,
            });
        }
        self.entry.write(at, piece)?;
        piece.clear();
        stream
            .progress
            .send_modify(|progress| progress.position = end);
        Ok(end)
    }

    /// Checks the whole file against its id and gives it its name; a wrong one
    /// is dropped.
    async fn seal(&self) -> Result<(), ContentError> {
        let (entry, id) = (Arc::clone(&self.entry), self.id);
        let (proved, spoiled) = (Arc::clone(&self.proved), Arc::clone(&self.spoiled));
        self.seals
            .join((), || async move {
                let checked = tokio::task::spawn_blocking(move || check(&entry, id)).await;
                // A panic in there is a bug, and no reason to trust the file.
                let right = checked.unwrap_or(Err(ContentError::WrongHash { id }));
                if right.is_err() {
                    spoiled.note(id);
                }
                let right = right?;
                proved.store(right, Ordering::Relaxed);
                Ok(())
            })
            .await
    }

    fn fetching(&self) -> MutexGuard<'_, Fetching> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the bytes are the right ones; false if some are gone again.
fn check(entry: &Entry, id: ObjectId) -> Result<bool, ContentError> {
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < entry.len() {
        let next = entry.len().min(at + (1 << 20));
        match entry.read(at..next)? {
            Found::Bytes(bytes) => hash.update(&bytes),
            // A block was damaged since: it will be fetched again.
            Found::Missing(_) => return Ok(false),
        }
        at = next;
    }
    if id.matches(&hash.finalize().into()) {
        if let Err(error) = entry.seal() {
            // Right all the same; it is only not kept under its own name.
            tracing::warn!(%error, %id, "a complete object could not be sealed");
        }
        return Ok(true);
    }
    entry.discard();
    Err(ContentError::WrongHash { id })
}

impl Stream {
    fn want(&self, end: u64) {
        self.wanted.send_if_modified(|wanted| {
            let further = *wanted < end;
            *wanted = (*wanted).max(end);
            further
        });
    }

    /// Waits until the stream is past `end`, or over.
    async fn wait_for(&self, end: u64) -> Result<(), ContentError> {
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
    async fn is_wanted(&self, at: u64) -> bool {
        let small = self.range.end - self.range.start <= SMALL;
        if small || at < *self.wanted.borrow() {
            return true;
        }
        let mut wanted = self.wanted.subscribe();
        let further = tokio::time::timeout(IDLE, wanted.wait_for(|wanted| at < *wanted)).await;
        further.is_ok()
    }
}
