//! Publishes what a stream receives from upstream: its segments in order, the manifest
//! last. Renews the lease of the download meanwhile, and releases it at the end.
//!
//! The stream copies what it hands to its reader ([`Tee`]); a task of its own talks to
//! the store. A store that is slower than upstream delays the reader for [`PATIENCE`] in
//! all; after that the download is not published any further, and the lease is released,
//! so that a waiting machine goes on. The same happens if the reader pauses.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::lease::{Lease, RENEWAL};
use super::seal::{SealLabel, hex};
use super::status::Counters;
use super::store::StoreError;
use super::{SEGMENT, Shared, SharedObject};
use icos_sync::{Mutex, run_blocking};

/// How long a stream waits for the store in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long the reader may pause before other machines stop waiting for it.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// The number of segments that may wait to be written, beside the one that is.
const QUEUE: usize = 1;

/// Copies what a stream receives, segment by segment.
#[derive(Debug)]
pub(super) struct Tee {
    shared: Arc<Shared>,
    length: u64,
    /// Where the download ends.
    end: u64,
    segment: Option<PartialSegment>,
    segments: mpsc::Sender<Message>,
    progress: Arc<Progress>,
    patience: Duration,
}

#[derive(Debug)]
struct PartialSegment {
    bytes: Vec<u8>,
    len: usize,
    permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Message {
    Segment {
        index: u64,
        bytes: Vec<u8>,
        permit: OwnedSemaphorePermit,
    },
    /// All bytes of the range were received.
    Finished,
}

/// How far the stream is.
#[derive(Debug)]
struct Progress {
    position: AtomicU64,
    /// Whether its reader waits for the next bytes.
    is_awaited: AtomicBool,
    /// When it was last read.
    last: Mutex<Instant>,
}

/// What a machine that looks into the store finds about a complete object.
#[derive(Debug, Serialize)]
struct Manifest {
    format: u32,
    length: u64,
    segment_length: u64,
    /// The SHA-256 digest of each segment, in hex.
    sha256: Vec<String>,
    /// The machine that received the last bytes.
    node: String,
    /// When.
    at: jiff::Timestamp,
}

/// The task that publishes.
struct Publisher {
    shared: Arc<Shared>,
    object: SharedObject,
    lease: Option<Lease>,
    progress: Arc<Progress>,
    /// The digests of the segments before the first one of this download, if all are
    /// known, and of those that were published.
    digests: Option<Vec<[u8; 32]>>,
    /// The hash of what was published, if that can tell whether the object is right.
    hash: Option<Context>,
}

/// Counts a publication under way.
struct Publishing(Arc<Shared>);

impl Tee {
    /// Begins to publish the download of a range of `object`, which `lease` is for.
    /// `digests` are those of the segments before it, if they are known.
    pub(super) fn start(
        shared: &Arc<Shared>,
        object: &SharedObject,
        lease: Option<Lease>,
        Range { start, end }: Range<u64>,
        digests: Option<Vec<[u8; 32]>>,
    ) -> Self {
        let (segments, received) = mpsc::channel(QUEUE);
        let progress = Arc::new(Progress {
            position: AtomicU64::new(start),
            is_awaited: AtomicBool::new(true),
            last: Mutex::new(Instant::now()),
        });
        let publisher = Publisher {
            shared: Arc::clone(shared),
            object: object.clone(),
            lease,
            progress: Arc::clone(&progress),
            digests,
            hash: (start == 0 && end == object.length && object.digest.is_some())
                .then(|| Context::new(&SHA256)),
        };
        let publishing = Publishing::begin(shared);
        icos_sync::spawn_task(async move {
            publisher.run(received).await;
            drop(publishing);
        });
        Self {
            shared: Arc::clone(shared),
            length: object.length,
            end,
            segment: None,
            segments,
            progress,
            patience: PATIENCE,
        }
    }

    /// Notes whether the reader waits for bytes.
    pub(super) fn set_awaited(&self, is_awaited: bool) {
        *self.progress.last.lock() = Instant::now();
        self.progress
            .is_awaited
            .store(is_awaited, Ordering::Relaxed);
    }

