//! Selects the faults of a request by the plan in force.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{RANGE, RETRY_AFTER};

use super::body::{self, Bandwidth, BodyEnd, BodyFault};
use super::plan::{Fault, FaultPlan, FaultRule};
use crate::http::{DemoReply, DemoRequest, append_header, text};
use crate::random::{hash, mix};
use crate::server::{Connection, Cut};
use crate::service::DemoService;

/// The fault plan in force.
#[derive(Default)]
pub(crate) struct ActiveFaults(Mutex<PlanState>);

#[derive(Default)]
struct PlanState {
    seed: u64,
    rules: Vec<RuleState>,
    /// How often each request has arrived, by its fingerprint.
    arrivals: HashMap<u64, u64>,
}

struct RuleState {
    rule: FaultRule,
    /// How often the rule has applied.
    applied: u64,
    /// Shared by all replies to which a bandwidth rule applies.
    bandwidth: Arc<Bandwidth>,
}

impl RuleState {
    fn new(rule: FaultRule) -> Self {
        Self {
            rule,
            applied: 0,
            bandwidth: Arc::default(),
        }
    }
}

impl ActiveFaults {
    pub(crate) fn plan(&self) -> FaultPlan {
        let state = self.lock();
        FaultPlan {
            seed: state.seed,
            rules: state.rules.iter().map(|rule| rule.rule.clone()).collect(),
        }
    }

    pub(crate) fn set(&self, plan: FaultPlan) {
        *self.lock() = PlanState {
            seed: plan.seed,
            rules: plan.rules.into_iter().map(RuleState::new).collect(),
            arrivals: HashMap::new(),
        };
    }

    /// Adds a rule and keeps the counts of the others.
    pub(crate) fn add(&self, rule: FaultRule) {
        self.lock().rules.push(RuleState::new(rule));
    }

    fn lock(&self) -> MutexGuard<'_, PlanState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Selects the faults of a request.
    pub(crate) fn select(&self, service: DemoService, request: &DemoRequest) -> RequestFaults {
        let mut state = self.lock();
        let mut selected = RequestFaults::default();
        if state.rules.is_empty() {
            return selected;
        }
        let fingerprint = fingerprint(service, request);
        let arrivals = state.arrivals.entry(fingerprint).or_default();
        let chance = mix(fingerprint ^ mix(*arrivals));
        *arrivals += 1;
        let chance = chance ^ mix(state.seed);
        for (index, state) in (0_u64..).zip(&mut state.rules) {
            let RuleState { rule, applied, .. } = state;
            let random = mix(chance ^ mix(index));
            if matches(rule, service, request)
                && fraction(random) < rule.probability
                && rule.times.is_none_or(|times| *applied < times)
            {
                *applied += 1;
                selected.add(&state.rule.fault, &state.bandwidth, mix(random));
            }
        }
        selected
    }
}

/// Whether a request meets a rule's conditions.
fn matches(rule: &FaultRule, service: DemoService, request: &DemoRequest) -> bool {
    let route = request.path.first().map_or("", String::as_str);
    let names = |id: &str| {
        let mut windows = request.body.windows(id.len().max(1));
        request.target.contains(id) || windows.any(|window| window == id.as_bytes())
    };
    rule.service.is_none_or(|wanted| wanted == service)
        && rule.route.as_ref().is_none_or(|wanted| wanted == route)
        && rule.object.as_ref().is_none_or(|id| names(id))
}

/// A number that identifies equal requests.
fn fingerprint(service: DemoService, request: &DemoRequest) -> u64 {
    let range = request.header(RANGE).unwrap_or_default();
    let (service, method, target) = (service.name(), &request.method, &request.target);
    let head = format!("{service} {method} {target} {range}");
    mix(hash(&head) ^ mix(hash(&String::from_utf8_lossy(&request.body))))
}

/// From 0 to below 1.
#[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// The faults of one request.
#[derive(Default)]
pub(crate) struct RequestFaults {
    /// For the request record.
    pub(crate) names: Vec<&'static str>,
    pub(crate) latency: Duration,
    pub(crate) query_delay: Duration,
    pub(crate) portal: Vec<PortalFault>,
    replacement: Option<Replacement>,
    body: Vec<BodyFault>,
}

/// A fault of the portal rather than of one reply; `pause` is its duration.
pub(crate) enum PortalFault {
    RevokeTokens,
    WithdrawLicence { pause: Option<Duration> },
    TakeDown { pause: Option<Duration> },
}

/// What replaces a reply.
enum Replacement {
    Status { code: u16, retry_after: Option<u64> },
    Cut(Cut),
}

impl RequestFaults {
    fn add(&mut self, fault: &Fault, bandwidth: &Arc<Bandwidth>, random: u64) {
        self.names.push(fault.name());
        let millis = Duration::from_millis;
        let mut end = |after, how| self.body.push(BodyFault::End { after, how });
        match *fault {
            Fault::ResetInBody { after } => end(after, BodyEnd::Reset),
            Fault::Truncate { after } => end(after, BodyEnd::Truncate),
            Fault::Shorten { after } => end(after, BodyEnd::Shorten),
            Fault::Latency { ms, jitter_ms } => {
                let jitter = random % jitter_ms.saturating_add(1).max(1);
                self.latency += millis(ms.saturating_add(jitter));
            }
            Fault::SlowQuery { ms } => self.query_delay += millis(ms),
            Fault::Status { code, retry_after } => {
                self.replace(Replacement::Status { code, retry_after });
            }
            Fault::Close => self.replace(Replacement::Cut(Cut::End)),
            Fault::Reset => self.replace(Replacement::Cut(Cut::Reset)),
            Fault::Bandwidth { bytes_per_second } => self.body.push(BodyFault::Bandwidth {
                shared: Arc::clone(bandwidth),
                rate: bytes_per_second.max(1),
            }),
            Fault::Stall { after, ms } => self.body.push(BodyFault::Stall {
                after,
                pause: ms.map(millis),
            }),
            Fault::Corrupt { at } => self.body.push(BodyFault::Corrupt { at }),
            Fault::RevokeTokens => self.portal.push(PortalFault::RevokeTokens),
            Fault::WithdrawLicence { ms } => self.portal.push(PortalFault::WithdrawLicence {
                pause: ms.map(millis),
            }),
            Fault::Down { ms } => self.portal.push(PortalFault::TakeDown {
                pause: ms.map(millis),
            }),
        }
    }

    /// The first rule that replaces the reply wins.
    fn replace(&mut self, replacement: Replacement) {
        self.replacement.get_or_insert(replacement);
    }

    /// Returns the reply that a fault gives instead of the service's. Does not
    /// return if the fault cuts the connection, since that ends the task.
    pub(crate) async fn replacement(&self, connection: &Connection) -> Option<DemoReply> {
        match self.replacement.as_ref()? {
            Replacement::Cut(how) => {
                connection.cut(*how);
                std::future::pending().await
            }
            Replacement::Status { code, retry_after } => {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut reply = text(status, status.canonical_reason().unwrap_or("Fault"));
                if let Some(seconds) = retry_after {
                    append_header(&mut reply, RETRY_AFTER, &seconds.to_string());
                }
                Some(reply)
            }
        }
    }

    /// Applies the faults of the body.
    pub(crate) fn apply_to_body(self, reply: DemoReply, connection: &Connection) -> DemoReply {
        if self.body.is_empty() {
            reply
        } else {
            body::apply(reply, self.body, connection)
        }
    }
}
