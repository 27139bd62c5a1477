//! Closes files of the cache and connections to the catalog that have been idle
//! for a while, and then returns memory to the system. While no file is open, this
//! task sets no timer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::mount_state::MountState;
use crate::allocator;
use crate::tree::Inode;

/// How long a file stays open after its last use. Longer than the pauses of
/// programs that open a file again and again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the checks while anything is open.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Spawns the task that closes idle files. It ends with the mount.
pub(super) fn spawn_closer(state: &Arc<MountState>) {
    let closer = close_repeatedly(Arc::downgrade(state), state.released.subscribe());
    state.runtime.spawn(closer);
}

/// Waits until a handle is released, then closes idle files until none is open.
async fn close_repeatedly(mount: Weak<MountState>, mut released: watch::Receiver<()>) {
    while released.changed().await.is_ok() {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let Some(state) = mount.upgrade() else {
                return;
            };
            let check = tokio::task::spawn_blocking(move || {
                let more = state.close_idle();
                if more {
                    allocator::decay();
                } else {
                    state.contents.release_buffers();
                    allocator::purge();
                }
                more
            });
            if !check.await.unwrap_or(false) {
                break;
            }
        }
    }
}

impl MountState {
    /// Closes what is idle. Returns whether anything is still open.
    fn close_idle(&self) -> bool {
        let number = |file| Inode::of_file(file).0;
        let is_open = |file| self.inodes.usage(number(file)).is_open;
        let released = self.contents.release_idle(IDLE_TIMEOUT, is_open);
        for (file, epoch) in released.verified {
            self.inodes.set_verified(number(file), epoch);
        }
        let connections = self.tree.close_idle_connections(IDLE_TIMEOUT);
        released.more || connections
    }

    /// Notifies the closer that a handle was released.
    pub(super) fn notify_released(&self) {
        self.released.send_replace(());
    }
}
