//! Reads segments from the store, and the one after the one that is used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::seal::{BadSeal, SEAL_LEN, SealLabel};
use super::status::Counters;
use super::store::StoreError;
use super::{Shared, SharedObject};
use icos_sync::run_blocking;

/// How long to wait for memory: paused streams hold theirs for 20 s at most. After that,
/// the stream goes upstream, which needs none.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(30);

/// A segment whose seal is intact.
#[derive(Debug)]
pub(super) struct StoredSegment {
    pub(super) payload: Bytes,
    /// The SHA-256 digest of the payload.
    pub(super) digest: [u8; 32],
    /// For the memory of the payload.
    pub(super) permit: OwnedSemaphorePermit,
}

/// A segment that is read before it is needed. Given up on drop.
#[derive(Debug)]
pub(super) struct ReadAhead {
    index: u64,
    task: JoinHandle<Result<Option<StoredSegment>, StoreError>>,
}

impl ReadAhead {
    /// Begins to read segment number `index`, if there is memory for it now.
    pub(super) fn start(shared: &Arc<Shared>, object: &SharedObject, index: u64) -> Option<Self> {
        let permit = shared.reserve_now(object.segment_len(index))?;
        let (shared, object) = (Arc::clone(shared), object.clone());
        let task =
            icos_sync::spawn_task(async move { read(&shared, &object, index, permit).await });
        Some(Self { index, task })
    }

    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Returns the segment, if it is in the store and intact.
    pub(super) async fn finish(mut self) -> Option<StoredSegment> {
        (&mut self.task).await.ok()?.ok()?
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads segment number `index` from the store. `None` if it is absent or rejected.
pub(super) async fn stored_segment(
    shared: &Arc<Shared>,
    object: &SharedObject,
    index: u64,
) -> Result<Option<StoredSegment>, StoreError> {
    let reserved = timeout(MEMORY_TIMEOUT, shared.reserve(object.segment_len(index)));
    let Ok(permit) = reserved.await else {
        let reason = "no memory became free for its segments; raise --memory";
        return Err(StoreError::Failed(reason.to_owned()));
    };
    read(shared, object, index, permit).await
}

async fn read(
    shared: &Arc<Shared>,
    object: &SharedObject,
    index: u64,
    permit: OwnedSemaphorePermit,
) -> Result<Option<StoredSegment>, StoreError> {
    let (key, len) = (object.segment_key(index), object.segment_len(index));
    let max = usize::try_from(len).unwrap_or(usize::MAX - SEAL_LEN) + SEAL_LEN;
    let Some(found) = shared.store.get(&key, max).await? else {
        return Ok(None);
    };
    let (checking, name, length) = (Arc::clone(shared), key.clone(), object.length);
    let bytes = found.bytes;
    let checked = run_blocking(move || {
        let label = SealLabel { key: &name, length };
        let unsealed = checking.seal.unseal(label, &bytes)?;
        match unsealed.payload.len() as u64 {
            found if found == len => Ok(unsealed),
            found => Err(BadSeal::Length {
                expected: len,
                found,
            }),
        }
    })
    .await;
    match checked {
        Ok(unsealed) => {
            Counters::add(&shared.counters.segments_read, 1);
            Counters::add(&shared.counters.bytes_read, len);
            Ok(Some(StoredSegment {
                payload: unsealed.payload,
                digest: unsealed.digest,
                permit,
            }))
        }
        Err(reason) => {
            let reason = reason.to_string();
            if shared.rejections.note(&key, found.version, &reason) {
                Counters::add(&shared.counters.rejected, 1);
            }
            Ok(None)
        }
    }
}
