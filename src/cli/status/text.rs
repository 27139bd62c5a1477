//! A mount's status as a person reads it.

use std::fmt::{Display, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{MountAnswer, REACH, ServiceCheck};
use crate::cache::DiskUsage;
use crate::catalog::ListAge;
use crate::cli::terminal::{duration, size};
use crate::mount::report::{LiveState, MountStatus};
use icos_portal::PortalError;

/// Requests that are worth showing took this many milliseconds.
const SLOW: u64 = 500;
/// How many of them, and of the last failures.
const SLOWEST: usize = 3;
const LAST: usize = 5;

/// All that is known of one mount.
pub(super) fn of(answer: &MountAnswer) -> String {
    let mountpoint = answer.mountpoint.display();
    let (status, checks) = match &answer.status {
        Ok(status) => status,
        Err(error) => return format!("{mountpoint}\n  {error:#}\n"),
    };
    let mut page = StatusPage(format!("{mountpoint}\n"));
    page.portal(status, checks);
    page.login(status);
    page.kept(status);
    page.served(status);
    page.errors(status);
    page.0
}

struct StatusPage(String);

impl StatusPage {
    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "  {name:<8} {value}");
    }

    fn portal(&mut self, status: &MountStatus, checks: &[ServiceCheck]) {
        let about = &status.info;
        self.line(
            "portal",
            format_args!("{} ({})", about.portal, about.services.data),
        );
        for ServiceCheck { service, answer } in checks {
            match answer {
                Ok(took) => {
                    let ms = took.as_millis();
                    self.line("", format_args!("{service} answers in {ms} ms"));
                }
                Err(PortalError::TimedOut { .. }) => {
                    let ms = REACH.as_millis();
                    self.line("", format_args!("{service} does not answer within {ms} ms"));
                }
                Err(error) => self.line("", error),
            }
        }
    }

    fn login(&mut self, status: &MountStatus) {
        let Some(login) = &status.login else {
            let none = "none: metadata and free objects only; `icosfs login` is noticed at once";
            return self.line("login", none);
        };
        self.line("login", login);
        if let Some(advice) = &login.advice {
            self.line("", advice);
        }
    }

    fn kept(&mut self, status: &MountStatus) {
        self.line("lists", ages(&status.state.lists));
        self.line("cache", status.info.cache.display());
        if let Some(DiskUsage { used, limit }) = status.state.cache_use {
            let percent = u128::from(used) * 100 / u128::from(limit.max(1));
            let (used, limit) = (size(used), size(limit));
            self.line("", format_args!("holds {used} of {limit}: {percent} %"));
        }
        if let Some(share) = hit_rate(status) {
            self.line(
                "",
                format_args!("{share} % of what was read needed no download"),
            );
        }
    }

    fn served(&mut self, status: &MountStatus) {
        let about = &status.info;
        let since = about.since.to_zoned(TimeZone::system());
        let (since, pid) = (since.strftime("%F %T"), about.pid);
        self.line("since", format_args!("{since} (process {pid})"));
        let served = &status.served;
        let (bytes, reads) = (size(served.bytes), counted(served.reads, "read"));
        self.line("served", format_args!("{bytes} in {reads}"));
        if served.passed_through > 0 {
            let opened = counted(served.passed_through, "opened file");
            self.line("", format_args!("{opened} left to the kernel to read"));
        }
        for (service, traffic) in &status.traffic.services {
            let (asked, failed) = (counted(traffic.requests, "request"), traffic.failures);
            let received = size(traffic.bytes);
            self.line(
                "",
                format_args!("{service}: {asked}, {failed} failed, {received} received"),
            );
        }
        let slowest = status.traffic.slowest.iter();
        for slow in slowest.filter(|slow| slow.ms >= SLOW).take(SLOWEST) {
            self.line("slow", format_args!("{} ms {}", slow.ms, slow.request));
        }
    }

    fn errors(&mut self, status: &MountStatus) {
        if status.errors.is_empty() {
            self.line("errors", "none");
        }
        for failure in status.errors.iter().take(LAST) {
            let at = failure.at.to_zoned(TimeZone::system());
            let at = at.strftime("%F %T");
            let (operation, file) = (&failure.operation, &failure.file);
            let (errno, times) = (&failure.errno, failure.times);
            self.line(
                "error",
                format_args!("{at} {operation} {file}: {errno} ({times}x)"),
            );
            self.line("", &failure.reason);
        }
    }
}

/// How old the lists are.
fn ages(lists: &ListAge) -> String {
    let age = |taken: Option<Timestamp>| match taken {
        Some(taken) => format!("{} old", duration(LiveState::age(taken))),
        None => "not taken yet".to_owned(),
    };
    let (objects, others) = (age(lists.objects), age(lists.vocabulary));
    format!("objects {objects}; stations and data types {others}")
}

fn counted(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// How much of what was read the portal did not have to send, in percent.
fn hit_rate(status: &MountStatus) -> Option<u128> {
    let received = status.traffic.services.get("data")?.bytes;
    let served = status.served.bytes;
    (u128::from(served.saturating_sub(received)) * 100).checked_div(served.into())
}
