//! Whether whoever waits for an answer still wants it.
//!
//! fuser does not pass the kernel's `FUSE_INTERRUPT` on, and a process that
//! waits for us dies of no signal, not even SIGKILL, until we answer. So a
//! request that takes long looks at its caller's pending signals.

use std::time::Duration;

/// Most requests are answered sooner, and never look.
const PATIENCE: Duration = Duration::from_millis(100);

/// The caller has a signal to attend to, or is gone.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Interrupted;

/// The result of `work`, unless the thread `caller` is interrupted first;
/// `work` is then dropped.
pub(super) async fn unless_interrupted<T>(
    caller: u32,
    work: impl Future<Output = T>,
) -> Result<T, Interrupted> {
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(result) = tokio::time::timeout(PATIENCE, work.as_mut()).await {
            return Ok(result);
        }
        // The kernel's own requests (readahead) have no caller.
        if caller != 0 && is_interrupted(caller) {
            return Err(Interrupted);
        }
    }
}

fn is_interrupted(thread: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{thread}/status")) {
        Ok(status) => has_urgent_signal(&status),
        // Another error than this says nothing about the caller.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Signals by which a person ends a program. A program that catches another
/// (a child ended, a timer) does not expect a read from a disk to fail for it.
const ENDING: u64 = bit(libc::SIGINT) | bit(libc::SIGTERM) | bit(libc::SIGHUP) | bit(libc::SIGQUIT);

/// Signals that stop a program, let it go on, or mean nothing to most.
const PASSING: u64 = bit(libc::SIGSTOP)
    | bit(libc::SIGTSTP)
    | bit(libc::SIGTTIN)
    | bit(libc::SIGTTOU)
    | bit(libc::SIGCONT)
    | bit(libc::SIGCHLD)
    | bit(libc::SIGURG)
    | bit(libc::SIGWINCH);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn has_urgent_signal(status: &str) -> bool {
    let mask = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":"))
            .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
            .unwrap_or(0)
    };
    let pending = mask("SigPnd") | mask("ShdPnd");
    let urgent = pending & !PASSING & !mask("SigBlk") & !mask("SigIgn");
    urgent & (!mask("SigCgt") | ENDING) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, blocked: u64, ignored: u64, caught: u64) -> String {
        format!(
            "Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t0000000000000000\n\
             SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
        )
    }

    #[test]
    fn only_signals_that_end_a_program_are_urgent() {
        let (int, kill, child) = (bit(libc::SIGINT), bit(libc::SIGKILL), bit(libc::SIGCHLD));
        for (name, status, urgent) in [
            ("none", status(0, 0, 0, 0), false),
            ("killed", status(kill, 0, 0, 0), true),
            ("ctrl-C", status(int, 0, 0, 0), true),
            ("ctrl-C in Python", status(int, 0, 0, int), true),
            (
                "stopped by a debugger",
                status(bit(libc::SIGSTOP), 0, 0, 0),
                false,
            ),
            ("blocked", status(int, int, 0, 0), false),
            ("ignored", status(int, 0, int, 0), false),
            (
                "a child of a shell ended",
                status(child, 0, 0, child),
                false,
            ),
        ] {
            assert_eq!(has_urgent_signal(&status), urgent, "{name}");
        }
        assert!(!is_interrupted(std::process::id()));
    }
}
