//! Files in archives: fetched whole at first need, read while they come, and
//! kept.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use twox_hash::XxHash3_128;

use super::idle_lru::{IdleDecision, IdleLru};
use super::{ByteSource, ContentError, Contents};
use crate::cache::{CacheError, CacheFile, CachePath, CacheRead};
use icos_portal::archive::ArchiveEntry;
use icos_portal::{DataClient, ObjectId};
use icos_sync::SingleFlight;

/// How many files' state is kept.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// How often a file is fetched that is gone again before it can be read.
const IN_VAIN: u32 = 3;

/// The files of late.
#[derive(Debug)]
pub(super) struct Entries(IdleLru<(ObjectId, String), Arc<EntryFile>>);

impl Default for Entries {
    fn default() -> Self {
        Self(IdleLru::new(REMEMBERED))
    }
}

impl Entries {
    /// Lets go of what nobody has used for `idle`; whether there are others
    /// that will have rested long enough in a while.
    pub(super) fn rest(&self, idle: Duration) -> bool {
        let (closed, mut more) = self.0.release_idle(idle, |_, file| {
            if file.kept.has_memory_blocks() {
                IdleDecision::Keep
            } else if Arc::strong_count(file) == 1 {
                IdleDecision::Release
            } else {
                IdleDecision::ReleaseLater
            }
        });
        // Closed, they can make room for others; that there was none is
        // remembered for a while.
        let made_room = !closed.is_empty();
        drop(closed);
        for (_, file) in self.0.idle_for(idle) {
            if file.kept.has_memory_blocks() {
                // Nobody minds if it does not get its name.
                let offered = file.kept.move_to_disk() && file.kept.seal(file.kept.epoch()).is_ok();
                more |= offered || made_room;
            }
        }
        more
    }
}

/// A file in an archive.
#[derive(Debug)]
struct EntryFile {
    archive: ObjectId,
    entry: ArchiveEntry,
    data: DataClient,
    kept: Arc<CacheFile>,
    /// Up to where the one that comes has come.
    position: watch::Sender<u64>,
    flights: SingleFlight<(), Result<(), ContentError>>,
}

impl Contents {
    /// The bytes of `entry` of `archive` from `offset` on, at most `len`; fewer
    /// only at the end.
    pub async fn read_archive_file(
        &self,
        archive: ObjectId,
        entry: &ArchiveEntry,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, ContentError> {
        let from = offset.min(entry.size);
        let to = from.saturating_add(len as u64).min(entry.size);
        self.entry_file(archive, entry)?.read(from..to).await
    }

    fn entry_file(
        &self,
        archive: ObjectId,
        entry: &ArchiveEntry,
    ) -> Result<Arc<EntryFile>, ContentError> {
        let key = (archive, entry.name.clone());
        if let Some(file) = self.entries.0.get(&key) {
            return Ok(file);
        }
        // The name is a stranger's.
        let name = format!(
            "{archive}-{:032x}.entry",
            XxHash3_128::oneshot(entry.name.as_bytes())
        );
        let place = CachePath::new(CachePath::VIEWS, &name)?;
        let file = Arc::new(EntryFile {
            archive,
            entry: entry.clone(),
            data: self.data.clone(),
            kept: self.store.file(&place, entry.size),
            position: watch::Sender::new(0),
            flights: SingleFlight::default(),
        });
        Ok(self.entries.0.get_or_insert(key, file))
    }
}

impl EntryFile {
    async fn read(self: Arc<Self>, range: Range<u64>) -> Result<Bytes, ContentError> {
        let mut in_vain = 0;
        loop {
            if let CacheRead::Bytes(bytes) = self.kept.read(range.clone())? {
                ByteSource::Cache.note();
                return Ok(bytes.into());
            }
            if in_vain == IN_VAIN {
                return Err(CacheError::TooSmall.into());
            }
            ByteSource::Portal.note();
            let mut position = self.position.subscribe();
            let fetching = Arc::clone(&self);
            let whole = self
                .flights
                .join((), || async move { fetching.fetch().await });
            // While it comes, what has come can be read. What is gone again
            // comes once more.
            let passed = *position.borrow() >= range.end;
            tokio::select! {
                done = whole => {
                    done?;
                    in_vain += 1;
                }
                _ = position.wait_for(|position| *position >= range.end), if !passed => {}
            }
        }
    }

    /// Fetches all of it: the service sends no parts, and counts each answer
    /// as a download.
    async fn fetch(&self) -> Result<(), ContentError> {
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
        let mut at = 0;
        while let Some(chunk) = body.chunk().await? {
            let end = at + chunk.len() as u64;
            if end > self.entry.size {
                return Err(wrong_length(end));
            }
            self.kept.write(at, &chunk)?;
            at = end;
            self.position.send_replace(at);
        }
        if at != self.entry.size {
            return Err(wrong_length(at));
        }
        let epoch = self.kept.epoch();
        Arc::clone(&self.kept).seal_in_background(epoch).await;
        Ok(())
    }
}
