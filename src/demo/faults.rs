//! Faults on request: which requests go wrong, and how.
//!
//! A [`FaultPlan`] is a list of rules, each with a seeded probability. Whether
//! a rule strikes follows from the seed, the rule and the request (its method,
//! target, range and body, and how often it has come before), not from the
//! order in which requests arrive: two runs of the same requests meet the same
//! faults, however their threads interleave.

mod body;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{RANGE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use self::body::Bucket;
use super::http::{Ask, Reply, text};
use super::record::{Service, Ticket};
use super::server::{Cut, Line};
use super::table::hash;
use super::values::mix;

/// What shall go wrong, in JSON for `icosfs demo --faults FILE`:
///
/// ```
/// let plan: icosfs::demo::FaultPlan = serde_json::from_str(r#"{
///     "seed": 7,
///     "rules": [
///         {"service": "data", "route": "cpb", "probability": 0.2,
///          "fault": {"status": {"code": 503, "retryAfter": 2}}},
///         {"fault": {"latency": {"ms": 50, "jitterMs": 20}}},
///         {"object": "UNhY4JhezH9gQYqvDMWrWH9C", "times": 1, "fault": {"stall": {"after": 1000}}}
///     ]
/// }"#)?;
/// assert_eq!(plan.rules.len(), 3);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultPlan {
    /// Another seed lets the rules strike at other requests.
    #[serde(default)]
    pub seed: u64,
    /// All rules that match a request may strike.
    #[serde(default)]
    pub rules: Vec<FaultRule>,
}

/// A fault and whom it strikes. Without conditions: every request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultRule {
    /// Only requests to this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Only requests whose path begins with this segment, e.g. `cpb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Only requests that name this id, in the target or the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// How likely the rule strikes, from 0 to 1; certainly if not said.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How often it strikes at most; without end if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// What happens then.
    pub fault: Fault,
}

fn certain() -> f64 {
    1.0
}

/// What can go wrong.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Fault {
    /// The answer comes later.
    Latency {
        /// By this many milliseconds,
        ms: u64,
        /// and by up to this many more.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// The bodies of all answers struck share a line of this capacity.
    Bandwidth {
        /// Bytes a second.
        bytes_per_second: u64,
    },
    /// Another answer.
    Status {
        /// Its HTTP status.
        code: u16,
        /// Its `Retry-After` header, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The connection ends without an answer.
    Close,
    /// The connection is reset (TCP RST) without an answer.
    Reset,
    /// The connection is reset within the body.
    ResetInBody {
        /// After this many bytes; within the body in any case.
        after: u64,
    },
    /// The connection ends within the body, whose announced length tells.
    Truncate {
        /// After this many bytes; within the body in any case.
        after: u64,
    },
    /// The body ends too early, and its announced length does so too.
    Shorten {
        /// After this many bytes; within the body in any case.
        after: u64,
    },
    /// The body stops coming.
    Stall {
        /// After this many bytes; within the body in any case.
        after: u64,
        /// Until so many milliseconds later; for ever if not said.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// A byte of the content is inverted.
    Corrupt {
        /// Its place in the content, wherever the range asked for begins.
        at: u64,
    },
    /// A query takes longer, up to the portal's limit, beyond which it fails.
    SlowQuery {
        /// By this many milliseconds.
        ms: u64,
    },
}

impl FaultRule {
    /// A rule that strikes every request.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self {
            service: None,
            route: None,
            object: None,
            probability: 1.0,
            times: None,
            fault,
        }
    }

    /// Only requests to this service.
    #[must_use]
    pub fn at(self, service: Service) -> Self {
        Self {
            service: Some(service),
            ..self
        }
    }

    /// Only requests whose path begins with this segment.
    #[must_use]
    pub fn on(self, route: &str) -> Self {
        Self {
            route: Some(route.to_owned()),
            ..self
        }
    }

    /// Only requests that name this object.
    #[must_use]
    pub fn of(self, object: &crate::portal::ObjectId) -> Self {
        Self {
            object: Some(object.to_string()),
            ..self
        }
    }

    /// With this probability, from 0 to 1.
    #[must_use]
    pub fn with_probability(self, probability: f64) -> Self {
        Self {
            probability,
            ..self
        }
    }

    /// At most so many times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    fn concerns(&self, service: Service, ask: &Ask) -> bool {
        let route = ask.path.first().map_or("", String::as_str);
        let names = |id: &str| {
            let in_body = || {
                let mut windows = ask.body.windows(id.len().max(1));
                windows.any(|window| window == id.as_bytes())
            };
            ask.target.contains(id) || in_body()
        };
        self.service.is_none_or(|wanted| wanted == service)
            && self.route.as_ref().is_none_or(|wanted| wanted == route)
            && self.object.as_ref().is_none_or(|id| names(id))
    }
}

