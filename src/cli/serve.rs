//! `icosfs serve`: checks the flags, then serves HTTP and WebDAV in this process or in a
//! background process (`background`).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Args};
use tokio::sync::watch;

use self::files::{ServerClaim, ServerFiles, ServerRecord};
use self::ports::{BoundPorts, PortToBind, machine_name, port_to_bind};
use super::credentials::CredentialArgs;
use super::daemon::{DaemonParts, ErrorCodes, warn_if_unreachable};
use super::exit::EndedEarly;
use super::log::control::runtime_folder;
use super::output::print_line;
use super::selection::SelectionArgs;
use super::serving::{ExactSizeArg, ServingArgs};
use super::settings::{Clients, GlobalArgs};
use super::signals::{SignalRequest, Signals};
use super::storage::{FLUSH_TIMEOUT, StorageArgs};
use super::warning::warning;
use super::{background, log, output};
use crate::cache::Store;
use crate::daemon::{FrontEnd, ServerAddress};
use crate::serve::{HostNames, Listener, Secret, ServeOptions, Server, SizeReplies, status_code};

pub(super) mod client;
pub(super) mod files;
mod identity;
mod ports;

/// Maximum length of a file with certificates, a key or a secret, in bytes.
const MAX_PEM: u64 = 1 << 20;

/// Arguments of `icosfs serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs serve                              on a socket of your own
  icosfs serve --port 8080                  for programs of this machine
  icosfs serve --demo --port 8080           no login, no network
  icosfs serve --background --json | jq -r .secret_file
  icosfs serve --listen 0.0.0.0:8443 --allow-remote \\
      --tls-cert cert.pem --tls-key key.pem  for other machines

Every request needs the server's secret, as a bearer token or as the password of any \
user: curl -H @<(printf 'Authorization: Bearer %s' \"$(cat SECRET_FILE)\") URL")]
#[allow(clippy::struct_excessive_bools)] // Each is a flag.
pub(super) struct ServeArgs {
    /// Listen on this port of 127.0.0.1, too; 0 selects a free one
    #[arg(long, env = "ICOSFS_PORT")]
    port: Option<u16>,
    /// Listen on this address and port, too, such as 0.0.0.0:8443; other addresses than
    /// those of this machine's own loopback need --allow-remote and TLS
    #[arg(long, value_name = "ADDRESS", conflicts_with = "port")]
    listen: Option<SocketAddr>,
    /// Let other machines connect. They read with your login, although the data licence
    /// is personal
    #[arg(long, requires = "listen")]
    allow_remote: bool,
    /// Certificates (PEM) for --listen, the server's own first
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        env = "ICOSFS_TLS_CERT"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key (PEM) of the certificate
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "ICOSFS_TLS_KEY"
    )]
    tls_key: Option<PathBuf>,
    /// A further name by which clients call this server. Requests by other names are
    /// refused
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "ICOSFS_HOST_NAME"
    )]
    host_name: Vec<String>,
    /// The socket to listen on [default: one in the user's runtime folder, or
    /// else below the cache folder]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Use the secret in this file, instead of a new random one
    #[arg(long, value_name = "FILE", env = "ICOSFS_SECRET_FILE")]
    secret_file: Option<PathBuf>,
    /// Return once the server is ready, which goes on in the background
    #[arg(long)]
    background: bool,
    /// Use the server that runs with the same settings, if there is one
    #[arg(long)]
    reuse: bool,
    /// End after this many seconds without a request
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: Option<u64>,
    /// Once ready, print a line of JSON with `url`, `socket`, `secret_file` and `pid`
    #[arg(long)]
    json: bool,
    /// Serve a demo portal that runs in the process of the server; overrides the settings
    /// of portal and login
    #[cfg(feature = "demo")]
    #[arg(long, conflicts_with_all = ["token_file", "user"])]
    demo: bool,
    #[command(flatten)]
    serving: ServingArgs,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    login: CredentialArgs,
}

/// What is bound before the server starts.
struct BoundSockets {
    files: ServerFiles,
    socket: UnixListener,
    ports: Option<BoundPorts>,
    record: ServerRecord,
    secret: Secret,
}

