//! What was asked of the portal, counted for the eyes of whoever runs this.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Service;

/// Slow requests remembered.
const REMEMBERED: usize = 5;

/// All requests since the program began.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TrafficStats {
    /// By the name of the service.
    pub services: BTreeMap<String, ServiceTraffic>,
    /// Those that took longest to be answered, slowest first.
    pub slowest: Vec<SlowRequest>,
}

/// What was asked of one service.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceTraffic {
    /// Requests sent.
    pub requests: u64,
    /// Those without an answer, or answered with an error of the service.
    pub failures: u64,
    /// Bytes of bodies received.
    pub bytes: u64,
    /// How long it took in all until answers began, in milliseconds.
    pub waited_ms: u64,
}

/// A request that took long.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SlowRequest {
    /// How long, until the answer began, in milliseconds.
    pub ms: u64,
    /// Method and path.
    pub request: String,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct TrafficCounter(Mutex<TrafficStats>);

impl TrafficCounter {
    /// Notes that `request` had its answer, or none, after `took`.
    pub(super) fn answered(
        &self,
        service: Service,
        request: impl FnOnce() -> String,
        took: Duration,
        failed: bool,
    ) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.with(|traffic| {
            let of = traffic.services.entry(service.to_string()).or_default();
            of.requests += 1;
            of.failures += u64::from(failed);
            of.waited_ms = of.waited_ms.saturating_add(ms);
            let at = traffic.slowest.partition_point(|slow| slow.ms >= ms);
            if at < REMEMBERED {
                let request = request();
                traffic.slowest.insert(at, SlowRequest { ms, request });
                traffic.slowest.truncate(REMEMBERED);
            }
        });
    }

    /// Notes bytes of a body.
    pub(super) fn received(&self, service: Service, bytes: usize) {
        self.with(|traffic| {
            let of = traffic.services.entry(service.to_string()).or_default();
            of.bytes += bytes as u64;
        });
    }

    /// All of it, as it is now.
    pub(super) fn so_far(&self) -> TrafficStats {
        self.with(|traffic| traffic.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut TrafficStats) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_requests_are_remembered_in_order() {
        let counter = TrafficCounter::default();
        for ms in [3, 9, 1, 7, 5, 8, 2] {
            let took = Duration::from_millis(ms);
            counter.answered(Service::Data, || format!("GET /{ms}"), took, ms == 9);
        }
        counter.received(Service::Data, 10);
        let traffic = counter.so_far();
        let slow: Vec<u64> = traffic.slowest.iter().map(|slow| slow.ms).collect();
        assert_eq!(slow, [9, 8, 7, 5, 3]);
        let data = &traffic.services["data"];
        assert_eq!((data.requests, data.failures, data.bytes), (7, 1, 10));
        assert_eq!(data.waited_ms, 35);
    }
}
