//! What is closed a while after its last reader has gone, and memory given
//! back: a mount at rest holds no file of its cache open, and has no timer
//! running.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::mount_state::MountState;
use crate::allocator;
use crate::tree::Inode;

/// How long something must not have been used: long enough for whoever opens a
/// file again and again.
const IDLE: Duration = Duration::from_secs(10);
/// How often it is looked for, while there is anything to be closed.
const LOOK: Duration = Duration::from_secs(5);

/// Closes what rests, for as long as the mount lives; `released` tells that
/// something was closed by its reader.
async fn rest(mount: Weak<MountState>, mut released: watch::Receiver<()>) {
    while released.changed().await.is_ok() {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(shared) = mount.upgrade() else {
                return;
            };
            let looking = tokio::task::spawn_blocking(move || {
                let more = shared.close_idle();
                if more {
                    allocator::decay();
                } else {
                    shared.contents.release_buffers();
                    allocator::purge();
                }
                more
            });
            if !looking.await.unwrap_or(false) {
                break;
            }
        }
    }
}

impl MountState {
    /// Closes what has rested; whether there will be more in a while.
    fn close_idle(&self) -> bool {
        let number = |file| Inode::of_file(file).0;
        let is_open = |file| self.inodes.usage(number(file)).is_open;
        let rested = self.contents.release_idle(IDLE, is_open);
        for (file, epoch) in rested.proved {
            self.inodes.proved(number(file), epoch);
        }
        let connections = self.tree.close_idle_connections(IDLE);
        rested.more || connections
    }

    /// Starts to look for what can be closed, in a while.
    pub(super) fn was_released(&self) {
        self.released.send_replace(());
    }
}

/// Begins with it, on the mount's runtime.
pub(super) fn spawn_closer(shared: &Arc<MountState>) {
    let resting = rest(Arc::downgrade(shared), shared.released.subscribe());
    shared.runtime.spawn(resting);
}
