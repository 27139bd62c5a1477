//! Originals: data objects as they were uploaded.
//!
//! An original is downloaded in long requests into the cache, and verified
//! against its id, which is a hash of its bytes. A cold read takes this way:
//!
//! ```text
//!  OriginalFile::read
//!    |  1. EIO if the bytes were corrupt since the file was opened
//!    |  2. verifier: wait if all bytes were received, but not verified
//!    |  3. all bytes cached? --yes--> recent pieces, or the cache file --> reply
//!    |  4. no: request the gap, wait for its download, repeat from 1
//!    v
//!  Downloads::download_for --> planner (pure): Wait, Start or Nothing
//!    |
//!    | Start                         a task            disk pool, a piece at a time
//!    v
//!  Transfer: receive --> PieceBuilder --> store:   cache --> position --> RunningHash
//!            network     128 KiB - 1 MiB           blocks        |        SHA-256
//!                                                                |
//!  Download: position, pace, recent pieces <---------------------+
//!            wakes the waiting readers
//! ```
//!
//! Invariants:
//!
//! - A reader gets bytes of one epoch: after the bytes of an epoch turned out to
//!   be corrupt, a reader that opened the file before gets
//!   [`ContentError::WrongHash`] and starts no download.
//! - No reader gets all bytes of a file before the file is verified; see
//!   [`verifier`] for the exceptions.
//! - No lock is held across a wait, and a reader waits for the network without
//!   holding memory.
//!
//! Lock order: the state of [`Downloads`] or the stored hash, then the cache file,
//! then [`CorruptFiles`]. The state of [`Downloads`], then one [`Download`]. No
//! other lock here is taken while one is held.
//!
//! What to request is decided in [`planner`](super::planner); blocks, checksums
//! and eviction are the cache's.
//!
//! [`Download`]: download::Download

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::planner::DownloadOptions;
use super::request_stats::RequestStats;
use super::sharing::DataSource;
use super::{ByteSource, ContentError};
use crate::cache::{CacheError, CacheFile, CacheRead};
use crate::memory::MemoryBudget;
use icos_portal::ObjectId;

mod context;
mod corrupt_files;
mod download;
mod downloads;
mod piece;
mod recent_pieces;
mod running_hash;
mod transfer;
mod verifier;

use context::OriginalContext;
pub(super) use corrupt_files::CorruptFiles;
use downloads::Downloads;
use running_hash::RunningHash;
use verifier::Verifier;

/// How often the bytes that a read waited for may be lost before they are read: evicted by
/// other readers, or damaged on the disk. Then the read fails, before the bound on what an
/// object may cost is reached.
const MAX_LOST: u32 = 16;

/// One original: its file in the cache, its downloads and its verification.
#[derive(Debug)]
pub(super) struct OriginalFile {
    context: Arc<OriginalContext>,
    downloads: Arc<Downloads>,
    verifier: Arc<Verifier>,
}

impl OriginalFile {
    pub(super) fn new(
        id: ObjectId,
        cached: Arc<CacheFile>,
        data: DataSource,
        memory: MemoryBudget,
        options: DownloadOptions,
        corrupt_files: Arc<CorruptFiles>,
        request_stats: Arc<RequestStats>,
    ) -> Self {
        if cached.is_sealed() {
            // It was verified before it was sealed.
            cached.mark_verified(cached.epoch());
        }
        let context = Arc::new(OriginalContext {
            id,
            cached,
            data,
            memory,
            options,
            hash: RunningHash::default(),
            corrupt_files,
        });
        let downloads = Arc::new(Downloads::new(Arc::clone(&context), request_stats));
        let verifier = Verifier::new(Arc::clone(&context), Arc::clone(&downloads));
        Self {
            context,
            downloads,
            verifier: Arc::new(verifier),
        }
    }

