//! Runs a mount or server in the background: starts this program again as a daemon, and waits
//! until the daemon reports that it is ready. Nothing forks, since the process may
//! have threads.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout, setsid, write};

use super::exit::EndedEarly;
use super::output;
use super::waiting::WaitNotice;

/// The environment variable that makes a process the daemon. The standard output
/// of the daemon is a pipe to the process that started it.
const DAEMON_VARIABLE: &str = "ICOSFS_BACKGROUND";
/// The message of a daemon that is ready.
const READY: &[u8] = b"ready\n";

/// Whether this process is the daemon.
pub(super) fn is_daemon() -> bool {
    std::env::var_os(DAEMON_VARIABLE).is_some()
}

/// Starts this program with `arguments` as a daemon, and waits until it is ready or
/// has failed, with the reason on standard error. It inherits standard input only
/// if it `reads_stdin`. `what` it serves is named in messages.
pub(super) fn start(
    arguments: &[OsString],
    reads_stdin: bool,
    what: &'static str,
) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(DAEMON_VARIABLE, "1")
        .stdin(if reads_stdin {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the background process")?;
    let mut message = Vec::new();
    let notice = WaitNotice::line(what);
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .read_to_end(&mut message)
            .context("cannot read from the background process")?;
    }
    drop(notice);
    if message == READY {
        return Ok(());
    }
    let status = child
        .wait()
        .context("cannot wait for the background process")?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        // Its message is on standard error.
        Some(code) if code != 0 => Err(EndedEarly::Reported(code).into()),
        _ => bail!("the process of the {what} ended before it was ready ({status})"),
    }
}

/// Closes inherited files, which may be locks. Call it before the process opens files.
pub(super) fn close_inherited_files() {
    let inherited: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in inherited {
        // Fails for the descriptor of the listing, which is already closed.
        let _ = close(fd);
    }
}

/// Sends `state` to systemd, if it started this process with `Type=notify`: see
/// `sd_notify(3)`.
pub(super) fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Reports to the starting process that this one is ready. Then releases the
/// terminal, whose end would otherwise end the daemon, and the working directory,
/// whose file system could not be unmounted otherwise. Not earlier: options may
/// contain relative paths, and only processes of the automounter's own process group
/// reach a mount point of autofs while it is being mounted.
pub(super) fn ready() -> anyhow::Result<()> {
    // Fails only for a process group leader, which a new child is not.
    let _ = setsid();
    let _ = std::env::set_current_dir("/");
    let _ = write(output::stdout(), READY);
    let null: OwnedFd =
        open("/dev/null", OFlag::O_RDWR, Mode::empty()).context("cannot open /dev/null")?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    dup2_stderr(null.as_fd())?;
    Ok(())
}
