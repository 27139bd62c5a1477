//! Bodies that go wrong on their way.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::strike::{BodyEnd, BodyFault};
use crate::http::Reply;
use crate::server::{Cut, Line};

/// How far ahead of a shared line a body may send.
const AHEAD: Duration = Duration::from_millis(50);

/// A line of limited capacity: when it will be free.
#[derive(Default)]
pub(super) struct Bucket(Mutex<Option<Instant>>);

impl Bucket {
    /// Takes the line for so many bytes; returns when they are through.
    fn take(&self, bytes: usize, rate: u64) -> Instant {
        #[allow(clippy::cast_precision_loss, reason = "a duration")]
        let needed = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let through = free.map_or(now, |free| free.max(now)) + needed;
        *free = Some(through);
        through
    }
}

/// The answer with the faults in its body.
pub(super) fn spoil(reply: Reply, faults: Vec<BodyFault>, line: &Line) -> Reply {
    let (mut head, body) = reply.into_parts();
    let announced = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let length = announced.or(body.size_hint().exact());
    let start = content_start(&head.headers);
    let spoilt = Spoilt::new(body, faults, length, start, line);
    if let Some(length) = length {
        let length = spoilt.shortened.unwrap_or(length);
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    let stream = futures_util::stream::unfold(spoilt, |mut spoilt| async move {
        Some((spoilt.next().await?, spoilt))
    });
    Reply::from_parts(head, Body::from_stream(stream))
}

/// Where in the content the body begins.
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

struct Spoilt {
    body: BodyDataStream,
    line: Line,
    /// Bytes sent so far.
    sent: u64,
    pending: VecDeque<Bytes>,
    lines: Vec<(Arc<Bucket>, u64)>,
    end: Option<(u64, BodyEnd)>,
    stall: Option<(u64, Option<Duration>)>,
    corrupt: Vec<u64>,
    /// The length of a body that ends early and does not say so.
    shortened: Option<u64>,
    ended: bool,
}

impl Spoilt {
    fn new(
        body: Body,
        faults: Vec<BodyFault>,
        length: Option<u64>,
        start: u64,
        line: &Line,
    ) -> Self {
        // Within the body, if there is anything to leave out.
        let within =
            |after: u64| length.map_or(after, |length| after.min(length.saturating_sub(1)));
        let mut spoilt = Self {
            body: body.into_data_stream(),
            line: line.clone(),
            sent: 0,
            pending: VecDeque::new(),
            lines: Vec::new(),
            end: None,
            stall: None,
            corrupt: Vec::new(),
            shortened: None,
            ended: false,
        };
        for fault in faults {
            match fault {
                BodyFault::Line { bucket, rate } => spoilt.lines.push((bucket, rate)),
                BodyFault::End { after, how } => {
                    if spoilt.end.is_none() {
                        spoilt.end = Some((within(after), how));
                    }
                }
                BodyFault::Stall { after, pause } => {
                    if spoilt.stall.is_none() {
                        spoilt.stall = Some((within(after), pause));
                    }
                }
                BodyFault::Corrupt { at } => spoilt.corrupt.extend(at.checked_sub(start)),
            }
        }
        if let Some((at, BodyEnd::Shorten)) = spoilt.end {
            spoilt.shortened = Some(at);
        }
        spoilt
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
                    self.line.cut(Cut::Reset);
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
        for (bucket, rate) in &self.lines {
            let through = bucket.take(piece.len(), *rate);
            let start = through.checked_sub(AHEAD).unwrap_or(through);
            tokio::time::sleep_until(start.into()).await;
        }
        Some(Ok(piece))
    }

    /// A piece that ends where something is to happen, and, on a limited line,
    /// is small enough to flow.
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
        let flow = (self.lines.iter())
            .map(|(_, rate)| (rate / 50).clamp(512, 1 << 20))
            .min()
            .unwrap_or(u64::MAX);
        let longest = usize::try_from(next_stop.min(flow)).unwrap_or(usize::MAX);
        if piece.len() > longest {
            self.pending.push_front(piece.split_off(longest));
        }
        Some(Ok(piece))
    }

    fn corrupted(&self, piece: Bytes) -> Bytes {
        let inside = |at: &u64| (self.sent..self.sent + piece.len() as u64).contains(at);
        let places: Vec<_> = self.corrupt.iter().filter(|at| inside(at)).collect();
        if places.is_empty() {
            return piece;
        }
        let mut bytes = piece.to_vec();
        for at in places {
            let index = usize::try_from(at - self.sent).expect("within a piece");
            bytes[index] ^= 0xFF;
        }
        bytes.into()
    }
}
