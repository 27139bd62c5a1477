//! Every request is remembered, so that tests can say what a client did.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::header::{CONTENT_LENGTH, RANGE, USER_AGENT};
use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use super::http::{Ask, Reply};

/// One of the portal's three services.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DemoService {
    /// Logins and user profiles.
    Auth,
    /// Landing pages and SPARQL.
    Meta,
    /// Contents.
    Data,
}

impl DemoService {
    /// Auth, meta and data, in the order of their ports.
    pub const ALL: [DemoService; 3] = [DemoService::Auth, DemoService::Meta, DemoService::Data];

    /// The name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DemoService::Auth => "auth",
            DemoService::Meta => "meta",
            DemoService::Data => "data",
        }
    }
}

/// A request that a demo portal received, and what became of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRequest {
    /// Which service it reached.
    pub service: DemoService,
    /// The HTTP method.
    pub method: String,
    /// The first segment of the path, e.g. `objects`, `cpb` or `sparql`.
    pub route: String,
    /// Path and query, as they were sent.
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
    /// The answer's status; 0 as long as there is none, or if the connection
    /// was cut before.
    pub status: u16,
    /// Bytes of the answer's body that were handed to the network.
    pub bytes: u64,
    /// Whether the answer was sent to its end.
    pub complete: bool,
    /// The faults that were made, by name.
    pub faults: Vec<String>,
    /// When it came, since the portal's start.
    pub started: Duration,
    /// When its answer had been sent, or was given up.
    pub ended: Option<Duration>,
    /// Requests that the service was busy with, this one included.
    pub concurrency: usize,
}

/// Called with each request when it has ended.
pub(crate) type Watcher = Box<dyn Fn(&RecordedRequest) + Send + Sync>;

/// Requests that are remembered; older ones are forgotten.
const REMEMBERED: usize = 50_000;
/// How much of a body is remembered.
const LONGEST_BODY: usize = 64 << 10;

/// The requests so far.
pub(crate) struct Recorder {
    start: Instant,
    requests: Mutex<VecDeque<Entry>>,
    busy: [AtomicUsize; 3],
    watcher: Option<Watcher>,
}

type Entry = Arc<Mutex<RecordedRequest>>;

impl Recorder {
    pub(crate) fn new(watcher: Option<Watcher>) -> Self {
        Self {
            start: Instant::now(),
            requests: Mutex::default(),
            busy: Default::default(),
            watcher,
        }
    }

    /// The last requests since [`Recorder::clear`], in the order they came.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.requests)
            .iter()
            .map(|r| lock(r).clone())
            .collect()
    }

    /// Forgets all requests, those under way too.
    pub(crate) fn clear(&self) {
        lock(&self.requests).clear();
    }

    /// Notes that a request has come.
    pub(crate) fn begin(self: &Arc<Self>, service: DemoService, ask: &Ask, cookie: bool) -> Ticket {
        let header = |name| ask.header(name).map(str::to_owned);
        let busy = &self.busy[service as usize];
        let entry = Arc::new(Mutex::new(RecordedRequest {
            service,
            method: ask.method.to_string(),
            route: ask.path.first().cloned().unwrap_or_default(),
            path: ask.target.clone(),
            body: {
                let start = &ask.body[..ask.body.len().min(LONGEST_BODY)];
                String::from_utf8_lossy(start).into_owned()
            },
            headers: ask.header_lines(),
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
        if requests.len() >= REMEMBERED {
            requests.pop_front();
        }
        requests.push_back(Arc::clone(&entry));
        drop(requests);
        Ticket {
            entry,
            recorder: Arc::clone(self),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request under way. It ends when this is dropped.
pub(crate) struct Ticket {
    entry: Entry,
    recorder: Arc<Recorder>,
}

impl Ticket {
    /// Notes a fault made on purpose.
    pub(crate) fn fault(&self, name: &str) {
        lock(&self.entry).faults.push(name.to_owned());
    }

    /// Counts the answer's body as it is sent.
    pub(crate) fn follow(self, reply: Reply) -> Reply {
        let (mut head, body) = reply.into_parts();
        let length = body.size_hint().exact();
        {
            let mut entry = lock(&self.entry);
            entry.status = head.status.as_u16();
            entry.complete = length == Some(0);
        }
        // A stream has no length to tell, so it is told here.
        if let Some(length) = length {
            head.headers
                .entry(CONTENT_LENGTH)
                .or_insert_with(|| length.into());
        }
        let announced = head.headers.get(CONTENT_LENGTH);
        let body = Counted {
            announced: announced.and_then(|length| length.to_str().ok()?.parse().ok()),
            body: body.into_data_stream(),
            ticket: self,
        };
        Reply::from_parts(head, Body::from_stream(body))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut entry = lock(&self.entry);
        entry.ended = Some(self.recorder.start.elapsed());
        self.recorder.busy[entry.service as usize].fetch_sub(1, Ordering::SeqCst);
        if let Some(watcher) = &self.recorder.watcher {
            watcher(&entry);
        }
    }
}

/// A body that counts itself.
struct Counted {
    /// Its length, beyond which nobody asks for more of it.
    announced: Option<u64>,
    body: BodyDataStream,
    ticket: Ticket,
}

impl Stream for Counted {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.body).poll_next(cx));
        let announced = self.announced;
        let mut entry = lock(&self.ticket.entry);
        match &item {
            Some(Ok(bytes)) => {
                entry.bytes += bytes.len() as u64;
                entry.complete = announced == Some(entry.bytes);
            }
            Some(Err(_)) => {}
            None => entry.complete = announced.is_none_or(|length| length == entry.bytes),
        }
        drop(entry);
        Poll::Ready(item)
    }
}
