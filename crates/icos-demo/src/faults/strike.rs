//! Which of a plan's rules strike a request, and what becomes of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{RANGE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};

use super::body::{self, Bucket};
use super::{Fault, FaultPlan, FaultRule};
use crate::http::{Ask, Reply, text};
use crate::record::{DemoService, Ticket};
use crate::server::{Cut, Line};
use crate::state::Shared;
use crate::table::hash;
use crate::values::mix;

/// The plan in force.
#[derive(Default)]
pub(crate) struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    plan: FaultPlan,
    /// How often each rule has struck.
    struck: Vec<u64>,
    /// The shared line of each rule that has one.
    lines: Vec<Arc<Bucket>>,
    /// How often each request has come.
    seen: HashMap<u64, u64>,
}

impl Faults {
    pub(crate) fn plan(&self) -> FaultPlan {
        self.lock().plan.clone()
    }

    pub(crate) fn set(&self, plan: FaultPlan) {
        *self.lock() = State {
            struck: vec![0; plan.rules.len()],
            lines: plan.rules.iter().map(|_| Arc::default()).collect(),
            plan,
            seen: HashMap::new(),
        };
    }

    /// Adds a rule, without forgetting what the others have done.
    pub(crate) fn add(&self, rule: FaultRule) {
        let mut state = self.lock();
        state.plan.rules.push(rule);
        state.struck.push(0);
        state.lines.push(Arc::default());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong with this request.
    pub(crate) fn strike(&self, service: DemoService, ask: &Ask, ticket: &Ticket) -> Struck {
        let mut state = self.lock();
        if state.plan.rules.is_empty() {
            return Struck::default();
        }
        let request = fingerprint(service, ask);
        let seen = state.seen.entry(request).or_default();
        let chance = mix(request ^ mix(*seen)) ^ mix(state.plan.seed);
        *state.seen.entry(request).or_default() += 1;
        let mut struck = Struck::default();
        for index in 0..state.plan.rules.len() {
            let rule = &state.plan.rules[index];
            let luck = mix(chance ^ mix(index as u64));
            let strikes = rule.concerns(service, ask)
                && fraction(luck) < rule.probability
                && rule.times.is_none_or(|times| state.struck[index] < times);
            if strikes {
                ticket.fault(rule.fault.name());
                struck.add(&rule.fault, &state.lines[index], mix(luck));
                state.struck[index] += 1;
            }
        }
        struck
    }
}

/// A number that tells requests apart.
fn fingerprint(service: DemoService, ask: &Ask) -> u64 {
    let range = ask.header(RANGE).unwrap_or_default();
    let head = format!("{} {} {} {range}", service.name(), ask.method, ask.target);
    let body = String::from_utf8_lossy(&ask.body);
    mix(hash(&head) ^ mix(hash(&body)))
}

/// From 0 to below 1.
#[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// The faults that one request meets.
#[derive(Default)]
pub(crate) struct Struck {
    latency: Duration,
    /// How much longer a query takes.
    pub(crate) query: Duration,
    happenings: Vec<Happening>,
    instead: Option<Instead>,
    body: Vec<BodyFault>,
}

/// What happens to the portal as a whole.
enum Happening {
    Revocation,
    Withdrawal { pause: Option<Duration> },
    Outage { pause: Option<Duration> },
}

enum Instead {
    Answer { code: u16, retry_after: Option<u64> },
    Cut(Cut),
}

/// What happens within a body.
pub(super) enum BodyFault {
    Line { bucket: Arc<Bucket>, rate: u64 },
    End { after: u64, how: BodyEnd },
    Stall { after: u64, pause: Option<Duration> },
    Corrupt { at: u64 },
}

#[derive(Clone, Copy)]
pub(super) enum BodyEnd {
    Reset,
    Truncate,
    Shorten,
}

impl Struck {
    fn add(&mut self, fault: &Fault, bucket: &Arc<Bucket>, random: u64) {
        let end = |after: u64, how| BodyFault::End { after, how };
        let pause = |ms: Option<u64>| ms.map(Duration::from_millis);
        match *fault {
            Fault::Latency { ms, jitter_ms } => {
                let jitter = random % jitter_ms.saturating_add(1).max(1);
                self.latency += Duration::from_millis(ms.saturating_add(jitter));
            }
            Fault::SlowQuery { ms } => self.query += Duration::from_millis(ms),
            Fault::Status { code, retry_after } => {
                self.replace(Instead::Answer { code, retry_after });
            }
            Fault::Close => self.replace(Instead::Cut(Cut::End)),
            Fault::Reset => self.replace(Instead::Cut(Cut::Reset)),
            Fault::Bandwidth { bytes_per_second } => self.body.push(BodyFault::Line {
                bucket: Arc::clone(bucket),
                rate: bytes_per_second.max(1),
            }),
            Fault::ResetInBody { after } => self.body.push(end(after, BodyEnd::Reset)),
            Fault::Truncate { after } => self.body.push(end(after, BodyEnd::Truncate)),
            Fault::Shorten { after } => self.body.push(end(after, BodyEnd::Shorten)),
            Fault::Stall { after, ms } => self.body.push(BodyFault::Stall {
                after,
                pause: pause(ms),
            }),
            Fault::Corrupt { at } => self.body.push(BodyFault::Corrupt { at }),
            Fault::RevokeTokens => self.happenings.push(Happening::Revocation),
            Fault::WithdrawLicence { ms } => {
                let pause = pause(ms);
                self.happenings.push(Happening::Withdrawal { pause });
            }
            Fault::Down { ms } => {
                let pause = pause(ms);
                self.happenings.push(Happening::Outage { pause });
            }
        }
    }

    /// Of several answers, the first rule's is given.
    fn replace(&mut self, instead: Instead) {
        self.instead.get_or_insert(instead);
    }

    /// What comes before the answer, and perhaps instead of it.
    pub(crate) async fn before(
        &self,
        shared: &Arc<Shared>,
        service: DemoService,
        line: &Line,
    ) -> Option<Reply> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        for happening in &self.happenings {
            match happening {
                Happening::Revocation => shared.account().revoke_tokens(),
                Happening::Withdrawal { pause } => shared.account().withdraw_licence(*pause),
                Happening::Outage { pause } => {
                    shared.take_down(service, *pause);
                    // The connection ends, and this task with it.
                    std::future::pending::<()>().await;
                }
            }
        }
        match self.instead.as_ref()? {
            Instead::Cut(how) => {
                line.cut(*how);
                // The connection ends, and this task with it.
                std::future::pending().await
            }
            Instead::Answer { code, retry_after } => {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut reply = text(status, status.canonical_reason().unwrap_or("Fault"));
                if let Some(seconds) = retry_after {
                    let seconds = HeaderValue::from(*seconds);
                    reply.headers_mut().insert(RETRY_AFTER, seconds);
                }
                Some(reply)
            }
        }
    }

    /// The answer with its body spoilt.
    pub(crate) fn spoil(self, reply: Reply, line: &Line) -> Reply {
        if self.body.is_empty() {
            reply
        } else {
            body::spoil(reply, self.body, line)
        }
    }
}
