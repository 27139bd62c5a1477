//! Statistics of the requests to the portal, for status reports and metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Service;
use icos_sync::Mutex;

/// Number of slow requests in the statistics.
const MAX_SLOWEST: usize = 5;

/// Statistics of all requests since the process started.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TrafficStats {
    /// Statistics by the name of the service.
    pub services: BTreeMap<String, ServiceTraffic>,
    /// Number of requests that were not sent, because their objects had cost too
    /// much.
    #[serde(default)]
    pub over_limit: u64,
    /// How long requests and bodies waited because of the limits that the user set, in
    /// milliseconds.
    #[serde(default)]
    pub limited_ms: u64,
    /// The requests that waited longest for a response, slowest first.
    pub slowest: Vec<SlowRequest>,
}

/// Statistics of the requests to one service.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceTraffic {
    /// Number of requests.
    pub requests: u64,
    /// Number of requests without a response, or with a response that says
    /// that another attempt may succeed.
    pub failures: u64,
    /// Number of bytes of bodies received.
    pub bytes: u64,
    /// Total time until the responses began, in milliseconds.
    pub waited_ms: u64,
}

/// A slow request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SlowRequest {
    /// Time until the response began, in milliseconds.
    pub ms: u64,
    /// Method and path.
    pub request: String,
}

/// Collects the statistics.
#[derive(Debug, Default)]
pub(super) struct TrafficCounter(Mutex<TrafficStats>);

impl TrafficCounter {
    /// Records that `request` took `took` until its response began, or until it
    /// failed.
    pub(super) fn record_response(
        &self,
        service: Service,
        request: impl FnOnce() -> String,
        took: Duration,
        failed: bool,
    ) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut traffic = self.0.lock();
        let of = traffic.services.entry(service.to_string()).or_default();
        of.requests += 1;
        of.failures += u64::from(failed);
        of.waited_ms = of.waited_ms.saturating_add(ms);
        let at = traffic.slowest.partition_point(|slow| slow.ms >= ms);
        if at < MAX_SLOWEST {
            let request = request();
            traffic.slowest.insert(at, SlowRequest { ms, request });
            traffic.slowest.truncate(MAX_SLOWEST);
        }
    }

    /// Records a request that was not sent because of the limit of its object.
    pub(super) fn record_over_limit(&self) {
        self.0.lock().over_limit += 1;
    }

    /// Records that a request or a body waited because of a limit that the user set.
    pub(super) fn record_limited(&self, waited: Duration) {
        let ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        if ms > 0 {
            let mut traffic = self.0.lock();
            traffic.limited_ms = traffic.limited_ms.saturating_add(ms);
        }
    }

    /// Records received bytes of a body.
    pub(super) fn record_bytes(&self, service: Service, bytes: usize) {
        let mut traffic = self.0.lock();
        let of = traffic.services.entry(service.to_string()).or_default();
        of.bytes += bytes as u64;
    }

    /// Returns the statistics up to now.
    pub(super) fn snapshot(&self) -> TrafficStats {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowest_requests_are_listed_in_order() {
        let counter = TrafficCounter::default();
        for ms in [3, 9, 1, 7, 5, 8, 2] {
            let took = Duration::from_millis(ms);
            counter.record_response(Service::Data, || format!("GET /{ms}"), took, ms == 9);
        }
        counter.record_bytes(Service::Data, 10);
        let traffic = counter.snapshot();
        let slow: Vec<u64> = traffic.slowest.iter().map(|slow| slow.ms).collect();
        assert_eq!(slow, [9, 8, 7, 5, 3]);
        let data = &traffic.services["data"];
        assert_eq!((data.requests, data.failures, data.bytes), (7, 1, 10));
        assert_eq!(data.waited_ms, 35);
    }
}
