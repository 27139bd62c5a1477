//! Leases: which machine downloads an object for the others.
//!
//! A lease is an object beside the segments, replaced only in the version that was read.
//! Clocks of machines are never compared: a lease has expired for a waiting machine if
//! that machine has seen the same version for [`LEASE`]. Nothing is deleted; a lease that
//! is not needed any more says so. On a server of Redis (`lease_store`), a lease that
//! expires or is not needed any more is absent.
//!
//! A lease is not proven. A forged one delays readers for as long as the bounds of
//! [`Observation`] allow.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::lease_store::LeaseStore;
use super::status::Counters;
use super::store::{StoreError, StoreVersion};
use super::{SEGMENT, Shared, SharedCacheRole, SharedObject};

/// How long a lease is valid without a renewal.
pub(super) const LEASE: Duration = Duration::from_secs(8);
/// How often the holder renews it.
pub(super) const RENEWAL: Duration = Duration::from_secs(2);
/// How long to wait for a holder that makes no progress.
const MAX_STALL: Duration = Duration::from_secs(15);
/// How long to wait for one segment, even if the holder makes progress.
const MAX_WAIT: Duration = Duration::from_mins(2);
/// How long to wait for a lease that can neither be read nor claimed, such as a link in its
/// place. Between a look and a claim of another machine, it can be neither for a moment.
const MAX_UNCLEAR: Duration = Duration::from_secs(2);

/// A lease as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct LeaseRecord {
    /// A random name of the claim.
    holder: String,
    /// The name of the machine, for people.
    node: String,
    state: LeaseState,
    /// What the holder downloads.
    from: u64,
    until: u64,
    /// How far it is.
    position: u64,
    renewals: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum LeaseState {
    Held,
    Free,
}

/// A lease of this process. The publisher renews and releases it.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    key: String,
    record: LeaseRecord,
    version: StoreVersion,
}

/// What a waiting stream has seen of another machine's lease.
#[derive(Debug, Default)]
pub(super) struct Observation {
    /// When the wait began.
    started: Option<Instant>,
    version: Option<(StoreVersion, Instant)>,
    /// Since when it had the version that it had before it was absent.
    last_version: Option<Instant>,
    position: Option<(u64, Instant)>,
    /// Since when it can neither be read nor claimed.
    unclear: Option<Instant>,
}

impl Observation {
    /// What to do if the lease can neither be read nor claimed now.
    fn of_unclear(&mut self, now: Instant) -> LeaseClaim {
        let since = *self.unclear.get_or_insert(now);
        if now.duration_since(since) >= MAX_UNCLEAR {
            LeaseClaim::Refused
        } else {
            LeaseClaim::Wait
        }
    }
}

/// The result of an attempt to claim a lease.
#[derive(Debug)]
pub(super) enum LeaseClaim {
    /// Claimed. `fresh` if no machine had the lease before.
    Held { lease: Lease, fresh: bool },
    /// Another machine has it, and will deliver the segment.
    Wait,
    /// The store has no leases: every machine downloads, and publishes.
    Unsupported,
    /// Another machine has it, but does not deliver the segment, or not soon. Or this
    /// machine only reads, and no other one has it.
    Refused,
}

/// Attempts to claim the lease of `object` for a download of `range`, which begins with
/// the segment at `range.start`.
pub(super) async fn claim(
    shared: &Arc<Shared>,
    object: &SharedObject,
    range: &Range<u64>,
    seen: &mut Observation,
) -> Result<LeaseClaim, StoreError> {
    let unsupported = match shared.role {
        SharedCacheRole::Writer => Ok(LeaseClaim::Unsupported),
        // It publishes nothing.
        SharedCacheRole::Reader => Ok(LeaseClaim::Refused),
    };
    if !shared.leases.works() {
        return unsupported;
    }
    match claim_lease(shared, object, range, seen).await {
        Err(StoreError::NoConditions) => unsupported,
        // The store may work nevertheless.
        Err(_) if !shared.leases.is_in_store() => unsupported,
        claimed => claimed,
    }
}

