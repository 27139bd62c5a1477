//! The HTTP side: the same tree and contents as a mount, for machines and programs
//! without FUSE. HTTP/1.1 and read-only WebDAV (class 1) on a Unix socket or a port.
//!
//! # Layers
//!
//! | module | purpose |
//! |---|---|
//! | `listener`, `stream` | accepts connections; limits and deadlines |
//! | `guard`, `secret` | refuses requests that are not the user's own |
//! | `router` | translates a request into a node and a method |
//! | `file_reply`, `served_file`, `range`, `conditions`, `body` | GET and HEAD of a file |
//! | `listing`, `entry` | directories as JSON and HTML |
//! | `html`, `pages`, `map`, `charts` | pages for people |
//! | `webdav` | PROPFIND and OPTIONS |
//! | `status_code` | the status of an error; the only place that chooses one |
//!
//! # Deadlines and limits
//!
//! Each wait for a client has a deadline: the TLS handshake, the head of a request, its
//! body, each write. At most [`MAX_CONNECTIONS`] connections of each listener are served at
//! once; further ones wait in the kernel's queue. Waits for the portal have the deadlines of `content`.
//!
//! # Locks
//!
//! One, a leaf: the time of the last request, in `Activity`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::content::Contents;
use crate::daemon::DaemonReport;
use crate::daemon::idle::{CloseIdle, IDLE_TIMEOUT, spawn_closer};
use crate::daemon::node_reader::NodeReader;
use crate::daemon::refresh::ListRefresher;
use crate::tree::Tree;
use icos_portal::Envri;

mod body;
mod charts;
mod conditions;
mod entry;
mod file_reply;
mod guard;
mod html;
mod listener;
mod listing;
mod map;
mod media_type;
mod pages;
mod range;
mod reply;
mod router;
mod secret;
mod served_file;
pub mod status_code;
mod stream;
mod webdav;

pub use guard::HostNames;
pub use listener::{Listener, MAX_CONNECTIONS, TlsError, tls_acceptor};
pub use secret::{BadSecret, Secret};

/// Parameters of a server.
#[derive(Debug)]
pub struct ServeOptions {
    /// The repository.
    pub envri: Envri,
    /// The names by which clients may call the server.
    pub host_names: HostNames,
    /// What requests must carry.
    pub secret: Secret,
    /// How to reply to a question for a size that is not known.
    pub size_replies: SizeReplies,
}

/// How to reply to a question for the size of a file that is not known exactly, such as
/// that of a table that was never rendered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SizeReplies {
    /// At once, without a size.
    #[default]
    Known,
    /// With the exact size, once the file is downloaded and rendered: for programs that
    /// cannot do without, such as `rclone` over WebDAV.
    Exact,
}

/// A server. Connections are served while its listeners run.
#[derive(Clone, Debug)]
pub struct Server(Arc<ServerState>);

/// State that all requests share.
#[derive(Debug)]
pub(crate) struct ServerState {
    tree: Tree,
    reader: NodeReader,
    refresher: ListRefresher,
    report: Arc<DaemonReport>,
    options: ServeOptions,
    /// When the server started: the time of what has none of its own.
    since: Timestamp,
    activity: Arc<Activity>,
}

impl Server {
    /// A server of `tree` and `contents`, which counts in `report` what it does. Its
    /// background task runs on `runtime`.
    #[must_use]
    pub fn new(
        tree: Tree,
        contents: Arc<Contents>,
        report: Arc<DaemonReport>,
        options: ServeOptions,
        runtime: &Handle,
    ) -> Self {
        let activity = Arc::new(Activity::new());
        let used = activity.used.subscribe();
        let state = Arc::new(ServerState {
            refresher: ListRefresher::new(tree.clone(), Arc::clone(&contents)),
            reader: NodeReader::new(contents),
            tree,
            report,
            options,
            since: Timestamp::now(),
            activity,
        });
        spawn_closer(&state, runtime, used);
        Self(state)
    }

    /// Serves the connections of `listeners` until `end` changes. Then requests in
    /// progress have a few seconds to finish.
    pub async fn serve(&self, listeners: Vec<Listener>, end: watch::Receiver<()>) {
        listener::serve(&self.0, listeners, end).await;
    }

    /// Downloads all stored lists again. A failure is in the report.
    pub async fn refresh(&self) {
        if let Err(error) = self.0.refresher.refresh().await {
            self.0
                .record_failure("refresh", "/", status_code::of_tree(&error), &error);
        }
    }

    /// Waits until there was no request for `limit`.
    pub async fn idle(&self, limit: Duration) {
        loop {
            match self.0.activity.idle_for() {
                Some(idle) if idle >= limit => return,
                Some(idle) => tokio::time::sleep(limit.saturating_sub(idle)).await,
                None => tokio::time::sleep(limit).await,
            }
        }
    }
}

impl ServerState {
    /// Records that `operation` on the file at `path` failed.
    fn record_failure(
        &self,
        operation: &str,
        path: &str,
        status: hyper::StatusCode,
        reason: &dyn ToString,
    ) {
        let code = format!("HTTP {}", status.as_u16());
        (self.report).record_failure(operation, path.to_owned(), code, reason.to_string());
    }
}

impl CloseIdle for ServerState {
    fn close_idle(&self) -> bool {
        // A reply that is being sent holds the state of its file.
        let released = self.reader.contents().release_idle(IDLE_TIMEOUT, |_| false);
        let connections = self.tree.close_idle_connections(IDLE_TIMEOUT);
        released.more || connections
    }

    fn contents(&self) -> &Contents {
        self.reader.contents()
    }
}

/// The requests in progress, and when there was the last one.
#[derive(Debug)]
pub(crate) struct Activity {
    requests: AtomicUsize,
    last: Mutex<Instant>,
    /// Notified at the end of each request.
    used: watch::Sender<()>,
}

impl Activity {
    fn new() -> Self {
        Self {
            requests: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            used: watch::Sender::new(()),
        }
    }

    /// Counts a request until the result is dropped.
    fn begin(self: &Arc<Self>) -> RequestInProgress {
        self.requests.fetch_add(1, Ordering::SeqCst);
        RequestInProgress(Arc::clone(self))
    }

    /// The number of requests in progress.
    fn in_progress(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// For how long there was no request; `None` if one is in progress.
    fn idle_for(&self) -> Option<Duration> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (self.requests.load(Ordering::SeqCst) == 0).then(|| last.elapsed())
    }
}

/// A request that is in progress until its reply was sent.
#[derive(Debug)]
pub(crate) struct RequestInProgress(Arc<Activity>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        let Self(activity) = self;
        *activity.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        activity.requests.fetch_sub(1, Ordering::SeqCst);
        activity.used.send_replace(());
    }
}
