//! Counters in Prometheus' text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use jiff::Timestamp;

use super::{LiveState, ServedStats};
use icos_portal::traffic::{ServiceTraffic, TrafficStats};

/// All that is counted.
pub(super) struct Counters {
    pub(super) since: Timestamp,
    pub(super) served: ServedStats,
    /// The kernel's requests, by name.
    pub(super) requests: Vec<(&'static str, u64)>,
    /// Failures that programs were told of, by the errno's name.
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) traffic: TrafficStats,
    pub(super) state: LiveState,
}

impl Counters {
    pub(super) fn text(&self) -> String {
        let mut text = Text::default();
        self.of_the_kernel(&mut text);
        self.of_the_portal(&mut text);
        self.of_the_state(&mut text);
        text.0
    }

    fn of_the_kernel(&self, text: &mut Text) {
        let since = u64::try_from(self.since.as_second()).unwrap_or(0);
        text.gauge("start_time_seconds", "When the mount began.", since);
        let ServedStats {
            reads: _, // Among the requests.
            bytes: _, // Told by origin.
            from,
            passed_through,
        } = &self.served;
        text.labelled(
            ("requests_total", "operation"),
            "The kernel's requests.",
            self.requests.iter().copied(),
        );
        text.labelled(
            ("read_bytes_total", "from"),
            "Bytes that reads were given.",
            from.iter().map(|(origin, &bytes)| (origin.name(), bytes)),
        );
        text.counter(
            "passthrough_opens_total",
            "Files opened for the kernel to read by itself.",
            *passed_through,
        );
        text.labelled(
            ("failures_total", "errno"),
            "Failures that programs were told of.",
            self.failed
                .iter()
                .map(|(errno, &count)| (errno.as_str(), count)),
        );
    }

    fn of_the_portal(&self, text: &mut Text) {
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
            "Requests without an answer, or answered with an error.",
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
            "Time until answers began.",
            waited,
        );
    }

    fn of_the_state(&self, text: &mut Text) {
        if let Some(usage) = self.state.cache_use {
            text.gauge("cache_bytes", "Bytes that the cache holds.", usage.used);
            text.gauge("cache_limit_bytes", "Bytes that it may hold.", usage.limit);
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
            "When lists were last taken from the portal.",
        );
        text.samples("catalog_taken_seconds", "list", taken);
    }
}

/// What is written so far.
#[derive(Default)]
struct Text(String);

impl Text {
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

    /// A counter that there is several times, told apart by a label.
    fn labelled<'a, T: Display>(
        &mut self,
        (name, label): (&str, &str),
        help: &str,
        samples: impl Iterator<Item = (&'a str, T)>,
    ) {
        self.family(name, "counter", help);
        self.samples(name, label, samples);
    }

    /// The values are names of ours, which need no quoting.
    fn samples<'a, T: Display>(
        &mut self,
        name: &str,
        label: &str,
        samples: impl Iterator<Item = (&'a str, T)>,
    ) {
        for (of, value) in samples {
            let _ = writeln!(self.0, "icosfs_{name}{{{label}=\"{of}\"}} {value}");
        }
    }
}
