//! Cancels a request when a signal arrives for the thread that made it.
//!
//! fuser does not deliver the kernel's `FUSE_INTERRUPT`, and a thread that waits
//! for a FUSE reply handles no signal, not even SIGKILL. Therefore a request
//! that is pending for a while reads the pending signals of its caller in
//! `/proc`. If `/proc` does not show the caller, the request is not interrupted.

use std::time::Duration;

use crate::process::{self, ProcessState};

/// How often a pending request checks its caller. Most requests end sooner and
/// never check.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The caller has a pending signal, or has ended.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Interrupted;

/// Returns the result of `work`.
///
/// # Errors
///
/// [`Interrupted`] if the thread `caller` is interrupted first; `work` is then
/// dropped.
pub(super) async fn unless_interrupted<T>(
    caller: u32,
    work: impl Future<Output = T>,
) -> Result<T, Interrupted> {
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(result) = tokio::time::timeout(CHECK_INTERVAL, work.as_mut()).await {
            return Ok(result);
        }
        // Requests by the kernel itself (readahead) have no caller.
        if caller != 0 && is_interrupted(caller) {
            return Err(Interrupted);
        }
    }
}

fn is_interrupted(thread: u32) -> bool {
    match process::state_of(thread) {
        ProcessState::Ended => true,
        ProcessState::Visible(status) => has_urgent_signal(&status),
        // Whether it has a pending signal is unknown.
        ProcessState::Hidden => false,
    }
}

/// Signals that request a program to end. They interrupt a read even if the
/// program catches them; for other caught signals (SIGCHLD, timers), programs do
/// not expect a file's read to fail.
const TERMINATING: u64 =
    bit(libc::SIGINT) | bit(libc::SIGTERM) | bit(libc::SIGHUP) | bit(libc::SIGQUIT);

/// Signals that stop or continue a program, or that programs ignore by default.
const NEVER_URGENT: u64 = bit(libc::SIGSTOP)
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

/// Parses `/proc/<tid>/status`: whether a pending signal, unless blocked or
/// ignored, will end the program.
fn has_urgent_signal(status: &str) -> bool {
    let mask = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":"))
            .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
            .unwrap_or(0)
    };
    let pending = mask("SigPnd") | mask("ShdPnd");
    let urgent = pending & !NEVER_URGENT & !mask("SigBlk") & !mask("SigIgn");
    urgent & (!mask("SigCgt") | TERMINATING) != 0
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
    fn pending_signal_is_urgent_only_if_it_ends_the_program() {
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
