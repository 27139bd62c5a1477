//! Raises the readahead of a mount.

use super::mountinfo::MountEntry;

/// The kernel's readahead window in KiB. Its default of 128 causes eight times as
/// many requests. One request is never longer than a MiB.
const READ_AHEAD_KIB: u32 = 1024;

/// Raises the readahead of `mount` by its file in `/sys`, since the FUSE protocol
/// cannot negotiate more than the default. Without permission to write that
/// file, the default stays.
pub(super) fn raise(mount: &MountEntry) {
    let setting = format!("/sys/class/bdi/{}/read_ahead_kb", mount.device);
    if let Err(error) = std::fs::write(&setting, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%error, setting, "cannot raise the readahead");
    }
}
