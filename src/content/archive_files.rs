//! Files in archives. The portal sends no ranges of them, so a file is downloaded
//! completely on its first read and cached. Readers get bytes while the download
//! is under way.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use twox_hash::XxHash3_128;

use super::block_writer::BlockWriter;
use super::idle_lru::{IdleDecision, IdleLru};
use super::shared_download::{Turn, wait_for_turn};
use super::{ByteSource, ContentError, Contents};
use crate::cache::{CacheError, CacheFile, CachePath, CacheRead};
use icos_portal::archive::ArchiveEntry;
use icos_portal::{DataClient, ObjectId};
use icos_sync::SingleFlight;

/// The number of files whose state is kept in memory.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// The number of downloads that one read may wait for, if the cache evicts the file
/// before it can be read.
const DOWNLOADS_PER_READ: u32 = 3;

/// The recently used files, by archive and name.
#[derive(Debug)]
pub(super) struct ArchiveFiles(IdleLru<(ObjectId, String), Arc<ArchiveFile>>);

impl Default for ArchiveFiles {
    fn default() -> Self {
        Self(IdleLru::new(OPEN_FILES))
    }
}

impl ArchiveFiles {
    /// Releases the state of files that have been idle for `idle`. Returns whether a
    /// later call may release more.
    pub(super) fn release_idle(&self, idle: Duration) -> bool {
        let (closed, mut more) = self.0.release_idle(idle, |_, file| {
            if file.cached.has_memory_blocks() {
                IdleDecision::Keep
            } else if Arc::strong_count(file) == 1 {
                IdleDecision::Release
            } else {
                IdleDecision::ReleaseLater
            }
        });
        // The cache can evict closed files to make room for others, but it
        // remembers for a while that there was no room: call again later.
        let made_room = !closed.is_empty();
        drop(closed);
        for (_, file) in self.0.idle_for(idle) {
            if file.cached.has_memory_blocks() {
                // The file stays readable if it cannot be sealed.
                let is_moved =
                    file.cached.move_to_disk() && file.cached.seal(file.cached.epoch()).is_ok();
                more |= is_moved || made_room;
            }
        }
        more
    }
}

/// A file in an archive.
#[derive(Debug)]
struct ArchiveFile {
    archive: ObjectId,
    entry: ArchiveEntry,
    data: DataClient,
    cached: Arc<CacheFile>,
    /// How far the current download has got.
    position: watch::Sender<u64>,
    flights: SingleFlight<(), Result<(), ContentError>>,
}

impl Contents {
    /// Reads at most `len` bytes of `entry` of `archive` from `offset`; fewer only at
    /// the end of the file.
    ///
    /// # Errors
    ///
    /// [`ContentError::Portal`] if the file cannot be downloaded,
    /// [`ContentError::WrongLength`] if its length differs from the archive's index,
    /// [`ContentError::Cache`] if the cache cannot store or return it.
    pub async fn read_archive_file(
        &self,
        archive: ObjectId,
        entry: &ArchiveEntry,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let from = offset.min(entry.size);
        let to = from.saturating_add(len as u64).min(entry.size);
        self.archive_file(archive, entry)
            .await?
            .read(from..to)
            .await
    }

    async fn archive_file(
        &self,
        archive: ObjectId,
        entry: &ArchiveEntry,
    ) -> Result<Arc<ArchiveFile>, ContentError> {
        let key = (archive, entry.name.clone());
        if let Some(file) = self.archive_files.0.get(&key) {
            return Ok(file);
        }
        let path = entry_path(archive, entry)?;
        let file = Arc::new(ArchiveFile {
            archive,
            entry: entry.clone(),
            data: self.data.clone(),
            cached: self.store.open_file(&path, entry.size).await?,
            position: watch::Sender::new(0),
            flights: SingleFlight::default(),
        });
        Ok(self.archive_files.0.get_or_insert(key, file))
    }
}

/// The path of `entry` of `archive` in the cache. The name is untrusted input, so the
/// path has a hash of it.
pub(super) fn entry_path(archive: ObjectId, entry: &ArchiveEntry) -> Result<CachePath, CacheError> {
    let hash = XxHash3_128::oneshot(entry.name.as_bytes());
    CachePath::new(CachePath::VIEWS, &format!("{archive}-{hash:032x}.entry"))
}

impl ArchiveFile {
    async fn read(self: Arc<Self>, range: Range<u64>) -> Result<Bytes, ContentError> {
        let mut downloads = 0;
        loop {
            if let CacheRead::Bytes(bytes) = self.cached.read_in_pool(range.clone()).await? {
                ByteSource::Cache.note();
                return Ok(bytes.into());
            }
            if downloads == DOWNLOADS_PER_READ {
                return Err(CacheError::TooSmall.into());
            }
            ByteSource::Portal.note();
            let mut position = self.position.subscribe();
            let file = Arc::clone(&self);
            let download = self
                .flights
                .join((), || async move { file.download().await });
            // Bytes can be read as soon as the download has passed them. If they
            // were evicted again, only the end of the download helps.
            let passed = *position.borrow() >= range.end;
            tokio::select! {
                done = download => {
                    done?;
                    downloads += 1;
                }
                _ = position.wait_for(|position| *position >= range.end), if !passed => {}
            }
        }
    }

    /// Downloads the complete file: the service sends no ranges, and counts each
    /// request as a download.
    async fn download(&self) -> Result<(), ContentError> {
        self.position.send_replace(0);
        let present = || {
            let gap = self.cached.first_missing(&(0..self.entry.size));
            let end = gap.map_or(self.entry.size, |gap| gap.start);
            self.position.send_replace(end);
            end
        };
        let all = 0..self.entry.size;
        let _lock = match wait_for_turn(&self.cached, all, present, |_| true).await? {
            Turn::Request(lock) => lock,
            Turn::Delivered if self.cached.is_complete() => return Ok(()),
            // The other process has ended before its download.
            Turn::Delivered => None,
        };
        self.position.send_replace(0);
        let wrong_length = |found| ContentError::WrongLength {
            id: self.archive,
            expected: self.entry.size,
            found,
        };
        let mut body = self
            .data
            .archive_entry(self.archive, &self.entry.name)
            .await?;
        let mut writer = BlockWriter::new(Arc::clone(&self.cached), 0);
        while let Some(chunk) = body.chunk().await? {
            let end = writer.received() + chunk.len() as u64;
            if end > self.entry.size {
                return Err(wrong_length(end));
            }
            writer.push(&chunk).await?;
            self.position.send_replace(writer.position());
        }
        if writer.received() != self.entry.size {
            return Err(wrong_length(writer.received()));
        }
        writer.flush().await?;
        self.position.send_replace(writer.position());
        let epoch = self.cached.epoch();
        Arc::clone(&self.cached).seal_in_background(epoch).await;
        Ok(())
    }
}
