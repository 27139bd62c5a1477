//! Renders the counters of a mount in the Prometheus text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::{DaemonStatus, ServedStats};
use crate::cluster::{SharedCacheState, SharedCacheStatus};
use icos_portal::traffic::ServiceTraffic;

/// Renders `status`, and the number of `failures` by the errno's name.
pub(super) fn render(status: &DaemonStatus, failures: &BTreeMap<String, u64>) -> String {
    let mut text = MetricsText::default();
    let since = status.info.since.as_second();
    text.gauge(
        "start_time_seconds",
        "When the process started to serve.",
        since,
    );
    text.counters(
        ("requests_total", "operation"),
        "Requests of programs.",
        &status.requests,
    );
    let ServedStats {
        reads: _, // Part of requests_total.
        bytes: _, // The sum over all sources.
        from,
        passed_through,
        refused_crawlers,
    } = &status.served;
    text.counters(
        ("read_bytes_total", "from"),
        "Bytes in replies to READ.",
        from.iter().map(|(source, bytes)| (source.name(), bytes)),
    );
    let name = "passthrough_opens_total";
    text.family(name, "counter", "Files opened for passthrough.");
    text.sample(name, "", passed_through);
    let name = "crawler_refusals_total";
    let help = "Opens refused because the program opens every file.";
    text.family(name, "counter", help);
    text.sample(name, "", refused_crawlers);
    text.counters(("failures_total", "errno"), "Failed operations.", failures);

    let services = &status.traffic.services;
    let mut by_service = |name, help, value: fn(&ServiceTraffic) -> u64| {
        let values = services.iter().map(|(service, of)| (service, value(of)));
        text.counters((name, "service"), help, values);
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
    let waited = |of: &ServiceTraffic| Duration::from_millis(of.waited_ms).as_secs_f64();
    text.counters(
        ("portal_wait_seconds_total", "service"),
        "Time until the first byte of responses.",
        services.iter().map(|(service, of)| (service, waited(of))),
    );

    if let Some(shared) = &status.shared_cache {
        text.shared_cache(shared);
    }
    if let Some(usage) = status.state.cache_use {
        text.gauge("cache_bytes", "Bytes in the cache.", usage.used);
        let limit = "Limit of the bytes in the cache.";
        text.gauge("cache_limit_bytes", limit, usage.limit);
    }
    let name = "catalog_taken_seconds";
    let help = "When lists were last downloaded from the portal.";
    text.family(name, "gauge", help);
    let lists = &status.state.lists;
    for (list, taken) in [("vocabulary", lists.vocabulary), ("objects", lists.objects)] {
        if let Some(taken) = taken {
            let label = format!("{{list=\"{list}\"}}");
            text.sample(name, &label, taken.as_second());
        }
    }
    text.0
}

/// The text written so far.
#[derive(Default)]
struct MetricsText(String);

impl MetricsText {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP icosfs_{name} {help}");
        let _ = writeln!(self.0, "# TYPE icosfs_{name} {kind}");
    }

    fn sample(&mut self, name: &str, label: &str, value: impl Display) {
        let _ = writeln!(self.0, "icosfs_{name}{label} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn shared_cache(&mut self, shared: &SharedCacheStatus) {
        let SharedCacheStatus {
            location: _,
            state,
            problem: _,
            reads_only: _,
            keyed: _,
            leases_off,
            lease_server: _,
            lease_problem: _,
            segments_read,
            bytes_read,
            segments_written,
            bytes_written,
            values_read,
            values_written,
            rejected,
            leases,
            taken_over,
            waits,
            store_failures,
            unpublished,
        } = shared;
        let works = u8::from(*state != SharedCacheState::Unavailable);
        self.gauge(
            "shared_cache_up",
            "Whether the shared cache can be read.",
            works,
        );
        self.gauge(
            "shared_cache_leases_up",
            "Whether machines can agree which of them downloads.",
            u8::from(!leases_off),
        );
        let counters = [
            (
                "segments_read",
                "Segments read from the shared cache.",
                segments_read,
            ),
            (
                "read_bytes",
                "Bytes read from the shared cache.",
                bytes_read,
            ),
            (
                "segments_written",
                "Segments written to the shared cache.",
                segments_written,
            ),
            (
                "written_bytes",
                "Bytes written to the shared cache.",
                bytes_written,
            ),
            (
                "values_read",
                "Lists and header lines read from the shared cache.",
                values_read,
            ),
            (
                "values_written",
                "Lists and header lines written to the shared cache.",
                values_written,
            ),
            (
                "rejected",
                "Objects of the shared cache that were rejected.",
                rejected,
            ),
            ("leases", "Leases claimed.", leases),
            (
                "taken_over",
                "Leases claimed that another machine had let expire.",
                taken_over,
            ),
            ("waits", "Waits for another machine's download.", waits),
            (
                "failures",
                "Failed operations of the shared cache.",
                store_failures,
            ),
            (
                "unpublished",
                "Downloads that were not published completely.",
                unpublished,
            ),
        ];
        for (name, help, value) in counters {
            let name = format!("shared_cache_{name}_total");
            self.family(&name, "counter", help);
            self.sample(&name, "", value);
        }
    }

    /// Writes a counter with one sample per value of `label`. The values are constants
    /// that need no escaping.
    fn counters(
        &mut self,
        (name, label): (&str, &str),
        help: &str,
        samples: impl IntoIterator<Item = (impl Display, impl Display)>,
    ) {
        self.family(name, "counter", help);
        for (of, value) in samples {
            self.sample(name, &format!("{{{label}=\"{of}\"}}"), value);
        }
    }
}
