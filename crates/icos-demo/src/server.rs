//! The listening side: one port per service, which can be closed and reopened,
//! and connections that can be cut.
//!
//! A closed port stays bound, without listening: the kernel refuses connections
//! and gives the port to no other process. Of a port's two locks, `open` is
//! taken first.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::task::AtomicWaker;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// A service's port.
pub(crate) struct Port {
    address: SocketAddr,
    router: Router,
    runtime: Handle,
    open: Mutex<Option<OpenPort>>,
    /// Keeps the port bound while it is closed.
    reserved: Mutex<Option<Socket>>,
}

/// The accepting task of a listening port, and its connections.
struct OpenPort {
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<Vec<Weak<ConnectionControl>>>>,
}

impl Port {
    /// Opens a port on loopback; 0 for any free port.
    pub(crate) fn open(port: u16, router: Router, runtime: &Handle) -> io::Result<Self> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        let mut port = Self {
            address: listener.local_addr()?,
            router,
            runtime: runtime.clone(),
            open: Mutex::new(None),
            reserved: Mutex::new(None),
        };
        let open = port.serve(listener)?;
        port.open = Mutex::new(Some(open));
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
        let open = lock(&self.open).take();
        if let Some(open) = open {
            open.accepting.abort();
            // Until the aborted task is dropped, its listener may accept.
            while !open.accepting.is_finished() {
                std::thread::yield_now();
            }
            *lock(&self.reserved) = reserve(self.address).ok();
            for connection in lock(&open.connections).iter().filter_map(Weak::upgrade) {
                connection.cut(Cut::End);
            }
        }
    }

    /// Listens again on the same port.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut open = lock(&self.open);
        if open.is_none() {
            let reserved = lock(&self.reserved).take();
            let listener = match reserved {
                Some(socket) => {
                    socket.set_reuse_address(true)?;
                    socket.listen(BACKLOG)?;
                    socket.set_nonblocking(true)?;
                    socket.into()
                }
                None => bind(self.address)?,
            };
            *open = Some(self.serve(listener)?);
        }
        Ok(())
    }

    fn serve(&self, listener: std::net::TcpListener) -> io::Result<OpenPort> {
        let _runtime = self.runtime.enter();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let listener = ConnectionListener {
            tcp: TcpListener::from_std(listener)?,
            connections: Arc::clone(&connections),
        };
        let service = self
            .router
            .clone()
            .into_make_service_with_connect_info::<Connection>();
        let accepting = self.runtime.spawn(async move {
            // The task ends only when aborted.
            let _ = axum::serve(listener, service).await;
        });
        Ok(OpenPort {
            accepting,
            connections,
        })
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

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a connection is cut.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// Close it, as at the end of a process.
    End = 1,
    /// Send a TCP reset.
    Reset = 2,
}

/// A handle to cut the connection that a request arrived on.
#[derive(Clone)]
pub(crate) struct Connection(Arc<ConnectionControl>);

impl Connection {
    /// Ends the connection at its next read or write.
    pub(crate) fn cut(&self, how: Cut) {
        self.0.cut(how);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connected<IncomingStream<'_, ConnectionListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, ConnectionListener>) -> Self {
        stream.remote_addr().clone()
    }
}

#[derive(Default)]
struct ConnectionControl {
    cut: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl ConnectionControl {
    fn cut(&self, how: Cut) {
        self.cut.store(how as u8, Ordering::SeqCst);
        self.reader.wake();
        self.writer.wake();
    }
}

/// Accepts connections and registers them.
pub(crate) struct ConnectionListener {
    tcp: TcpListener,
    connections: Arc<Mutex<Vec<Weak<ConnectionControl>>>>,
}

impl Listener for ConnectionListener {
    type Io = ControlledStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (ControlledStream, Connection) {
        let (stream, _) = Listener::accept(&mut self.tcp).await;
        // Send small replies without waiting for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let control = Arc::<ConnectionControl>::default();
        let mut connections = lock(&self.connections);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&control));
        drop(connections);
        let stream = ControlledStream {
            stream,
            control: Arc::clone(&control),
        };
        (stream, Connection(control))
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Ok(Connection(Arc::default()))
    }
}

/// A connection that can be cut.
pub(crate) struct ControlledStream {
    stream: TcpStream,
    control: Arc<ConnectionControl>,
}

impl ControlledStream {
    /// Fails if the connection has been cut.
    fn check(&self) -> io::Result<()> {
        match self.control.cut.load(Ordering::SeqCst) {
            0 => Ok(()),
            how => {
                if how == Cut::Reset as u8 {
                    self.stream.set_zero_linger()?;
                }
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

impl AsyncRead for ControlledStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.control.reader.register(cx.waker());
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ControlledStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.control.writer.register(cx.waker());
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.control.writer.register(cx.waker());
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
