//! The record of requests, for tests to inspect what a client sent.
//!
//! Lock order: the list of requests before a single request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::http::header::{CONTENT_LENGTH, RANGE, USER_AGENT};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Serialize;

use super::http::{DemoReply, DemoRequest, body_length};
use super::service::DemoService;

/// A request that a demo portal received, and its outcome.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRequest {
    /// Which service it reached.
    pub service: DemoService,
    /// The HTTP method.
    pub method: String,
    /// The first segment of the path, e.g. `objects`, `cpb` or `sparql`.
    pub route: String,
    /// Path and query, as sent.
    pub path: String,
    /// The body, or its first 64 KiB, as text.
    pub body: String,
    /// All headers, a line each.
    pub headers: String,
    /// Whether it carried the login cookie.
    pub cookie: bool,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The reply's status; 0 before the reply, or if the connection was cut
    /// before it.
    pub status: u16,
    /// Bytes of the reply's body that were passed to the network.
    pub bytes: u64,
    /// Whether the complete reply was sent.
    pub complete: bool,
    /// The names of the faults that were applied.
    pub faults: Vec<String>,
    /// When the request arrived, since the portal's start.
    pub started: Duration,
    /// When the reply ended, completely or not.
    pub ended: Option<Duration>,
    /// Requests that the service was handling, this one included.
    pub concurrency: usize,
}

/// Called with each request when it has ended.
pub type RequestCallback = Box<dyn Fn(&RecordedRequest) + Send + Sync>;

/// The number of requests to keep; older ones are dropped.
const CAPACITY: usize = 50_000;
/// How many bytes of a body are kept.
const LONGEST_BODY: usize = 64 << 10;

/// Records requests.
pub(crate) struct Recorder {
    start: Instant,
    requests: Mutex<VecDeque<SharedRecord>>,
    busy: [AtomicUsize; 3],
    callback: Option<RequestCallback>,
}

type SharedRecord = Arc<Mutex<RecordedRequest>>;

impl Recorder {
    pub(crate) fn new(callback: Option<RequestCallback>) -> Self {
        Self {
            start: Instant::now(),
            requests: Mutex::default(),
            busy: Default::default(),
            callback,
        }
    }

    /// The last requests since [`Recorder::clear`], in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.requests)
            .iter()
            .map(|r| lock(r).clone())
            .collect()
    }

    /// Drops all requests, including unfinished ones.
    pub(crate) fn clear(&self) {
        lock(&self.requests).clear();
    }

    /// Records that a request has arrived.
    pub(crate) fn begin(
        self: &Arc<Self>,
        service: DemoService,
        request: &DemoRequest,
        cookie: bool,
    ) -> ActiveRequest {
        let header = |name| request.header(name).map(str::to_owned);
        let busy = &self.busy[service as usize];
        let entry = Arc::new(Mutex::new(RecordedRequest {
            service,
            method: request.method.to_string(),
            route: request.path.first().cloned().unwrap_or_default(),
            path: request.target.clone(),
            body: {
                let start = &request.body[..request.body.len().min(LONGEST_BODY)];
                String::from_utf8_lossy(start).into_owned()
            },
            headers: request.header_lines(),
            cookie,
            user_agent: header(USER_AGENT),
            range: header(RANGE),
            status: 0,
            bytes: 0,
            complete: false,
            faults: Vec::new(),
            started: self.start.elapsed(),
            ended: None,
            concurrency: busy.fetch_add(1, Ordering::SeqCst) + 1,
        }));
        let mut requests = lock(&self.requests);
        if requests.len() >= CAPACITY {
            requests.pop_front();
        }
        requests.push_back(Arc::clone(&entry));
        drop(requests);
        ActiveRequest {
            entry,
            recorder: Arc::clone(self),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that is being answered. The record notes its end when this is
/// dropped.
pub(crate) struct ActiveRequest {
    entry: SharedRecord,
    recorder: Arc<Recorder>,
}

impl ActiveRequest {
    /// Records the names of the faults of this request.
    pub(crate) fn set_faults(&self, names: Vec<String>) {
        lock(&self.entry).faults = names;
    }

    /// Counts the bytes of the reply's body as they are sent.
    pub(crate) fn follow(self, reply: DemoReply) -> DemoReply {
        let (mut head, body) = reply.into_parts();
        let exact = body.size_hint().exact();
        {
            let mut entry = lock(&self.entry);
            entry.status = head.status.as_u16();
            entry.complete = exact == Some(0);
        }
        // The stream below has no length hint, so the header is set here.
        if let Some(exact) = exact {
            (head.headers.entry(CONTENT_LENGTH)).or_insert_with(|| exact.into());
        }
        let length = body_length(&head.headers);
        let body = (self, body.into_data_stream());
        let counted = futures_util::stream::unfold(body, move |(recorded, mut body)| async move {
            let piece = body.next().await;
            recorded.count(piece.as_ref(), length);
            Some((piece?, (recorded, body)))
        });
        DemoReply::from_parts(head, Body::from_stream(counted))
    }

    /// Counts a piece of a body, or its end. hyper does not ask for the end of a
    /// body of known length.
    fn count<E>(&self, piece: Option<&Result<Bytes, E>>, length: Option<u64>) {
        let mut entry = lock(&self.entry);
        match piece {
            Some(Ok(bytes)) => {
                entry.bytes += bytes.len() as u64;
                entry.complete = length == Some(entry.bytes);
            }
            Some(Err(_)) => {}
            None => entry.complete = length.is_none_or(|length| length == entry.bytes),
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut entry = lock(&self.entry);
        entry.ended = Some(self.recorder.start.elapsed());
        self.recorder.busy[entry.service as usize].fetch_sub(1, Ordering::SeqCst);
        if let Some(callback) = &self.recorder.callback {
            callback(&entry);
        }
    }
}