impl Fault {
    /// The name in the record.
    fn name(&self) -> &'static str {
        match self {
            Fault::Latency { .. } => "latency",
            Fault::Bandwidth { .. } => "bandwidth",
            Fault::Status { .. } => "status",
            Fault::Close => "close",
            Fault::Reset => "reset",
            Fault::ResetInBody { .. } => "resetInBody",
            Fault::Truncate { .. } => "truncate",
            Fault::Shorten { .. } => "shorten",
            Fault::Stall { .. } => "stall",
            Fault::Corrupt { .. } => "corrupt",
            Fault::SlowQuery { .. } => "slowQuery",
        }
    }
}

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
    pub(crate) fn strike(&self, service: Service, ask: &Ask, ticket: &Ticket) -> Struck {
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
fn fingerprint(service: Service, ask: &Ask) -> u64 {
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
    instead: Option<Instead>,
    body: Vec<BodyFault>,
}

enum Instead {
    Answer { code: u16, retry_after: Option<u64> },
    Cut(Cut),
}

/// What happens within a body.
enum BodyFault {
    Line { bucket: Arc<Bucket>, rate: u64 },
    End { after: u64, how: BodyEnd },
    Stall { after: u64, pause: Option<Duration> },
    Corrupt { at: u64 },
}

#[derive(Clone, Copy)]
enum BodyEnd {
    Reset,
    Truncate,
    Shorten,
}

impl Struck {
    fn add(&mut self, fault: &Fault, bucket: &Arc<Bucket>, random: u64) {
        let end = |after: u64, how| BodyFault::End { after, how };
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
                pause: ms.map(Duration::from_millis),
            }),
            Fault::Corrupt { at } => self.body.push(BodyFault::Corrupt { at }),
        }
    }

    /// Of several answers, the first rule's is given.
    fn replace(&mut self, instead: Instead) {
        self.instead.get_or_insert(instead);
    }

    /// What comes before the answer, and perhaps instead of it.
    pub(crate) async fn before(&self, line: &Line) -> Option<Reply> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_way_through_json() {
        let all = [
            Fault::Latency {
                ms: 1,
                jitter_ms: 2,
            },
            Fault::Bandwidth {
                bytes_per_second: 3,
            },
            Fault::Status {
                code: 503,
                retry_after: Some(4),
            },
            Fault::Close,
            Fault::Reset,
            Fault::ResetInBody { after: 5 },
            Fault::Truncate { after: 6 },
            Fault::Shorten { after: 7 },
            Fault::Stall { after: 8, ms: None },
            Fault::Corrupt { at: 9 },
            Fault::SlowQuery { ms: 10 },
        ];
        let rules = all.map(|fault| FaultRule::always(fault).on("csv").with_probability(0.5));
        let plan = FaultPlan {
            seed: 1,
            rules: rules.to_vec(),
        };
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<FaultPlan>(&json).unwrap(), plan);
    }

    #[test]
    fn a_misspelt_plan_is_refused() {
        for json in [
            r#"{"rules": [{"fault": "explode"}]}"#,
            r#"{"rules": [{"fault": "close", "likelihood": 1}]}"#,
            r#"{"rule": []}"#,
        ] {
            assert!(serde_json::from_str::<FaultPlan>(json).is_err(), "{json}");
        }
    }
}
