//! The listening side: one port per service, which can be closed and reopened,
//! and connections that can be cut.
//!
//! A closed port stays bound, without listening: the kernel refuses connections
//! and gives the port to no other process.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::http::DemoReply;

/// Answers the requests of a port.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Body>, Connection) -> BoxFuture<'static, DemoReply> + Send + Sync>;

/// A service's port.
pub(crate) struct Port {
    address: SocketAddr,
    handler: Handler,
    runtime: Handle,
    state: Mutex<PortState>,
}

enum PortState {
    /// The task that accepts connections. They end with it.
    Open(JoinHandle<()>),
    /// A socket that keeps the port bound.
    Closed(Option<Socket>),
}

impl Port {
    /// Opens a port on loopback; 0 for any free port.
    pub(crate) fn open(port: u16, handler: Handler, runtime: &Handle) -> io::Result<Self> {
        let socket = reserve(SocketAddr::from(([127, 0, 0, 1], port)))?;
        let address = socket.local_addr()?.as_socket();
        let port = Self {
            address: address.ok_or(io::ErrorKind::AddrNotAvailable)?,
            handler,
            runtime: runtime.clone(),
            state: Mutex::new(PortState::Closed(Some(socket))),
        };
        port.reopen()?;
        Ok(port)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn number(&self) -> u16 {
        self.address.port()
    }

    /// Refuses new connections and ends the existing ones.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if let PortState::Open(accepting) = &*state {
            accepting.abort();
            // Until the aborted task is dropped, its listener may accept.
            while !accepting.is_finished() {
                std::thread::yield_now();
            }
            *state = PortState::Closed(reserve(self.address).ok());
        }
    }

    /// Listens again on the same port.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut state = self.state();
        if let PortState::Closed(reserved) = &mut *state {
            let socket = match reserved.take() {
                Some(socket) => socket,
                None => reserve(self.address)?,
            };
            socket.set_reuse_address(true)?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let _runtime = self.runtime.enter();
            let listener = TcpListener::from_std(socket.into())?;
            let accepting = self
                .runtime
                .spawn(accept(listener, Arc::clone(&self.handler)));
            *state = PortState::Open(accepting);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, PortState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that may wait to be accepted; the standard library's value.
const BACKLOG: i32 = 128;

/// Binds a port without listening on it, so that connections are refused.
fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Recently closed connections still occupy the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // From now on, no other socket may bind it.
    socket.set_reuse_address(false)?;
    Ok(socket)
}

/// Accepts connections until the task is aborted, which drops them.
async fn accept(listener: TcpListener, handler: Handler) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&handler)));
                }
                // For example, too many open files.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers the requests of a connection until it ends or is cut.
async fn serve(stream: TcpStream, handler: Handler) {
    // Send small replies without waiting for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let connection = Connection(watch::Sender::new(None));
    let mut cut = connection.0.subscribe();
    let service = service_fn(move |request: Request<Incoming>| {
        let reply = handler(request.map(Body::new), connection.clone());
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let mut http = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = &mut http => {}
        _ = cut.changed() => {}
    }
    if *cut.borrow() == Some(Cut::Reset) {
        // Dropping the stream then resets the connection.
        let _ = http.into_parts().io.into_inner().set_zero_linger();
    }
}

/// How a connection is cut.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Cut {
    /// Close it, as at the end of a process.
    End,
    /// Send a TCP reset.
    Reset,
}

/// A handle to cut the connection that a request arrived on.
#[derive(Clone)]
pub(crate) struct Connection(watch::Sender<Option<Cut>>);

impl Connection {
    /// Ends the connection, and the tasks that answer its requests.
    pub(crate) fn cut(&self, how: Cut) {
        self.0.send_replace(Some(how));
    }
}
