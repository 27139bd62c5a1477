//! Faults within the body of a reply.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::http::DemoReply;
use crate::server::{Connection, Cut};

/// How far ahead of the shared bandwidth a body may send.
const SEND_AHEAD: Duration = Duration::from_millis(50);

/// A fault within a body. Offsets count from the start of the body, except in
/// `Corrupt`, where they count from the start of the content.
pub(super) enum BodyFault {
    Bandwidth { shared: Arc<Bandwidth>, rate: u64 },
    End { after: u64, how: BodyEnd },
    Stall { after: u64, pause: Option<Duration> },
    Corrupt { at: u64 },
}

/// How a body ends early.
#[derive(Clone, Copy)]
pub(super) enum BodyEnd {
    Reset,
    Truncate,
    Shorten,
}

/// Bandwidth shared by several bodies: the time until which it is in use.
#[derive(Default)]
pub(super) struct Bandwidth(Mutex<Option<Instant>>);

impl Bandwidth {
    /// Reserves the bandwidth for `bytes`; returns when they are sent.
    fn reserve(&self, bytes: usize, rate: u64) -> Instant {
        #[allow(clippy::cast_precision_loss, reason = "a duration")]
        let needed = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let through = free.map_or(now, |free| free.max(now)) + needed;
        *free = Some(through);
        through
    }
}

/// Returns the reply with the faults in its body.
pub(super) fn apply(
    reply: DemoReply,
    faults: Vec<BodyFault>,
    connection: &Connection,
) -> DemoReply {
    let (mut head, body) = reply.into_parts();
    let content_length = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let length = content_length.or(body.size_hint().exact());
    let start = content_start(&head.headers);
    let body = FaultyBody::new(body, faults, length, start, connection);
    if let Some(length) = length {
        let length = body.shortened.unwrap_or(length);
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    let stream =
        futures_util::stream::unfold(
            body,
            |mut body| async move { Some((body.next().await?, body)) },
        );
    DemoReply::from_parts(head, Body::from_stream(stream))
}

/// The offset of the body in the content.
fn content_start(headers: &HeaderMap) -> u64 {
    let range = headers.get(CONTENT_RANGE).and_then(|r| r.to_str().ok());
    range
        .and_then(|range| {
            range
                .strip_prefix("bytes ")?
                .split_once('-')?
                .0
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

struct FaultyBody {
    body: BodyDataStream,
    connection: Connection,
    /// Bytes sent so far.
    sent: u64,
    pending: VecDeque<Bytes>,
    bandwidths: Vec<(Arc<Bandwidth>, u64)>,
    end: Option<(u64, BodyEnd)>,
    stall: Option<(u64, Option<Duration>)>,
    corrupt: Vec<u64>,
    /// The length to announce if the body is to end early.
    shortened: Option<u64>,
    ended: bool,
}

impl FaultyBody {
    fn new(
        body: Body,
        faults: Vec<BodyFault>,
        length: Option<u64>,
        start: u64,
        connection: &Connection,
    ) -> Self {
        // Within the body, so that at least one byte is left out.
        let within =
            |after: u64| length.map_or(after, |length| after.min(length.saturating_sub(1)));
        let mut body = Self {
            body: body.into_data_stream(),
            connection: connection.clone(),
            sent: 0,
            pending: VecDeque::new(),
            bandwidths: Vec::new(),
            end: None,
            stall: None,
            corrupt: Vec::new(),
            shortened: None,
            ended: false,
        };
        for fault in faults {
            match fault {
                BodyFault::Bandwidth { shared, rate } => body.bandwidths.push((shared, rate)),
                BodyFault::End { after, how } => {
                    if body.end.is_none() {
                        body.end = Some((within(after), how));
                    }
                }
                BodyFault::Stall { after, pause } => {
                    if body.stall.is_none() {
                        body.stall = Some((within(after), pause));
                    }
                }
                BodyFault::Corrupt { at } => body.corrupt.extend(at.checked_sub(start)),
            }
        }
        if let Some((at, BodyEnd::Shorten)) = body.end {
            body.shortened = Some(at);
        }
        body
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.ended {
            return None;
        }
        if let Some((at, pause)) = self.stall
            && self.sent >= at
        {
            self.stall = None;
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        }
        if let Some((at, how)) = self.end
            && self.sent >= at
        {
            self.ended = true;
            return match how {
                BodyEnd::Shorten => None,
                BodyEnd::Truncate => Some(Err(io::Error::other("truncated on purpose"))),
                BodyEnd::Reset => {
                    self.connection.cut(Cut::Reset);
                    Some(Err(io::Error::other("reset on purpose")))
                }
            };
        }
        let piece = match self.piece().await? {
            Ok(piece) => piece,
            Err(e) => return Some(Err(e)),
        };
        let piece = self.corrupted(piece);
        self.sent += piece.len() as u64;
        for (bandwidth, rate) in &self.bandwidths {
            let through = bandwidth.reserve(piece.len(), *rate);
            let start = through.checked_sub(SEND_AHEAD).unwrap_or(through);
            tokio::time::sleep_until(start.into()).await;
        }
        Some(Ok(piece))
    }

    /// Returns the next piece. It ends at the next fault, and with limited
    /// bandwidth it takes a fiftieth of a second.
    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        let mut piece = match self.pending.pop_front() {
            Some(piece) => piece,
            None => match self.body.next().await? {
                Ok(piece) => piece,
                Err(e) => return Some(Err(io::Error::other(e))),
            },
        };
        let stops = [self.end.map(|(at, _)| at), self.stall.map(|(at, _)| at)];
        let next_stop = (stops.into_iter().flatten())
            .map(|at| at - self.sent)
            .min()
            .unwrap_or(u64::MAX);
        let longest_flow = (self.bandwidths.iter())
            .map(|(_, rate)| (rate / 50).clamp(512, 1 << 20))
            .min()
            .unwrap_or(u64::MAX);
        let longest = usize::try_from(next_stop.min(longest_flow)).unwrap_or(usize::MAX);
        if piece.len() > longest {
            self.pending.push_front(piece.split_off(longest));
        }
        Some(Ok(piece))
    }

    fn corrupted(&self, piece: Bytes) -> Bytes {
        let inside = |at: &u64| (self.sent..self.sent + piece.len() as u64).contains(at);
        let offsets: Vec<_> = self.corrupt.iter().filter(|at| inside(at)).collect();
        if offsets.is_empty() {
            return piece;
        }
        let mut bytes = piece.to_vec();
        for at in offsets {
            let index = usize::try_from(at - self.sent).expect("within a piece");
            bytes[index] ^= 0xFF;
        }
        bytes.into()
    }
}
