//! Closes files of the cache and connections to the catalog that have been idle
//! for a while, and then returns memory to the system. While no file is open, this
//! task sets no timer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::allocator;
use crate::content::Contents;

/// How long a file stays open after its last use. Longer than the pauses of
/// programs that open a file again and again.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the checks while anything is open.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What has files that may be idle.
pub(crate) trait CloseIdle: Send + Sync + 'static {
    /// Closes what has been idle for [`IDLE_TIMEOUT`]. Returns whether anything is still
    /// open. May block on disk I/O.
    fn close_idle(&self) -> bool;

    /// The contents, whose buffers are released once nothing is open.
    fn contents(&self) -> &Contents;
}

/// Spawns the task that closes idle files of `owner`, and ends with it. `used` is
/// notified whenever a file was used.
pub(crate) fn spawn_closer(
    owner: &Arc<impl CloseIdle>,
    runtime: &Handle,
    used: watch::Receiver<()>,
) {
    runtime.spawn(close_repeatedly(Arc::downgrade(owner), used));
}

/// Waits until a file was used, then closes idle files until none is open.
async fn close_repeatedly(owner: Weak<impl CloseIdle>, mut used: watch::Receiver<()>) {
    while used.changed().await.is_ok() {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let Some(owner) = owner.upgrade() else {
                return;
            };
            let check = icos_sync::spawn_blocking(move || {
                let more = owner.close_idle();
                if more {
                    allocator::decay();
                } else {
                    owner.contents().release_buffers();
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
