//! Closes what is idle in a mount; see [`crate::daemon::idle`].

use super::mount_state::MountState;
use crate::content::Contents;
use crate::daemon::idle::{CloseIdle, IDLE_TIMEOUT};
use crate::tree::Inode;

impl CloseIdle for MountState {
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

    fn contents(&self) -> &Contents {
        &self.contents
    }
}

impl MountState {
    /// Notifies the closer that a handle was released.
    pub(super) fn notify_released(&self) {
        self.released.send_replace(());
    }
}
