//! Tells whether another thread or process of this machine is alive.
//!
//! `/proc` alone cannot tell: it may hide the processes of other users (the mount
//! option `hidepid`), show another namespace of process ids, or not be mounted.
//! Therefore a missing entry never means that a thread has ended; only `kill` with
//! signal 0 tells that.

#![cfg_attr(
    not(feature = "fuse"),
    allow(dead_code, reason = "most of it is for `icosfs mount`")
)]

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid};

/// What is known of a thread or a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ProcessState {
    /// It has ended.
    Ended,
    /// It is alive; the content of its `/proc/<id>/status`.
    Visible(String),
    /// It is alive, but `/proc` does not show it.
    Hidden,
}

/// Returns the state of the thread or process `id`.
pub(crate) fn state_of(id: u32) -> ProcessState {
    match read_status(id) {
        Some(status) if is_zombie(&status) => ProcessState::Ended,
        Some(status) => ProcessState::Visible(status),
        None if exists(id) => ProcessState::Hidden,
        None => ProcessState::Ended,
    }
}

/// The names of the thread `id` and of its process, at most 15 bytes each; none if
/// `/proc` does not show it.
pub(crate) fn names_of(id: u32) -> Vec<String> {
    let Some(status) = read_status(id) else {
        return Vec::new();
    };
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let mut names: Vec<String> = field("Name")
        .map(|name| name.trim().to_owned())
        .into_iter()
        .collect();
    let process = field("Tgid")
        .map(str::trim)
        .filter(|process| *process != id.to_string());
    let name = process.and_then(|process| fs::read_to_string(format!("/proc/{process}/comm")).ok());
    names.extend(name.map(|name| name.trim_end().to_owned()));
    names
}

/// Reads `/proc/<id>/status`, if `/proc` shows this process under its own id.
fn read_status(id: u32) -> Option<String> {
    let own = fs::read_link("/proc/self").ok()?;
    if own.to_str() != Some(&getpid().to_string()) {
        return None;
    }
    fs::read_to_string(format!("/proc/{id}/status")).ok()
}

fn exists(id: u32) -> bool {
    match i32::try_from(id) {
        // 0 and negative numbers address groups of processes.
        Ok(id) if id > 0 => kill(Pid::from_raw(id), None) != Err(Errno::ESRCH),
        _ => true,
    }
}

/// Whether `status` is that of a process that has ended. Its parent may take long to
/// reap it, in particular in a container.
fn is_zombie(status: &str) -> bool {
    let mut lines = status.lines();
    let state = lines.find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| state.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn living_thread_is_visible_and_an_ended_process_is_not() {
        let (sender, receiver) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().spawn(move || {
            sender.send(nix::unistd::gettid()).unwrap();
            let _ = ended.recv();
        });
        let id = receiver.recv().unwrap().as_raw().cast_unsigned();
        assert!(matches!(state_of(id), ProcessState::Visible(_)));
        assert!(exists(id), "also to kill, which /proc does not restrict");
        drop(end);
        thread.unwrap().join().unwrap();

        let mut child = Command::new("true").spawn().unwrap();
        let id = child.id();
        let zombie = || state_of(id) == ProcessState::Ended;
        while !zombie() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(zombie(), "reaped");
        assert!(!exists(id));
    }

    #[test]
    fn process_without_an_entry_in_proc_is_hidden_unless_kill_denies_it() {
        // Not a possible id, so that it cannot be asked for.
        assert_eq!(state_of(u32::MAX), ProcessState::Hidden);
        assert_eq!(state_of(i32::MAX.unsigned_abs()), ProcessState::Ended);
    }
}
