//! The fault plan: which requests go wrong, and how.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::service::DemoService;

/// The faults to make; `icosfs demo --faults FILE` reads it as JSON:
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
    /// Determines which requests a rule with a probability applies to.
    #[serde(default)]
    pub seed: u64,
    /// The rules. Several may apply to one request.
    #[serde(default)]
    pub rules: Vec<FaultRule>,
}

/// A fault and the requests it applies to; without conditions, all requests.
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
    /// The probability that the rule applies, from 0 to 1; 1 by default.
    #[serde(default = "one")]
    pub probability: f64,
    /// How often the rule applies at most; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The fault.
    pub fault: Fault,
}

fn one() -> f64 {
    1.0
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Fault {
    /// The reply is delayed.
    Latency {
        /// The delay in milliseconds.
        ms: u64,
        /// The most milliseconds added to it at random.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// The bodies of all affected replies share this bandwidth.
    Bandwidth {
        /// Bytes per second.
        bytes_per_second: u64,
    },
    /// Another reply.
    Status {
        /// Its HTTP status.
        code: u16,
        /// Its `Retry-After` header, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The connection is closed without a reply.
    Close,
    /// The connection is reset (TCP RST) without a reply.
    Reset,
    /// The connection is reset within the body.
    ResetInBody {
        /// After this many bytes; within the body in any case.
        after: u64,
    },
    /// The connection is closed within the body, which is then shorter than
    /// its `Content-Length`.
    Truncate {
        /// After this many bytes; within the body in any case.
        after: u64,
    },
    /// The body ends early, and `Content-Length` matches the shorter body.
    Shorten {
        /// After this many bytes; within the body in any case.
        after: u64,
    },
    /// The body stalls.
    Stall {
        /// After this many bytes; within the body in any case.
        after: u64,
        /// For this many milliseconds; for ever by default.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// A byte of the content is inverted.
    Corrupt {
        /// Its offset in the content, wherever the requested range begins.
        at: u64,
    },
    /// A query is delayed, up to the portal's time limit, beyond which it
    /// fails.
    SlowQuery {
        /// The delay in milliseconds.
        ms: u64,
    },
    /// All tokens issued so far become invalid, including this request's.
    RevokeTokens,
    /// From this request on, the user has not accepted the data licence.
    WithdrawLicence {
        /// For this many milliseconds; by default until the next acceptance.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// The service goes offline: it closes its connections, including this
    /// request's, and refuses new ones.
    Down {
        /// For this many milliseconds; by default until it is set online
        /// again.
        #[serde(default)]
        ms: Option<u64>,
    },
}

impl FaultRule {
    /// A rule that applies to all requests.
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
    pub fn at(mut self, service: DemoService) -> Self {
        self.service = Some(service);
        self
    }

    /// Only requests whose path begins with this segment.
    #[must_use]
    pub fn on(mut self, route: &str) -> Self {
        self.route = Some(route.to_owned());
        self
    }

    /// Only requests that name this object.
    #[must_use]
    pub fn of(mut self, object: &icos_portal::ObjectId) -> Self {
        self.object = Some(object.to_string());
        self
    }

    /// With this probability, from 0 to 1.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// At most this many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

impl Fault {
    /// The name in fault plans and in the request record.
    pub(crate) fn name(&self) -> String {
        match serde_json::json!(self) {
            Value::String(name) => name,
            fault => (fault.as_object().and_then(|fields| fields.keys().next()))
                .map_or_else(String::new, Clone::clone),
        }
    }

    /// Whether the fault lies within the body of a reply.
    pub(super) fn is_of_body(self) -> bool {
        matches!(
            self,
            Fault::Bandwidth { .. }
                | Fault::ResetInBody { .. }
                | Fault::Truncate { .. }
                | Fault::Shorten { .. }
                | Fault::Stall { .. }
                | Fault::Corrupt { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_plan_round_trips_through_json() {
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
    fn fault_plan_with_unknown_names_is_rejected() {
        for json in [
            r#"{"rules": [{"fault": "explode"}]}"#,
            r#"{"rules": [{"fault": "close", "likelihood": 1}]}"#,
            r#"{"rule": []}"#,
        ] {
            assert!(serde_json::from_str::<FaultPlan>(json).is_err(), "{json}");
        }
    }
}