/// Runs the command. `arguments` are those of this process, `matches` the parsed ones.
pub(super) fn run(
    global: &GlobalArgs,
    args: ServeArgs,
    arguments: &[OsString],
    matches: &ArgMatches,
) -> anyhow::Result<()> {
    let cache_dir = global.cache_dir()?;
    let folder = runtime_folder(&cache_dir);
    let key = identity::of(matches, &cache_dir);
    let (json, reuse) = (args.json, args.reuse);
    let port = port_to_bind(&args)?;
    if !background::is_daemon() {
        if args.allow_remote {
            warning!(
                "other machines can read through this server with its secret, and do so with your login; the data licence that you accepted is personal"
            );
        }
        if reuse && let Some(record) = files::running(&folder, &key)? {
            return print(&record, json, None);
        }
        if args.background {
            background::start(arguments, args.login.read_stdin(), "server")?;
            let record = files::running(&folder, &key)?;
            let record = record.context("the server ended again; its log has the reason")?;
            return print(&record, json, None);
        }
    }
    let files = match ServerFiles::claim(&folder, &key)? {
        ServerClaim::Claimed(files) => files,
        // Another one was faster.
        ServerClaim::Running(record) if reuse => {
            return if background::is_daemon() {
                background::ready()
            } else {
                print(&record, json, None)
            };
        }
        ServerClaim::Running(record) => bail!(
            "a server with the same settings is running (process {}, {}); use it, as with --reuse, or end it: kill {}",
            record.pid,
            record.shown(),
            record.pid
        ),
    };
    // Before any thread starts: the mode of the socket is set by the umask.
    let bound = bind(
        files,
        port,
        args.socket.as_deref(),
        args.secret_file.as_deref(),
        &args.host_name,
    )?;
    serve(global, args, &cache_dir, bound)
}

/// Binds socket and port, and writes the secret.
fn bind(
    mut files: ServerFiles,
    port: Option<PortToBind>,
    socket: Option<&Path>,
    secret_file: Option<&Path>,
    host_names: &[String],
) -> anyhow::Result<BoundSockets> {
    let (secret, secret_path) = match secret_file {
        None => {
            let secret = Secret::random().context("no random bytes for a secret")?;
            let path = files.write_secret(secret.expose())?;
            (secret, path)
        }
        Some(path) => (files::given_secret(path)?, std::path::absolute(path)?),
    };
    let (listener, socket) = match socket {
        None => files.bind_socket()?,
        Some(path) => {
            let path = std::path::absolute(path)?;
            (files::bind_given_socket(&path)?, path)
        }
    };
    let ports = port.map(PortToBind::bind).transpose()?;
    let url = ports
        .as_ref()
        .map(|ports| ports.url(host_names))
        .transpose()?;
    Ok(BoundSockets {
        files,
        socket: listener,
        ports,
        record: ServerRecord {
            pid: std::process::id(),
            url,
            socket,
            secret_file: secret_path,
        },
        secret,
    })
}

/// Serves until a signal arrives, or the server was idle for long enough.
fn serve(
    global: &GlobalArgs,
    args: ServeArgs,
    cache_dir: &Path,
    bound: BoundSockets,
) -> anyhow::Result<()> {
    #[cfg(feature = "demo")]
    if args.demo || global.is_demo() {
        let (_portal, clients) = super::demo::start_embedded(global.http()?)?;
        let folders = super::demo::cache_folders(&clients.services, cache_dir);
        let result = serve_clients(clients, args, cache_dir, bound);
        super::demo::remove_cache(&folders);
        return result;
    }
    let clients = global.clients(Some(args.login.clone()))?;
    serve_clients(clients, args, cache_dir, bound)
}

