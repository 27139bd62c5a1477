//! A server in front of a portal service, or in its place, with the behaviour
//! that a test needs; over TLS if it has a certificate.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A connection over TLS. Dropped without [`TlsStream::end`], it is cut.
pub(crate) struct TlsStream(StreamOwned<ServerConnection, TcpStream>);

impl TlsStream {
    /// Ends the connection properly, by `close_notify`.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

pub(crate) struct Front {
    port: u16,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Front {
    /// Starts a server that answers with `manner`.
    pub(crate) fn behaving(
        manner: impl Fn(&[u8], &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::accepting(move |mut stream, asked| {
            answer(
                &mut stream,
                |request, stream| manner(request, stream),
                asked,
            )
        })
    }

    /// Starts a server that gives every request the same response.
    pub(crate) fn saying(answer: String) -> Self {
        Self::behaving(move |_, stream| stream.write_all(answer.as_bytes()))
    }

    /// Starts a proxy to `backend` that applies `twist` to responses; `twist` must
    /// not change their length.
    pub(crate) fn twisting(
        backend: &str,
        twist: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let backend = backend.to_owned();
        Self::behaving(move |request, stream| {
            stream.write_all(&twist(forwarded(request, &backend)?))
        })
    }

    /// Starts an unmodified proxy over TLS.
    pub(crate) fn behind_tls(backend: &str, certificate: &TestCertificate) -> Self {
        let backend = backend.to_owned();
        Self::behaving_behind_tls(certificate, move |request, stream| {
            stream.write_all(&forwarded(request, &backend)?)
        })
    }

    /// Starts a server over TLS that answers with `manner`.
    pub(crate) fn behaving_behind_tls(
        certificate: &TestCertificate,
        manner: impl Fn(&[u8], &mut TlsStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let config = certificate.server();
        Self::accepting(move |stream, asked| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("it is configured");
            let mut stream = TlsStream(StreamOwned::new(connection, stream));
            answer(&mut stream, &manner, asked)
        })
    }

    /// Starts a server that passes each connection to `serve`.
    fn accepting(
        serve: impl Fn(TcpStream, &Mutex<Vec<Vec<u8>>>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::default());
        let (serve, noted) = (Arc::new(serve), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serve, noted) = (Arc::clone(&serve), Arc::clone(&noted));
                std::thread::spawn(move || serve(stream, &noted));
            }
        });
        Self { port, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The same URL with the host name of the certificate.
    pub(crate) fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Returns the requests so far.
    pub(crate) fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().expect("no thread panics").clone()
    }
}

fn answer<S: Read + Write>(
    stream: &mut S,
    manner: impl Fn(&[u8], &mut S) -> io::Result<()>,
    asked: &Mutex<Vec<Vec<u8>>>,
) -> io::Result<()> {
    let request = request(stream)?;
    asked
        .lock()
        .expect("no thread panics")
        .push(request.clone());
    manner(&request, stream)?;
    stream.flush()
}

/// Reads a request with its body.
fn request(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let got = stream.read(&mut piece)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&piece[..got]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let mut headers = head.lines();
        let announced = headers.find_map(|line| line.strip_prefix("content-length: "));
        let announced = announced.map_or(0, |len| len.parse().expect("a length"));
        if body.len() >= announced {
            return Ok(request);
        }
    }
}

/// Returns the response of `backend`.
pub(crate) fn forwarded(request: &[u8], backend: &str) -> io::Result<Vec<u8>> {
    let host = backend.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host)?;
    let line = request.iter().position(|&byte| byte == b'\n').unwrap_or(0) + 1;
    stream.write_all(&request[..line])?;
    stream.write_all(b"Connection: close\r\n")?;
    stream.write_all(&request[line..])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Creates a self-signed certificate with `openssl`.
pub(crate) struct TestCertificate {
    folder: tempfile::TempDir,
}

impl TestCertificate {
    pub(crate) fn of(host: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n\
             [dn]\nCN = test\n\
             [v3]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:{host}\n"
        );
        std::fs::write(folder.path().join("config"), config).expect("it is written");
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-config", "config", "-keyout", "key", "-out", "certificate"])
            .current_dir(folder.path())
            .output()
            .expect("openssl is installed (scripts/setup)");
        assert!(output.status.success(), "{output:?}");
        Self { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("certificate")
    }

    /// The private key of the certificate.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    fn server(&self) -> Arc<ServerConfig> {
        let file = |name: &str| -> PathBuf { Path::join(self.folder.path(), name) };
        let certificate = CertificateDer::from_pem_file(file("certificate")).expect("PEM");
        let key = PrivateKeyDer::from_pem_file(file("key")).expect("PEM");
        // Another test may have installed it first; both install the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.expect("they belong together"))
    }
}