    /// Reads from `offset` on, `len` bytes, or fewer at the end of the file.
    /// `corruption_count` is the count of [`CorruptFiles`] when the reader opened the
    /// file.
    pub(super) async fn read(
        self: Arc<Self>,
        corruption_count: u64,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let end = (self.context.cached.len()).min(offset.saturating_add(len as u64));
        let range = offset.min(end)..end;
        let mut arrived = None;
        let mut lost = 0;
        loop {
            if self.is_corrupt_since(corruption_count) {
                let id = self.context.id;
                return Err(ContentError::WrongHash { id });
            }
            if self.verifier.must_wait() {
                self.verifier.verify().await?;
                continue;
            }
            let gap = match self.downloads.first_gap(range.clone()) {
                Some(gap) => gap,
                None => match self.read_cached(&range).await? {
                    Ok(bytes) => {
                        // The file may have become complete, or corrupt, since
                        // the checks above. Corruption is counted before the
                        // bytes are discarded.
                        if self.verifier.must_wait() || self.is_corrupt_since(corruption_count) {
                            continue;
                        }
                        self.downloads.after_read(&range);
                        ByteSource::Cache.note();
                        return Ok(bytes);
                    }
                    Err(gap) => gap,
                },
            };
            // A reader that has bytes of a corrupt epoch starts no download.
            if self.is_corrupt_since(corruption_count) {
                continue;
            }
            // Each time, bytes are downloaded again.
            lost += u32::from(arrived.take().is_some_and(|at| gap.start <= at));
            if lost == MAX_LOST {
                return Err(CacheError::TooSmall.into());
            }
            let until = gap.end.min(range.end);
            ByteSource::Portal.note();
            let Some((download, review_after)) = self.downloads.download_for(&gap, range.end)
            else {
                continue;
            };
            download.expect(&range);
            // If the download slows down, a request for the gap may be faster.
            let arrival = tokio::time::timeout(review_after, download.wait_for(until));
            if let Ok(received) = arrival.await {
                received?;
                arrived = Some(gap.start);
            }
        }
    }

    /// Whether bytes that a reader got after `corruption_count` were corrupt.
    fn is_corrupt_since(&self, corruption_count: u64) -> bool {
        let OriginalContext {
            id, corrupt_files, ..
        } = &*self.context;
        corrupt_files.count(*id) != corruption_count
    }

    /// The bytes of `range`, or a part of them that was evicted.
    async fn read_cached(
        &self,
        range: &Range<u64>,
    ) -> Result<Result<Bytes, Range<u64>>, ContentError> {
        let OriginalContext { cached, memory, .. } = &*self.context;
        if let Some(parts) = self.downloads.recent(range, cached.epoch()) {
            return self.join(parts).await.map(Ok);
        }
        let bytes = range.end - range.start + CacheFile::READ_OVERHEAD;
        let reservation = memory.reserve_reply(bytes).await?;
        Ok(match cached.read_in_pool(range.clone()).await? {
            CacheRead::Bytes(bytes) => Ok(reservation.attach(bytes)),
            CacheRead::Missing(gap) => Err(gap),
        })
    }

    async fn join(&self, mut parts: Vec<Bytes>) -> Result<Bytes, ContentError> {
        if let [_] = parts[..] {
            return Ok(parts.swap_remove(0));
        }
        let len: usize = parts.iter().map(Bytes::len).sum();
        let reservation = self.context.memory.reserve_reply(len as u64).await?;
        Ok(reservation.attach(parts.concat()))
    }

    /// Its file in the cache. While it is held, the checksums of evicted blocks
    /// are retained.
    pub(super) fn cached_file(&self) -> &Arc<CacheFile> {
        &self.context.cached
    }

    /// Whether nothing is under way: no read, no verification and no download.
    pub(super) fn is_idle(self: &Arc<Self>) -> bool {
        // In this order: reads start verifications and downloads, and
        // verifications start downloads. The verifier holds the downloads, too.
        Arc::strong_count(self) == 1
            && Arc::strong_count(&self.verifier) == 1
            && Arc::strong_count(&self.downloads) == 2
    }

    /// Moves blocks that are in memory only to the disk, and seals a verified
    /// file. Returns whether the disk took all of them. Blocks on the disk.
    pub(super) fn move_to_disk(&self) -> bool {
        let OriginalContext { id, cached, .. } = &*self.context;
        let is_moved = cached.move_to_disk();
        let epoch = cached.epoch();
        if is_moved
            && cached.is_verified()
            && let Err(error) = cached.seal(epoch)
        {
            tracing::warn!(%error, %id, "a complete object could not be moved to its final name");
        }
        is_moved
    }
}