    /// Takes a copy of `chunk`, which the stream received at `offset`. Returns false if
    /// the download is not published any further.
    #[must_use]
    pub(super) async fn push(&mut self, mut offset: u64, mut chunk: &[u8]) -> bool {
        // What follows the end was not requested; the caller refuses it.
        while !chunk.is_empty() && offset < self.end {
            let start = offset - offset % SEGMENT;
            let segment_end = start.saturating_add(SEGMENT).min(self.length);
            let segment = match &mut self.segment {
                Some(segment) => segment,
                None if offset != start => {
                    // The rest of a segment whose start was not received.
                    let rest = usize::try_from(segment_end - offset).unwrap_or(usize::MAX);
                    let skipped = chunk.len().min(rest.max(1));
                    (offset, chunk) = (offset + skipped as u64, &chunk[skipped..]);
                    continue;
                }
                // The segment will not be complete.
                None if segment_end > self.end => break,
                None => {
                    let len = usize::try_from(segment_end - start).unwrap_or(usize::MAX);
                    let reserve = self.shared.reserve(len as u64);
                    let started = Instant::now();
                    let Ok(permit) = timeout(self.patience, reserve).await else {
                        return false;
                    };
                    self.patience = self.patience.saturating_sub(started.elapsed());
                    self.segment.insert(PartialSegment {
                        bytes: Vec::with_capacity(len),
                        len,
                        permit,
                    })
                }
            };
            let taken = chunk.len().min(segment.len - segment.bytes.len());
            segment.bytes.extend_from_slice(&chunk[..taken]);
            (offset, chunk) = (offset + taken as u64, &chunk[taken..]);
            let is_full = segment.bytes.len() == segment.len;
            if let Some(full) = self.segment.take_if(|_| is_full) {
                let message = Message::Segment {
                    index: start / SEGMENT,
                    bytes: full.bytes,
                    permit: full.permit,
                };
                if !self.send(message).await {
                    return false;
                }
            }
            self.progress.position.store(offset, Ordering::Relaxed);
        }
        true
    }

    /// Ends the publication: everything was received.
    pub(super) async fn finish(mut self) {
        let _ = self.send(Message::Finished).await;
    }

    async fn send(&mut self, message: Message) -> bool {
        let started = Instant::now();
        let sent = timeout(self.patience, self.segments.send(message)).await;
        self.patience = self.patience.saturating_sub(started.elapsed());
        // Fails if the publisher has given up.
        matches!(sent, Ok(Ok(())))
    }
}

impl Progress {
    fn is_paused(&self) -> bool {
        !self.is_awaited.load(Ordering::Relaxed) && self.last.lock().elapsed() > MAX_PAUSE
    }
}

impl Publishing {
    fn begin(shared: &Arc<Shared>) -> Self {
        let publishing = &shared.counters.publishing;
        publishing.send_modify(|publishing| *publishing += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let publishing = &self.0.counters.publishing;
        publishing.send_modify(|publishing| *publishing -= 1);
    }
}

impl Publisher {
    async fn run(mut self, received: mpsc::Receiver<Message>) {
        let published = self.publish_all(received).await;
        let (key, counters) = (&self.object.path, &self.shared.counters);
        match published {
            Ok(true) => {}
            Ok(false) => Counters::add(&counters.unpublished, 1),
            Err(error) => {
                tracing::debug!(%error, key, "a download is not published completely");
                Counters::add(&counters.unpublished, 1);
            }
        }
        if let Some(lease) = self.lease.take() {
            lease.release().await;
        }
    }

