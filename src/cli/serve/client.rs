//! A client for the sockets of servers, for `icosfs status` and `icosfs doctor`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use icos_files::SafeFolder;

use super::files::{ServerRecord, given_secret};

/// Maximum length of a reply, in bytes.
const MAX_REPLY: u64 = 16 << 20;

/// Requests `path` of a server, and returns the body of its reply.
pub(in crate::cli) fn get(
    server: &ServerRecord,
    path: &str,
    timeout: Duration,
) -> anyhow::Result<Vec<u8>> {
    let secret = given_secret(&server.secret_file)?;
    let shown = server.socket.display();
    let mut stream =
        connect(&server.socket).with_context(|| format!("cannot connect to {shown}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        secret.expose()
    )?;
    let mut reply = Vec::new();
    (stream.take(MAX_REPLY).read_to_end(&mut reply))
        .with_context(|| format!("no response; is process {} stopped?", server.pid))?;
    body(&reply)
}

/// Connects to the socket at `path`, of any length: the system allows 107 bytes, so that
/// longer ones go through a descriptor of the folder.
pub(in crate::cli) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = SafeFolder::open(folder)?;
    UnixStream::connect(folder.path().join(name))
}

/// The body of a complete reply of known length.
fn body(reply: &[u8]) -> anyhow::Result<Vec<u8>> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.context("expected a reply of HTTP, found none")?;
    let head = String::from_utf8_lossy(&reply[..end]);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200 ") {
        bail!("expected the status 200, found: {status}");
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().parse().ok())?
    });
    let body = &reply[end + 4..];
    let length: usize = length.context("expected a reply of known length")?;
    ensure!(
        body.len() == length,
        "expected {length} bytes, received {}",
        body.len()
    );
    Ok(body.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_replies_have_a_body() {
        let reply = b"HTTP/1.1 200 OK\r\nContent-length: 2\r\n\r\nhi";
        assert_eq!(body(reply).unwrap(), b"hi");
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\n\r\nhi",
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(body(bad).is_err(), "{bad:?}");
        }
    }
}
