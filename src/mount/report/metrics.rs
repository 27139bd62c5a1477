//! Counters in Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::Served;
use crate::portal::traffic::{ServiceTraffic, Traffic};

/// All of them.
pub(super) fn text(since: Timestamp, served: Served, failures: u64, traffic: &Traffic) -> String {
    let Served {
        reads,
        bytes,
        passed_through,
    } = served;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
        let _ = writeln!(text, "# HELP icosfs_{name} {help}");
        let _ = writeln!(text, "# TYPE icosfs_{name} {kind}");
        for (service, value) in samples {
            let _ = match *service {
                "" => writeln!(text, "icosfs_{name} {value}"),
                service => writeln!(text, "icosfs_{name}{{service=\"{service}\"}} {value}"),
            };
        }
    };
    let since = u64::try_from(since.as_second()).unwrap_or(0);
    let one = |value| [("", value)];
    family(
        "start_time_seconds",
        "gauge",
        "When the mount began.",
        &one(since),
    );
    family(
        "reads_total",
        "counter",
        "READ requests answered.",
        &one(reads),
    );
    family(
        "read_bytes_total",
        "counter",
        "Bytes they were answered with.",
        &one(bytes),
    );
    family(
        "passthrough_opens_total",
        "counter",
        "Files opened for the kernel to read by itself.",
        &one(passed_through),
    );
    family(
        "failures",
        "gauge",
        "Remembered failures that programs were told of.",
        &one(failures),
    );
    let by_service = |value: fn(&ServiceTraffic) -> u64| -> Vec<(&str, u64)> {
        let all = traffic.services.iter();
        all.map(|(name, of)| (name.as_str(), value(of))).collect()
    };
    family(
        "portal_requests_total",
        "counter",
        "Requests to the portal.",
        &by_service(|of| of.requests),
    );
    family(
        "portal_failures_total",
        "counter",
        "Requests without an answer, or answered with an error.",
        &by_service(|of| of.failures),
    );
    family(
        "portal_received_bytes_total",
        "counter",
        "Bytes received from the portal.",
        &by_service(|of| of.bytes),
    );
    family(
        "portal_wait_milliseconds_total",
        "counter",
        "Time until answers began.",
        &by_service(|of| of.waited_ms),
    );
    text
}
