//! The listening side: one port per service, which can be closed and opened
//! again, and connections that can be cut.

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
    open: Mutex<Option<Open>>,
    /// Holds the port while it is closed, so that no other portal gets it.
    held: Mutex<Option<Socket>>,
}

/// A port that listens.
struct Open {
    accepting: JoinHandle<()>,
    lines: Arc<Mutex<Vec<Weak<Control>>>>,
}

impl Port {
    /// Opens a port on loopback; 0 takes any.
    pub(crate) fn open(port: u16, router: Router, runtime: &Handle) -> io::Result<Self> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        let mut port = Self {
            address: listener.local_addr()?,
            router,
            runtime: runtime.clone(),
            open: Mutex::new(None),
            held: Mutex::new(None),
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

    /// Refuses connections from now on and ends those there are.
    pub(crate) fn close(&self) {
        let open = lock(&self.open).take();
        if let Some(open) = open {
            open.accepting.abort();
            // An aborted task keeps its listener, and may accept, until it is
            // dropped.
            while !open.accepting.is_finished() {
                std::thread::yield_now();
            }
            *lock(&self.held) = hold(self.address).ok();
            for line in lock(&open.lines).iter().filter_map(Weak::upgrade) {
                line.cut(Cut::End);
            }
        }
    }

    /// Listens again on the same port.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut open = lock(&self.open);
        if open.is_none() {
            let held = lock(&self.held).take();
            let listener = match held {
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

    fn serve(&self, listener: std::net::TcpListener) -> io::Result<Open> {
        let _runtime = self.runtime.enter();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let door = Door {
            listener: TcpListener::from_std(listener)?,
            lines: Arc::clone(&lines),
        };
        let service = self
            .router
            .clone()
            .into_make_service_with_connect_info::<Line>();
        let accepting = self.runtime.spawn(async move {
            // It ends only by being aborted.
            let _ = axum::serve(door, service).await;
        });
        Ok(Open { accepting, lines })
    }
}

/// Connections that may wait to be accepted; std's own number.
const BACKLOG: i32 = 128;

/// Takes a port without listening at it: connections are refused.
fn hold(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections that ended just now still have it, too;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // nobody else shall.
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
    /// As if the process had ended.
    End = 1,
    /// By a TCP reset.
    Reset = 2,
}

/// A connection, as its requests see it.
#[derive(Clone)]
pub(crate) struct Line(Arc<Control>);

impl Line {
    /// Ends the connection at its next read or write.
    pub(crate) fn cut(&self, how: Cut) {
        self.0.cut(how);
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl Connected<IncomingStream<'_, Door>> for Line {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

#[derive(Default)]
struct Control {
    cut: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Control {
    fn cut(&self, how: Cut) {
        self.cut.store(how as u8, Ordering::SeqCst);
        self.reader.wake();
        self.writer.wake();
    }
}

/// Accepts connections and keeps track of them.
pub(crate) struct Door {
    listener: TcpListener,
    lines: Arc<Mutex<Vec<Weak<Control>>>>,
}

impl Listener for Door {
    type Io = Wire;
    type Addr = Line;

    async fn accept(&mut self) -> (Wire, Line) {
        let (stream, _) = Listener::accept(&mut self.listener).await;
        // Small answers must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let control = Arc::<Control>::default();
        let mut lines = lock(&self.lines);
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(&control));
        drop(lines);
        let wire = Wire {
            stream,
            control: Arc::clone(&control),
        };
        (wire, Line(control))
    }

    fn local_addr(&self) -> io::Result<Line> {
        Ok(Line(Arc::default()))
    }
}

/// A connection that can be cut.
pub(crate) struct Wire {
    stream: TcpStream,
    control: Arc<Control>,
}

impl Wire {
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

impl AsyncRead for Wire {
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

impl AsyncWrite for Wire {
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
