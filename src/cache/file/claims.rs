//! Claims: while a thread writes, releases or checks the bytes of blocks on the disk,
//! no other thread does.
//!
//! A claim lasts over disk work, but it is no lock: readers do not need one.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::CacheFile;
use super::files::EpochFiles;
use super::state::FileState;
use icos_sync::sleep;

/// How long to wait before another try to claim blocks. Claims last for one write or
/// read of a few blocks.
const RETRY: Duration = Duration::from_micros(200);

/// The blocks that are claimed.
#[derive(Debug, Default)]
pub(super) struct ClaimedBlocks {
    next: u64,
    /// Number of the claim, and its blocks.
    claims: Vec<(u64, Range<u64>)>,
}

/// Claimed blocks; free again when dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    file: &'a CacheFile,
    number: u64,
    /// The epoch in which they are claimed.
    pub(super) epoch: Arc<EpochFiles>,
}

impl ClaimedBlocks {
    /// Claims `blocks` if no other claim has one of them; returns the number of the
    /// claim.
    fn add(&mut self, blocks: &Range<u64>) -> Option<u64> {
        let overlaps = |other: &Range<u64>| other.start < blocks.end && blocks.start < other.end;
        if self.claims.iter().any(|(_, other)| overlaps(other)) {
            return None;
        }
        self.next += 1;
        self.claims.push((self.next, blocks.clone()));
        Some(self.next)
    }

    /// Ends all claims: those of an epoch that has ended are of other files. Numbers
    /// are not reused.
    pub(super) fn cleared(&self) -> Self {
        Self {
            next: self.next,
            claims: Vec::new(),
        }
    }
}

impl CacheFile {
    /// Claims `blocks`, and waits until no other thread has one of them. The caller
    /// has no other claim.
    pub(super) fn claim(&self, blocks: &Range<u64>) -> Claim<'_> {
        loop {
            if let Some(claim) = self.try_claim(&mut self.state(), blocks) {
                return claim;
            }
            sleep(RETRY);
        }
    }

    /// Claims `blocks` if no other thread has one of them.
    pub(super) fn try_claim(
        &self,
        state: &mut FileState,
        blocks: &Range<u64>,
    ) -> Option<Claim<'_>> {
        let number = state.claims.add(blocks)?;
        Some(Claim {
            file: self,
            number,
            epoch: Arc::clone(&state.epoch),
        })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.file.state();
        state
            .claims
            .claims
            .retain(|(number, _)| *number != self.number);
    }
}