fn serve_clients(
    clients: Clients,
    args: ServeArgs,
    cache_dir: &Path,
    bound: BoundSockets,
) -> anyhow::Result<()> {
    let BoundSockets {
        files,
        socket,
        ports,
        record,
        secret,
    } = bound;
    let front = FrontEnd::Server {
        server: ServerAddress {
            url: record.url.clone(),
            socket: Some(record.socket.clone()),
            secret_file: record.secret_file.clone(),
        },
    };
    let codes = ErrorCodes {
        of_cache: |error| format!("HTTP {}", status_code::of_cache(error).as_u16()),
        of_catalog: |error| format!("HTTP {}", status_code::of_catalog(error).as_u16()),
    };
    let envri = clients.services.envri();
    let (ttl, selection) = (args.serving.metadata_ttl, args.selection.selection());
    let parts = DaemonParts::open(
        clients,
        cache_dir,
        args.storage,
        selection,
        ttl,
        front,
        codes,
    )?;
    let contents = Arc::clone(&parts.contents);
    let signals = Signals::watch(&parts.runtime)?;
    let more = args.host_name.into_iter().chain([machine_name()]);
    let shown_secret = secret.expose().to_owned();
    let options = ServeOptions {
        envri,
        host_names: HostNames::new(more),
        secret,
        size_replies: match args.serving.exact_size {
            ExactSizeArg::Always => SizeReplies::Exact,
            ExactSizeArg::WhenOpen | ExactSizeArg::Never => SizeReplies::Known,
        },
    };
    let server = Server::new(
        parts.tree,
        parts.contents,
        parts.report,
        options,
        parts.runtime.handle(),
    );
    let listeners = {
        let _guard = parts.runtime.enter();
        listeners(socket, ports).context("cannot listen")?
    };
    if let Some(account) = parts.account {
        parts.runtime.spawn(account.monitor());
    }
    warn_if_unreachable(&parts.runtime, parts.meta_probe);
    files.publish(&record)?;
    if background::is_daemon() {
        background::ready()?;
    } else {
        print(&record, args.json, Some(&shown_secret))?;
    }
    background::notify("READY=1");
    let idle_timeout = args.idle_timeout.map(Duration::from_secs);
    let ended = parts.runtime.block_on(until_end(
        server,
        listeners,
        signals,
        idle_timeout,
        &parts.store,
    ));
    parts.runtime.block_on(contents.flush_shared(FLUSH_TIMEOUT));
    parts.runtime.shutdown_background();
    match ended {
        SignalRequest::Interrupt => Err(EndedEarly::Interrupted.into()),
        SignalRequest::End | SignalRequest::Refresh => Ok(()),
    }
}

/// Registers the sockets with the runtime that this thread has entered.
fn listeners(socket: UnixListener, ports: Option<BoundPorts>) -> std::io::Result<Vec<Listener>> {
    socket.set_nonblocking(true)?;
    let mut listeners = vec![Listener::Unix(tokio::net::UnixListener::from_std(socket)?)];
    if let Some(BoundPorts {
        listeners: ports,
        tls,
    }) = ports
    {
        for port in ports {
            port.set_nonblocking(true)?;
            let port = tokio::net::TcpListener::from_std(port)?;
            listeners.push(match &tls {
                None => Listener::Tcp(port),
                Some(acceptor) => Listener::Tls(port, acceptor.clone()),
            });
        }
    }
    Ok(listeners)
}

/// Serves until a signal arrives, or there was no request for `idle_timeout`. Returns
/// why it ended.
async fn until_end(
    server: Server,
    listeners: Vec<Listener>,
    mut signals: Signals,
    idle_timeout: Option<Duration>,
    store: &Store,
) -> SignalRequest {
    let (end, ended) = watch::channel(());
    let serving = server.clone();
    let mut serving = icos_sync::spawn_task(async move { serving.serve(listeners, ended).await });
    let in_background = background::is_daemon();
    let request = loop {
        let idle = async {
            match idle_timeout {
                Some(limit) => server.idle(limit).await,
                None => std::future::pending().await,
            }
        };
        let request = tokio::select! {
            request = signals.received(in_background) => request,
            () = idle => {
                tracing::info!("ending after {idle_timeout:?} without a request");
                SignalRequest::End
            }
            // A listener panicked.
            _ = &mut serving => break SignalRequest::End,
        };
        match request {
            SignalRequest::Refresh => {
                log::reopen();
                let server = server.clone();
                icos_sync::spawn_task(async move { server.refresh().await });
            }
            SignalRequest::End | SignalRequest::Interrupt => {
                background::notify("STOPPING=1");
                end.send_replace(());
                let _ = serving.await;
                break request;
            }
        }
    };
    // The last downloaded bytes may still have to be written to the cache.
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, store.wait_for_seals()).await;
    request
}

/// Says where the server is. The secret is shown on a terminal only.
fn print(record: &ServerRecord, json: bool, secret: Option<&str>) -> anyhow::Result<()> {
    let secret = secret.filter(|_| output::is_terminal());
    let (shown, file) = (record.shown(), record.secret_file.display());
    Ok(match (json, secret) {
        (true, _) => print_line!("{}", record.ready_line()),
        (false, Some(secret)) => print_line!(
            "serving at {shown} until ctrl-C\nuser: any; password: {secret}\n(the password is in {file}, too)"
        ),
        (false, None) => print_line!("serving at {shown}; the secret is in {file}"),
    }?)
}
