//! How far the kernel reads ahead of a program.

use super::mountinfo::MountEntry;

/// What the kernel asks for at once, in KiB: its default of 128 costs eight
/// times as many requests. More than a MiB is never in one request.
const READ_AHEAD_KIB: u32 = 1024;

/// Has the kernel read further ahead of whoever reads in `mount`. It does not
/// negotiate this, so it is set from outside, where this process may: others
/// live with the default.
pub(super) fn raise(mount: &MountEntry) {
    let setting = format!("/sys/class/bdi/{}/read_ahead_kb", mount.device);
    if let Err(error) = std::fs::write(&setting, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%error, setting, "readahead stays as it is");
    }
}
