//! The ports of a server: which addresses are allowed, and how they are bound.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::files::private_file;
use super::{MAX_PEM, ServeArgs};
use crate::serve::tls_acceptor;

/// How many free ports to try until one is free on both addresses of `localhost`.
const FREE_PORT_ATTEMPTS: u32 = 32;

/// A port to listen on.
pub(super) enum PortToBind {
    /// A port of this machine's own addresses.
    Loopback(u16),
    /// One address and port, perhaps with certificates and key.
    Address(SocketAddr, Option<tokio_rustls::TlsAcceptor>),
}

/// The ports of a server.
pub(super) struct BoundPorts {
    /// The one that its URL names, first.
    pub(super) listeners: Vec<std::net::TcpListener>,
    pub(super) tls: Option<tokio_rustls::TlsAcceptor>,
}

/// Checks the flags about ports.
pub(super) fn port_to_bind(args: &ServeArgs) -> anyhow::Result<Option<PortToBind>> {
    let address = match (args.port, args.listen) {
        (Some(port), _) => return Ok(Some(PortToBind::Loopback(port))),
        (None, Some(address)) => address,
        (None, None) => {
            ensure!(
                args.tls_cert.is_none() || args.listen.is_some(),
                "--tls-cert is for --listen: a socket needs no TLS"
            );
            return Ok(None);
        }
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) if args.listen.is_some() => {
            let read = |path: &Path| {
                let read = icos_files::read_file(path, MAX_PEM);
                read.with_context(|| format!("cannot read {}", path.display()))
            };
            let acceptor = tls_acceptor(
                &read(certificates)?,
                &private_file(key, "TLS key", MAX_PEM)?,
            );
            Some(acceptor.context("bad --tls-cert or --tls-key")?)
        }
        _ => None,
    };
    if !address.ip().to_canonical().is_loopback() {
        ensure!(
            args.allow_remote,
            "{} can be reached by other machines, which would read with your login; if that is what you want, add --allow-remote, --tls-cert and --tls-key",
            address.ip()
        );
        ensure!(
            tls.is_some(),
            "--allow-remote needs --tls-cert and --tls-key: without TLS, the network would see the secret and the data"
        );
    }
    let is_localhost = address.ip() == Ipv4Addr::LOCALHOST || address.ip() == Ipv6Addr::LOCALHOST;
    Ok(Some(match tls {
        None if is_localhost => PortToBind::Loopback(address.port()),
        tls => PortToBind::Address(address, tls),
    }))
}

impl PortToBind {
    pub(super) fn bind(self) -> anyhow::Result<BoundPorts> {
        match self {
            Self::Loopback(port) => Ok(BoundPorts {
                listeners: bind_loopback(port)?,
                tls: None,
            }),
            Self::Address(address, tls) => Ok(BoundPorts {
                listeners: vec![bind_port(address)?],
                tls,
            }),
        }
    }
}

fn bind_port(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

/// Listens on `port` of both addresses of `localhost`, on a free one if it is 0: another
/// user that listened on one of them would get the secret from clients that try it first.
fn bind_loopback(port: u16) -> anyhow::Result<Vec<std::net::TcpListener>> {
    let mut attempts = 0;
    loop {
        let first = bind_port((Ipv4Addr::LOCALHOST, port).into())?;
        let number = first.local_addr()?.port();
        match std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, number)) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                attempts += 1;
                ensure!(
                    port == 0 && attempts < FREE_PORT_ATTEMPTS,
                    "another program listens on port {number} of [::1], and would get requests to localhost; choose another --port"
                );
            }
            // This machine has no IPv6.
            Err(error) => {
                tracing::debug!(%error, "not listening on [::1]");
                return Ok(vec![first]);
            }
        }
    }
}

impl BoundPorts {
    /// The URL of the server.
    pub(super) fn url(&self, host_names: &[String]) -> anyhow::Result<String> {
        let address = self.listeners.first().context("no port")?.local_addr()?;
        let host = match (&self.tls, host_names.first()) {
            (Some(_), Some(name)) => name.clone(),
            _ if address.ip().is_unspecified() => machine_name(),
            _ => match address.ip() {
                IpAddr::V6(ip) => format!("[{ip}]"),
                IpAddr::V4(ip) => ip.to_string(),
            },
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{host}:{}/", address.port()))
    }
}

/// The name of this machine, for URLs.
pub(super) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}
