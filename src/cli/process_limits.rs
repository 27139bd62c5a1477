//! Limits of the operating system that are too low for a process that serves many
//! readers.

use super::warning::warning;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Address space that suffices for the stacks and buffers of all threads. Memory is
/// used only where it is written to.
const ADDRESS_SPACE: u64 = 2 << 30;

/// Raises the limit of the address space, and warns if it is too low: an allocation
/// that fails ends the process without a message.
pub(super) fn raise_address_space_limit() {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_AS) else {
        return;
    };
    let _ = setrlimit(Resource::RLIMIT_AS, hard, hard);
    if hard < ADDRESS_SPACE {
        let warning = format!(
            "the address space is limited to {} MiB (`ulimit -v`), and the mount ends when it needs more; raise the limit to {} MiB",
            hard >> 20,
            ADDRESS_SPACE >> 20
        );
        tracing::error!("{warning}");
        warning!("{warning}");
    }
}

/// Raises the limit of open files: each file that is read needs one or two, and each
/// connection one. The usual 1024 are too few for many readers.
pub(super) fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files above {soft}");
    }
}
