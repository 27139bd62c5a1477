//! Servers that a cluster may have: of S3, and of Redis.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::SOON;
use crate::support::{TestCertificate, eventually, interpreter};

/// An address of this machine that nothing listens on.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A server of S3.
pub(super) struct S3Server {
    process: Child,
    pub(super) url: String,
}

impl S3Server {
    /// One that honours conditions.
    pub(super) fn moto() -> Self {
        let address = free_address();
        let process = interpreter()
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self::at(process, address);
        let bucket = format!("{}/icosfs", server.url);
        let created = Command::new("curl")
            .args(["--silent", "--fail", "-X", "PUT", &bucket])
            .output();
        assert!(created.unwrap().status.success());
        server
    }

    /// `rclone serve s3`, which ignores conditions.
    pub(super) fn rclone(folder: &Path) -> Self {
        std::fs::create_dir(folder.join("icosfs")).unwrap();
        let address = free_address();
        let python = interpreter();
        let rclone = Path::new(python.get_program()).with_file_name("rclone");
        let process = Command::new(rclone)
            .args([
                "--config",
                "",
                "serve",
                "s3",
                "--addr",
                &address.to_string(),
            ])
            .arg(folder)
            .stderr(Stdio::null())
            .spawn()
            .expect("rclone is beside the tests' Python (scripts/setup tests)");
        Self::at(process, address)
    }

    fn at(process: Child, address: SocketAddr) -> Self {
        let server = Self {
            process,
            url: format!("http://{address}"),
        };
        let responds = || std::net::TcpStream::connect(address).is_ok();
        assert!(
            eventually(SOON, responds),
            "it is installed (scripts/setup tests)"
        );
        server
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server of Redis.
pub(super) struct RedisServer {
    process: Child,
    address: SocketAddr,
    options: Vec<String>,
    _certificate: Option<TestCertificate>,
}

impl RedisServer {
    pub(super) fn new() -> Self {
        let address = free_address();
        Self::with(address, "port", &[], None)
    }

    /// One that asks for `password`, over TLS.
    pub(super) fn behind_tls(password: &str, certificate: TestCertificate) -> Self {
        let address = free_address();
        let path = |path: &Path| path.display().to_string();
        let options = [
            ["--port".to_owned(), "0".to_owned()],
            ["--tls-auth-clients".to_owned(), "no".to_owned()],
            ["--tls-cert-file".to_owned(), path(&certificate.path())],
            ["--tls-key-file".to_owned(), path(&certificate.key())],
            ["--requirepass".to_owned(), password.to_owned()],
        ];
        Self::with(address, "tls-port", &options.concat(), Some(certificate))
    }

    fn with(
        address: SocketAddr,
        port: &str,
        more: &[String],
        certificate: Option<TestCertificate>,
    ) -> Self {
        let number = address.port().to_string();
        let mut options: Vec<String> = [
            &format!("--{port}"),
            &*number,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        .map(str::to_owned)
        .to_vec();
        options.extend(more.iter().cloned());
        let process = Self::start(&options, address);
        Self {
            process,
            address,
            options,
            _certificate: certificate,
        }
    }

    fn start(options: &[String], address: SocketAddr) -> Child {
        let process = Command::new("redis-server")
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (scripts/setup tests)");
        let responds = || TcpStream::connect(address).is_ok();
        assert!(eventually(SOON, responds), "redis-server does not respond");
        process
    }

    pub(super) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub(super) fn restart(&mut self) {
        self.process = Self::start(&self.options, self.address);
    }

    /// The value of `--shared-leases`.
    pub(super) fn url(&self) -> String {
        let scheme = if self.options[0] == "--port" {
            "redis"
        } else {
            "rediss"
        };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// Returns the answer to a command.
    pub(super) fn answer(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.address.port().to_string()])
            .args(command)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
