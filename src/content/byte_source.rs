//! Where the bytes of an answer came from, noted on the way by whoever had to
//! go for them: for the log, and for how much the cache is worth.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

tokio::task_local! {
    static FARTHEST: Cell<ByteSource>;
}

/// The farthest place that bytes of an answer came from.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ByteSource {
    /// They were at hand.
    #[default]
    Memory,
    /// From the cache on the disk.
    Cache,
    /// From the portal's own disk, on a machine that has it.
    PortalDisk,
    /// The portal sent them, and the answer waited for that.
    Portal,
}

impl ByteSource {
    /// All of them, nearest first.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cache, Self::PortalDisk, Self::Portal];

    /// Its name, in the log and among the counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cache => "cache",
            Self::PortalDisk => "portal-disk",
            Self::Portal => "portal",
        }
    }

    /// Notes that the answer under way needs bytes from there. Of no effect
    /// outside of [`track_source`], such as in a flight that many share.
    pub(super) fn note(self) {
        let _ = FARTHEST.try_with(|farthest| farthest.set(farthest.get().max(self)));
    }
}

/// The result of `work`, with the farthest place that it went to for bytes.
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
    async fn the_farthest_place_counts() {
        let work = async {
            ByteSource::Cache.note();
            tokio::task::yield_now().await;
            ByteSource::Portal.note();
            ByteSource::Memory.note();
        };
        assert_eq!(track_source(work).await.1, ByteSource::Portal);
        assert_eq!(track_source(async {}).await.1, ByteSource::Memory);
        // Nobody asked: nothing happens.
        ByteSource::Portal.note();
    }
}
