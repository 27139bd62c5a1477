//! Renders the counters of a mount in the Prometheus text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use jiff::Timestamp;

use super::{LiveState, ServedStats};
use icos_portal::traffic::{ServiceTraffic, TrafficStats};

/// The counters and gauges of one reply.
pub(super) struct Counters {
    pub(super) since: Timestamp,
    pub(super) served: ServedStats,
    /// FUSE requests, by operation.
    pub(super) requests: Vec<(&'static str, u64)>,
    /// Failed operations, by the errno's name.
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) traffic: TrafficStats,
    pub(super) state: LiveState,
}

impl Counters {
    pub(super) fn text(&self) -> String {
        let mut text = MetricsText::default();
        self.write_kernel(&mut text);
        self.write_portal(&mut text);
        self.write_state(&mut text);
        text.0
    }

    fn write_kernel(&self, text: &mut MetricsText) {
        let since = u64::try_from(self.since.as_second()).unwrap_or(0);
        text.gauge("start_time_seconds", "When the mount started.", since);
        let ServedStats {
            reads: _, // Part of requests_total.
            bytes: _, // The sum over all sources.
            from,
            passed_through,
        } = &self.served;
        text.labelled(
            ("requests_total", "operation"),
            "FUSE requests.",
            self.requests.iter().copied(),
        );
        text.labelled(
            ("read_bytes_total", "from"),
            "Bytes in replies to READ.",
            from.iter().map(|(source, &bytes)| (source.name(), bytes)),
        );
        text.counter(
            "passthrough_opens_total",
            "Files opened for passthrough.",
            *passed_through,
        );
        text.labelled(
            ("failures_total", "errno"),
            "Failed operations.",
            self.failures
                .iter()
                .map(|(errno, &count)| (errno.as_str(), count)),
        );
    }

    fn write_portal(&self, text: &mut MetricsText) {
        let mut by_service = |name, help, value: fn(&ServiceTraffic) -> u64| {
            let all = self.traffic.services.iter();
            let all = all.map(|(service, of)| (service.as_str(), value(of)));
            text.labelled((name, "service"), help, all);
        };
        by_service("portal_requests_total", "Requests to the portal.", |of| {
            of.requests
        });
        by_service(
            "portal_failures_total",
            "Requests without a response or with an error response.",
            |of| of.failures,
        );
        by_service(
            "portal_received_bytes_total",
            "Bytes received from the portal.",
            |of| of.bytes,
        );
        let waited = self.traffic.services.iter().map(|(service, of)| {
            let waited = Duration::from_millis(of.waited_ms);
            (service.as_str(), waited.as_secs_f64())
        });
        text.labelled(
            ("portal_wait_seconds_total", "service"),
            "Time until the first byte of responses.",
            waited,
        );
    }

    fn write_state(&self, text: &mut MetricsText) {
        if let Some(usage) = self.state.cache_use {
            text.gauge("cache_bytes", "Bytes in the cache.", usage.used);
            text.gauge(
                "cache_limit_bytes",
                "Limit of the bytes in the cache.",
                usage.limit,
            );
        }
        let lists = [
            ("vocabulary", self.state.lists.vocabulary),
            ("objects", self.state.lists.objects),
        ];
        let taken = lists.into_iter().filter_map(|(list, taken)| {
            let seconds = u64::try_from(taken?.as_second()).ok()?;
            Some((list, seconds))
        });
        text.family(
            "catalog_taken_seconds",
            "gauge",
            "When lists were last downloaded from the portal.",
        );
        text.samples("catalog_taken_seconds", "list", taken);
    }
}

/// The text written so far.
#[derive(Default)]
struct MetricsText(String);

impl MetricsText {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP icosfs_{name} {help}");
        let _ = writeln!(self.0, "# TYPE icosfs_{name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.0, "icosfs_{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.0, "icosfs_{name} {value}");
    }

    /// Writes a counter with one sample per value of `label`.
    fn labelled<'a, T: Display>(
        &mut self,
        (name, label): (&str, &str),
        help: &str,
        samples: impl Iterator<Item = (&'a str, T)>,
    ) {
        self.family(name, "counter", help);
        self.samples(name, label, samples);
    }

    /// Writes samples. The label values are constants that need no escaping.
    fn samples<'a, T: Display>(
        &mut self,
        name: &str,
        label: &str,
        samples: impl Iterator<Item = (&'a str, T)>,
    ) {
        for (label_value, value) in samples {
            let _ = writeln!(self.0, "icosfs_{name}{{{label}=\"{label_value}\"}} {value}");
        }
    }
}
