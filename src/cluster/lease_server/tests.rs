use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;

/// A server that replies `reply` to each command, and sends `flood` without end after the
/// first one.
struct HostileServer {
    location: LeaseLocation,
    sent: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl HostileServer {
    async fn replying(reply: &'static [u8], flood: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let server = Self {
            location: url.parse().unwrap(),
            sent: Arc::default(),
            connections: Arc::default(),
        };
        let (sent, connections) = (Arc::clone(&server.sent), Arc::clone(&server.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let sent = Arc::clone(&sent);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while read_command(&mut stream).await.is_some() {
                        let _ = stream.write_all(reply).await;
                        let part = if number == 0 { flood } else { b"" };
                        let part = part.repeat((1 << 16) / part.len().max(1));
                        while !part.is_empty() && stream.write_all(&part).await.is_ok() {
                            sent.fetch_add(part.len() as u64, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        server
    }

    fn leases(&self) -> LeaseServer {
        let limit = Duration::from_secs(10);
        LeaseServer::open(&self.location, None, "store", limit).unwrap()
    }
}

/// Reads a command; `None` at the end.
async fn read_command(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<()> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let parts: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    for _ in 0..parts {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let len: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        stream.read_exact(&mut vec![0; len + 2]).await.ok()?;
    }
    Some(())
}

/// Regression: a reply of any length was kept in memory.
#[tokio::test]
async fn endless_reply_of_a_server_of_leases_is_refused() {
    for reply in [
        &b"$400000000000\r\n"[..],
        b"+",
        b"-",
        b"*9223372036854775807\r\n",
        b"*1\r\n",
        b"%2000000000\r\n",
        b"$4097\r\n",
    ] {
        let server = HostileServer::replying(reply, b"*1\r\n").await;
        let error = server.leases().get("key").await.unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
        // What the system buffers.
        let sent = server.sent.load(Ordering::Relaxed);
        assert!(sent < 32 << 20, "{sent} bytes");
    }
}

/// Regression: it was read between commands, too. And no reply is that of another command.
#[tokio::test]
async fn what_a_server_of_leases_sends_unasked_is_not_read() {
    let server = HostileServer::replying(b"$0\r\n\r\n", b":1\r\n").await;
    let leases = server.leases();
    let first = leases.get("key").await;
    let mut before = u64::MAX;
    // Until nothing more can be sent.
    while before != server.sent.load(Ordering::Relaxed) {
        before = server.sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before < 32 << 20, "{before} bytes");
    // The flood may have been seen with the first reply already.
    if first.is_ok() {
        assert!(leases.get("key").await.unwrap().is_none());
        assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn error_of_a_server_of_leases_has_neither_terminal_commands_nor_secrets() {
    let reply = "-WRONGPASS \x1b]0;evil\x07\u{9b}31m\nhidden-redis-word\r\n";
    let server = HostileServer::replying(reply.as_bytes(), b"").await;
    let password = SecretString::from("hidden-redis-word");
    let limit = Duration::from_secs(10);
    let leases = LeaseServer::open(&server.location, Some(&password), "store", limit).unwrap();
    let error = leases.get("key").await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Denied(_)), "{text}");
    assert!(text.contains("evil") && !text.contains("hidden"), "{text}");
    assert!(!text.contains(icos_portal::is_terminal_command), "{text:?}");
}
