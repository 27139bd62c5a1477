//! A stream of an object: from the store as far as it has proven bytes, else from
//! upstream.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::lease::{Lease, LeaseClaim, Observation, claim};
use super::publisher::Tee;
use super::segments::{ReadAhead, StoredSegment, stored_segment};
use super::spool::{ProvenObject, Spool};
use super::status::Counters;
use super::{MAX_UNSEALED, SEGMENT, Shared, SharedObject, Upstream, UpstreamStream};

/// How long to wait before the store is looked at again: at first, and at most.
const FIRST_POLL: Duration = Duration::from_millis(20);
const MAX_POLL: Duration = Duration::from_millis(250);
/// How many bytes of a segment are handed out at once.
const PART: usize = 256 << 10;

/// The bytes of a range of an object, in order.
pub struct SharedStream<U: Upstream> {
    shared: Arc<Shared>,
    object: SharedObject,
    upstream: U,
    position: u64,
    end: u64,
    state: StreamState<U::Stream>,
    /// The digests of the segments before the position, if all are known.
    digests: Option<Vec<[u8; 32]>>,
    from_store: u64,
    ahead: Option<ReadAhead>,
}

enum StreamState<S> {
    /// The next bytes are to be found.
    Searching,
    /// The rest of a segment.
    Segment {
        rest: Bytes,
        _permit: OwnedSemaphorePermit,
    },
    /// A proven object.
    Proven(ProvenObject),
    /// A request upstream, and the publication of what it delivers.
    Upstream(S, Option<Tee>),
}

/// Where the next segment comes from.
enum NextSegment {
    /// From the store.
    Stored(StoredSegment),
    /// From upstream, for other machines, too.
    Claimed(Option<Lease>),
    /// From upstream, for this stream only.
    Alone,
}

