use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A store that gives every request the response `head`, then `part` for as long as it is
/// read. Counts what it sent, and keeps the last request.
struct HostileStore {
    address: std::net::SocketAddr,
    sent: Arc<AtomicU64>,
    requests: Arc<icos_sync::Mutex<Vec<String>>>,
}

impl HostileStore {
    async fn answering(head: String, part: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sent, requests) = (Arc::<AtomicU64>::default(), Arc::default());
        let store = Self {
            address,
            sent: Arc::clone(&sent),
            requests: Arc::clone(&requests),
        };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8 << 10];
                let len = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..len]).into_owned();
                requests.lock().push(text);
                if stream.write_all(head.as_bytes()).await.is_err() {
                    continue;
                }
                while !part.is_empty() && stream.write_all(&part).await.is_ok() {
                    sent.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
            }
        });
        store
    }

    /// A client with this store, and a session token.
    fn client(&self) -> S3Store {
        let builder = AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_access_key_id("id")
            .with_secret_access_key("key")
            .with_token("hidden-session-token");
        S3Store::of(builder, "bucket", "p".to_owned(), Duration::from_secs(10)).unwrap()
    }
}

/// Regression: with the session token, to any host.
#[tokio::test]
async fn redirect_of_a_bucket_is_not_followed_and_gets_no_token() {
    let ok = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n";
    let elsewhere = HostileStore::answering(ok.to_owned(), Vec::new()).await;
    for status in [301, 302, 303, 307, 308] {
        let head = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://{}/x\r\nContent-Length: 0\r\n\r\n",
            elsewhere.address
        );
        let store = HostileStore::answering(head, Vec::new()).await;
        let client = store.client();
        client.get("v1/probe", 100).await.unwrap_err();
        client.put("v1/probe", "x".into()).await.unwrap_err();
        assert!(store.requests.lock()[0].contains("hidden-session-token"));
    }
    assert!(elsewhere.requests.lock().is_empty());
}

/// Regression: the body of an error was read as a whole.
#[tokio::test]
async fn endless_body_of_an_error_of_a_bucket_is_cut_off() {
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 1 << 16], b"\r\n".to_vec()].concat();
    for status in [400, 403, 404, 500] {
        let head = format!("HTTP/1.1 {status} E\r\nTransfer-Encoding: chunked\r\n\r\n");
        let store = HostileStore::answering(head, chunk.clone()).await;
        let _ = store.client().get("v1/probe", 100).await;
        // Two attempts, and what the system buffers.
        let sent = store.sent.load(Ordering::Relaxed);
        assert!(sent < 32 << 20, "{status}: {sent} bytes");
    }
}

/// Regression: they reached the log.
#[tokio::test]
async fn error_of_a_bucket_has_neither_terminal_commands_nor_secrets() {
    let body =
        "<Error><Code>\x1b]0;evil\x07\r\n\u{9b}31m\u{202e}hidden-session-token</Code></Error>";
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let store = HostileStore::answering(head, Vec::new()).await;
    let error = store.client().get("v1/probe", 100).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Denied(_)), "{text}");
    assert!(text.contains("evil"), "{text}");
    assert!(!text.contains("hidden"), "{text}");
    let is_command = icos_portal::is_terminal_command;
    assert!(!text.contains(is_command), "{text:?}");
}

#[tokio::test]
async fn tag_of_an_object_in_a_bucket_is_bounded() {
    for (len, is_accepted) in [(1000, true), (5000, false)] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: \"{}\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 1\r\n\r\nx",
            "t".repeat(len)
        );
        let store = HostileStore::answering(head, Vec::new()).await;
        let client = store.client();
        assert_eq!(client.get("v1/x", 100).await.is_ok(), is_accepted);
        let created = client.write("v1/x", "x".into(), PutMode::Overwrite).await;
        assert_eq!(created.is_ok(), is_accepted);
    }
}
