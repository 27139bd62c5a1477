//! Formats the status of a mount or server as text.

use std::fmt::{Display, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{PROBE_TIMEOUT, QueriedTarget, ServiceCheck};
use crate::cache::DiskUsage;
use crate::catalog::ListAge;
use crate::cli::failure::without_error_number;
use crate::cli::output;
use crate::cli::terminal::{counted, duration, size, wrapped};
use crate::cli::text_table::blank_control;
use crate::cluster::SharedCacheState;
use crate::daemon::report::DaemonStatus;
use icos_portal::PortalError;

/// Requests are shown as slow from this latency on, in milliseconds.
const SLOW_MS: u64 = 500;
/// Maximum number of slow requests shown.
const MAX_SLOW: usize = 3;
/// Maximum number of failures shown.
const MAX_FAILURES: usize = 5;

/// Returns the text about one mount or server.
pub(super) fn render(mount: &QueriedTarget) -> String {
    let mountpoint = mount.target.shown();
    let (status, checks) = match &mount.status {
        Ok(status) => status,
        Err(error) => {
            let reason = without_error_number(&format!("  {error:#}"));
            let reason = wrapped(&reason, output::width_of_text(), 2);
            return format!("{mountpoint}\n{reason}\n");
        }
    };
    let mut page = StatusPage(format!("{mountpoint}\n"));
    page.portal(status, checks);
    page.login(status);
    page.cache(status);
    page.shared_cache(status);
    page.served(status);
    page.errors(status);
    page.0
}

/// The column of the values.
const VALUES: usize = 11;

/// The lines written so far.
struct StatusPage(String);

impl StatusPage {
    fn line(&mut self, name: &str, value: impl Display) {
        // A line break could begin what looks like another mount.
        let value = blank_control(&without_error_number(&value.to_string()));
        let line = wrapped(
            &format!("  {name:<8} {value}"),
            output::width_of_text(),
            VALUES,
        );
        let _ = writeln!(self.0, "{line}");
    }

    fn portal(&mut self, status: &DaemonStatus, checks: &[ServiceCheck]) {
        let (portal, url) = (&status.info.portal, &status.info.services.data);
        self.line("portal", format_args!("{portal} ({url})"));
        for ServiceCheck { service, latency } in checks {
            let text = match latency {
                Ok(took) => format!("{service} responds in {} ms", took.as_millis()),
                Err(PortalError::TimedOut { .. }) => {
                    let ms = PROBE_TIMEOUT.as_millis();
                    format!("{service} does not respond within {ms} ms")
                }
                Err(error) => error.to_string(),
            };
            self.line("", text);
        }
    }

    fn login(&mut self, status: &DaemonStatus) {
        let Some(login) = &status.login else {
            let none = "none: metadata and free objects only; after `icosfs login`, the mount uses it at once";
            return self.line("login", none);
        };
        self.line("login", login);
        if let Some(advice) = &login.advice {
            self.line("", advice);
        }
    }

    fn cache(&mut self, status: &DaemonStatus) {
        self.line("lists", ages(&status.state.lists));
        self.line("cache", status.info.cache.display());
        if let Some(DiskUsage { used, limit }) = status.state.cache_use {
            let percent = u128::from(used) * 100 / u128::from(limit.max(1));
            let (used, limit) = (size(used), size(limit));
            self.line("", format_args!("holds {used} of {limit}: {percent} %"));
        }
        if let Some(percent) = hit_rate(status) {
            let text = format!("{percent} % of the bytes read needed no download");
            self.line("", text);
        }
    }

    fn shared_cache(&mut self, status: &DaemonStatus) {
        let Some(shared) = &status.shared_cache else {
            return;
        };
        self.line("shared", &shared.location);
        let problem = shared.problem.as_deref().unwrap_or_default();
        match shared.state {
            SharedCacheState::Working => {}
            SharedCacheState::ReadOnly => {
                self.line("", format_args!("is read, but not written: {problem}"));
            }
            SharedCacheState::Unavailable => {
                let text = format!("is not used, the portal delivers all data: {problem}");
                self.line("", text);
            }
        }
        let (read, written) = (size(shared.bytes_read), size(shared.bytes_written));
        let mut text = format!("{read} read, {written} written");
        if shared.reads_only {
            text.push_str("; only read (--shared-cache-role)");
        }
        if !shared.keyed {
            text.push_str("; originals only, without --shared-key-file");
        }
        self.line("", text);
        match (&shared.lease_server, &shared.lease_problem) {
            (Some(server), None) => self.line("", format_args!("its leases are in {server}")),
            (Some(server), Some(problem)) => {
                let text = format!(
                    "its leases in {server} are off, so that machines download at once: {problem}"
                );
                self.line("", text);
            }
            (None, _) if shared.leases_off => {
                let text = "its leases are off: the store ignores conditions, so that machines download at once; see `icosfs doctor`";
                self.line("", text);
            }
            (None, _) => {}
        }
        if shared.rejected > 0 {
            let rejected = counted(shared.rejected, "object");
            self.line("", format_args!("{rejected} rejected; see `errors`"));
        }
    }

    fn served(&mut self, status: &DaemonStatus) {
        let info = &status.info;
        let since = info.since.to_zoned(TimeZone::system());
        let (since, pid) = (since.strftime("%F %T"), info.pid);
        self.line("since", format_args!("{since} (process {pid})"));
        let served = &status.served;
        let (bytes, reads) = (size(served.bytes), counted(served.reads, "read"));
        self.line("served", format_args!("{bytes} in {reads}"));
        if served.passed_through > 0 {
            let opened = counted(served.passed_through, "opened file");
            let text = format!("{opened} read by the kernel directly (passthrough)");
            self.line("", text);
        }
        if served.refused_crawlers > 0 {
            let refused = counted(served.refused_crawlers, "open");
            let text = format!(
                "{refused} of uncached files by indexers and the like refused (--crawlers)"
            );
            self.line("", text);
        }
        for (service, traffic) in &status.traffic.services {
            let (requests, failed) = (counted(traffic.requests, "request"), traffic.failures);
            let received = size(traffic.bytes);
            let text = format!("{service}: {requests}, {failed} failed, {received} received");
            self.line("", text);
        }
        if status.traffic.over_limit > 0 {
            let requests = counted(status.traffic.over_limit, "request");
            let text = format!(
                "{requests} not sent: more for these objects than --max-overhead allows within an hour"
            );
            self.line("limits", text);
        }
        if status.traffic.limited_ms > 0 {
            let waited = duration(status.traffic.limited_ms.div_ceil(1000));
            let text = format!("downloads waited {waited} for --limit-rate and --limit-requests");
            self.line("limits", text);
        }
        let slowest = status.traffic.slowest.iter();
        for slow in slowest.filter(|slow| slow.ms >= SLOW_MS).take(MAX_SLOW) {
            self.line("slow", format_args!("{} ms {}", slow.ms, slow.request));
        }
    }

    fn errors(&mut self, status: &DaemonStatus) {
        let services = status.traffic.services.values();
        let failed: u64 = services.map(|service| service.failures).sum();
        if status.errors.is_empty() {
            let none = match failed {
                0 => "none".to_owned(),
                failed => format!(
                    "none of reads ({} to the portal failed)",
                    counted(failed, "request")
                ),
            };
            self.line("errors", none);
        }
        for failure in status.errors.iter().take(MAX_FAILURES) {
            let at = failure.at.to_zoned(TimeZone::system());
            let at = at.strftime("%F %T");
            let (operation, file) = (&failure.operation, &failure.file);
            let (errno, times) = (&failure.errno, failure.times);
            let text = format!("{at} {operation} {file}: {errno} ({times}x)");
            self.line("error", text);
            self.line("", &failure.reason);
        }
    }
}

/// Returns the ages of the lists.
fn ages(lists: &ListAge) -> String {
    let age = |downloaded: Option<Timestamp>| match downloaded {
        Some(at) => {
            let seconds = Timestamp::now().duration_since(at).as_secs();
            format!("{} old", duration(u64::try_from(seconds).unwrap_or(0)))
        }
        None => "not downloaded yet".to_owned(),
    };
    let (objects, others) = (age(lists.objects), age(lists.vocabulary));
    format!("objects {objects}; stations and data types {others}")
}

/// Returns the percentage of the bytes read that were not downloaded.
fn hit_rate(status: &DaemonStatus) -> Option<u128> {
    let received = status.traffic.services.get("data")?.bytes;
    let served = status.served.bytes;
    (u128::from(served.saturating_sub(received)) * 100).checked_div(served.into())
}
