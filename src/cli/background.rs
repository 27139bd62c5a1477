//! Into the background: by starting this program anew before any thread
//! exists, and waiting until it says that it is ready. Nothing forks.

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

use super::waiting::WaitNotice;

/// Set for the process that is to become the daemon. Its standard output is
/// then a pipe to the one that started it.
const MARK: &str = "ICOSFS_BACKGROUND";
const READY: &[u8] = b"ready\n";

/// Whether this process was started to become the daemon.
pub(super) fn is_daemon() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts this program anew with `arguments` as a daemon, and waits
/// until it is ready, or has said on standard error why not. It reads standard
/// input only if it `reads_stdin`.
pub(super) fn start(arguments: &[OsString], reads_stdin: bool) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(MARK, "1")
        .stdin(if reads_stdin {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the background process")?;
    let mut said = Vec::new();
    let sign = WaitNotice::line("waiting for the mount to answer");
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .read_to_end(&mut said)
            .context("cannot hear the background process")?;
    }
    drop(sign);
    if said == READY {
        return Ok(());
    }
    let status = child
        .wait()
        .context("cannot wait for the background process")?;
    bail!("the mount was not made ({status}); the reason is above")
}

/// Leaves the terminal behind, so that closing it does not end the daemon, and
/// open files that were inherited, which may be locks. Before anything else is
/// opened.
pub(super) fn leave_terminal() {
    // Fails only for a group's leader, which a child just started is not.
    let _ = setsid();
    let inherited: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in inherited {
        // One of them was the listing's own, and is gone.
        let _ = close(fd);
    }
}

/// Tells systemd, if it started this process and wants to know (`Type=notify`),
/// what has become of it: see `sd_notify(3)`.
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
        tracing::warn!(%error, "systemd was not told");
    }
}

/// Tells the one who waits that the mount answers, and lets go of the
/// terminal, and of the folder, whose disk would stay busy: only now, for
/// options may name files relative to it.
pub(super) fn ready() -> anyhow::Result<()> {
    let _ = std::env::set_current_dir("/");
    let _ = write(std::io::stdout(), READY);
    let null: OwnedFd =
        open("/dev/null", OFlag::O_RDWR, Mode::empty()).context("cannot open /dev/null")?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    dup2_stderr(null.as_fd())?;
    Ok(())
}
