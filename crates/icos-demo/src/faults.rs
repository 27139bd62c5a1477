//! Faults on request: which requests go wrong, and how.
//!
//! A [`FaultPlan`] is a list of rules, each with a seeded probability. Whether
//! a rule strikes follows from the seed, the rule and the request (its method,
//! target, range and body, and how often it has come before), not from the
//! order in which requests arrive: two runs of the same requests meet the same
//! faults, however their threads interleave.

mod body;
mod strike;

use serde::{Deserialize, Serialize};

pub(crate) use self::strike::Faults;
use super::http::Ask;
use super::record::DemoService;

/// What shall go wrong, in JSON for `icosfs demo --faults FILE`:
///
/// ```
/// let plan: icos_demo::FaultPlan = serde_json::from_str(r#"{
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
    pub service: Option<DemoService>,
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
    /// The tokens handed out so far are good no longer, this request's too.
    RevokeTokens,
    /// The user has not accepted the data licence, as of this request.
    WithdrawLicence {
        /// Until so many milliseconds later; until it is accepted if not said.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// The service goes down: connections end, this request's too, and new
    /// ones are refused.
    Down {
        /// Until so many milliseconds later; until it is told to come back if
        /// not said.
        #[serde(default)]
        ms: Option<u64>,
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
    pub fn at(self, service: DemoService) -> Self {
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
    pub fn of(self, object: &icos_portal::ObjectId) -> Self {
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

    fn concerns(&self, service: DemoService, ask: &Ask) -> bool {
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
    pub(crate) fn name(&self) -> &'static str {
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
            Fault::RevokeTokens => "revokeTokens",
            Fault::WithdrawLicence { .. } => "withdrawLicence",
            Fault::Down { .. } => "down",
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
            Fault::RevokeTokens,
            Fault::WithdrawLicence { ms: Some(11) },
            Fault::Down { ms: None },
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
