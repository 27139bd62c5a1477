//! Faults within the body of a reply.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Fault, SelectedFault};
use crate::http::{DemoReply, body_length};
use crate::server::{Connection, Cut};

/// How far ahead of the shared bandwidth a body may send.
const SEND_AHEAD: Duration = Duration::from_millis(50);

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
    faults: &[SelectedFault],
    connection: &Connection,
) -> DemoReply {
    let (mut head, body) = reply.into_parts();
    let length = body_length(&head.headers).or(body.size_hint().exact());
    let start = content_start(&head.headers);
    let body = FaultyBody::new(body, faults, length, start, connection);
    if let Some(length) = length {
        let length = match body.end {
            Some((at, Fault::Shorten { .. })) => at,
            _ => length,
        };
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
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    start.and_then(|start| start.parse().ok()).unwrap_or(0)
}

/// A body with faults. Offsets count from the start of the body.
struct FaultyBody {
    body: BodyDataStream,
    connection: Connection,
    /// Bytes sent so far.
    sent: u64,
    /// The rest of a piece that was divided.
    rest: Option<Bytes>,
    bandwidths: Vec<(Arc<Bandwidth>, u64)>,
    /// Where the body ends early, and by which fault.
    end: Option<(u64, Fault)>,
    /// Where the body stalls, and for how many milliseconds.
    stall: Option<(u64, Option<u64>)>,
    corrupt: Vec<u64>,
    ended: bool,
}

impl FaultyBody {
    fn new(
        body: Body,
        faults: &[SelectedFault],
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
            rest: None,
            bandwidths: Vec::new(),
            end: None,
            stall: None,
            corrupt: Vec::new(),
            ended: false,
        };
        for selected in faults {
            match selected.fault {
                Fault::Bandwidth { bytes_per_second } => {
                    let shared = Arc::clone(&selected.bandwidth);
                    body.bandwidths.push((shared, bytes_per_second.max(1)));
                }
                Fault::ResetInBody { after }
                | Fault::Truncate { after }
                | Fault::Shorten { after } => {
                    body.end.get_or_insert((within(after), selected.fault));
                }
                Fault::Stall { after, ms } => {
                    body.stall.get_or_insert((within(after), ms));
                }
                Fault::Corrupt { at } => body.corrupt.extend(at.checked_sub(start)),
                _ => {}
            }
        }
        body
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.ended {
            return None;
        }
        if let Some((at, ms)) = self.stall
            && self.sent >= at
        {
            self.stall = None;
            match ms {
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        }
        if let Some((at, fault)) = self.end
            && self.sent >= at
        {
            self.ended = true;
            if matches!(fault, Fault::Shorten { .. }) {
                return None;
            }
            if matches!(fault, Fault::ResetInBody { .. }) {
                self.connection.cut(Cut::Reset);
            }
            return Some(Err(io::Error::other("ended early on purpose")));
        }
        let piece = match self.piece().await? {
            Ok(piece) => self.corrupted(piece),
            Err(e) => return Some(Err(e)),
        };
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
        let mut piece = match self.rest.take() {
            Some(piece) => piece,
            None => match self.body.next().await? {
                Ok(piece) => piece,
                Err(e) => return Some(Err(io::Error::other(e))),
            },
        };
        let stops = [self.end.map(|(at, _)| at), self.stall.map(|(at, _)| at)];
        let next_stop = stops.into_iter().flatten().map(|at| at - self.sent);
        let rates = self.bandwidths.iter().map(|(_, rate)| rate);
        let flows = rates.map(|rate| (rate / 50).clamp(512, 1 << 20));
        let longest = next_stop.chain(flows).min().unwrap_or(u64::MAX);
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        if piece.len() > longest {
            self.rest = Some(piece.split_off(longest));
        }
        Some(Ok(piece))
    }

    fn corrupted(&self, piece: Bytes) -> Bytes {
        let end = self.sent + piece.len() as u64;
        let inside = |at: &&u64| (self.sent..end).contains(at);
        let mut offsets = self.corrupt.iter().filter(inside).peekable();
        if offsets.peek().is_none() {
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
