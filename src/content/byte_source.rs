//! Where the bytes of a reply came from, for logs and for the cache hit rate.
//!
//! Code that fetches bytes notes the source in a task-local variable;
//! [`track_source`] returns the farthest source that was noted.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

tokio::task_local! {
    static FARTHEST: Cell<ByteSource>;
}

/// The farthest source of the bytes of a reply, nearest first.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ByteSource {
    /// Memory of this process.
    #[default]
    Memory,
    /// The cache on the disk.
    Cache,
    /// The portal's own disk, on a machine that mounts it.
    PortalDisk,
    /// The portal: the reply waited for a request.
    Portal,
}

impl ByteSource {
    /// All sources, nearest first.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cache, Self::PortalDisk, Self::Portal];

    /// The name of the source in logs and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cache => "cache",
            Self::PortalDisk => "portal-disk",
            Self::Portal => "portal",
        }
    }

    /// Notes that the current reply needs bytes from this source. Has no effect outside
    /// of [`track_source`], such as in a task that many readers share.
    pub(super) fn note(self) {
        let _ = FARTHEST.try_with(|farthest| farthest.set(farthest.get().max(self)));
    }
}

/// Runs `work` and returns its result with the farthest source it noted.
pub async fn track_source<T>(work: impl Future<Output = T>) -> (T, ByteSource) {
    FARTHEST
        .scope(Cell::default(), async {
            let result = work.await;
            (result, FARTHEST.with(Cell::get))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn track_source_returns_the_farthest_source() {
        let work = async {
            ByteSource::Cache.note();
            tokio::task::yield_now().await;
            ByteSource::Portal.note();
            ByteSource::Memory.note();
        };
        assert_eq!(track_source(work).await.1, ByteSource::Portal);
        assert_eq!(track_source(async {}).await.1, ByteSource::Memory);
        // Outside of `track_source` it has no effect.
        ByteSource::Portal.note();
    }
}
