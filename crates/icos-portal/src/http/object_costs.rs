//! What each object has cost within an hour, and the limit on it.
//!
//! The portal counts each request for data as a download. Other modules keep
//! requests few; the limit here is the last resort against an error in them, a
//! cache that is too small, and a connection that breaks off: a request beyond
//! it is not sent. It is far above what any access needs that works as intended.
//!
//! The limit of an object is the *overhead* times [`BASE_REQUESTS`] requests and
//! one per MiB of its length, and the overhead times its length and
//! [`BASE_BYTES`]. The length is what is known of it: that of the complete object,
//! or that of the longest response so far. An hour begins with the first request after the previous hour.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::{ObjectId, PortalError};
use icos_sync::Mutex;

/// The number of requests that an object of any length may need.
const BASE_REQUESTS: u64 = 16;
/// The number of bytes that an object of any length may need.
const BASE_BYTES: u64 = 8 << 20;
/// The length of an object that justifies one more request.
const BYTES_PER_REQUEST: u64 = 1 << 20;
/// The period for which costs are added up.
const PERIOD: Duration = Duration::from_hours(1);
/// The number of objects from which on those of past hours are forgotten.
const MIN_FORGOTTEN: usize = 10_000;

/// The costs of all objects.
#[derive(Debug)]
pub struct ObjectCosts {
    /// How many times the cost of one download is allowed.
    overhead: NonZeroU32,
    state: Mutex<CostTable>,
}

#[derive(Debug)]
struct CostTable {
    objects: HashMap<ObjectId, HourlyCost>,
    /// The number of objects at which those of past hours are forgotten.
    forget_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct HourlyCost {
    since: Instant,
    requests: u64,
    bytes: u64,
    /// The length of the object, or of the longest response so far.
    len: u64,
}

/// The account of one object.
#[derive(Clone, Debug)]
pub(crate) struct ObjectCost {
    costs: Arc<ObjectCosts>,
    object: ObjectId,
}

impl ObjectCosts {
    /// How many times the cost of one download is allowed by default.
    pub const DEFAULT_OVERHEAD: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

    /// Allows `overhead` times the cost of one download.
    #[must_use]
    pub fn new(overhead: NonZeroU32) -> Self {
        Self {
            overhead,
            state: Mutex::new(CostTable {
                objects: HashMap::new(),
                forget_at: MIN_FORGOTTEN,
            }),
        }
    }

    /// Returns the account of `object`.
    pub(crate) fn of(self: &Arc<Self>, object: ObjectId) -> ObjectCost {
        ObjectCost {
            costs: Arc::clone(self),
            object,
        }
    }

    fn is_over(&self, cost: &HourlyCost) -> bool {
        let overhead = u64::from(self.overhead.get());
        let requests = BASE_REQUESTS.saturating_add(cost.len / BYTES_PER_REQUEST);
        let bytes = BASE_BYTES.saturating_add(cost.len);
        cost.requests >= requests.saturating_mul(overhead)
            || cost.bytes >= bytes.saturating_mul(overhead)
    }
}

impl Default for ObjectCosts {
    fn default() -> Self {
        Self::new(Self::DEFAULT_OVERHEAD)
    }
}

impl ObjectCost {
    /// Fails if the object has reached its limit.
    ///
    /// # Errors
    ///
    /// [`PortalError::OverLimit`].
    pub(super) fn check(&self) -> Result<(), PortalError> {
        let now = Instant::now();
        let table = self.costs.state.lock();
        let Some(&cost) = table.objects.get(&self.object) else {
            return Ok(());
        };
        let age = now.saturating_duration_since(cost.since);
        if age >= PERIOD || !self.costs.is_over(&cost) {
            return Ok(());
        }
        Err(PortalError::OverLimit {
            what: format!("object {}", self.object),
            requests: cost.requests,
            bytes: cost.bytes,
            wait: PERIOD.saturating_sub(age),
        })
    }

    /// Records a request that the service counts as a download.
    pub(super) fn record_request(&self) {
        self.update(|cost| cost.requests += 1);
    }

    /// Records `bytes` of a response that has `received` bytes now.
    pub(super) fn record_bytes(&self, bytes: u64, received: u64) {
        self.update(|cost| {
            cost.bytes = cost.bytes.saturating_add(bytes);
            cost.len = cost.len.max(received);
        });
    }

    /// Records the length of the complete object.
    pub(super) fn record_len(&self, len: u64) {
        self.update(|cost| cost.len = cost.len.max(len));
    }

    fn update(&self, change: impl FnOnce(&mut HourlyCost)) {
        let now = Instant::now();
        let is_past = |cost: &HourlyCost| now.saturating_duration_since(cost.since) >= PERIOD;
        let mut table = self.costs.state.lock();
        if table.objects.len() >= table.forget_at {
            table.objects.retain(|_, cost| !is_past(cost));
            table.forget_at = MIN_FORGOTTEN.max(2 * table.objects.len());
        }
        let new = HourlyCost {
            since: now,
            requests: 0,
            bytes: 0,
            len: 0,
        };
        let cost = table.objects.entry(self.object).or_insert(new);
        if is_past(cost) {
            *cost = HourlyCost {
                len: cost.len,
                ..new
            };
        }
        change(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn object_over_its_limit_is_refused_until_the_hour_is_over() {
        let costs = Arc::new(ObjectCosts::new(NonZeroU32::MIN));
        let object = costs.of(ObjectId::of_content(b"one"));
        let other = costs.of(ObjectId::of_content(b"another"));
        for _ in 0..BASE_REQUESTS {
            object.check().unwrap();
            object.record_request();
        }
        let error = object.check().unwrap_err();
        assert!(matches!(error, PortalError::OverLimit { .. }), "{error}");
        other.check().unwrap();
        tokio::time::advance(PERIOD).await;
        object.check().unwrap();
        object.record_request();
        object.check().unwrap();
    }

    #[test]
    fn long_object_may_be_downloaded_as_often_as_a_short_one() {
        let costs = Arc::new(ObjectCosts::new(NonZeroU32::new(3).unwrap()));
        let object = costs.of(ObjectId::of_content(b"one"));
        let len = 100 << 30;
        for _ in 0..3 {
            object.check().unwrap();
            object.record_request();
            object.record_bytes(len, len);
        }
        object.check().unwrap();
        object.record_bytes(3 * BASE_BYTES, len);
        object.check().unwrap_err();
    }
}