impl<U: Upstream> std::fmt::Debug for SharedStream<U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStream")
            .field("object", &self.object)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<U: Upstream> SharedStream<U> {
    pub(super) fn new(
        shared: Arc<Shared>,
        object: SharedObject,
        range: Range<u64>,
        upstream: U,
    ) -> Self {
        let end = range.end.min(object.length);
        Self {
            shared,
            upstream,
            position: range.start.min(end),
            end,
            state: StreamState::Searching,
            digests: (range.start == 0).then(Vec::new),
            object,
            from_store: 0,
            ahead: None,
        }
    }

    /// How many bytes it has handed out that came from the store.
    #[must_use]
    pub fn from_store(&self) -> u64 {
        self.from_store
    }

    /// Finds out where the first bytes come from, and waits until they can be read, or
    /// until the response from upstream begins.
    ///
    /// # Errors
    ///
    /// Those of the upstream; the same for [`SharedStream::chunk`].
    pub async fn begin(&mut self) -> Result<(), U::Error> {
        if matches!(self.state, StreamState::Searching) && self.position < self.end {
            self.search().await?;
        }
        Ok(())
    }

    /// Returns the next bytes, or `None` after the last ones.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, U::Error> {
        loop {
            match &mut self.state {
                StreamState::Upstream(stream, tee) => {
                    if let Some(tee) = tee {
                        tee.set_awaited(true);
                    }
                    let chunk = stream.chunk().await;
                    let Ok(Some(chunk)) = chunk else {
                        let tee = tee.take();
                        if let (Some(tee), Ok(_)) = (tee, &chunk)
                            && self.position == self.end
                        {
                            tee.finish().await;
                        }
                        return chunk;
                    };
                    if let Some(publishing) = tee {
                        let goes_on = publishing.push(self.position, &chunk).await;
                        publishing.set_awaited(false);
                        if !goes_on {
                            *tee = None;
                        }
                    }
                    self.position += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                _ if self.position >= self.end => return Ok(None),
                StreamState::Segment { rest, .. } if !rest.is_empty() => {
                    let part = rest.split_to(rest.len().min(PART));
                    return Ok(Some(self.hand_out(part)));
                }
                StreamState::Proven(object) => {
                    match object.read(self.position, self.end).await {
                        Ok(bytes) if !bytes.is_empty() => return Ok(Some(self.hand_out(bytes))),
                        read => {
                            // The disk of this machine: the portal has the bytes, too.
                            tracing::warn!(error = ?read.err(), "cannot read back an object of the shared cache");
                            self.open_upstream(None).await?;
                        }
                    }
                }
                StreamState::Segment { .. } | StreamState::Searching => self.search().await?,
            }
        }
    }

    fn hand_out(&mut self, bytes: Bytes) -> Bytes {
        let len = bytes.len() as u64;
        self.position += len;
        self.from_store += len;
        bytes
    }

    /// Decides where the bytes at the position come from.
    async fn search(&mut self) -> Result<(), U::Error> {
        // Frees the memory of the last segment.
        self.state = StreamState::Searching;
        if self.shared.rejections.is_distrusted(&self.object.path) {
            return self.replace_object().await;
        }
        if self.shared.seal.proves() {
            self.search_segment().await
        } else {
            self.search_object().await
        }
    }

    /// With a key: the next segment.
    async fn search_segment(&mut self) -> Result<(), U::Error> {
        let index = self.position / SEGMENT;
        match self.next_segment_ahead(index).await {
            NextSegment::Stored(StoredSegment {
                payload,
                digest,
                permit,
            }) => {
                if let Some(digests) = &mut self.digests {
                    digests.push(digest);
                }
                let start = index * SEGMENT;
                let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
                let end = at(self.end).min(payload.len());
                let rest = payload.slice(at(self.position).min(end)..end);
                self.state = StreamState::Segment {
                    rest,
                    _permit: permit,
                };
                Ok(())
            }
            NextSegment::Claimed(lease) => self.open_published(lease).await,
            NextSegment::Alone => self.open_upstream(None).await,
        }
    }

    /// Without a key: the complete object, once it is proven by its id.
    async fn search_object(&mut self) -> Result<(), U::Error> {
        let SharedObject { length, digest, .. } = self.object;
        let is_complete = self.position == 0 && self.end == length;
        let Some(digest) = digest.filter(|_| is_complete && length <= MAX_UNSEALED) else {
            return self.open_upstream(None).await;
        };
        let mut spool = Spool::new();
        let count = length.div_ceil(SEGMENT);
        for index in 0..count {
            match self.next_segment_ahead(index).await {
                NextSegment::Stored(segment) if count == 1 => {
                    if !segment.digest.starts_with(&digest) {
                        return self.reject_object().await;
                    }
                    let object = ProvenObject::Memory {
                        bytes: segment.payload,
                        _permit: segment.permit,
                    };
                    self.state = StreamState::Proven(object);
                    return Ok(());
                }
                NextSegment::Stored(segment) => {
                    let pushed = spool.push(segment.payload, &self.shared.scratch).await;
                    match pushed {
                        Ok(pushed) => spool = pushed,
                        Err(error) => {
                            tracing::warn!(%error, "no room to prove an object of the shared cache");
                            return self.open_upstream(None).await;
                        }
                    }
                }
                // Nothing was handed out: the download begins with the first byte, which
                // also replaces segments that were not proven.
                NextSegment::Claimed(lease) => return self.open_published(lease).await,
                NextSegment::Alone => return self.open_upstream(None).await,
            }
        }
        match spool.prove(&digest) {
            Some(object) => {
                self.state = StreamState::Proven(object);
                Ok(())
            }
            None => self.reject_object().await,
        }
    }

    /// Goes upstream because the complete object in the store is not what its id says.
    async fn reject_object(&mut self) -> Result<(), U::Error> {
        let reason = "the complete object does not match its id";
        let version = super::store::StoreVersion(String::new());
        Counters::add(&self.shared.counters.rejected, 1);
        self.shared
            .rejections
            .note(&self.object.path, version, reason);
        self.replace_object().await
    }

    /// Goes upstream, and replaces the segments in the store, if no other machine does.
    async fn replace_object(&mut self) -> Result<(), U::Error> {
        let mut seen = Observation::default();
        let range = self.position..self.end;
        let claimed = claim(&self.shared, &self.object, &range, &mut seen).await;
        match claimed {
            Ok(LeaseClaim::Held { lease, .. }) => self.open_published(Some(lease)).await,
            Ok(LeaseClaim::Unsupported) => self.open_published(None).await,
            _ => self.open_upstream(None).await,
        }
    }

    /// Goes upstream, and publishes what arrives, under `lease` where the store has leases.
    async fn open_published(&mut self, lease: Option<Lease>) -> Result<(), U::Error> {
        let digests = self.digests.clone();
        // From now on the lease is renewed; it is released if the request fails.
        let range = self.position..self.end;
        let tee = Tee::start(&self.shared, &self.object, lease, range, digests);
        self.open_upstream(Some(tee)).await
    }

    async fn open_upstream(&mut self, tee: Option<Tee>) -> Result<(), U::Error> {
        let stream = self.upstream.open(self.position..self.end).await?;
        self.state = StreamState::Upstream(stream, tee);
        Ok(())
    }

    /// As [`SharedStream::next_segment`]; begins to read the segment after one of the store.
    async fn next_segment_ahead(&mut self, index: u64) -> NextSegment {
        let ahead = self.ahead.take().filter(|ahead| ahead.index() == index);
        let read = match ahead {
            Some(ahead) => ahead.finish().await,
            None => None,
        };
        let next = match read {
            Some(segment) => NextSegment::Stored(segment),
            None => self.next_segment(index).await,
        };
        let following = index + 1;
        if matches!(next, NextSegment::Stored(_)) && following * SEGMENT < self.end {
            self.ahead = ReadAhead::start(&self.shared, &self.object, following);
        }
        next
    }

    /// Waits until segment number `index` can be read, or is to be fetched upstream.
    async fn next_segment(&mut self, index: u64) -> NextSegment {
        let segment_end = (index + 1).saturating_mul(SEGMENT).min(self.object.length);
        let start = self.position.max(index * SEGMENT);
        // A download that has no complete segment is of no use to others.
        let is_useful = start.next_multiple_of(SEGMENT) < self.end
            && (self.end == self.object.length || segment_end <= self.end);
        let mut seen = Observation::default();
        let mut poll = FIRST_POLL;
        let mut has_waited = false;
        loop {
            match stored_segment(&self.shared, &self.object, index).await {
                Ok(Some(segment)) => return NextSegment::Stored(segment),
                Ok(None) => {}
                Err(_) => return NextSegment::Alone,
            }
            if !is_useful {
                return NextSegment::Alone;
            }
            // Without a key, a download begins with the first byte.
            let from = if self.shared.seal.proves() { start } else { 0 };
            let claimed = claim(&self.shared, &self.object, &(from..self.end), &mut seen).await;
            match claimed {
                Ok(LeaseClaim::Held { lease, fresh: true }) => {
                    return NextSegment::Claimed(Some(lease));
                }
                Ok(LeaseClaim::Unsupported) => return NextSegment::Claimed(None),
                Ok(LeaseClaim::Held { lease, .. }) => {
                    // The last holder may have published it meanwhile.
                    return match stored_segment(&self.shared, &self.object, index).await {
                        Ok(Some(segment)) => {
                            lease.release().await;
                            NextSegment::Stored(segment)
                        }
                        Ok(None) => NextSegment::Claimed(Some(lease)),
                        Err(_) => NextSegment::Alone,
                    };
                }
                Ok(LeaseClaim::Wait) => {}
                // The last holder may have published it meanwhile.
                Ok(LeaseClaim::Refused) => {
                    let segment = stored_segment(&self.shared, &self.object, index).await;
                    return match segment {
                        Ok(Some(segment)) => NextSegment::Stored(segment),
                        Ok(None) | Err(_) => NextSegment::Alone,
                    };
                }
                Err(_) => return NextSegment::Alone,
            }
            if !has_waited {
                has_waited = true;
                Counters::add(&self.shared.counters.waits, 1);
            }
            tokio::time::sleep(poll).await;
            poll = (poll * 3 / 2).min(MAX_POLL);
        }
    }
}
