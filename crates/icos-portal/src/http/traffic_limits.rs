//! Limits that the user sets on the traffic of a mount: bytes per second and requests
//! per minute.
//!
//! A request beyond the limit waits before it is sent, and a body is not read faster
//! than the limit. Neither wait counts as time without a response: timeouts measure
//! the portal, not the user's limits.

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use icos_sync::Mutex;

/// The period for which requests are counted.
const PERIOD: Duration = Duration::from_mins(1);
/// How far the bytes may be ahead of the rate, so that short waits are not made one by
/// one.
const MAX_LEAD: Duration = Duration::from_millis(100);

/// Limits on the traffic of a mount; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrafficLimits {
    /// How many bytes of bodies to receive within a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// How many requests to send within a minute.
    pub requests_per_minute: Option<NonZeroU32>,
}

/// Delays requests and bodies as the limits demand.
#[derive(Debug)]
pub(crate) struct TrafficGate {
    limits: TrafficLimits,
    /// Held by the request that waits to be sent next; the others are queued.
    first: Semaphore,
    /// When the last requests were sent, as many as a minute may have.
    sent: Mutex<VecDeque<Instant>>,
    /// When the bytes received so far would have arrived at the rate.
    due: Mutex<Instant>,
}

impl TrafficGate {
    pub(crate) fn new(limits: TrafficLimits) -> Self {
        Self {
            limits,
            first: Semaphore::new(1),
            sent: Mutex::default(),
            due: Mutex::new(Instant::now()),
        }
    }

    /// Waits until a request may be sent, and returns how long that took.
    pub(super) async fn wait_to_send(&self) -> Duration {
        let Some(most) = self.limits.requests_per_minute else {
            return Duration::ZERO;
        };
        let begun = Instant::now();
        // The semaphore is never closed.
        let _first = self.first.acquire().await;
        let may_send_at = {
            let sent = self.sent.lock();
            let full = sent.len() >= most.get() as usize;
            sent.front().filter(|_| full).map(|&oldest| oldest + PERIOD)
        };
        if let Some(at) = may_send_at {
            tokio::time::sleep_until(at).await;
        }
        let mut sent = self.sent.lock();
        if sent.len() >= most.get() as usize {
            sent.pop_front();
        }
        sent.push_back(Instant::now());
        begun.elapsed()
    }

    /// Waits until more bytes may be received, and returns how long that took.
    pub(super) async fn wait_to_receive(&self) -> Duration {
        if self.limits.bytes_per_second.is_none() {
            return Duration::ZERO;
        }
        let begun = Instant::now();
        let due = *self.due.lock();
        if due > begun + MAX_LEAD {
            tokio::time::sleep_until(due).await;
        }
        begun.elapsed()
    }

    /// Records that `bytes` were received.
    pub(super) fn record_bytes(&self, bytes: u64) {
        let Some(rate) = self.limits.bytes_per_second else {
            return;
        };
        let micros = bytes.saturating_mul(1_000_000) / rate.get();
        let mut due = self.due.lock();
        *due = (*due).max(Instant::now()) + Duration::from_micros(micros);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_requests_than_the_limit() {
        let gate = TrafficGate::new(TrafficLimits {
            requests_per_minute: NonZeroU32::new(3),
            ..TrafficLimits::default()
        });
        let gate = Arc::new(gate);
        let (begun, mut times) = (Instant::now(), Vec::new());
        let requests: Vec<_> = (0..8)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move {
                    gate.wait_to_send().await;
                    begun.elapsed()
                })
            })
            .collect();
        // A request that is given up does not count.
        requests[5].abort();
        for request in requests {
            times.extend(request.await.ok());
        }
        times.sort();
        let minutes: Vec<u64> = times.iter().map(|at| at.as_secs() / 60).collect();
        assert_eq!(minutes, [0, 0, 0, 1, 1, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_rate() {
        let gate = Arc::new(TrafficGate::new(TrafficLimits {
            bytes_per_second: NonZeroU64::new(1_000_000),
            ..TrafficLimits::default()
        }));
        let begun = Instant::now();
        let bodies = (0..4).map(|_| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                for _ in 0..50 {
                    gate.wait_to_receive().await;
                    gate.record_bytes(16_000);
                }
            })
        });
        for body in bodies.collect::<Vec<_>>() {
            body.await.unwrap();
        }
        // The last ones were received ahead.
        let seconds = begun.elapsed().as_secs_f64();
        assert!((3.0..=3.3).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_waits() {
        let gate = TrafficGate::new(TrafficLimits::default());
        for _ in 0..1000 {
            assert_eq!(gate.wait_to_send().await, Duration::ZERO);
            gate.record_bytes(1 << 30);
            assert_eq!(gate.wait_to_receive().await, Duration::ZERO);
        }
    }
}