    /// Publishes what arrives. Returns whether that is everything.
    async fn publish_all(
        &mut self,
        mut received: mpsc::Receiver<Message>,
    ) -> Result<bool, StoreError> {
        let mut renewal = interval(RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        renewal.reset();
        loop {
            let message = tokio::select! {
                biased;
                message = received.recv() => message,
                _ = renewal.tick() => {
                    if self.progress.is_paused() || !renew(&mut self.lease, &self.progress).await? {
                        return Ok(false);
                    }
                    continue;
                }
            };
            match message {
                Some(Message::Segment {
                    index,
                    bytes,
                    permit,
                }) => {
                    let shared = Arc::clone(&self.shared);
                    let hash = self.hash.take();
                    let publishing = publish_segment(shared, &self.object, index, bytes, hash);
                    tokio::pin!(publishing);
                    let (digest, hash) = loop {
                        tokio::select! {
                            biased;
                            published = &mut publishing => break published?,
                            _ = renewal.tick() => {
                                if !renew(&mut self.lease, &self.progress).await? {
                                    return Ok(false);
                                }
                            }
                        }
                    };
                    drop(permit);
                    self.hash = hash;
                    if let Some(digests) = &mut self.digests {
                        digests.push(digest);
                    }
                }
                Some(Message::Finished) => {
                    if !self.is_right() {
                        self.withdraw().await?;
                        return Ok(false);
                    }
                    self.publish_manifest().await?;
                    return Ok(true);
                }
                // The stream was dropped, or has failed.
                None => return Ok(false),
            }
        }
    }

    /// Whether the object matches its id, as far as that is known.
    fn is_right(&mut self) -> bool {
        let (Some(hash), Some(digest)) = (self.hash.take(), self.object.digest) else {
            return true;
        };
        hash.finish().as_ref().starts_with(&digest)
    }

    /// Replaces the segments of an object that upstream delivered wrong by empty objects,
    /// which every machine rejects.
    async fn withdraw(&self) -> Result<(), StoreError> {
        let SharedObject { path, length, .. } = &self.object;
        tracing::warn!(
            path,
            "the portal sent an object that does not match its id; it is withdrawn from the shared cache"
        );
        self.shared.rejections.distrust(path.clone());
        for index in 0..length.div_ceil(SEGMENT) {
            let key = self.object.segment_key(index);
            self.shared.store.put(&key, Bytes::new()).await?;
        }
        Ok(())
    }

    /// Publishes the manifest, if all segments are known.
    async fn publish_manifest(&self) -> Result<(), StoreError> {
        let SharedObject { path, length, .. } = &self.object;
        let count = length.div_ceil(SEGMENT);
        let digests = self.digests.as_ref();
        let Some(digests) = digests.filter(|digests| digests.len() as u64 == count) else {
            return Ok(());
        };
        let manifest = Manifest {
            format: 1,
            length: *length,
            segment_length: SEGMENT,
            sha256: digests.iter().map(|digest| hex(digest)).collect(),
            node: self.shared.node.clone(),
            at: jiff::Timestamp::now(),
        };
        let json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        let key = format!("{path}/manifest");
        let label = SealLabel {
            key: &key,
            length: *length,
        };
        let (sealed, _) = self.shared.seal.seal(label, &json);
        if !self.shared.leases.is_in_store() {
            return self.shared.store.put(&key, sealed).await;
        }
        match self.shared.store.create(&key, sealed.clone()).await {
            Err(StoreError::NoConditions) => self.shared.store.put(&key, sealed).await,
            created => created.map(drop),
        }
    }
}

/// Renews the lease, if there is one. Returns false if another machine has it.
async fn renew(lease: &mut Option<Lease>, progress: &Progress) -> Result<bool, StoreError> {
    let position = progress.position.load(Ordering::Relaxed);
    match lease {
        Some(lease) => lease.renew(position).await,
        None => Ok(true),
    }
}

/// Publishes a segment, and returns its digest and the continued hash.
async fn publish_segment(
    shared: Arc<Shared>,
    object: &SharedObject,
    index: u64,
    bytes: Vec<u8>,
    hash: Option<Context>,
) -> Result<([u8; 32], Option<Context>), StoreError> {
    let key = object.segment_key(index);
    let (len, length) = (bytes.len() as u64, object.length);
    let (sealing, name) = (Arc::clone(&shared), key.clone());
    let (sealed, digest, hash) = run_blocking(move || {
        let label = SealLabel { key: &name, length };
        let (sealed, digest) = sealing.seal.seal(label, &bytes);
        let hash = hash.map(|mut hash| {
            hash.update(&bytes);
            hash
        });
        (sealed, digest, hash)
    })
    .await;
    shared.store.put(&key, sealed).await?;
    Counters::add(&shared.counters.segments_written, 1);
    Counters::add(&shared.counters.bytes_written, len);
    Ok((digest, hash))
}

impl SharedObject {
    /// The key of its segment number `index`.
    pub(super) fn segment_key(&self, index: u64) -> String {
        format!("{}/{index}", self.path)
    }

    /// The length of its segment number `index`.
    pub(super) fn segment_len(&self, index: u64) -> u64 {
        let start = index.saturating_mul(SEGMENT);
        self.length.saturating_sub(start).min(SEGMENT)
    }
}