async fn claim_lease(
    shared: &Arc<Shared>,
    object: &SharedObject,
    range: &Range<u64>,
    seen: &mut Observation,
) -> Result<LeaseClaim, StoreError> {
    let now = Instant::now();
    let started = *seen.started.get_or_insert(now);
    // Whatever the store or the server says.
    if now.duration_since(started) >= MAX_WAIT {
        return Ok(LeaseClaim::Refused);
    }
    let key = format!("{}/lease", object.path);
    let record = LeaseRecord {
        holder: random_name(),
        node: shared.node.clone(),
        state: LeaseState::Held,
        from: range.start,
        until: range.end,
        position: range.start,
        renewals: 0,
    };
    let held = |version, fresh| {
        Counters::add(&shared.counters.leases, 1);
        let lease = Lease {
            shared: Arc::clone(shared),
            key: key.clone(),
            record: record.clone(),
            version,
        };
        LeaseClaim::Held { lease, fresh }
    };
    let leases = &shared.leases;
    let reads_only = shared.role == SharedCacheRole::Reader;
    if seen.version.is_none()
        && !reads_only
        && let Some(version) = leases.create(&key, record.bytes()).await?
    {
        if has_expired(seen.last_version) {
            Counters::add(&shared.counters.taken_over, 1);
        }
        // A server has no leases of former holders.
        return Ok(held(version, leases.is_in_store()));
    }
    let Some(found) = leases.get(&key).await? else {
        if reads_only {
            return Ok(LeaseClaim::Refused);
        }
        seen.last_version = seen.version.take().map(|(_, since)| since);
        return Ok(seen.of_unclear(now));
    };
    let since = match &seen.version {
        Some((version, since)) if *version == found.version => *since,
        _ => {
            seen.version = Some((found.version.clone(), now));
            now
        }
    };
    let other: Option<LeaseRecord> = serde_json::from_slice(&found.bytes).ok();
    let is_free = other.as_ref().is_some_and(|o| o.state == LeaseState::Free);
    if is_free || now.duration_since(since) >= LEASE {
        if reads_only {
            return Ok(LeaseClaim::Refused);
        }
        let replaced = leases.replace(&key, &found.version, record.bytes());
        return Ok(match replaced.await? {
            Some(version) => {
                if !is_free {
                    Counters::add(&shared.counters.taken_over, 1);
                }
                held(version, false)
            }
            None => seen.of_unclear(now),
        });
    }
    seen.unclear = None;
    if let Some(other) = other {
        if !other.delivers(range.start, object.length) {
            return Ok(LeaseClaim::Refused);
        }
        let moved = match seen.position {
            Some((position, moved)) if position == other.position => moved,
            _ => {
                seen.position = Some((other.position, now));
                now
            }
        };
        if now.duration_since(moved) >= MAX_STALL {
            return Ok(LeaseClaim::Refused);
        }
    }
    Ok(LeaseClaim::Wait)
}

/// Whether a lease that had the same version `since` then was not released, but expired
/// on its server.
fn has_expired(since: Option<Instant>) -> bool {
    since.is_some_and(|since| since.elapsed() >= LEASE / 2)
}

impl LeaseRecord {
    fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Whether its holder publishes the segment at `offset` of an object of `length` bytes.
    fn delivers(&self, offset: u64, length: u64) -> bool {
        let start = offset - offset % SEGMENT;
        let end = start.saturating_add(SEGMENT).min(length);
        self.from <= start && end <= self.until
    }
}

impl Lease {
    /// Tells other machines that this one is alive and at `position`. Returns false if
    /// another machine has taken the lease over.
    pub(super) async fn renew(&mut self, position: u64) -> Result<bool, StoreError> {
        self.record.position = position;
        self.record.renewals += 1;
        let (leases, bytes) = (&self.shared.leases, self.record.bytes());
        let replaced = match leases.replace(&self.key, &self.version, bytes).await {
            // What is downloaded can be published without a lease.
            Err(error) if !leases.is_in_store() => {
                tracing::debug!(%error, key = self.key, "a lease was not renewed");
                return Ok(true);
            }
            replaced => replaced?,
        };
        let Some(version) = replaced else {
            return Ok(false);
        };
        self.version = version;
        Ok(true)
    }

    /// Lets other machines claim it at once. If that fails, it expires.
    pub(super) async fn release(mut self) {
        self.record.state = LeaseState::Free;
        let leases: &LeaseStore = &self.shared.leases;
        let bytes = self.record.bytes();
        if let Err(error) = leases.free(&self.key, &self.version, bytes).await {
            tracing::debug!(%error, key = self.key, "a lease was not released; it expires");
        }
    }
}

/// A name that no other claim has.
pub(super) fn random_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holder_delivers_the_complete_segments_of_its_range() {
        let record = |from, until| LeaseRecord {
            holder: String::new(),
            node: String::new(),
            state: LeaseState::Held,
            from,
            until,
            position: from,
            renewals: 0,
        };
        let length = 2 * SEGMENT + 5;
        for (from, until, offset, delivers) in [
            (0, length, 0, true),
            (0, length, 2 * SEGMENT + 1, true),
            (1, length, 0, false),
            (1, length, SEGMENT, true),
            (0, SEGMENT, SEGMENT - 1, true),
            (0, SEGMENT - 1, 0, false),
            (0, 2 * SEGMENT, 2 * SEGMENT, false),
        ] {
            let found = record(from, until).delivers(offset, length);
            assert_eq!(found, delivers, "{from}..{until} at {offset}");
        }
    }
}
