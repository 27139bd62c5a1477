//! Faults on request.
//!
//! A [`FaultPlan`] is a list of rules, each with a probability. Whether a rule
//! applies to a request depends on the seed, the rule and the request (its
//! method, target, range and body, and how often the same request has arrived
//! before), not on the order in which requests arrive. So two runs of the same
//! requests have the same faults, in whatever order their threads run.

mod body;
mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{RANGE, RETRY_AFTER};

use self::body::Bandwidth;
pub use self::plan::{Fault, FaultPlan, FaultRule};
use super::http::{DemoReply, DemoRequest, append_header, text};
use super::random::{hash, mix};
use super::server::{Connection, Cut};
use super::service::DemoService;

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
        let mut selected = Vec::new();
        if state.rules.is_empty() {
            return RequestFaults(selected);
        }
        let fingerprint = fingerprint(service, request);
        let arrivals = state.arrivals.entry(fingerprint).or_default();
        let chance = mix(fingerprint ^ mix(*arrivals));
        *arrivals += 1;
        let chance = chance ^ mix(state.seed);
        for (index, state) in (0_u64..).zip(&mut state.rules) {
            let rule = &state.rule;
            let random = mix(chance ^ mix(index));
            if matches(rule, service, request)
                && fraction(random) < rule.probability
                && rule.times.is_none_or(|times| state.applied < times)
            {
                state.applied += 1;
                selected.push(SelectedFault {
                    fault: rule.fault,
                    bandwidth: Arc::clone(&state.bandwidth),
                    random: mix(random),
                });
            }
        }
        RequestFaults(selected)
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

/// The faults of one request, in the order of their rules.
pub(crate) struct RequestFaults(Vec<SelectedFault>);

struct SelectedFault {
    fault: Fault,
    bandwidth: Arc<Bandwidth>,
    random: u64,
}

impl RequestFaults {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Fault> {
        self.0.iter().map(|selected| selected.fault)
    }

    /// The delay of the reply.
    pub(crate) fn latency(&self) -> Duration {
        let delay = |selected: &SelectedFault| match selected.fault {
            Fault::Latency { ms, jitter_ms } => {
                let jitter = selected.random % jitter_ms.saturating_add(1).max(1);
                Duration::from_millis(ms.saturating_add(jitter))
            }
            _ => Duration::ZERO,
        };
        self.0.iter().map(delay).sum()
    }

    /// The delay of a query.
    pub(crate) fn query_delay(&self) -> Duration {
        let delay = |fault| match fault {
            Fault::SlowQuery { ms } => Duration::from_millis(ms),
            _ => Duration::ZERO,
        };
        self.iter().map(delay).sum()
    }

    /// Returns the reply that the first fault of this kind gives instead of the
    /// service's. Does not return if the fault cuts the connection, since that ends
    /// the task.
    pub(crate) async fn replacement(&self, connection: &Connection) -> Option<DemoReply> {
        let replaces = |f: &Fault| matches!(f, Fault::Status { .. } | Fault::Close | Fault::Reset);
        let fault = self.iter().find(replaces)?;
        let Fault::Status { code, retry_after } = fault else {
            connection.cut(if fault == Fault::Reset {
                Cut::Reset
            } else {
                Cut::End
            });
            return std::future::pending().await;
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut reply = text(status, status.canonical_reason().unwrap_or("Fault"));
        if let Some(seconds) = retry_after {
            append_header(&mut reply, RETRY_AFTER, &seconds.to_string());
        }
        Some(reply)
    }

    /// Applies the faults of the body.
    pub(crate) fn apply_to_body(self, reply: DemoReply, connection: &Connection) -> DemoReply {
        if self.iter().any(Fault::is_of_body) {
            body::apply(reply, &self.0, connection)
        } else {
            reply
        }
    }
}
